# SPDX-License-Identifier: Apache-2.0
"""How each virtual machine monitor is told to run the same guest: its command line, and nothing else."""

import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from kvm_host import has_hardware_kvm  # noqa: E402

USER_GUEST, USER_HOST = "10.0.2.15", "10.0.2.2"  # of a network without a tap: libslirp's, and told to who asks


@dataclass
class Disk:
    path: str
    read_only: bool = True


@dataclass
class Guest:
    """What is booted. Everything that a peer can be told is told to all in the same way."""
    kernel: str                   # bzImage
    elf: str = ""                 # the same kernel, unpacked
    initrd: str = ""
    cmdline: str = ""             # the whole line; vmm chooses its own if this is empty, and adds `append`
    append: str = ""
    memory: int = 512             # MiB
    cpus: int = 1
    disks: list[Disk] = field(default_factory=list)
    tap: str = ""
    vhost: bool = False           # vhost-net behind the tap
    user_net: bool = False        # TCP without a tap
    balloon: bool = False         # free page reporting, where it is an option

    @staticmethod
    def of(plain: dict) -> "Guest":
        return Guest(**(plain | {"disks": [Disk(**disk) for disk in plain.get("disks", [])]}))


class Peer:
    """One monitor. `variant` is how it is run; `takes` the kernel file it gets."""
    takes = "bzImage"

    def __init__(self, variant: str, path: str):
        self.variant, self.path = variant, path

    def command(self, guest: Guest, scratch: Path) -> list[str]:
        """The command line; its console is standard output. A file that it needs is made in `scratch`."""
        raise NotImplementedError

    def lacks(self, guest: Guest) -> str:
        """What this peer does not have of what the guest asks for; empty if nothing."""
        return ""

    def kernel(self, guest: Guest) -> str:
        return guest.elf if self.takes == "ELF" else guest.kernel


def net_beside_tap(guest: Guest) -> str:
    """What a peer lacks that has a tap and moves its frames itself."""
    if guest.user_net:
        return "has no user-mode network"
    return "no vhost-net that is chosen apart" if guest.vhost else ""


def in_lab() -> bool:
    return "LAB" in os.environ


def host_cpu() -> str:
    """The guest's processor, for who can be told: the host's, without what KVM here contradicts itself about."""
    # The lab's processor does not let KVM see XSETBV: a guest would find sizes that contradict each other.
    return "host,-xsave" if in_lab() else "host"


class Vmm(Peer):
    def __init__(self, variant: str, path: str):
        super().__init__(variant, path)
        self.transport = "mmio" if variant == "mmio" else "pci"

    def command(self, guest: Guest, scratch: Path) -> list[str]:
        command = [self.path, "--kernel", guest.kernel, "--memory", f"{guest.memory}M", "--cpus", str(guest.cpus),
                   "--transport", self.transport, "--cpu", host_cpu()]
        if guest.initrd:
            command += ["--initrd", guest.initrd]
        if guest.cmdline:
            command += ["--cmdline", guest.cmdline]
        elif guest.append:
            command += ["--append", guest.append]
        for disk in guest.disks:
            command += ["--disk", disk.path + (",ro" if disk.read_only else "")]
        net = "user" if guest.user_net else "none"
        if guest.tap:
            net = f"tap={guest.tap}" + (",vhost" if guest.vhost else "")
        return [*command, "--net", net]


class Qemu(Peer):
    def command(self, guest: Guest, scratch: Path) -> list[str]:
        micro = self.variant == "microvm"
        # Without the network card's boot ROM: whoever gives a kernel has no use for it, and the firmware would run it.
        net = "n" if micro else "n,romfile="
        bus = "device" if micro else "pci"
        machine = "microvm" if micro else "q35"
        # A KVM that emulates kernel mode refuses to set MSR_IA32_ARCH_CAPABILITIES, and QEMU ends.
        cpu = host_cpu() + ("" if has_hardware_kvm() else ",-arch-capabilities")
        command = [self.path, "-no-user-config", "-nodefaults", "-display", "none", "-no-reboot", "-accel", "kvm",
                   "-M", machine, "-cpu", cpu, "-m", f"{guest.memory}M", "-smp", str(guest.cpus), "-serial",
                   "stdio", "-kernel", guest.kernel, "-append", guest.cmdline]
        if in_lab():
            # Its vAPIC sets the task register again, and TCG then refuses port I/O to guest processes that may do it.
            command += ["-global", "kvm-apic.vapic=off"]
        if guest.initrd:
            command += ["-initrd", guest.initrd]
        if guest.disks:
            command += ["-object", "iothread,id=io"]
        for index, disk in enumerate(guest.disks):
            command += ["-drive", f"id=d{index},if=none,format=raw,aio=io_uring,cache.direct=off,file={disk.path}"
                                  + (",readonly=on" if disk.read_only else ""),
                        "-device", f"virtio-blk-{bus},drive=d{index},iothread=io"]
        if guest.tap:
            command += ["-netdev", f"tap,id=n,ifname={guest.tap},script=no,downscript=no"
                                   + (",vhost=on" if guest.vhost else ""),
                        "-device", f"virtio-net-{bus},netdev={net}"]
        elif guest.user_net:
            command += ["-netdev", "user,id=n", "-device", f"virtio-net-{bus},netdev={net}"]
        if guest.balloon:
            command += ["-device", f"virtio-balloon-{bus},free-page-reporting=on"]
        return command


class Firecracker(Peer):
    takes = "ELF"

    def command(self, guest: Guest, scratch: Path) -> list[str]:
        config = {
            "boot-source": {"kernel_image_path": guest.elf, "boot_args": guest.cmdline}
                           | ({"initrd_path": guest.initrd} if guest.initrd else {}),
            "drives": [{"drive_id": f"d{index}", "path_on_host": disk.path, "is_root_device": False,
                        "is_read_only": disk.read_only} for index, disk in enumerate(guest.disks)],
            "network-interfaces": [{"iface_id": "n", "host_dev_name": guest.tap}] if guest.tap else [],
            "machine-config": {"vcpu_count": guest.cpus, "mem_size_mib": guest.memory},
        }
        if guest.balloon:
            config["balloon"] = {"amount_mib": 0, "deflate_on_oom": True, "free_page_reporting": True}
        file = scratch / "firecracker.json"
        file.write_text(json.dumps(config), encoding="utf-8")
        return [self.path, "--no-api", "--config-file", str(file),
                *(["--enable-pci"] if self.variant == "pci" else [])]

    def lacks(self, guest: Guest) -> str:
        return net_beside_tap(guest)


class CloudHypervisor(Peer):
    def command(self, guest: Guest, scratch: Path) -> list[str]:
        command = [self.path, "--kernel", self.kernel(guest), "--cmdline", guest.cmdline,
                   "--memory", f"size={guest.memory}M", "--cpus", f"boot={guest.cpus}", "--serial", "tty",
                   "--console", "off"]
        if guest.initrd:
            command += ["--initramfs", guest.initrd]
        if guest.disks:
            command += ["--disk", *(f"path={disk.path}" + (",readonly=on" if disk.read_only else "")
                                    for disk in guest.disks)]
        if guest.tap:
            command += ["--net", f"tap={guest.tap}"]
        if guest.balloon:
            command += ["--balloon", "size=0,free_page_reporting=on"]
        return command

    def lacks(self, guest: Guest) -> str:
        return net_beside_tap(guest)

    @property
    def takes(self) -> str:
        return "ELF" if self.variant == "elf" else "bzImage"


class Crosvm(Peer):
    def command(self, guest: Guest, scratch: Path) -> list[str]:
        command = [self.path, "run", "--disable-sandbox", "--mem", str(guest.memory), "--cpus", str(guest.cpus),
                   "--serial", "type=stdout,hardware=serial,num=1,console=true", "--params", guest.cmdline]
        if guest.initrd:
            command += ["--initrd", guest.initrd]
        for disk in guest.disks:
            command += ["--block", f"path={disk.path}" + (",ro=true" if disk.read_only else "")]
        if guest.tap:
            command += ["--net", f"tap-name={guest.tap}" + (",vhost-net" if guest.vhost else "")]
        if guest.balloon:
            command += ["--balloon-page-reporting"]
        return [*command, guest.kernel]

    def lacks(self, guest: Guest) -> str:
        return "it is not told here how to do without a tap" if guest.user_net else ""


class Kvmtool(Peer):
    def command(self, guest: Guest, scratch: Path) -> list[str]:
        command = [self.path, "run", "--name", f"bench{os.getpid()}-{scratch.name}", "--kernel", guest.kernel, "--mem",
                   str(guest.memory), "--cpus", str(guest.cpus), "--console", "serial", "--params", guest.cmdline]
        if guest.initrd:
            command += ["--initrd", guest.initrd]
        for disk in guest.disks:
            command += ["--disk", disk.path + (",ro" if disk.read_only else "")]
        net = "mode=none"
        if guest.tap:
            net = f"mode=tap,tapif={guest.tap}" + (",vhost=1" if guest.vhost else "")
        elif guest.user_net:
            net = f"mode=user,guest_ip={USER_GUEST},host_ip={USER_HOST}"
        return [*command, "--network", net, *(["--balloon"] if guest.balloon else [])]


# Name of --peer: the class, and the variants that are run of it.
FAMILIES: dict[str, tuple[type[Peer], tuple[str, ...]]] = {
    "vmm": (Vmm, ("pci", "mmio", "static")),
    "qemu": (Qemu, ("q35", "microvm")),
    "firecracker": (Firecracker, ("mmio", "pci")),
    "cloud-hypervisor": (CloudHypervisor, ("elf", "bzimage")),
    "crosvm": (Crosvm, ("",)),
    "lkvm": (Kvmtool, ("",)),
}
PROGRAMS = {"qemu": "qemu-system-x86_64"}  # where it is not the family's name


def make(name: str, path: str) -> Peer:
    """The peer of a name such as qemu-q35."""
    for kind, (cls, variants) in FAMILIES.items():
        for variant in variants:
            if name == (f"{kind}-{variant}" if variant else kind):
                return cls(variant, path)
    raise ValueError(f"no such peer: {name}")


def names(kind: str) -> list[str]:
    return [f"{kind}-{variant}" if variant else kind for variant in FAMILIES[kind][1]]

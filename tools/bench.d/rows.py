# SPDX-License-Identifier: Apache-2.0
"""The table: what is measured, of whom, and what it should be. How it is measured is in inside.py and host.py."""

from dataclasses import dataclass

from figures import Target

Q35 = "qemu-q35"


@dataclass(frozen=True)
class Row:
    name: str
    title: str
    experiment: str                  # of experiments.py; its records have the figure as `metric`
    metric: str
    unit: str
    ours: str = "vmm-pci"            # the subject of the experiment that is judged
    targets: tuple[Target, ...] = ()
    against: str = ""                # the experiment that the peers' figures come from, if another
    scale: float = 1.0               # figure = metric × scale
    more_is_better: bool = False
    limit: str = ""                  # metric that is the limit of ours, of the same records
    limit_is: str = ""               # what that limit is
    phases_are: str = ""             # what the phases are, where the records have some


BOOT_ROWS = (
    Row("boot", "process start → guest init: Debian's bzImage, one disk, one tap, 1 vCPU, 512 MiB, cache warm",
        "boot", "seconds", "s", targets=(Target(0.58, Q35), Target(1.0, "cloud-hypervisor-elf")),
        limit="guest_seconds", limit_is="the guest's own instructions in our boot: no exits, nothing before it"),
    Row("boot-cold", "the same, decompression cache cold", "boot-cold", "seconds", "s", against="boot",
        targets=(Target(0.63, Q35),)),
    Row("boot-own-line", "the same with the command line that vmm chooses", "boot-own-line", "seconds", "s",
        against="boot", targets=(Target(0.35, Q35),),
        limit="guest_seconds", limit_is="the guest's own instructions in our boot"),
    Row("boot-small", "the project's own small kernel on the same disk", "boot-small", "seconds", "s", against="boot",
        targets=(Target(0.15, Q35),),
        limit="guest_seconds", limit_is="the guest's own instructions in our boot"),
    Row("user-exits-mmio", "exits to user space of the first boot, over MMIO", "boot", "user_exits", "",
        ours="vmm-mmio", targets=(Target(400),)),
    Row("user-exits-pci", "exits to user space of the first boot, over PCI", "boot", "user_exits", "",
        targets=(Target(800),)),
    Row("exits-mmio", "all exits of that boot, over MMIO", "boot", "exits", "", ours="vmm-mmio",
        targets=(Target(3800),)),
    Row("exits-pci", "all exits of that boot, over PCI", "boot", "exits", "", targets=(Target(3800),)),
    Row("memory", "private memory (PSS) beside guest RAM, disk and tap, guest idle", "boot", "beside_kib", "MiB",
        scale=1 / 1024, targets=(Target(2),)),
    Row("memory-static", "the same of vmm-static, which shares no libraries", "boot", "beside_kib", "MiB",
        ours="vmm-static", scale=1 / 1024, targets=(Target(2),)),
    Row("memory-anonymous", "of it, what is no file's: all that one more machine of the same program costs", "boot",
        "anonymous_kib", "MiB", scale=1 / 1024),
    Row("ram-touched", "guest RAM touched at init", "boot", "ram_kib", "MiB", scale=1 / 1024, targets=(Target(88),)),
    Row("boot-ordinary", "process start → guest init, in real time", "boot-ordinary", "seconds", "s",
        targets=(Target(0.58, Q35),)),
)

START_ROWS = (
    Row("start", "process start → first KVM_RUN on this host, Debian's kernel, 128 MiB, by strace", "start", "ms", "ms",
        targets=(Target(0.25, "qemu-microvm"),), phases_are="from exec to the first ioctl for"),
    Row("start-static", "the same of vmm-static", "start", "ms", "ms", ours="vmm-static",
        targets=(Target(0.25, "qemu-microvm"),)),
    Row("start-payload", "process start → first byte of a payload on the console, seen from outside", "start-payload",
        "ms", "ms", targets=(Target(5),), phases_are="by vmm's own receipt, time taken by"),
)

CH = "cloud-hypervisor-elf"


def disk(name: str, title: str, unit: str, target: Target | None = None) -> Row:
    step, _, metric = name.partition(".")
    return Row(f"disk-{step}", title, "use", name, unit, targets=(target,) if target else (), more_is_better=True,
               limit=f"native.{step}.{metric}", limit_is="fio on the same file without a guest")


DISK_ROWS = (
    disk("randread32.iops", "4 KiB random read, queue depth 32, io_uring in the guest, file in the host's cache",
         "IOPS", Target(1.35, Q35, at_least=True)),
    Row("disk-randread32-calls", "system calls of the VMM per such read", "use", "randread32.syscalls", "",
        targets=(Target(3),)),
    Row("disk-randread32-exits", "exits per such read", "use", "randread32.exits", "", targets=(Target(2.5),)),
    disk("randwrite32.iops", "4 KiB random write, the same", "IOPS", Target(1.75, Q35, at_least=True)),
    disk("randread1.iops", "4 KiB random read, depth 1", "IOPS", Target(1.25, Q35, at_least=True)),
    disk("seqread.mb_s", "sequential read, 1 MiB, O_DIRECT in the guest", "MB/s", Target(1.3, Q35, at_least=True)),
    disk("seqwrite.mb_s", "sequential write, 1 MiB, O_DIRECT in the guest", "MB/s", Target(1.3, Q35, at_least=True)),
)

LOOPBACK = "the same over this machine's loopback, without a guest"
NET_ROWS = (
    Row("tcp-out", "TCP, one stream out over tap, no vhost", "use", "out.gbit_s", "Gb/s", more_is_better=True,
        targets=(Target(1.3, Q35, at_least=True),), limit="native.out.gbit_s", limit_is=LOOPBACK),
    Row("tcp-in", "TCP, one stream in over tap, no vhost", "use", "in.gbit_s", "Gb/s", more_is_better=True,
        targets=(Target(1.15, Q35, at_least=True),), limit="native.in.gbit_s", limit_is=LOOPBACK),
    Row("tcp-out-calls", "system calls of the VMM per MiB out", "use", "out.syscalls", "", targets=(Target(0.5, CH),)),
    Row("tcp-in-calls", "system calls of the VMM per MiB in", "use", "in.syscalls", "", targets=(Target(0.5, CH),)),
    Row("vhost-out", "TCP out over tap with vhost-net", "use-vhost", "out.gbit_s", "Gb/s", more_is_better=True,
        targets=(Target(1, Q35, at_least=True),)),
    Row("vhost-in", "TCP in over tap with vhost-net", "use-vhost", "in.gbit_s", "Gb/s", more_is_better=True,
        targets=(Target(1, Q35, at_least=True),)),
    Row("vhost-out-calls", "system calls of the VMM per MiB out with vhost-net", "use-vhost", "out.syscalls", "",
        targets=(Target(3),)),
    Row("ping", "ping round trip over tap", "use", "ping.ms", "ms", targets=(Target(0.7, Q35),),
        limit="native.ping.ms", limit_is=LOOPBACK),
    Row("tcp-rr", "small TCP request and response over tap", "use", "rr.ms", "ms", targets=(Target(0.7, Q35),),
        limit="native.rr.ms", limit_is=LOOPBACK),
    Row("vhost-ping", "ping round trip with vhost-net, where no monitor is in the path", "use-vhost", "ping.ms", "ms"),
    Row("vhost-rr", "small TCP request and response with vhost-net", "use-vhost", "rr.ms", "ms"),
    Row("user-out", "TCP out in user mode", "use-user-net", "out.gbit_s", "Gb/s", more_is_better=True,
        targets=(Target(1, Q35, at_least=True),)),
    Row("user-in", "TCP in, in user mode", "use-user-net", "in.gbit_s", "Gb/s", more_is_better=True,
        targets=(Target(1, Q35, at_least=True),)),
)

RECLAIM_ROWS = (
    Row("reclaim", "of 300 MiB that the guest frees, given back to the host within 10 s", "reclaim", "returned", "%",
        targets=(Target(90, at_least=True),), more_is_better=True),
)

FOUR = "of each of four machines at once, 256 MiB, Debian's kernel, guests idle"
DENSITY_ROWS = (
    Row("density-beside", f"memory (PSS) beside guest RAM {FOUR}", "density", "beside_kib", "MiB", scale=1 / 1024),
    Row("density-static", "the same of vmm-static", "density", "beside_kib", "MiB", ours="vmm-static", scale=1 / 1024),
    Row("density", f"all memory, guest RAM and PSS beside it, {FOUR}", "density", "all_kib", "MiB", scale=1 / 1024),
)

ROWS = BOOT_ROWS + START_ROWS + DISK_ROWS + NET_ROWS + RECLAIM_ROWS + DENSITY_ROWS

# SPDX-License-Identifier: Apache-2.0
"""What each experiment runs: which guest, in which place, of which subjects."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import workloads
from peers import USER_GUEST, USER_HOST

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from kvm_host import has_hardware_kvm  # noqa: E402

COUNTED, ORDINARY, HOST = "counted lab", "one-CPU lab", "this host"


def called(place: str, lab_cpus: int) -> str:
    """What the place is where it is shown: with hardware's KVM there is no ordinary lab, and it may have more CPUs."""
    if place != ORDINARY:
        return place
    return HOST if has_hardware_kvm() else ORDINARY if lab_cpus == 1 else f"lab of {lab_cpus} CPUs"


# The first process on the root says the mark and rests. Everybody boots with this line unless a row says otherwise.
# The quotes inside keep a line that is shown on the console from being taken for the mark itself.
SAYS_INIT = "init=/bin/sh -- -c \"echo @''@; exec sleep 99999\""
LINE = f"console=ttyS0 quiet root=/dev/vda ro panic=-1 {SAYS_INIT}"


# Seconds that the counted lab may have had nothing to do during a boot: 0.02 to 0.05 are usual, for every monitor.
MOST_IDLE = 0.1


NOT_QUICK = ("cloud-hypervisor-bzimage", "firecracker-pci")


class Missing(Exception):
    """A file that an experiment needs is not there; the text says who makes it."""


@dataclass
class Images:
    cache: Path

    def image(self, name: str) -> str:
        folder = "kernel" if name.startswith("guest.") else "images"
        path = self.cache / folder / name
        if not path.exists():
            maker = "guest/kernel/build" if folder == "kernel" else f"guest/image/build {name.partition('.')[0]}"
            raise Missing(f"there is no {name}: {maker} makes it")
        return os.path.realpath(path)

    def debian(self, **more) -> dict:
        """Debian's kernel, its initramfs, and a root to mount."""
        return {"kernel": self.image("stock.vmlinuz"), "initrd": self.image("stock.initrd"),
                "disks": [{"path": self.image("tiny.ext4")}], "tap": "tap0"} | more


@dataclass(frozen=True)
class Experiment:
    name: str
    place: str
    job: Callable[[Images], dict]  # without the peer
    ours: tuple[str, ...] = ("vmm-pci",)
    peers: bool = True             # also of every peer
    without: tuple[str, ...] = ()  # but these
    native: bool = False           # and once a turn without a guest, for the limit
    warm_up: bool = False          # one unmeasured run of ours before
    quick: bool = True             # also with --quick
    not_quick: tuple[str, ...] = NOT_QUICK  # but not of these


def place_of(experiment: Experiment, all_counted: bool) -> str:
    return COUNTED if all_counted and experiment.place == ORDINARY else experiment.place


def boot(images: Images, **more) -> dict:
    # Counted seconds: a guest that hangs, as the lab makes one do now and then, spins through a third of one in a
    # second.
    return {"kind": "boot", "guest": images.debian(cmdline=LINE), "limit": 40, "cache": "kept",
            "most_idle": MOST_IDLE} | more


def use(images: Images, steps: tuple[workloads.Step, ...], address: str, server: str, **more) -> dict:
    """Debian's user land with fio and iperf3, its script on the second disk. Only steps that rows ask for are run."""
    line = f"console=ttyS0 quiet root=/dev/vda ro panic=-1 {workloads.RUN_SCRIPT}"
    guest = {"kernel": images.image("stock.vmlinuz"), "initrd": images.image("stock.initrd"), "cmdline": line,
             "disks": [{"path": images.image("debian.ext4")}]}
    return {"kind": "use", "steps": [step.name for step in steps], "guest": guest | more, "limit": 300,
            "address": address, "server": server}


TAP_GUEST, TAP_HOST = "10.77.0.2", "10.77.0.1"
REPEATED = ("qemu-microvm", "cloud-hypervisor-bzimage")  # other variants of the same devices

FREES = ("init=/bin/sh -- -c \"mount -t tmpfs -o size=400M none /tmp; dd if=/dev/zero of=/tmp/f bs=1M count=300; "
         "echo @''@full; sleep 1; rm /tmp/f; echo @''@freed; exec sleep 99999\"")

EXPERIMENTS = {experiment.name: experiment for experiment in (
    # The first, as its warm-up fills the cache. A boot of microvm takes several times the real time of the others.
    Experiment("boot", COUNTED, boot, ours=("vmm-pci", "vmm-mmio", "vmm-static"), warm_up=True,
               not_quick=(*NOT_QUICK, "qemu-microvm")),
    Experiment("boot-cold", COUNTED, lambda images: boot(images, cache="new"), peers=False),
    Experiment("boot-own-line", COUNTED, lambda images: boot(images, guest=images.debian(append=SAYS_INIT)),
               peers=False),
    Experiment("boot-small", COUNTED, lambda images: boot(images, guest={
        "kernel": images.image("guest.bzImage"), "disks": [{"path": images.image("tiny.ext4")}], "tap": "tap0",
        "append": SAYS_INIT}), peers=False, warm_up=True),
    Experiment("boot-ordinary", ORDINARY, lambda images: boot(images, most_idle=0, limit=300), warm_up=True,
               quick=False),
    Experiment("use", ORDINARY, lambda images: use(images, workloads.DISK + workloads.NETWORK, TAP_GUEST, TAP_HOST,
                                                   tap="tap0"), without=REPEATED, native=True),
    Experiment("use-vhost", ORDINARY, lambda images: use(images, workloads.NETWORK, TAP_GUEST, TAP_HOST, tap="tap0",
                                                         vhost=True), without=REPEATED, quick=False),
    Experiment("use-user-net", ORDINARY, lambda images: use(images, workloads.NETWORK, USER_GUEST, USER_HOST,
                                                            user_net=True), without=REPEATED, quick=False),
    Experiment("reclaim", ORDINARY, lambda images: {
        "kind": "reclaim", "limit": 300, "mebibytes": 300, "guest": images.debian(
            balloon=True, tap="", cmdline=f"console=ttyS0 quiet root=/dev/vda ro panic=-1 {FREES}")},
               without=REPEATED, quick=False),
    Experiment("density", ORDINARY, lambda images: {
        "kind": "density", "limit": 300, "machines": 4, "guest": images.debian(cmdline=LINE, tap="", memory=256)},
               ours=("vmm-pci", "vmm-static"), without=("qemu-microvm", *NOT_QUICK), quick=False),
    Experiment("start", HOST, lambda images: {
        "kind": "start", "guest": {"kernel": images.image("stock.vmlinuz"), "memory": 128, "cmdline": LINE}},
        ours=("vmm-pci", "vmm-static"), warm_up=True),
    Experiment("start-payload", HOST, lambda images: {"kind": "payload"}, peers=False, warm_up=True),
)}

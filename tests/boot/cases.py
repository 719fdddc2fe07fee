# SPDX-License-Identifier: Apache-2.0
"""What is tested with Linux in the machine. Each case is a function of a Bench; it raises Failure, or Skip with why."""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import stat
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from guest import Failure, Guest

MIB = 1 << 20
PROMPT = r"^(\x1b\[6n)?tiny:\S+# "
STREAM = 100 * MIB  # bytes, each way


class Skip(Exception):
    """The case cannot be run here, and this is why."""


@dataclass
class Bench:
    vmm: Path
    images: dict[str, Path]  # of guest/image/build and guest/kernel/build, as far as they are there
    scratch: Path            # a folder of this case alone, on a real file system
    limit: float             # seconds for one wait
    cpu: str                 # --cpu

    def image(self, name: str) -> Path:
        if name not in self.images:
            raise Skip(f"there is no {name}: guest/image/build or guest/kernel/build makes it")
        return self.images[name]

    def copy(self, name: str) -> Path:
        """A copy that a guest may write to."""
        target = self.scratch / self.image(name).name
        shutil.copyfile(self.image(name), target)
        return target

    def stock(self, *arguments: str, prefix: list[str] | None = None) -> Guest:
        """Debian's kernel, as shipped, with our initramfs."""
        return Guest(self.vmm, ["--kernel", str(self.image("stock.vmlinuz")), "--initrd",
                                str(self.image("stock.initrd")), "--cpu", self.cpu, "--append", "quiet", *arguments],
                     limit=self.limit, prefix=prefix)

    def tiny(self, *arguments: str, prefix: list[str] | None = None) -> Guest:
        return self.stock("--disk", f"{self.image('tiny.ext4')},ro", *arguments, prefix=prefix)


CASES: dict[str, Callable[[Bench], None]] = {}


def case(function: Callable[[Bench], None]) -> Callable[[Bench], None]:
    CASES[function.__name__.replace("_", "-")] = function
    return function


def require(fact: bool, message: str) -> None:
    if not fact:
        raise Failure(message)


# ---- Debian's kernel on every machine --------------------------------------------------------------------------------

def kernel_complaints(log: str) -> list[str]:
    """Lines of a kernel log that accuse the machine."""
    accusation = re.compile(r"ACPI( BIOS)? Error|BIOS Error|firmware bug|\bBUG:|WARNING:|call trace|"
                            r"unable to handle|PCI: Fatal|irq \d+: nobody cared|I/O error", re.IGNORECASE)
    return [line for line in log.splitlines() if accusation.search(line)]


def boots(bench: Bench, transport: str, cpus: int, memory: str, least: int) -> None:
    with bench.tiny("--transport", transport, "--cpus", str(cpus), "--memory", memory) as guest:
        guest.expect(PROMPT)
        require(guest.run("nproc") == str(cpus), "not as many CPUs as asked for")
        found = re.search(r"MemTotal:\s+(\d+)", guest.run("cat /proc/meminfo"))
        require(found is not None and int(found.group(1)) >= least * 1024, f"less memory than {least} MiB")
        require("/dev/vda / ext4 ro" in guest.run("cat /proc/mounts"), "the root is not the disk")
        complaints = kernel_complaints(guest.run("dmesg"))
        require(not complaints, "the kernel complains:\n" + "\n".join(complaints))
        guest.send("poweroff\n")
        guest.ended(0)


for _transport in ("pci", "mmio"):
    for _cpus in (1, 2, 4):
        for _memory, _least in (("256M", 180), ("5G", 4700)):
            CASES[f"boot-{_transport}-{_cpus}cpu-{_memory}"] = (
                lambda bench, t=_transport, c=_cpus, m=_memory, l=_least: boots(bench, t, c, m, l))


@case
def boot_16cpu(bench: Bench) -> None:
    boots(bench, "pci", 16, "1G", 800)


@case
def boot_small_kernel(bench: Bench) -> None:
    """The project's own kernel: exactly --kernel and --disk, nothing else."""
    kernel = bench.image("guest.bzImage")
    disk = bench.copy("tiny.ext4")
    with Guest(bench.vmm, ["--kernel", str(kernel), "--disk", str(disk)], limit=bench.limit) as guest:
        guest.expect(PROMPT)
        require("/dev/root / ext4 rw" in guest.run("cat /proc/mounts"), "the root is not the disk")
        guest.run("ip route | grep -q default")
        guest.send("poweroff\n")
        guest.ended(0)


@case
def kernel_addresses(bench: Bench) -> None:
    """Unpacked or from the cache, each boot has random addresses, virtual and physical; with --no-kaslr the usual ones."""
    stats = bench.scratch / "stats.json"

    def addresses(*arguments: str) -> tuple[str, str]:
        with bench.tiny("--net", "none", "--kernel-cache", str(bench.scratch / "cache"), "--stats", str(stats),
                        *arguments) as guest:
            guest.expect(PROMPT)
            text = guest.run("grep -m 1 ' T _text$' /proc/kallsyms").split()[0]
            code = guest.run("grep 'Kernel code' /proc/iomem").split("-")[0].strip()
            guest.send("poweroff\n")
            guest.ended(0)
        return text, code

    linked = ("ffffffff81000000", "01000000")
    require(addresses("--no-kaslr") == linked, "with --no-kaslr the kernel is not where it is linked")
    require("unpacked here" in json.loads(stats.read_text())["kernel"], "the empty cache knew the kernel")
    found = []
    for _ in range(3):
        found.append(addresses())
        kernel = json.loads(stats.read_text())["kernel"]
        require("from the cache" in kernel and "KASLR" in kernel, f"the receipt says {kernel!r}")
    for name, column in zip(("virtual", "physical"), zip(*found)):
        require(len(set(column)) > 1, f"the {name} address is not random: {column}")
    require(addresses("--append", "nokaslr") == linked, "the guest's nokaslr was not heeded")


@case
def pci_configuration_is_memory(bench: Bench) -> None:
    """Linux takes ECAM for our bus, and reads it without exits: only what is absent costs one."""
    stats = bench.scratch / "stats.json"
    with bench.tiny("--stats", str(stats)) as guest:
        guest.expect(PROMPT)
        devices = guest.run("ls /sys/bus/pci/devices").split()
        require("0001:00:01.0" in devices, f"the disk is not at 0001:00:01.0, but there are {devices}")
        header = "dd if=/sys/bus/pci/devices/0001:00:01.0/config bs=64 count=1 2>/dev/null | md5sum"
        first = guest.run(header)
        require(guest.run(f"for i in $(seq 50); do {header}; done | sort -u") == first, "its header changes")
        guest.send("poweroff\n")
        guest.ended(0)
    accesses = json.loads(stats.read_text())["exits_to_user_space"]["by_device"]
    reads = sum(device["reads"] for device in accesses if device["device"] in ("pci-config", "pci-ecam"))
    require(reads < 300, f"{reads} exits to read PCI configuration")


# ---- how a guest ends ------------------------------------------------------------------------------------------------

@case
def reset_restarts_in_place(bench: Bench) -> None:
    stats = bench.scratch / "stats.json"
    disk = bench.copy("tiny.ext4")
    with bench.stock("--disk", str(disk), "--stats", str(stats)) as guest:
        guest.expect(PROMPT)
        guest.run("echo kept > /root/file && sync")
        guest.send("reboot\n")
        guest.expect("^tiny: a busybox system")  # there may be a prompt before the shell ends
        guest.expect(PROMPT)
        require(guest.run("cat /root/file") == "kept", "a synced file is gone after the reset")
        guest.send("poweroff\n")
        guest.ended(0)
    receipt = json.loads(stats.read_text())
    require(receipt["resets"] == 1, "the receipt does not count the reset")
    names = [mark["name"] for mark in receipt["marks"]]
    require(names.count("ready") == 2, f"the marks are not those of two boots: {names}")
    require(receipt["times_ms"]["first_instruction"] > 0, "no time to the first instruction")


@case
def no_reboot_exits(bench: Bench) -> None:
    with bench.tiny("--no-reboot") as guest:
        guest.expect(PROMPT)
        guest.send("reboot\n")
        guest.ended(8)


@case
def panic_has_its_code(bench: Bench) -> None:
    with bench.tiny() as guest:
        guest.expect(PROMPT)
        guest.send("echo c > /proc/sysrq-trigger\n")
        guest.expect("Kernel panic")
        guest.ended(3)


@case
def sigterm_powers_off(bench: Bench) -> None:
    with bench.tiny() as guest:
        guest.expect(PROMPT)
        guest.signal(signal.SIGTERM)
        guest.ended(0)


@case
def second_signal_stops(bench: Bench) -> None:
    with bench.stock("--append", "earlyprintk=ttyS0", "--net", "none") as guest:
        guest.expect(".")  # too early for a guest to hear its power button
        guest.signal(signal.SIGTERM)
        guest.complaint("a second one stops it")
        guest.signal(signal.SIGINT)
        guest.ended(128 + signal.SIGINT)


@case
def expectations_and_timeout(bench: Bench) -> None:
    stats = bench.scratch / "stats.json"
    with bench.tiny("--expect", "tiny:.*# ", "--send", "echo $((6*7))\\n", "--expect", "^42$", "--stats",
                    str(stats)) as guest:
        guest.ended(0)
    receipt = json.loads(stats.read_text())
    require(len(receipt["expectations_met"]) == 2, "the receipt does not say when each was met")
    with bench.tiny("--expect", "never said", "--timeout", "2") as guest:
        guest.ended(6)


@case
def silence_is_diagnosed(bench: Bench) -> None:
    with bench.stock("--append", "root=/dev/vdz rootwait", "--silence", "5", "--net", "none") as guest:
        text = guest.complaint("try:")
        require("vCPU 0: " in text and "RIP 0x" in text, "it does not say where the vCPU is")
        require("likely cause" in text, "it names no cause")


# ---- disks -----------------------------------------------------------------------------------------------------------

@case
def debian_disk(bench: Bench) -> None:
    """Debian with systemd: files, mkfs, fsck, a checksummed 100 MB file, a reboot, lspci, hvc0, hwrng."""
    disk = bench.copy("debian.ext4")
    second = bench.scratch / "second.img"
    with open(second, "wb") as file:
        file.truncate(512 * MIB)
    hvc = bench.scratch / "hvc0.sock"
    # The initramfs does not load every file system's module, but ext4 is built in.
    with bench.stock("--disk", str(disk), "--disk", f"{second},serial=SECOND", "--memory", "1G", "--cpus", "2",
                     "--virtio-console", f"socket={hvc}") as guest:
        guest.expect(r"root@\S+# ", 3 * bench.limit)
        guest.run("stty -echo; PS1=; export TERM=dumb PAGER=cat SYSTEMD_PAGER=cat")
        guest.run("mkfs.ext4 -q /dev/vdb && mount /dev/vdb /mnt")
        guest.run("dd if=/dev/urandom of=/mnt/data bs=1M count=100 status=none")
        checksum = guest.run("sha256sum < /mnt/data")
        guest.run("echo written > /root/note; umount /mnt && sync")
        guest.run("fsck.ext4 -fn /dev/vdb")
        require(guest.run("cat /sys/block/vdb/serial") == "SECOND", "the serial number is lost")
        lspci = guest.run("lspci -vv")
        require(lspci.count("Virtio") >= 4 and "MSI-X: Enable+" in lspci, f"lspci does not see the devices:\n{lspci}")
        guest.run("test $(cat /sys/class/misc/hw_random/rng_current) = virtio_rng.0")
        guest.run("head -c 64 /dev/hwrng | wc -c | grep -qx 64")
        complaints = kernel_complaints(guest.run("dmesg"))
        require(not complaints, "the kernel complains:\n" + "\n".join(complaints))
        login_on_hvc0(hvc, bench.limit)
        guest.send("reboot\n")
        guest.expect(r"root@\S+# ", 3 * bench.limit)
        guest.run("stty -echo; PS1=")
        require(guest.run("cat /root/note") == "written", "the file of before the reboot is gone")
        guest.run("mount /dev/vdb /mnt")
        require(guest.run("sha256sum < /mnt/data") == checksum, "100 MB read back differ from what was written")
        guest.signal(signal.SIGTERM)  # systemd hears the power button
        guest.ended(0, 2 * bench.limit)
    subprocess.run(["fsck.ext4", "-fn", str(disk)], check=True, stdout=subprocess.DEVNULL)


def works_on_two_queues(guest: Guest) -> None:
    """The guest's vdb, each of its queues on a thread of its own, and from each CPU."""
    require(sorted(guest.run("ls /sys/block/vdb/mq").split()) == ["0", "1"], "the guest does not see two queues")
    names = [(task / "comm").read_text().strip() for task in Path(f"/proc/{guest.process.pid}/task").iterdir()]
    require(names.count("io-queue") == 2, f"not a thread for each queue: {names}")
    for cpu in (0, 1):
        guest.run(f"taskset -c {cpu} dd if=/dev/vdb of=/dev/null bs=64k count=16 iflag=direct")
    interrupts = guest.run("grep 'virtio1-req' /proc/interrupts").splitlines()
    require(len(interrupts) == 2 and all(re.search(r"[1-9]\d* .*PCI-MSI", line) for line in interrupts),
            f"not every queue was used:\n{interrupts}")


def passes_the_cache_by(guest: Guest, image: Path) -> None:
    guest.run("dd if=/dev/urandom of=/dev/vdb bs=1M count=16 oflag=direct")
    cached = subprocess.run(["fincore", "-bno", "RES", str(image)], capture_output=True, text=True, check=True).stdout
    require(int(cached) < MIB, f"{cached.strip()} bytes of the image are in the host's cache")
    checksum = guest.run("dd if=/dev/vdb bs=1M count=16 iflag=direct status=none | sha256sum").split()[0]
    require(checksum == hashlib.sha256(image.read_bytes()[:16 * MIB]).hexdigest(), "the guest reads something else")


def gives_space_back(guest: Guest, image: Path) -> None:
    """Of vdb's 16 MiB: 8 discarded, 4 made zero that keep their place, 4 made zero that need none."""
    def taken() -> int:
        return image.stat().st_blocks * 512

    full = taken()
    require(full >= 16 * MIB, f"the image has {full} bytes on the host before anything is discarded")
    guest.run("blkdiscard -o 0 -l 8M /dev/vdb")
    require(taken() <= full - 8 * MIB, f"discarded 8 MiB: the image has {full - taken()} bytes less")
    require(int(guest.run("cat /sys/block/vdb/queue/write_zeroes_max_bytes")) > 0, "the guest would write zeroes itself")
    kept = taken()
    guest.run("blkdiscard -z -o 8M -l 4M /dev/vdb")
    require(taken() == kept, f"zeroes that keep their place took {taken() - kept} bytes")
    guest.run("fallocate -p -o 12M -l 4M /dev/vdb")
    require(taken() <= kept - 4 * MIB, f"4 MiB of zeroes: the image has {kept - taken()} bytes less")
    with open(image, "rb") as file:
        file.seek(8 * MIB)
        require(not any(file.read(8 * MIB)), "what was made zero is not")


def keeps_to(guest: Guest, command: str, least: float) -> None:
    """No faster than its limit, of which a second's worth is free; and not slower by far."""
    began = time.monotonic()
    guest.run(command)
    took = time.monotonic() - began
    require(least - 0.1 <= took <= 20 * least, f"{command} took {took:.1f} s, and its limit lets it take {least} s")


@case
def disk_options(bench: Bench) -> None:
    """direct, queues, iothread, bps and iops do what they say; discards and zeroes come to the host's file."""
    images = [bench.scratch / name for name in ("vdb", "vdc", "vdd")]
    for image in images:
        with open(image, "wb") as file:
            file.truncate(64 * MIB)
    vdb, vdc, vdd = images
    with bench.stock("--disk", f"{bench.image('debian.ext4')},ro", "--disk", f"{vdb},direct,queues=2,iothread",
                     "--disk", f"{vdc},bps=4M", "--disk", f"{vdd},iops=100", "--cpus", "2",
                     "--append", "init=/bin/sh") as guest:
        guest.expect("^# ")
        guest.run("stty -echo; PS1=")
        guest.run("test -e /proc/interrupts || mount -t proc none /proc")
        works_on_two_queues(guest)
        passes_the_cache_by(guest, vdb)
        gives_space_back(guest, vdb)
        keeps_to(guest, "dd if=/dev/vdc of=/dev/null bs=64k count=192 iflag=direct", 2)  # 12 MiB
        keeps_to(guest, "dd if=/dev/vdd of=/dev/null bs=4k count=300 iflag=direct", 2)
        complaints = kernel_complaints(guest.run("dmesg"))
        require(not complaints, "the kernel complains:\n" + "\n".join(complaints))
        guest.signal(signal.SIGKILL)
        guest.ended(-signal.SIGKILL)


FS_IOC_SHUTDOWN = 0x8004587D  # _IOR('X', 125, __u32), of ext4 and xfs
DROP_EVERYTHING = 2           # neither data nor log is written any more, as when the power fails
WRITERS = """w() { i=$1; while :; do yes $(printf %08d $i) | head -c 4096 | \
dd of=/dev/vdb bs=4k seek=$i conv=fsync 2> /dev/null && echo acked $i.; i=$((i+4)); done; }
"""


@contextlib.contextmanager
def mortal_store(folder: Path) -> Iterator[Callable[[], None]]:
    """A file system mounted at `folder`; what it yields cuts its power and starts it again."""
    device = folder.with_suffix(".img")
    with open(device, "wb") as file:
        file.truncate(256 * MIB)
    folder.mkdir()
    # It writes nothing by itself for as long as the test lasts: what is asked for is all that is there afterwards.
    mount = ["mount", "-o", "loop,commit=900", str(device), str(folder)]
    subprocess.run(["mkfs.ext4", "-q", str(device)], check=True)
    done = subprocess.run(mount, capture_output=True, text=True)
    if done.returncode != 0:
        raise Skip(f"no file system to cut the power of: {done.stderr.strip()}")

    def power_cut() -> None:
        opened = os.open(folder, os.O_RDONLY)
        fcntl.ioctl(opened, FS_IOC_SHUTDOWN, struct.pack("I", DROP_EVERYTHING))
        os.close(opened)
        subprocess.run(["umount", str(folder)], check=True)
        subprocess.run(mount, check=True)

    try:
        yield power_cut
    finally:
        subprocess.run(["umount", str(folder)], capture_output=True)


@case
def flushed_survives(bench: Bench) -> None:
    """vmm is killed, and the host's power cut, in the middle of writes: what the guest was told is flushed is there."""
    store = bench.scratch / "store"
    with mortal_store(store) as power_cut:
        disk = store / "disk.img"
        with open(disk, "wb") as file:
            file.truncate(128 * MIB)
            os.fsync(file.fileno())
        with bench.tiny("--disk", str(disk)) as guest:
            guest.expect(PROMPT)
            guest.send(WRITERS.replace("\\\n", "") + "for i in 0 1 2 3; do w $i & done\n")
            for _ in range(60):
                guest.expect(r"acked \d+\.")
            guest.signal(signal.SIGKILL)
            guest.ended(-signal.SIGKILL)
            acked = [int(number) for number in re.findall(r"acked (\d+)\.", guest.console)]
        power_cut()
        with open(disk, "rb") as file:
            for number in acked:
                file.seek(number * 4096)
                require(file.read(4096) == (b"%08d\n" % number * 456)[:4096],
                        f"block {number} was flushed, one of {len(acked)}, and is not there")


def login_on_hvc0(path: Path, limit: float) -> None:
    """Types at the second console, through its socket."""
    with socket.socket(socket.AF_UNIX) as console:
        console.connect(str(path))
        console.settimeout(limit)
        heard = b""
        console.sendall(b"\n")
        for pattern, answer in ((rb"login: |# $", b"root\n"), (rb"# $", b"echo h'v'c$((40+2))\n"), (rb"hvc42", b"")):
            while not re.search(pattern, heard):
                try:
                    data = console.recv(4096)
                except TimeoutError:
                    raise Failure(f"hvc0 did not say {pattern!r}; it said {heard!r}") from None
                require(data != b"", "hvc0's socket was closed")
                heard += data
            console.sendall(answer)
            heard = b"" if answer else heard


# ---- memory ----------------------------------------------------------------------------------------------------------

def resident(guest: Guest) -> int:
    """Bytes of the host's memory that the machine has."""
    status = Path(f"/proc/{guest.process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status).group(1)) * 1024


def wait_until(bench: Bench, what: str, done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + bench.limit
    while not done():
        require(time.monotonic() < deadline, f"not within {bench.limit:.0f} s: {what}")
        time.sleep(0.5)


def free_pages_go_back(bench: Bench, transport: str, memory: str) -> None:
    """300 MiB that the guest frees are the host's again."""
    with bench.tiny("--transport", transport, "--memory", memory) as guest:
        guest.expect(PROMPT)
        guest.run("mount -t tmpfs -o size=400m none /mnt && dd if=/dev/zero of=/mnt/file bs=1M count=300 2> /dev/null")
        full = resident(guest)
        require(full > 300 * MIB, f"the guest filled 300 MiB, and the machine has {full >> 20}")
        guest.run("rm /mnt/file")
        wait_until(bench, "90 % of the memory handed back", lambda: resident(guest) <= full - 270 * MIB)
        guest.run("dd if=/dev/zero of=/mnt/file bs=1M count=300 2> /dev/null; sha256sum /mnt/file | "
                  f"grep -q {hashlib.sha256(bytes(300 * MIB)).hexdigest()}")  # and is there when needed again
        guest.send("poweroff\n")
        guest.ended(0)


for _transport, _memory in (("mmio", "512M"), ("pci", "512M,backing=memfd"), ("pci", "512M,hugepages=none")):
    CASES[f"free-pages-{_transport}-{_memory.replace(',', '-')}"] = (
        lambda bench, t=_transport, m=_memory: free_pages_go_back(bench, t, m))


def ctl(bench: Bench, *words: str) -> subprocess.CompletedProcess:
    return subprocess.run([str(bench.vmm), "ctl", *words], capture_output=True, text=True, timeout=60)


def told(bench: Bench, *words: str) -> str:
    done = ctl(bench, *words)
    require(done.returncode == 0, f"vmm ctl {' '.join(words)}: exit code {done.returncode}: {done.stderr}")
    return done.stdout


@case
def control_memory(bench: Bench) -> None:
    """The balloon follows `vmm ctl memory` both ways, and a restarted guest keeps to it."""
    path = str(bench.scratch / "control")
    with bench.tiny("--control", path, "--memory", "512M") as guest:
        guest.expect(PROMPT)

        def available() -> int:
            return int(guest.run("sed -n 's/^MemAvailable: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo")) >> 10

        def balloon() -> int:
            return json.loads(told(bench, path, "stats"))["memory"]["balloon"] >> 20

        before = available()
        told(bench, path, "memory", "256M")
        wait_until(bench, "the guest gives 256 MiB", lambda: balloon() == 256)
        require(available() < before - 200, f"available: {before} MiB before, {available()} after")
        stats = json.loads(told(bench, path, "stats"))
        require(stats["memory"]["target"] == 256 * MIB, "the statistics do not say what was asked")
        require(stats["memory"]["guest"]["total-memory"] > 400 * MIB, f"the guest says {stats['memory']['guest']}")
        require(stats["exits_to_user_space"]["total"] > 0, "the statistics have no exits")
        told(bench, path, "memory", "512M")
        wait_until(bench, "the guest takes them back", lambda: balloon() == 0)
        require(available() > before - 50, f"available: {before} MiB before, {available()} after")

        told(bench, path, "memory", "384M")
        guest.send("reboot\n")
        guest.expect("^tiny: a busybox system")
        guest.expect(PROMPT)
        wait_until(bench, "the restarted guest gives 128 MiB", lambda: balloon() == 128)
        told(bench, path, "quit")
        guest.ended(0)
        require(not Path(path).exists(), "the socket stayed behind")


@case
def control_refusals(bench: Bench) -> None:
    path = str(bench.scratch / "control")
    with bench.tiny("--control", path, "--memory", "512M") as guest:
        guest.expect(PROMPT)
        for words, said in (((path, "memory", "1G"), "512 MiB"), ((path, "memory", "1M"), "64 MiB"),
                            ((path, "memory", "much"), "much"), ((path + "x", "stats"), "No such file")):
            done = ctl(bench, *words)
            require(done.returncode == 1 and said in done.stderr, f"{words}: {done.returncode}, {done.stderr}")
        for words in ((path, "dance"), (path,), (path, "memory"), (path, "stats", "all")):
            require(ctl(bench, *words).returncode == 2, f"{words} is not refused")
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
            client.sendall(b'{"command": "dance"}\nnonsense\n')
            client.settimeout(bench.limit)
            answers = b""
            while answers.count(b"\n") < 2:
                answers += client.recv(4096)
            require(all(json.loads(line)["ok"] is False for line in answers.splitlines()), f"answered {answers!r}")
        taken = subprocess.run([str(bench.vmm), "--kernel", str(bench.image("stock.vmlinuz")), "--control", path],
                               capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60)
        require(taken.returncode == 1 and path in taken.stderr, f"two machines at one socket: {taken.stderr}")
        told(bench, path, "power-button")  # busybox's init hears it: the guest powers off
        guest.ended(0)


@case
def disk_resize(bench: Bench) -> None:
    """`vmm ctl disk resize` grows a disk in use: the guest sees it at once, and what it writes there lasts."""
    path = str(bench.scratch / "control")
    disk = bench.scratch / "disk.img"
    with open(disk, "wb") as file:
        file.truncate(64 * MIB)
    with bench.tiny("--disk", str(disk), "--control", path) as guest:
        guest.expect(PROMPT)
        size = "cat /sys/block/vdb/size"
        require(guest.run(size) == str(64 * MIB // 512), "the disk has not its first size")
        told(bench, path, "disk", "vdb", "resize", "1G")
        guest.run(f"for i in $(seq 20); do test $({size}) = {1024 * MIB // 512} && break; sleep 0.5; done; "
                  f"test $({size}) = {1024 * MIB // 512}")
        require(disk.stat().st_size == 1024 * MIB, "the image did not grow with the disk")
        guest.run("yes behind the old end | dd of=/dev/vdb bs=64k count=4 iflag=fullblock seek=16380 conv=fsync")
        guest.run("echo 3 > /proc/sys/vm/drop_caches")
        written = (b"behind the old end\n" * (MIB // 76 + 1))[:MIB // 4]
        checksum = guest.run("dd if=/dev/vdb bs=64k skip=16380 | sha256sum").splitlines()[-1].split()[0]
        require(checksum == hashlib.sha256(written).hexdigest(), "the guest reads something else than it wrote")
        with open(disk, "rb") as file:
            file.seek(16380 << 16)
            require(file.read() == written, "what the guest wrote behind the old end is not in the image")
        require(disk.stat().st_blocks * 512 < 16 * MIB, "the image did not grow by a hole")
        for words, said in ((("vdb", "resize", "512M"), f"{disk}: {512 * MIB} bytes of its {1024 * MIB}"),
                            (("vdb", "resize", "1025"), "multiple of 512"), (("vda", "resize", "4G"), "read-only"),
                            (("vdc", "resize", "4G"), "vda to vdb"), (("vdb", "resize", "large"), "large")):
            done = ctl(bench, path, "disk", *words)
            require(done.returncode == 1 and said in done.stderr, f"{words}: {done.returncode}, {done.stderr}")
        require(guest.run(size) == str(1024 * MIB // 512), "a refusal changed the disk's size")
        complaints = kernel_complaints(guest.run("dmesg"))
        require(not complaints, "the kernel complains:\n" + "\n".join(complaints))
        guest.send("poweroff\n")
        guest.ended(0)


# ---- networks --------------------------------------------------------------------------------------------------------

class Server(threading.Thread):
    """A TCP server on the host: gives 100 MB on one port, takes as much on the other, and remembers the checksum."""

    def __init__(self, address: str):
        super().__init__(daemon=True)
        self.data = hashlib.sha256(b"seed").digest() * (STREAM // 32)
        self.checksum = hashlib.sha256(self.data).hexdigest()
        self.taken = ""
        self.give = socket.create_server((address, 0))
        self.take = socket.create_server((address, 0))
        self.give_port = self.give.getsockname()[1]
        self.take_port = self.take.getsockname()[1]

    def run(self) -> None:
        with contextlib.suppress(OSError):
            connection, _ = self.give.accept()
            with connection:
                connection.sendall(self.data)
            connection, _ = self.take.accept()
            digest = hashlib.sha256()
            with connection:
                while data := connection.recv(1 << 16):
                    digest.update(data)
            self.taken = digest.hexdigest()


def streams_both_ways(guest: Guest, server: Server, address: str) -> None:
    server.start()
    got = guest.run(f"nc {address} {server.give_port} < /dev/null > /tmp/data; sha256sum < /tmp/data", 300)
    require(got.split()[0] == server.checksum, "what the guest received is not what was sent")
    guest.run(f"nc {address} {server.take_port} < /tmp/data", 300)
    server.join(timeout=60)
    require(server.taken == server.checksum, "what the host received is not what was sent")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


@case
def net_user(bench: Bench) -> None:
    """DHCP, TCP to the host both ways, and a port forwarded into the guest."""
    port = free_port()
    with bench.tiny("--net", f"user,hostfwd=tcp:127.0.0.1:{port}-:8080,mac=52:54:00:00:00:77", "--memory", "1G") as guest:
        guest.expect(PROMPT)
        guest.run("for i in $(seq 30); do ip route | grep -q default && break; sleep 1; done; ip route | grep default")
        require("52:54:00:00:00:77" in guest.run("cat /sys/class/net/eth0/address"), "the MAC address is lost")
        guest.run("mount -t tmpfs none /tmp 2> /dev/null; df /tmp")
        streams_both_ways(guest, Server("127.0.0.1"), "10.0.2.2")
        guest.run("(echo from-the-guest | nc -l -p 8080 > /tmp/heard) > /dev/null 2>&1 &")
        deadline = time.monotonic() + bench.limit
        heard = b""
        while heard != b"from-the-guest\n" and time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
                connection.sendall(b"from-the-host\n")
                connection.shutdown(socket.SHUT_WR)
                heard = connection.recv(100)
            time.sleep(0.5)
        require(heard == b"from-the-guest\n", f"through the forwarded port came {heard!r}")
        guest.run("for i in $(seq 10); do grep -q from-the-host /tmp/heard && break; sleep 1; done; cat /tmp/heard")
        guest.send("poweroff\n")
        guest.ended(0)


@contextlib.contextmanager
def network_namespace(name: str, *kind: str) -> Iterator[None]:
    """A network of this test's own, with a tap in it."""
    commands = [["ip", "netns", "add", name],
                ["ip", "-n", name, "link", "set", "lo", "up"],
                ["ip", "-n", name, "tuntap", "add", "tap0", "mode", "tap", *kind],
                ["ip", "-n", name, "addr", "add", "10.77.0.1/24", "dev", "tap0"],
                ["ip", "-n", name, "link", "set", "tap0", "up"]]
    try:
        for command in commands:
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode != 0:
                raise Skip(f"{' '.join(command)}: {done.stderr.strip()}")
        yield
    finally:
        subprocess.run(["ip", "netns", "del", name], capture_output=True)


class NamespacedServer:
    """The same server, in a process inside the namespace."""

    def __init__(self, namespace: str, address: str):
        code = (f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
                f"from cases import Server\n"
                f"s = Server({address!r}); s.start(); print(s.give_port, s.take_port, s.checksum, flush=True)\n"
                f"s.join(); print(s.taken, flush=True)\n")
        self.process = subprocess.Popen(["ip", "netns", "exec", namespace, "python3", "-c", code],
                                        stdout=subprocess.PIPE, text=True)
        give, take, self.checksum = self.process.stdout.readline().split()
        self.give_port, self.take_port = int(give), int(take)
        self.taken = ""

    def start(self) -> None:
        pass

    def join(self, timeout: float) -> None:
        try:
            self.taken = self.process.communicate(timeout=timeout)[0].strip()
        except subprocess.TimeoutExpired:
            self.process.kill()


def on_tap(bench: Bench, name: str, *arguments: str) -> Guest:
    """With tap0 of that namespace, and room for what is sent."""
    return bench.tiny("--memory", "1G", *arguments, prefix=["ip", "netns", "exec", name])


def configure_eth0(guest: Guest) -> None:
    guest.expect(PROMPT)
    guest.run("killall udhcpc 2> /dev/null; ip link set eth0 up && ip addr add 10.77.0.2/24 dev eth0")
    guest.run("mount -t tmpfs none /tmp 2> /dev/null; ping -c 3 10.77.0.1")


@case
def net_tap(bench: Bench) -> None:
    name = f"vmm-boot-{bench.scratch.name}"
    with network_namespace(name), on_tap(bench, name, "--net", "tap=tap0") as guest:
        configure_eth0(guest)
        streams_both_ways(guest, NamespacedServer(name, "10.77.0.1"), "10.77.0.1")
        guest.send("poweroff\n")
        guest.ended(0)


def net_vhost(bench: Bench, transport: str) -> None:
    """The kernel carries the frames; a driver that starts again, and a guest that does, find it working."""
    if not os.access("/dev/vhost-net", os.R_OK | os.W_OK):
        raise Skip("there is no /dev/vhost-net that can be opened")
    name = f"vmm-boot-{bench.scratch.name}"
    with network_namespace(name), on_tap(bench, name, "--net", "tap=tap0,vhost", "--transport", transport) as guest:
        configure_eth0(guest)
        features = guest.run("cat /sys/class/net/eth0/device/features")
        for bit, what in ((0, "checksums"), (1, "checksums in"), (7, "TSO4 in"), (8, "TSO6 in"), (11, "TSO4"),
                          (12, "TSO6"), (15, "merged buffers"), (28, "indirect descriptors"), (29, "event index")):
            require(features[bit] == "1", f"{what} (feature bit {bit}) was not negotiated: {features}")
        streams_both_ways(guest, NamespacedServer(name, "10.77.0.1"), "10.77.0.1")

        subprocess.run(["ip", "-n", name, "link", "set", "tap0", "down"], check=True)
        guest.run("for i in $(seq 30); do grep -qx 0 /sys/class/net/eth0/carrier && break; sleep 1; done; "
                  "grep -qx 0 /sys/class/net/eth0/carrier")
        subprocess.run(["ip", "-n", name, "link", "set", "tap0", "up"], check=True)
        guest.run("for i in $(seq 30); do ping -c 1 -W 1 10.77.0.1 && break; done; ping -c 3 10.77.0.1")

        device = guest.run("basename $(readlink /sys/class/net/eth0/device)")
        driver = "/sys/bus/virtio/drivers/virtio_net"
        for _ in range(3):
            guest.run(f"echo {device} > {driver}/unbind && echo {device} > {driver}/bind")
            guest.run("ip link set eth0 up && ip addr add 10.77.0.2/24 dev eth0; ping -c 3 10.77.0.1")
        guest.send("reboot\n")
        guest.expect("^tiny: a busybox system")
        configure_eth0(guest)
        streams_both_ways(guest, NamespacedServer(name, "10.77.0.1"), "10.77.0.1")
        guest.send("poweroff\n")
        guest.ended(0)


for _transport in ("pci", "mmio"):
    CASES[f"net-vhost-{_transport}"] = lambda bench, t=_transport: net_vhost(bench, t)


def net_tap_queues(bench: Bench, transport: str, options: str) -> None:
    """The guest uses a pair of queues for each CPU, and does so again after a reboot."""
    name = f"vmm-boot-{bench.scratch.name}"
    arguments = ["--transport", transport, "--net", f"tap=tap0,queues=4{options}", "--cpus", "2"]
    with network_namespace(name, "multi_queue"):
        with on_tap(bench, name, *arguments) as guest:
            for again in (False, True):
                configure_eth0(guest)
                queues = guest.run("cd /sys/class/net/eth0/queues && echo *; cd /").split()
                require(queues == ["rx-0", "rx-1", "tx-0", "tx-1"], f"the guest uses {queues}")
                if transport == "pci":
                    named = guest.run("grep -o 'virtio[0-9]*-input[.][0-9]' /proc/interrupts").split()
                    require(len(named) == 4, f"the interrupts of the queues are {named}")
                if not again:
                    guest.send("reboot\n")
                    guest.expect("^tiny: a busybox system")
            streams_both_ways(guest, NamespacedServer(name, "10.77.0.1"), "10.77.0.1")
            complaints = kernel_complaints(guest.run("dmesg"))
            require(not complaints, "the kernel complains:\n" + "\n".join(complaints))
            guest.send("poweroff\n")
            guest.ended(0)


for _transport, _options in (("pci", ""), ("pci", ",iothread")):
    CASES[f"net-tap-queues-{_transport}{_options.replace(',', '-')}"] = (
        lambda bench, t=_transport, o=_options: net_tap_queues(bench, t, o))

METER = """
import socket, sys
address, amount = sys.argv[1], int(sys.argv[2])
give, take = (socket.create_server((address, 0)) for _ in range(2))
print(give.getsockname()[1], take.getsockname()[1], flush=True)
with give.accept()[0] as connection:
    connection.sendall(bytes(amount))
with take.accept()[0] as connection:
    print(sum(iter(lambda: len(connection.recv(1 << 16)), 0)), flush=True)
"""


@case
def net_limit(bench: Bench) -> None:
    """A connection is slowed to the limit, in either direction, and comes through whole."""
    name = f"vmm-boot-{bench.scratch.name}"
    rate, amount = 2 * MIB, 12 * MIB
    least = (amount - rate) / rate  # seconds: one second's worth comes at once
    with network_namespace(name):
        with on_tap(bench, name, "--net", "tap=tap0,bps=2M") as guest:
            configure_eth0(guest)
            with subprocess.Popen(["ip", "netns", "exec", name, "python3", "-c", METER, "10.77.0.1", str(amount)],
                                  stdout=subprocess.PIPE, text=True) as meter:
                give, take = meter.stdout.readline().split()
                times = [time.monotonic()]
                got = guest.run(f"nc 10.77.0.1 {give} < /dev/null | wc -c", 300)
                times.append(time.monotonic())
                guest.run(f"dd if=/dev/zero bs={MIB} count={amount // MIB} 2> /dev/null | nc 10.77.0.1 {take}", 300)
                count = meter.stdout.readline()
                times.append(time.monotonic())
            require(int(got) == amount and int(count) == amount, f"{got} and {count} bytes of {amount} came through")
            for way, seconds in (("in", times[1] - times[0]), ("out", times[2] - times[1])):
                require(0.9 * least < seconds < 6 * least,
                        f"{amount} bytes {way} took {seconds:.1f} s at {rate} a second")
            guest.send("poweroff\n")
            guest.ended(0)


# ---- sockets ---------------------------------------------------------------------------------------------------------

SOCKET_STREAM = 16 * MIB  # bytes, each way


def received(connection: socket.socket) -> bytes:
    """All until the other side ends."""
    parts = []
    while part := connection.recv(1 << 20):
        parts.append(part)
    return b"".join(parts)


def full_duplex(connection: socket.socket, data: bytes) -> bytes:
    """Sends the data and the end of it, and takes what comes meanwhile and after that."""

    def send() -> None:
        with contextlib.suppress(OSError):
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    taken = received(connection)
    sender.join()
    return taken


def connected_to_guest(path: Path, port: int, limit: float) -> tuple[socket.socket, bytes]:
    """A connection through the machine's socket, and what the answer was: nothing if it was refused."""
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(limit)
    client.connect(str(path))
    client.sendall(b"CONNECT %d\n" % port)
    answer = b""
    while not answer.endswith(b"\n") and (byte := client.recv(1)):
        answer += byte
    return client, answer


def checksum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def vsock_streams(bench: Bench, transport: str) -> None:
    """Programs of the guest and of the host reach each other, both ways, at once, and each tells its end."""
    path = bench.scratch / "vm.vsock"
    stats = bench.scratch / "stats.json"
    data = hashlib.sha256(b"host").digest() * (SOCKET_STREAM // 32)
    with (socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as lazy,
          bench.tiny("--vsock", f"cid=5,path={path}", "--net", "none", "--transport", transport, "--stats",
                     str(stats)) as guest):
        for server, port in ((listener, 5000), (lazy, 5001)):
            server.bind(f"{path}_{port}")
            server.listen(8)
            server.settimeout(bench.limit)
        guest.expect(PROMPT)
        require(stat.S_IMODE(path.stat().st_mode) == 0o600, "the socket is not its owner's alone")
        guest.run(f"head -c {SOCKET_STREAM} /dev/urandom > /tmp/up")
        sent = guest.run("sha256sum < /tmp/up").split()[0]

        # A program that accepts and never reads stops its own connection only: all that follows goes past it.
        guest.run("(vsock connect 2 5001 < /tmp/up > /dev/null) > /dev/null 2>&1 &")
        stuck, _ = lazy.accept()

        guest.send("vsock connect 2 5000 < /tmp/up > /tmp/down\n")
        connection, _ = listener.accept()
        with connection:
            require(checksum(full_duplex(connection, data)) == sent, "the host did not get what the guest sent")
        guest.run(f"sha256sum < /tmp/down | grep {checksum(data)}", 3 * bench.limit)

        guest.run("(vsock listen 6000 < /tmp/up > /tmp/down2) > /dev/null 2>&1 & echo $! > /tmp/listener; sleep 1")
        connection, answer = connected_to_guest(path, 6000, bench.limit)
        with connection:
            require(re.fullmatch(rb"OK \d+\n", answer) is not None, f"the answer is {answer!r}")
            require(checksum(full_duplex(connection, data)) == sent, "the host's client did not get what was sent")
        guest.run("for i in $(seq 60); do test -d /proc/$(cat /tmp/listener) || break; sleep 1; done; "
                  f"sha256sum < /tmp/down2 | grep {checksum(data)}", 3 * bench.limit)

        # Nobody listens there.
        guest.run("! vsock connect 2 5002 < /dev/null 2> /tmp/why && grep connect /tmp/why")
        connection, answer = connected_to_guest(path, 6001, bench.limit)
        connection.close()
        require(answer == b"", f"the guest refuses, and the answer is {answer!r}")

        with stuck:
            stuck.settimeout(bench.limit)
            require(checksum(received(stuck)) == sent, "the slow program did not get what the guest sent")
        complaints = kernel_complaints(guest.run("dmesg"))
        require(not complaints, "the kernel complains:\n" + "\n".join(complaints))
        guest.send("poweroff\n")
        guest.ended(0)
    require(not path.exists(), "the socket stayed behind")
    traffic = {each["device"]: each for each in json.loads(stats.read_text())["traffic_bytes"]}
    require(traffic["vsock0"]["in"] == 2 * SOCKET_STREAM, f"the receipt says {traffic['vsock0']}")
    require(traffic["vsock0"]["out"] == 3 * SOCKET_STREAM, f"the receipt says {traffic['vsock0']}")


for _transport in ("pci", "mmio"):
    CASES[f"vsock-{_transport}"] = lambda bench, t=_transport: vsock_streams(bench, t)


# ---- what is refused -------------------------------------------------------------------------------------------------

@case
def refusals(bench: Bench) -> None:
    """One line that names the thing and the fault, exit code 1, nothing left behind."""
    kernel = str(bench.image("stock.vmlinuz"))
    tiny = bench.copy("tiny.ext4")
    text = bench.scratch / "text"
    text.write_text("not a kernel\n" * 100)
    refused = [
        (["--kernel", "/nonexistent"], ["/nonexistent", "No such file"]),
        (["--kernel", str(text)], [str(text)]),
        (["--kernel", str(bench.scratch)], [str(bench.scratch), "directory"]),
        (["--kernel", kernel, "--initrd", "/nonexistent"], ["/nonexistent", "No such file"]),
        (["--kernel", kernel, "--disk", "/nonexistent"], ["/nonexistent", "No such file"]),
        (["--kernel", kernel, "--disk", str(bench.scratch)], [str(bench.scratch), "directory"]),
        (["--kernel", kernel, "--disk", str(tiny), "--disk", str(tiny)], [str(tiny), "use"]),
        (["--kernel", kernel, "--net", "tap=a-name-of-16-chr"], ["a-name-of-16-chr"]),
        (["--kernel", kernel, "--memory", "64M", "--initrd", str(bench.image("debian.ext4"))], ["memory"]),
        (["--kernel", kernel, "--console", f"file={bench.scratch}"], [str(bench.scratch), "directory"]),
        (["--kernel", kernel, "--vsock", "cid=3,path=/" + 96 * "x"], ["96", "_4294967295"]),
    ]
    for arguments, words in refused:
        done = subprocess.run([str(bench.vmm), *arguments, "--timeout", "20"], capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, timeout=60)
        lines = done.stderr.strip().splitlines()
        require(done.returncode == 1, f"{arguments}: exit code {done.returncode}, not 1:\n{done.stderr}")
        require(len(lines) == 1, f"{arguments}: not one line:\n{done.stderr}")
        for word in words:
            require(word.lower() in lines[0].lower(), f"{arguments}: does not say {word!r}: {lines[0]}")

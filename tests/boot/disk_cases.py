# SPDX-License-Identifier: Apache-2.0
"""Disks."""

import contextlib
import fcntl
import hashlib
import os
import re
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench import CASES, MIB, PROMPT, Bench, Skip, case, kernel_complaints, require
from controls import ctl, told, wait_until
from guest import Failure, Guest


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

FIO_DISK = 128 * MIB
FIO_BLOCK = 4096


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
        (folder / "never synced").touch()
        opened = os.open(folder, os.O_RDONLY)
        fcntl.ioctl(opened, FS_IOC_SHUTDOWN, struct.pack("I", DROP_EVERYTHING))
        os.close(opened)
        subprocess.run(["umount", str(folder)], check=True)
        subprocess.run(mount, check=True)
        require(not (folder / "never synced").exists(), "what was never synced has survived: this was no power cut")

    try:
        yield power_cut
    finally:
        subprocess.run(["umount", str(folder)], capture_output=True)


# Four jobs, each with four writes on their way, and a flush now and then: while one job waits for its own, the others
# write. Each block is written once, and says its own place.
FIO = (f"fio --name=job --filename=/dev/vdb --numjobs=4 --size={FIO_DISK // 4} --offset_increment={FIO_DISK // 4} "
       f"--rw=randwrite --bs={FIO_BLOCK} --direct=1 --ioengine=libaio --iodepth=4 --fsync=16 "
       "--verify=pattern --verify_pattern=%o --do_verify=0 --output-format=terse")

# What the guest's block layer is told, for the host to read: each event has a number, and these grow.
REPORT_REQUESTS = """mount -t tracefs none /sys/kernel/tracing && cd /sys/kernel/tracing && echo counter > trace_clock &&
echo 'nr_sector == 0' > events/block/block_rq_issue/filter && echo 1 > events/block/block_rq_issue/enable &&
echo 1 > events/block/block_rq_complete/enable && { cat trace_pipe > /dev/hvc0 & }"""
REQUEST = re.compile(r" (?P<number>\d+): block_rq_(?P<event>issue|complete): \d+,16 (?P<kind>\w+) .*?"
                     r"\) (?P<sector>\d+) \+ (?P<count>\d+) \[(?P<last>\S+)\]\r?\n")


def promises(report: str) -> tuple[set[int], set[int]]:
    """Blocks of which the guest was told that they are written, and those of them that are flushed: written when a flush
    began of which it was told that it is done (virtio 1.2, 5.2.6.2)."""
    written: set[int] = set()
    flushed: set[int] = set()
    begun: list[set[int]] = []  # what each flush under way will have made sure of, oldest first
    for event in sorted(REQUEST.finditer(report), key=lambda event: int(event["number"])):
        if event["event"] == "issue":
            begun.append(set(written))
            continue
        require(event["last"] == "0", f"the guest was told of an error: {event[0]}")
        if event["kind"].startswith("W"):
            first = int(event["sector"]) * 512 // FIO_BLOCK
            written.update(range(first, first + int(event["count"]) * 512 // FIO_BLOCK))
        elif event["kind"].startswith("F") and begun:
            flushed |= begun.pop(0)
    return written, flushed


def holds(image: Path, blocks: set[int], what: str) -> None:
    with open(image, "rb") as file:
        for number in sorted(blocks):
            file.seek(number * FIO_BLOCK)
            require(file.read(FIO_BLOCK) == struct.pack("<Q", number * FIO_BLOCK) * (FIO_BLOCK // 8),
                    f"the guest was told that block {number} is {what}, one of {len(blocks)}, and it is not there")


def killed_in_fio(bench: Bench, options: str) -> None:
    """vmm is killed, then the host's power cut, in the middle of fio. What the guest was told is written is there after
    the one, and what it was told is flushed after both."""
    store = bench.scratch / "store"
    report = bench.scratch / "report"
    with mortal_store(store) as power_cut:
        disk = store / "disk.img"
        with open(disk, "wb") as file:
            file.truncate(FIO_DISK)
            os.fsync(file.fileno())
        with bench.stock("--disk", f"{bench.image('debian.ext4')},ro", "--disk", f"{disk}{options}", "--cpus", "2",
                         "--virtio-console", f"file={report}", "--net", "none", "--append", "init=/bin/sh") as guest:
            guest.expect("^# ")
            guest.run("stty -echo; PS1=")
            guest.run(REPORT_REQUESTS.replace("\n", " "))
            guest.send(f"{FIO} > /dev/null &\n")
            wait_until(bench, "300 blocks flushed", lambda: len(promises(report.read_text())[1]) > 300)
            guest.signal(signal.SIGKILL)
            guest.ended(-signal.SIGKILL)
        written, flushed = promises(report.read_text())
        require(len(written) < FIO_DISK // FIO_BLOCK, "fio was done before vmm was killed")
        holds(disk, written, "written")
        power_cut()
        holds(disk, flushed, "flushed")


for _options in ("", ",direct", ",queues=2,iothread"):
    CASES[f"killed-in-fio{_options.replace(',', '-').replace('=', '-')}"] = (
        lambda bench, o=_options: killed_in_fio(bench, o))


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
        checksum = guest.run("dd if=/dev/vdb bs=64k skip=16380 status=none | sha256sum").split()[0]
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

# SPDX-License-Identifier: Apache-2.0
"""Guest memory that goes back to the host, and what `vmm ctl` says and refuses."""

import contextlib
import hashlib
import json
import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from bench import CASES, MIB, PROMPT, Bench, Skip, case, require
from controls import ctl, told, wait_until
from guest import Guest


def resident(guest: Guest) -> int:
    """Bytes of the host's memory that the machine has."""
    status = Path(f"/proc/{guest.process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status).group(1)) * 1024


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


POOL = Path("/sys/kernel/mm/hugepages/hugepages-2048kB")


@contextlib.contextmanager
def reserved_huge_pages(count: int) -> Iterator[Callable[[], int]]:
    """So many more in the host's pool; what it yields says how many of the pool nobody has taken or reserved."""

    def value(name: str) -> int:
        return int((POOL / name).read_text())

    def free() -> int:
        return value("free_hugepages") - value("resv_hugepages")

    try:
        before, wanted = value("nr_hugepages"), free() + count
        (POOL / "nr_hugepages").write_text(str(before + count))
    except OSError as error:
        raise Skip(f"no huge pages can be reserved: {error}") from None
    try:
        if free() < wanted:
            raise Skip(f"the host has no memory in one piece for {count} huge pages, but for {value('nr_hugepages')}")
        yield free
    finally:
        (POOL / "nr_hugepages").write_text(str(before))


@case
def huge_pages(bench: Bench) -> None:
    """Memory from the host's pool: all of it is reserved at the start, the guest keeps it, and it goes back at the end."""
    path = str(bench.scratch / "control")
    memory = ["--memory", "256M,hugepages=2M"]
    with reserved_huge_pages(160) as free:
        before = free()
        with bench.tiny(*memory, "--control", path) as guest:
            guest.expect(PROMPT)
            require(free() == before - 128, f"{before - free()} pages of the pool are the machine's, and not 128")
            used = re.search(r"Private_Hugetlb:\s+(\d+) kB", Path(f"/proc/{guest.process.pid}/smaps_rollup").read_text())
            require(int(used[1]) > 32 << 10, f"the guest has touched only {used[1]} kB of huge pages")
            done = ctl(bench, path, "memory", "128M")
            require(done.returncode == 1 and "reserved huge pages, which it keeps" in done.stderr,
                    f"a balloon in huge pages: {done.returncode}, {done.stderr}")
            with bench.tiny(*memory) as another:
                said = another.complaint("nr_hugepages")
                require(f"take 128 huge pages of 2 MiB for guest memory, of which {before - 128} are free" in said, said)
                another.ended(1)
            guest.send("poweroff\n")
            guest.ended(0)
        require(free() == before, f"{before - free()} pages did not go back to the pool")


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

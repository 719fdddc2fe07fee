# SPDX-License-Identifier: Apache-2.0
"""Guest memory that goes back to the host, and what `vmm ctl` says and refuses."""

import hashlib
import json
import re
import socket
import subprocess
from pathlib import Path

from bench import CASES, MIB, PROMPT, Bench, case, require
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

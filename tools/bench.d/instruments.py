# SPDX-License-Identifier: Apache-2.0
"""What is read of a running monitor, the same way for each: tracepoints, KVM's own counters, memory."""

import contextlib
import ctypes
import os
import re
import struct
import subprocess
from pathlib import Path

TRACEFS = Path("/sys/kernel/tracing")
KVM_DEBUG = Path("/sys/kernel/debug/kvm")

SYS_PERF_EVENT_OPEN = 298  # x86-64
PERF_TYPE_TRACEPOINT = 2
DISABLED, INHERIT, ENABLE_ON_EXEC = 1 << 0, 1 << 1, 1 << 12
PERF_FLAG_FD_CLOEXEC = 8


def mount_tracefs() -> None:
    if not (TRACEFS / "events").is_dir():
        subprocess.run(["mount", "-t", "tracefs", "tracefs", str(TRACEFS)], check=True)


class TracepointCount:
    """How often a process, from its next exec, with all its threads and children, passes a tracepoint."""

    def __init__(self, name: str, pid: int):
        number = int((TRACEFS / "events" / name / "id").read_text())
        # struct perf_event_attr, its first published size of 64 bytes
        attr = struct.pack("IIQQQQQIIQ", PERF_TYPE_TRACEPOINT, 64, number, 0, 0, 0,
                           DISABLED | INHERIT | ENABLE_ON_EXEC, 0, 0, 0)
        libc = ctypes.CDLL(None, use_errno=True)
        self.fd = libc.syscall(SYS_PERF_EVENT_OPEN, attr, pid, -1, -1, PERF_FLAG_FD_CLOEXEC)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), f"count {name}: {os.strerror(ctypes.get_errno())}")

    def read(self) -> int:
        return struct.unpack("Q", os.read(self.fd, 8))[0]

    def close(self) -> None:
        os.close(self.fd)


SWITCH = re.compile(r" (\d+\.\d+): kvm_(entry|exit): vcpu (\d+)")


def parse_guest_time(trace: str) -> float:
    """Seconds between each kvm_entry and the kvm_exit after it, of all vCPUs together."""
    entered: dict[str, float] = {}
    total = 0.0
    for line in trace.splitlines():
        match = SWITCH.search(line)
        if not match:
            continue
        if match[2] == "entry":
            entered[match[3]] = float(match[1])
        elif match[3] in entered:
            total += float(match[1]) - entered.pop(match[3])
    return total


class GuestTime:
    """Traces every entry into guests and every exit from them while the `with` block runs."""

    EVENTS = ("kvm/kvm_entry", "kvm/kvm_exit")

    def __enter__(self) -> "GuestTime":
        self.folder = TRACEFS / "instances" / f"bench{os.getpid()}"
        self.folder.mkdir()
        (self.folder / "buffer_size_kb").write_text("32768")
        for event in self.EVENTS:
            (self.folder / "events" / event / "enable").write_text("1")
        return self

    def __exit__(self, *_) -> None:
        self.folder.rmdir()

    def seconds(self) -> float:
        (self.folder / "tracing_on").write_text("0")
        return parse_guest_time((self.folder / "trace").read_text())


def idle_seconds() -> float:
    """How long this machine's CPUs have had nothing to do, together. (proc_stat(5): idle and iowait, in ticks.)"""
    fields = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()
    return (int(fields[4]) + int(fields[5])) / os.sysconf("SC_CLK_TCK")


def family(pid: int) -> list[int]:
    """The process and all that it started."""
    found = [pid]
    for parent in found:
        for task in Path(f"/proc/{parent}/task").glob("*"):
            with contextlib.suppress(OSError):
                found += [int(child) for child in (task / "children").read_text().split()]
    return found


def kvm_counters(pids: list[int]) -> dict[str, int]:
    """KVM's counters of the machine that one of these processes has, summed over its vCPUs; empty if it has none.

    KVM names a machine by the thread that made it, which may have ended since: then the only machine is theirs.
    """
    machines = [folder for folder in KVM_DEBUG.iterdir() if folder.is_dir()]
    for folder in machines:
        if len(machines) == 1 or int(folder.name.split("-")[0]) in pids:
            counters = {}
            for file in folder.iterdir():
                if file.is_file():
                    with contextlib.suppress(OSError, ValueError):
                        counters[file.name] = int(file.read_text())
            return counters
    return {}


MAPPING = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) (\S+) ([0-9a-f]+) (\S+) (\d+) *(.*)$")


def parse_smaps(text: str) -> list[dict]:
    """Each mapping: start, end, name, and its sizes in KiB."""
    mappings: list[dict] = []
    for line in text.splitlines():
        match = MAPPING.match(line)
        if match:
            mappings.append({"start": int(match[1], 16), "end": int(match[2], 16), "mode": match[3], "name": match[7]})
        elif mappings and line.endswith(" kB"):
            name, size, _ = line.split()
            mappings[-1][name.rstrip(":")] = int(size)
    return mappings


def split_memory(mappings: list[dict], guest_memory: int) -> dict[str, int]:
    """Of one process, in KiB: PSS beside guest memory, and what of it is anonymous, so no other process's too; and what
    is resident of guest memory (of that many bytes).

    Guest memory is what lies in runs of adjacent writable mappings that are together at least a quarter of its size: a
    monitor may split it at the hole below 4 GiB or map a kernel's file into it, and Linux splits it at an madvise.
    """
    runs: list[list[dict]] = []
    for mapping in mappings:
        last = runs[-1][-1] if runs else None
        if last and last["end"] == mapping["start"] and last["mode"] == mapping["mode"]:
            runs[-1].append(mapping)
        else:
            runs.append([mapping])
    beside = anonymous = ram = 0
    for run in runs:
        size = run[-1]["end"] - run[0]["start"]
        if size >= guest_memory // 4 and run[0]["mode"].startswith("rw"):
            ram += sum(mapping["Rss"] for mapping in run)
        else:
            beside += sum(mapping["Pss"] for mapping in run)
            anonymous += sum(mapping["Anonymous"] for mapping in run)
    return {"beside_kib": beside, "anonymous_kib": anonymous, "ram_kib": ram}


def memory(pids: list[int], guest_memory: int) -> dict[str, int]:
    total = {"beside_kib": 0, "anonymous_kib": 0, "ram_kib": 0}
    for pid in pids:
        with contextlib.suppress(OSError):
            for key, value in split_memory(parse_smaps(Path(f"/proc/{pid}/smaps").read_text()), guest_memory).items():
                # Guest memory that several processes map is one memory.
                total[key] = max(total[key], value) if key == "ram_kib" else total[key] + value
    return total

# SPDX-License-Identifier: Apache-2.0
"""What a payload cannot see of its machine, and this host can: the checks that cases.toml names. Each is a function of a
Machine and raises Failed."""

import contextlib
import json
import os
import re
import stat
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20


class Failed(Exception):
    """What a person needs to know of a case that did not hold."""


@dataclass
class Machine:
    vmm: Path     # the program
    folder: Path  # of this case alone; also $XDG_RUNTIME_DIR
    process: int  # as long as it runs, else 0


def require(fact: bool, message: str) -> None:
    if not fact:
        raise Failed(message)


def vcpus_are_pinned(machine: Machine) -> None:
    """--cpus 2,pin=LAST,FIRST of the CPUs that this host lets us use. A thread pins itself as it begins."""
    allowed = os.sched_getaffinity(0)
    wanted = {"vcpu0": {max(allowed)}, "vcpu1": {min(allowed)}}
    deadline = time.monotonic() + 5
    while True:
        found = {}
        for task in Path(f"/proc/{machine.process}/task").iterdir():
            with contextlib.suppress(OSError):  # a thread may end
                found[(task / "comm").read_text().strip()] = os.sched_getaffinity(int(task.name))
        pinned = {name: cpus for name, cpus in found.items() if name in wanted}
        if pinned == wanted:
            break
        require(time.monotonic() < deadline, f"the vCPUs run on {pinned}, not on {wanted}")
        time.sleep(0.1)
    require(os.sched_getaffinity(machine.process) == allowed, "the other threads are pinned, too")


def has_taken(machine: Machine, kind: str, bytes_: int) -> None:
    status = Path(f"/proc/{machine.process}/status").read_text()
    taken = int(re.search(rf"^{kind}:\s+(\d+) kB", status, re.MULTILINE)[1]) * 1024
    require(taken >= bytes_, f"of {bytes_ // MIB} MiB only {taken // MIB} are resident ({kind})")


def memory_is_taken(machine: Machine) -> None:
    """--memory 192M,prefault"""
    has_taken(machine, "RssAnon", 192 * MIB)


def shared_memory_is_taken(machine: Machine) -> None:
    """--memory 192M,prefault,backing=memfd"""
    has_taken(machine, "RssShmem", 192 * MIB)


def answers_to_its_name(machine: Machine) -> None:
    """--id lesson --memory 192M"""
    def ctl(name: str) -> subprocess.CompletedProcess:
        return subprocess.run([machine.vmm, "ctl", name, "stats"], capture_output=True, text=True, timeout=20, check=False,
                              env=os.environ | {"XDG_RUNTIME_DIR": str(machine.folder)})

    place = machine.folder / "vmm/lesson"
    require(place.is_socket(), f"there is no socket {place}")
    require(stat.S_IMODE(place.parent.stat().st_mode) == 0o700, f"{place.parent} is not its owner's alone")
    told = ctl("lesson")
    require(told.returncode == 0, f"vmm ctl lesson stats: exit status {told.returncode}: {told.stderr}")
    require(json.loads(told.stdout)["memory"]["size"] == 192 * MIB, f"another machine answers: {told.stdout}")
    other = ctl("another")
    require(other.returncode == 1 and f"{machine.folder}/vmm/another" in other.stderr,
            f"vmm ctl another stats: exit status {other.returncode}: {other.stderr}")


def gave_up_its_name(machine: Machine) -> None:
    require(not (machine.folder / "vmm/lesson").exists(), "the control socket stayed behind")


def every_exit_is_traced(machine: Machine) -> None:
    """--trace FOLDER/trace.json --stats FOLDER/stats.json, of the payload `power`, button"""
    events = json.loads((machine.folder / "trace.json").read_text())
    exits = json.loads((machine.folder / "stats.json").read_text())["exits_to_user_space"]
    slices = [event for event in events if event["ph"] == "X"]
    require(len(slices) == exits["total"], f"{len(slices)} slices of {exits['total']} exits")
    end = 0.0
    for event in slices:
        require(event["ts"] >= end and event["dur"] >= 0, f"begins before {end}, when the one before it ends: {event}")
        end = event["ts"] + event["dur"]
    require(end < 60e6, f"the last exit came {end} us after the start of a run of less than a minute")
    console = [event for event in slices if event["name"] == "debug-console write 0x0"]
    require({event["args"]["address"] for event in console} == {"0xe9"}, f"the console is at another port: {console}")
    text = bytes(int(event["args"]["value"], 16) for event in console).decode(errors="replace")
    require(text.endswith("the button was pressed\n"), f"the values written to the console spell {text!r}")

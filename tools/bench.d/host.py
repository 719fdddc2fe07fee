# SPDX-License-Identifier: Apache-2.0
"""Start-up, measured on this host itself: what comes before the first instruction of a guest."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import peers
from inside import Trouble, running

START_LIMIT = 30  # seconds until a monitor must have entered its guest

# strace -f -ttt: "PID SECONDS.MICROSECONDS call(arguments…", the first lines without PID if there is one process only.
CALL = re.compile(r"^(?:\d+ +)?(\d+\.\d+) (?:<\.\.\. )?(\w+)(?:\(| resumed)(.*)$")
PHASES = (("KVM_CREATE_VM", "machine"), ("KVM_SET_USER_MEMORY_REGION", "memory"), ("KVM_CREATE_VCPU", "vCPU"),
          ("KVM_RUN", "run"))


def parse_start(text: str) -> dict[str, float]:
    """Milliseconds from the (first) exec to the first of each of PHASES, of those that there are."""
    began = None
    found: dict[str, float] = {}
    for line in text.splitlines():
        match = CALL.match(line)
        if not match:
            continue
        moment = float(match[1])
        if began is None:
            if match[2] == "execve":
                began = moment
            continue
        if match[2] == "ioctl":
            for request, name in PHASES:
                if name not in found and re.search(rf"\b{request}\b", match[3]):
                    found[name] = (moment - began) * 1000
    return found


def start(job: dict, scratch: Path) -> dict:
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        raise Trouble("this host has no /dev/kvm that can be used")
    strace = shutil.which("strace")
    if not strace:
        raise Trouble("strace is missing: tools/setup installs it")
    peer = peers.make(job["peer"], job["path"])
    command = peer.command(peers.Guest.of(job["guest"]), scratch)
    trace = scratch / "trace"
    trace.unlink(missing_ok=True)
    process = subprocess.Popen([strace, "-f", "-e", "trace=execve,ioctl", "-ttt", "-o", str(trace), *command],
                               stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                               start_new_session=True)
    try:
        deadline = time.monotonic() + START_LIMIT
        while not (trace.exists() and b"KVM_RUN" in trace.read_bytes()):
            if process.poll() is not None:
                said = (process.stderr.read() if process.stderr else b"").decode(errors="replace").strip()
                raise Trouble(f"it ended before it entered the guest; it said: {said[-300:]}")
            if time.monotonic() > deadline:
                raise Trouble(f"it had not entered the guest after {START_LIMIT} s")
            time.sleep(0.02)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stderr:
            process.stderr.close()
    found = parse_start(trace.read_text(errors="replace"))
    return {"ms": found["run"], "phases": found}


def payload(job: dict, scratch: Path) -> dict:
    """From exec to the first byte on the console, which this payload writes with its first instructions."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        raise Trouble("this host has no /dev/kvm that can be used")
    program = Path(job["path"]).resolve().parent.parent / "payloads/protected_mode"
    if not program.exists():
        raise Trouble(f"there is no {program}: it is built with vmm")
    receipt = scratch / "receipt.json"
    with running([job["path"], "--kernel", str(program), "--debug-ports", "--net", "none", "--stats", str(receipt)],
                 count=False) as monitor:
        said = monitor.wait_for(b"p", START_LIMIT)  # of "protected mode, paging off"
        status = monitor.wait_end(START_LIMIT)
        if status != 33:  # what the payload asks for
            raise Trouble(f"the payload ended with {status}{monitor.tail()}")
    told = json.loads(receipt.read_text(encoding="utf-8"))
    return {"ms": (said - monitor.started) / 1e6,
            "phases": {phase["name"]: phase["ms"] for phase in told.get("phases", [])}}


KINDS = {"start": start, "payload": payload}

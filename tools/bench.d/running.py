# SPDX-License-Identifier: Apache-2.0
"""Makes the runs of a plan: in a lab, which inside.py serves, or on this host by host.py."""

import json
import os
import re
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import figures
import host
from experiments import COUNTED, TAP_HOST, called
from plan import Record

TOOLS = Path(__file__).resolve().parent.parent
QEMU_FIRMWARE = ("share/seabios/bios-256k.bin", "share/seabios/bios-microvm.bin", "share/qemu/qboot.rom",
                 "share/qemu/linuxboot_dma.bin", "share/qemu/kvmvapic.bin")
LAB_LIMIT = 4 * 3600  # seconds; only a hang comes near
LAB_PATIENCE = 900  # seconds for one run in it: more than three guests that hang, or three slow boots on a busy host
STOOD_STILL = "the lab stood still"


def say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


def extents(path: str) -> list[tuple[int, int]]:
    """Where a file holds data: a disk image has more holes than that."""
    found, size = [], os.path.getsize(path)
    fd = os.open(path, os.O_RDONLY)
    try:
        position = 0
        while position < size:
            try:
                start = os.lseek(fd, position, os.SEEK_DATA)
            except OSError:  # ENXIO: a hole to the end
                break
            position = os.lseek(fd, start, os.SEEK_HOLE)
            found.append((start, position))
    finally:
        os.close(fd)
    return found


def libraries(program: str) -> list[str]:
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
    return re.findall(r"(/\S+) \(0x", listed)


def programs_of(records: list[Record]) -> list[str]:
    """What a monitor opens of its own."""
    found: dict[str, None] = {}
    for path in dict.fromkeys(record.job["path"] for record in records):
        found |= dict.fromkeys([path, *libraries(path), "/etc/ld.so.cache"])
        if "qemu" in path:
            found |= dict.fromkeys(os.path.realpath(f"/usr/{name}") for name in QEMU_FIRMWARE)
    return list(found)


def files_of(records: list[Record], place: str) -> dict[str, list[tuple[int, int]]]:
    """What guests are given, with where its data is: in the counted lab it is copied into memory first."""
    found: dict[str, list[tuple[int, int]]] = {}
    for record in records:
        guest = record.job.get("guest", {})
        paths = [guest[name] for name in ("kernel", "elf", "initrd") if guest.get(name)]
        if place == COUNTED and record.job["kind"] == "boot":
            paths += [disk["path"] for disk in guest.get("disks", [])]
        found |= {path: extents(path) for path in paths if path not in found}
    return found


def finished(record: Record, result: dict, number: int, of: int) -> None:
    record.result = result
    aside = " (aside)" if record.aside else ""
    told = next((f"{key} {result[key]:.3g}" for key in ("seconds", "guest_seconds", "ms") if key in result), "done")
    if "disturbed" in result:
        told += f", disturbed: {result['disturbed']}"
    troubles = {"": result["trouble"]} if "trouble" in result else result.get("troubles", {})
    if troubles:
        told = "; ".join(f"TROUBLE {name} {figures.last_line(text)}" for name, text in troubles.items())
    say(f"{number}/{of} {record.experiment.name} {record.subject}{aside}: {told}")


def lines_of(process: subprocess.Popen, patience: float) -> Iterator[str]:
    """What it prints, line by line; TimeoutError if that takes it longer than `patience` seconds once."""
    assert process.stdout is not None
    rest = b""
    while True:
        if not select.select([process.stdout], [], [], patience)[0]:
            raise TimeoutError
        part = os.read(process.stdout.fileno(), 65536)
        if not part:
            return
        *lines, rest = (rest + part).split(b"\n")
        yield from (line.decode() for line in lines)


def run_in_one_lab(place: str, cpus: int, records: list[Record]) -> str:
    """Fills in results, as far as it comes. Returns why there are no more, if there should be."""
    uses = any("steps" in record.job for record in records)
    options = ["--counted"] if place == COUNTED else ["--auto", "--cpus", str(cpus)]
    if uses:
        options += ["--scratch", "4G"]
    plan = {"taps": ["tap0"], "serve": TAP_HOST if uses else "", "programs": programs_of(records),
            "files": files_of(records, place), "jobs": [record.job for record in records]}
    with tempfile.NamedTemporaryFile("w", prefix="bench-", suffix=".json") as file:
        json.dump(plan, file)
        file.flush()
        command = [str(TOOLS / "lab"), *options, "--memory", "4G", "--timeout", str(LAB_LIMIT), "--",
                   "unshare", "--net", sys.executable, str(TOOLS / "bench.d/inside.py"), file.name]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as lab:
            try:
                for done, line in enumerate(lines_of(lab, LAB_PATIENCE), 1):
                    result = json.loads(line)
                    finished(records[result["job"]], result, done, len(records))
            except TimeoutError:
                lab.terminate()
                return STOOD_STILL
            except BaseException:
                lab.terminate()
                lab.wait()
                raise
    return f"{called(place, cpus)}: ended before it (tools/lab's status {lab.returncode})"


def run_in_lab(place: str, cpus: int, records: list[Record]) -> None:
    """Where a lab stands still, as QEMU's fault makes it do now and then (tools/lab --help), another goes on."""
    waiting = records
    again: set[Record] = set()
    while waiting:
        why = run_in_one_lab(place, cpus, waiting)
        left = [record for record in waiting if not record.result]
        lost: list[Record] = []
        if why != STOOD_STILL or not left:
            lost, left = left, []
        elif left[0] in again:
            lost, left = left[:1], left[1:]
        else:
            again.add(left[0])
            say(f"{left[0].experiment.name} {left[0].subject}: {why}; it begins again")
        for record in lost:
            record.result = {"trouble": why}
        # What a warm-up fills lies in its lab's memory.
        warm_ups = [record for record in records if left and record.job.get("warm_up") and record not in left
                    and "trouble" not in record.result]
        for record in warm_ups:
            record.result = {}
        waiting = warm_ups + left


def run_on_host(records: list[Record]) -> None:
    for number, record in enumerate(records, 1):
        with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
            try:
                result = host.KINDS[record.job["kind"]](record.job, Path(scratch))
            except (host.Trouble, OSError, subprocess.SubprocessError) as trouble:
                result = {"trouble": str(trouble)}
        finished(record, result, number, len(records))

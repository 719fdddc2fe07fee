# SPDX-License-Identifier: Apache-2.0
"""What a guest does when its disk and its network are measured: a script for its shell, and how its answers are read.

The script lies on the guest's second disk, before the area that is read and written. Around each step the guest says
"@@begin NAME" and "@@end NAME ANSWER", so that whoever watches can read counters in between.
"""

import dataclasses
import re
from dataclasses import dataclass

SCRIPT_BYTES = 1 << 20   # of the disk, for the script
DATA_BYTES = 256 << 20   # behind it
RUN_SCRIPT = 'init=/bin/sh -- -c "dd if=/dev/vdb bs=8k count=1 2>/dev/null | sh"'
RR_PORT = 5999
RR_BYTES = 64


@dataclass(frozen=True)
class Fio:
    """One fio job on the raw disk."""
    name: str
    mode: str
    depth: int
    block: int                 # bytes
    count: int                 # I/Os

    def command(self, file: str) -> str:
        engine = "io_uring" if self.depth > 1 else "psync"
        return (f"fio --name={self.name} --filename={file} --offset={SCRIPT_BYTES} --size={DATA_BYTES} --direct=1 "
                f"--ioengine={engine} --iodepth={self.depth} --rw={self.mode} --bs={self.block} "
                f"--number_ios={self.count} --randrepeat=1 --output-format=terse --terse-version=3")

    def step(self) -> str:
        # error, then read: KiB, bandwidth, IOPS, ms; write: the same (HOWTO, "Terse output")
        return f"{self.command('/dev/vdb')} | cut -d';' -f5-9,47-50"

    def parse(self, answer: str) -> dict[str, float]:
        fields = [int(float(field)) for field in answer.split(";")]
        if len(fields) != 9 or fields[0] != 0:
            raise ValueError(f"fio said {answer!r}")
        kib, milliseconds = (fields[1], fields[4]) if fields[1] else (fields[5], fields[8])
        if not kib or not milliseconds:
            raise ValueError(f"fio did nothing: {answer!r}")
        done = kib * 1024 / self.block
        return {"iops": done * 1000 / milliseconds, "mb_s": kib * 1.024 / milliseconds, "units": done}


@dataclass(frozen=True)
class Stream:
    """One TCP stream by iperf3, out of the guest or into it."""
    name: str
    mebibytes: int
    into: bool = False

    def command(self, server: str) -> str:
        return f"iperf3 -c {server} -n {self.mebibytes}M -f k -i 0" + (" -R" if self.into else "")

    def step(self, server: str) -> str:
        return f"{self.command(server)} 2>&1 | grep -E 'receiver|error' | tail -n 1"

    def parse(self, answer: str) -> dict[str, float]:
        match = re.search(r"([\d.]+) Kbits/sec .*receiver", answer)
        if not match:
            raise ValueError(f"iperf3 said {answer!r}")
        return {"gbit_s": float(match[1]) / 1e6, "units": self.mebibytes}


@dataclass(frozen=True)
class Ping:
    name: str
    count: int

    def step(self, server: str) -> str:
        return f"ping -q -c {self.count} -i 0.02 {server} | tail -n 1"

    def parse(self, answer: str) -> dict[str, float]:
        match = re.search(r"= [\d.]+/([\d.]+)/", answer)
        if not match:
            raise ValueError(f"ping said {answer!r}")
        return {"ms": float(match[1]), "units": self.count}


@dataclass(frozen=True)
class RequestResponse:
    """Small requests over one TCP connection, each answered before the next; the server is of inside.py."""
    name: str
    count: int

    def step(self, server: str) -> str:
        return (f"perl -MIO::Socket::INET -MTime::HiRes=time -e '$s = IO::Socket::INET->new(PeerAddr => \"{server}\", "
                f"PeerPort => {RR_PORT}) or die; setsockopt($s, 6, 1, 1); $m = \"x\" x {RR_BYTES}; $t = time; "
                f"for (1 .. {self.count}) {{ syswrite($s, $m); $n = 0; while ($n < {RR_BYTES}) "
                f"{{ $n += sysread($s, $b, {RR_BYTES}) || die }} }} print((time() - $t) * 1000 / {self.count})' 2>&1")

    def parse(self, answer: str) -> dict[str, float]:
        return {"ms": float(answer), "units": self.count}


Step = Fio | Stream | Ping | RequestResponse

DISK = (Fio("randread32", "randread", 32, 4096, 6000), Fio("randwrite32", "randwrite", 32, 4096, 6000),
        Fio("randread1", "randread", 1, 4096, 2000), Fio("seqread", "read", 1, 1 << 20, 256),
        Fio("seqwrite", "write", 1, 1 << 20, 256))
NETWORK = (Ping("ping", 100), RequestResponse("rr", 500), Stream("out", 128), Stream("in", 128, into=True))


def steps(names: list[str], share: float) -> list[Step]:
    """Those of the names, with that share of what they do."""
    def less(step: Step) -> Step:
        amount = "mebibytes" if isinstance(step, Stream) else "count"
        return dataclasses.replace(step, **{amount: max(1, round(getattr(step, amount) * share))})

    known = {step.name: step for step in DISK + NETWORK}
    return [less(known[name]) for name in names]


def script(wanted: list[Step], address: str, server: str) -> bytes:
    """For the guest's shell; as long as RUN_SCRIPT reads."""
    lines = ["mount -t tmpfs none /tmp", "mount -t tmpfs none /run"]
    if address:
        lines += ["ip link set lo up", f"ip addr add {address}/24 dev eth0", "ip link set eth0 up", "sleep 1"]
    for step in wanted:
        command = step.step() if isinstance(step, Fio) else step.step(server)
        lines += [f"echo; echo '@@begin {step.name};'", f"answer=$({command})",
                  f"echo; echo \"@@end {step.name} $answer@@;\""]
    text = ("\n".join([*lines, "sleep 99999"]) + "\n").encode()
    if len(text) > 8192:
        raise ValueError("the script is longer than what the guest reads of it")
    return text.ljust(8192, b"\n")

# SPDX-License-Identifier: Apache-2.0
"""The part of tools/bench that runs beside the guests, in the lab: a plan (JSON) in, a line of JSON a job out."""

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))

import instruments  # noqa: E402
import peers  # noqa: E402
import workloads  # noqa: E402

TRIES = 3     # of a boot that was disturbed
MARK = b"@@"  # what the guest's init says first
KERNEL_SETTLES = 3  # seconds; until then vmm's cache takes a file for one that may yet change, and reads all of it


class Trouble(Exception):
    """The figure cannot be had, and this is why."""


class Running:
    """A monitor from its exec to its end, its console read through a pipe."""

    def __init__(self, command: list[str], count: bool, environment: dict[str, str] | None = None):
        self.output = b""   # said, and not yet waited for
        self.skipped = b""  # said before what was waited for last
        self.console, theirs = os.pipe()
        go_read, go_write = os.pipe()
        self.errors = tempfile.TemporaryFile()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.setsid()
                os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
                os.dup2(theirs, 1)
                os.dup2(self.errors.fileno(), 2)
                os.close(go_write)
                if os.read(go_read, 1):
                    os.execve(command[0], command, os.environ | (environment or {}))
            finally:
                os._exit(127)
        os.close(theirs)
        os.close(go_read)
        self.counts: dict[str, instruments.TracepointCount] = {}
        try:
            for name in ("kvm/kvm_userspace_exit", "raw_syscalls/sys_enter") if count else ():
                self.counts[name] = instruments.TracepointCount(name, self.pid)
            self.started = time.monotonic_ns()
            os.write(go_write, b"g")
        except OSError:
            self.end()
            raise
        finally:
            os.close(go_write)

    def wait_for(self, text: bytes, seconds: float) -> int:
        """Until the console says it; returns that moment."""
        deadline = time.monotonic() + seconds
        while text not in self.output:
            if time.monotonic() > deadline:
                raise Trouble(f"the guest did not say {text.decode()} within {seconds:.0f} s{self.tail()}")
            self.read(1)
        moment = time.monotonic_ns()
        self.skipped, _, self.output = self.output.partition(text)
        return moment

    def read(self, patience: float) -> None:
        """Takes what the console says next, if it says something in time."""
        if select.select([self.console], [], [], patience)[0]:
            data = os.read(self.console, 65536)
            if not data:
                raise Trouble(f"the monitor ended{self.tail()}")
            self.output += data

    def wait_end(self, seconds: float) -> int:
        """Until it ends by itself; returns its exit status, negative for a signal."""
        deadline = time.monotonic() + seconds
        while not (ended := os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)):  # end() waits again
            if time.monotonic() > deadline:
                raise Trouble(f"it had not ended after {seconds:.0f} s{self.tail()}")
            time.sleep(0.01)
        return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status

    def tail(self) -> str:
        self.errors.seek(0)
        told = (self.output + b"\n" + self.errors.read()).decode(errors="replace").strip()
        return f"; it said: ...{told[-600:]}" if told else ""

    def sample(self) -> dict[str, int]:
        """Counters, now."""
        pids = instruments.family(self.pid)
        found = {"syscalls": self.counts["raw_syscalls/sys_enter"].read(),
                 "user_exits": self.counts["kvm/kvm_userspace_exit"].read()} if self.counts else {}
        kvm = instruments.kvm_counters(pids)
        if kvm:
            found["exits"] = kvm["exits"]
            found["kvm"] = {name: value for name, value in kvm.items() if value}
        return found

    def end(self) -> None:
        for pid in reversed(instruments.family(self.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        for count in self.counts.values():
            count.close()
        os.close(self.console)
        self.errors.close()


@contextlib.contextmanager
def running(*arguments, **options) -> Iterator[Running]:
    monitor = Running(*arguments, **options)
    try:
        yield monitor
    finally:
        monitor.end()


def boot(job: dict, scratch: Path) -> dict:
    """From exec to the first word of the first process on the guest's root; then its memory when it has come to rest.

    A traced boot tells only how long the guest itself ran: tracing each exit makes all else slower.
    """
    peer = peers.make(job["peer"], job["path"])
    guest = peers.Guest.of(job["guest"])
    cache = Path(tempfile.mkdtemp(dir=scratch)) if job["cache"] == "new" else scratch.parent / "cache"
    environment = {"XDG_CACHE_HOME": str(cache), "VMM_CACHE": str(cache)}
    idle = instruments.idle_seconds()
    tracing = instruments.GuestTime() if job.get("traced") else contextlib.nullcontext()
    with tracing, running(peer.command(guest, scratch), not job.get("traced"), environment) as monitor:
        said = monitor.wait_for(MARK, job["limit"])
        if job.get("traced"):
            return {"guest_seconds": tracing.seconds()}
        # In the counted lab a wait for the outer host lasts until the next timer is due, however short it was: tenths
        # of a second that one run was idle and another was not are such a wait.
        result = {"seconds": (said - monitor.started) / 1e9, "idle_seconds": instruments.idle_seconds() - idle}
        result |= monitor.sample()
        pids = instruments.family(monitor.pid)
        result["ram_kib"] = instruments.memory(pids, guest.memory << 20)["ram_kib"]
        time.sleep(2)
        memory = instruments.memory(pids, guest.memory << 20)
        result |= {name: memory[name] for name in ("beside_kib", "anonymous_kib")}
    return result


def disk_file(folder: Path, script: bytes) -> str:
    """A disk whose data is in this machine's page cache, with the script at its start.

    A page counts as active from its second reading on, which costs that reading: it would be that of the monitor whose
    turn is the second.
    """
    path = folder / "data"
    if not path.exists():
        with open(path, "wb") as file:
            file.truncate(workloads.SCRIPT_BYTES)
            file.seek(workloads.SCRIPT_BYTES)
            block = os.urandom(1 << 20)
            for _ in range(workloads.DATA_BYTES >> 20):
                file.write(block)
        for _ in range(2):
            with open(path, "rb") as file:
                while file.read(1 << 20):
                    pass
    with open(path, "r+b") as file:
        file.write(script)
    return str(path)


def per_unit(before: dict, after: dict, units: float) -> dict[str, float]:
    return {name: (after[name] - before[name]) / units for name in ("exits", "user_exits", "syscalls")
            if name in before and name in after}


def use(job: dict, scratch: Path) -> dict:
    """The steps of workloads.py in one guest; each with what it cost a unit (an I/O, a MiB, a round trip)."""
    peer = peers.make(job["peer"], job["path"])
    steps = workloads.steps(job["steps"], job["share"])
    script = workloads.script(steps, job["address"], job["server"])
    plain = job["guest"] | {"disks": [*job["guest"]["disks"],
                                      {"path": disk_file(Path(job["folder"]), script), "read_only": False}]}
    os.sync()  # what the run before has written would else be written back during this one
    result: dict = {"troubles": {}}
    with running(peer.command(peers.Guest.of(plain), scratch), count=True) as monitor:
        for step in steps:
            try:
                monitor.wait_for(f"@@begin {step.name};".encode(), job["limit"])
                before = monitor.sample()
                monitor.wait_for(f"@@end {step.name} ".encode(), job["limit"])
                after = monitor.sample()
                monitor.wait_for(b"@@;", job["limit"])
                told = step.parse(monitor.skipped.decode(errors="replace").strip())
            except ValueError as error:
                result["troubles"][step.name] = str(error)
                continue
            except Trouble as trouble:  # the guest is gone or hangs: what it has done remains
                result["troubles"] |= {left.name: str(trouble) for left in steps[steps.index(step):]}
                break
            told |= per_unit(before, after, told["units"])
            result |= {f"{step.name}.{key}": value for key, value in told.items()}
    return result


def native(job: dict, scratch: Path) -> dict:
    """The same steps without a guest, on the same file and over loopback: the limit."""
    file = disk_file(Path(job["folder"]), b"")
    result: dict = {"troubles": {}}
    for step in workloads.steps(job["steps"], job["share"]):
        # A monitor reads and writes the file through this machine's cache; so does fio here, which would else empty it.
        command = step.step().replace("/dev/vdb", file).replace("--direct=1", "--direct=0 --invalidate=0") \
            if isinstance(step, workloads.Fio) else step.step("127.0.0.1")
        done = subprocess.run(["sh", "-c", command], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              check=False)
        try:
            result |= {f"native.{step.name}.{key}": value for key, value in step.parse(done.stdout.strip()).items()}
        except ValueError as error:
            result["troubles"][step.name] = f"{error} {done.stderr.strip()[-200:]}"
    return result


def reclaim(job: dict, scratch: Path) -> dict:
    """How much of the memory that a guest has freed its monitor has given back ten seconds later."""
    peer = peers.make(job["peer"], job["path"])
    guest = peers.Guest.of(job["guest"])
    with running(peer.command(guest, scratch), count=False) as monitor:
        pids = [monitor.pid]

        def ram() -> int:
            return instruments.memory(instruments.family(pids[0]), guest.memory << 20)["ram_kib"]

        monitor.wait_for(b"@@full", job["limit"])
        full = ram()
        if full < job["mebibytes"] * 1024:
            raise Trouble(f"the guest has filled {job['mebibytes']} MiB, and its monitor holds {full >> 10}")
        monitor.wait_for(b"@@freed", job["limit"])
        time.sleep(10)
        return {"returned": 100 * (full - ram()) / (job["mebibytes"] * 1024)}


def density(job: dict, scratch: Path) -> dict:
    """What each of several machines at once takes when their guests have come to rest."""
    peer = peers.make(job["peer"], job["path"])
    guest = peers.Guest.of(job["guest"])
    with contextlib.ExitStack() as machines:
        monitors = []
        for number in range(job["machines"]):
            own = scratch / str(number)
            own.mkdir()
            monitors.append(machines.enter_context(running(peer.command(guest, own), count=False)))
        for monitor in monitors:
            monitor.wait_for(MARK, job["limit"])
        time.sleep(2)
        found = [instruments.memory(instruments.family(monitor.pid), guest.memory << 20) for monitor in monitors]
    each = {name: sum(memory[name] for memory in found) / len(found) for name in ("beside_kib", "ram_kib")}
    return each | {"all_kib": sum(each.values())}


def undisturbed(job: dict, scratch: Path) -> dict:
    """A boot in the counted lab: once more, thrice at most, if it was idle for longer than boots are."""
    for attempt in range(1, TRIES + 1):
        result = boot(job, scratch) | {"tries": attempt}
        if not job.get("most_idle") or result.get("idle_seconds", 0) <= job["most_idle"]:
            return result
    return result | {"disturbed": f"idle for {result['idle_seconds']:.2f} s, and too long in {TRIES} tries"}


KINDS = {"boot": undisturbed, "use": use, "native": native, "reclaim": reclaim, "density": density}


def answer_requests(server: socket.socket) -> None:
    """The other side of workloads.RequestResponse."""
    while True:
        connection, _ = server.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection, contextlib.suppress(OSError):
            while data := connection.recv(4096):
                connection.sendall(data)


def serve() -> None:
    """What guests talk to: iperf3 and the answerer, in processes of their own that end with this one."""
    server = socket.create_server(("0.0.0.0", workloads.RR_PORT))
    for start in (lambda: answer_requests(server), lambda: os.execvp("iperf3", ["iperf3", "-s"])):
        if os.fork() == 0:
            try:
                ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
                os.dup2(os.open("/dev/null", os.O_RDWR), 1)
                start()
            finally:
                os._exit(1)
    server.close()


def settle(programs: list[str]) -> None:
    """Copies what a monitor opens into the lab's memory: each open of a file of the outer host waits for that host."""
    for path in programs:
        if peers.in_lab():
            with contextlib.suppress(OSError):
                os.close(os.open(path, os.O_RDWR))  # the overlay copies a file when it is opened for writing


def settle_guest(guest: dict, files: dict[str, list], folder: Path) -> dict:
    """The guest with its files in memory, the holes of disk images left out."""

    def copied(path: str) -> str:
        target = folder / path.strip("/").replace("/", "_")
        if not peers.in_lab() or path not in files:
            return path
        if not target.exists():
            with open(path, "rb") as source, open(target, "wb") as copy:
                copy.truncate(os.path.getsize(path))
                for start, end in files[path]:
                    source.seek(start)
                    copy.seek(start)
                    while copy.tell() < end:
                        copy.write(source.read(min(1 << 20, end - copy.tell())))
            if path == guest.get("kernel"):
                time.sleep(KERNEL_SETTLES)
        return str(target)

    return guest | {name: copied(guest[name]) for name in ("kernel", "elf", "initrd") if guest.get(name)} | {
        "disks": [disk | {"path": copied(disk["path"])} for disk in guest.get("disks", [])]}


@contextlib.contextmanager
def data_folder() -> Iterator[str]:
    """Where the disk that is measured lies: in a file system that has a disk below, which memory has not."""
    if "LAB_SCRATCH" in os.environ:
        yield os.environ["LAB_SCRATCH"]
    else:
        with tempfile.TemporaryDirectory(prefix="bench-", dir="/var/tmp") as folder:
            yield folder


def prepare(plan: dict) -> None:
    instruments.mount_tracefs()
    for name in plan["taps"]:
        subprocess.run(["ip", "tuntap", "add", name, "mode", "tap"], check=True)
        subprocess.run(["ip", "link", "set", name, "up"], check=True)
    if peers.in_lab():
        # Nor does what a run writes go to its disk before its end, beside whatever is measured then.
        Path("/proc/sys/vm/dirty_writeback_centisecs").write_text("0", encoding="ascii")
    settle(plan["programs"])
    if plan["serve"]:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        subprocess.run(["ip", "addr", "add", f"{plan['serve']}/24", "dev", plan["taps"][0]], check=True)
        serve()


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # leaving no file behind
    plan = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    prepare(plan)
    with tempfile.TemporaryDirectory(prefix="bench-", dir="/dev/shm") as shared, data_folder() as folder:
        for index, job in enumerate(plan["jobs"]):
            scratch = Path(shared) / str(index)
            scratch.mkdir()
            job["folder"] = folder
            try:
                if "guest" in job:
                    job["guest"] = settle_guest(job["guest"], plan["files"], Path(shared))
                result = KINDS[job["kind"]](job, scratch)
            except Trouble as trouble:
                result = {"trouble": str(trouble)}
            except Exception:  # a fault of one job is told with its place, and ends only that job
                result = {"trouble": traceback.format_exc()}
            shutil.rmtree(scratch)
            print(json.dumps({"job": index} | result), flush=True)


if __name__ == "__main__":
    main()

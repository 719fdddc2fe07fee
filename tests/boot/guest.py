# SPDX-License-Identifier: Apache-2.0
"""A guest in a vmm process, driven through its console as a person would."""

import os
import re
import secrets
import selectors
import signal
import subprocess
import time
from pathlib import Path

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")  # what line editors send to a terminal


class Failure(Exception):
    """What was expected did not happen; the guest's console is shown with it."""


class Guest:
    """A running vmm. Ends it, whatever happens, when the `with` block ends."""

    def __init__(self, vmm: Path, arguments: list[str], *, limit: float, prefix: list[str] | None = None):
        self.limit = limit  # seconds that any one wait may take
        self.console = ""
        self.seen = 0  # the console up to here has been matched
        command = (prefix or []) + [str(vmm), *arguments]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        start_new_session=True)
        self.errors = b""
        self.selector = selectors.DefaultSelector()
        for stream in (self.process.stdout, self.process.stderr):
            os.set_blocking(stream.fileno(), False)
            self.selector.register(stream, selectors.EVENT_READ)

    def __enter__(self) -> "Guest":
        return self

    def __exit__(self, kind, error, _trace) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._read(0)
        if isinstance(error, Failure):
            tail = "\n".join(self.console.splitlines()[-25:])
            raise Failure(f"{error}\n--- the end of its console ---\n{tail}\n--- standard error ---\n"
                          f"{self.errors.decode(errors='replace')[-3000:]}") from None
        self.selector.close()

    def _read(self, patience: float) -> bool:
        """Takes what has come; false once there is no more to come."""
        for key, _ in self.selector.select(patience):
            data = os.read(key.fd, 65536) if key.fileobj else b""
            if not data:
                self.selector.unregister(key.fileobj)
            elif key.fileobj is self.process.stderr:
                self.errors += data
            else:
                self.console += data.decode(errors="replace").replace("\r", "")
        return bool(self.selector.get_map())

    def expect(self, pattern: str, limit: float | None = None) -> re.Match:
        """Waits for a regular expression in what the console says from here on."""
        expression = re.compile(pattern, re.MULTILINE)
        deadline = time.monotonic() + (limit or self.limit)
        open_ = True
        while True:
            found = expression.search(self.console, self.seen)
            if found:
                self.seen = found.end()
                return found
            if not open_:
                raise Failure(f"the guest ended (exit code {self.process.wait()}) before it said {pattern!r}")
            if time.monotonic() > deadline:
                raise Failure(f"not said within {limit or self.limit:.0f} s: {pattern!r}")
            open_ = self._read(0.2)

    def complaint(self, text: str) -> str:
        """Waits for a text on vmm's standard error; returns all of that."""
        deadline = time.monotonic() + self.limit
        while text.encode() not in self.errors:
            if not self._read(0.2) or time.monotonic() > deadline:
                raise Failure(f"standard error does not say {text!r}")
        return self.errors.decode(errors="replace")

    def send(self, text: str) -> None:
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def run(self, command: str, limit: float | None = None) -> str:
        """Runs a command at the guest's shell; returns what it printed, fails if it failed."""
        # The shell echoes what is typed: quotes keep the echo from looking like the answer.
        tag = secrets.token_hex(4)
        self.send(f"echo; echo 'beg''in-{tag}'; {command}\necho 'en''d-{tag}-'$?\n")
        self.expect(rf"^begin-{tag}$", limit)
        begin = self.seen
        status = self.expect(rf"end-{tag}-(\d+)", limit)
        output = ESCAPES.sub("", self.console[begin:status.start()])
        # The prompt and the echo of the line that asks for the status are not the command's.
        lines = [line for line in output.splitlines() if f"d-{tag}" not in line]
        if status.group(1) != "0":
            raise Failure(f"in the guest, {command!r} failed with {status.group(1)}:\n" + "\n".join(lines))
        return "\n".join(lines).strip()

    def ended(self, code: int, limit: float | None = None) -> None:
        """Waits for vmm to end, with this exit code."""
        deadline = time.monotonic() + (limit or self.limit)
        while self._read(0.2) and time.monotonic() < deadline:
            pass
        try:
            actual = self.process.wait(timeout=max(1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise Failure(f"vmm did not end within {limit or self.limit:.0f} s") from None
        if actual != code:
            raise Failure(f"vmm ended with {actual}, not {code}")

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

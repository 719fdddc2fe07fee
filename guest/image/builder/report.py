# SPDX-License-Identifier: Apache-2.0
"""Progress on a terminal, one line per fact in a pipe; errors that name the thing, the fault and the remedy."""

import contextlib
import signal
import subprocess
import sys
import time


class BuildError(Exception):
    """A failure to tell the user in one line; `detail` is the output of the command that failed."""

    def __init__(self, message, detail=""):
        super().__init__(message)
        self.detail = detail


class Report:
    """The step that runs is shown while it runs, and replaced by its result."""

    def __init__(self, quiet=False):
        self.quiet = quiet
        self.terminal = sys.stderr.isatty() and not quiet

    def step(self, text):
        if self.terminal:
            sys.stderr.write(f"\r\033[K  … {text}")
            sys.stderr.flush()

    def line(self, text):
        if self.quiet:
            return
        sys.stderr.write(f"\r\033[K{text}\n" if self.terminal else f"{text}\n")
        sys.stderr.flush()


def human(size):
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def end_tidily():
    """Makes SIGTERM an exception, so that work folders go and commands are ended on the way out."""
    def leave(*_):
        raise SystemExit(143)
    signal.signal(signal.SIGTERM, leave)


@contextlib.contextmanager
def watched(command, what, **options):
    """A command whose output is read line by line. It ends with us, however we end."""
    try:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                   stdin=subprocess.DEVNULL, **options)
    except FileNotFoundError:
        raise BuildError(f"{what}: the program {command[0]} is not installed; run tools/setup") from None
    with process:
        try:
            yield process
        except BaseException:
            process.terminate()
            raise


def run(command, *, what, remedy="", env=None, cwd=None, stdin=None):
    """Runs a command quietly. Its output is shown only where it fails."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env, cwd=cwd,
                              stdin=stdin or subprocess.DEVNULL, check=False)
    except FileNotFoundError:
        raise BuildError(f"{what}: the program {command[0]} is not installed; run tools/setup") from None
    output = done.stdout.decode(errors="replace")
    if done.returncode != 0:
        raise BuildError(f"{what}: {command[0]} failed with status {done.returncode}"
                         + (f"; {remedy}" if remedy else ""), output)
    return output


class Stopwatch:
    def __init__(self):
        self.start = time.monotonic()

    def __str__(self):
        return f"{time.monotonic() - self.start:.1f} s"

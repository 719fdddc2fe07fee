# SPDX-License-Identifier: Apache-2.0
"""A running machine's control socket."""

import subprocess
import time
from collections.abc import Callable

from bench import Bench, require


def ctl(bench: Bench, *words: str) -> subprocess.CompletedProcess:
    return subprocess.run([str(bench.vmm), "ctl", *words], capture_output=True, text=True, timeout=60)


def told(bench: Bench, *words: str) -> str:
    done = ctl(bench, *words)
    require(done.returncode == 0, f"vmm ctl {' '.join(words)}: exit code {done.returncode}: {done.stderr}")
    return done.stdout


def wait_until(bench: Bench, what: str, done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + bench.limit
    while not done():
        require(time.monotonic() < deadline, f"not within {bench.limit:.0f} s: {what}")
        time.sleep(0.5)

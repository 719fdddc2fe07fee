# SPDX-License-Identifier: Apache-2.0
"""A machine that is not ours to boot images in: QEMU without KVM. What fails here is the image's fault, not the VMM's."""

import json
import os
import pathlib
import re
import select
import socket
import subprocess
import time

BINARY = "qemu-system-x86_64"
PATIENCE = 240  # seconds for a single step: a busy host is slow, and only a hang takes that long


class Machine:
    """Boots a kernel and drives its serial console. Markers (port 0x3F0) are read from a file that QEMU writes."""

    def __init__(self, folder, kernel, *, initrd=None, disks=(), append="", memory="512M", kind="q35"):
        self._folder = pathlib.Path(folder)
        self._marks = self._folder / "marks"
        self._monitor = self._folder / "monitor"
        bus = "device" if kind.startswith("microvm") else "pci"
        # The guest's time is the count of its instructions: on a busy host it boots later, but calibrates its clocks
        # right and times nothing out.
        command = [BINARY, "-accel", "tcg", "-icount", "shift=1,sleep=off", "-cpu", "max", "-M", kind, "-m", memory, "-nodefaults", "-display", "none",
                   "-no-reboot", "-serial", "stdio", "-kernel", str(kernel), "-append", f"console=ttyS0 quiet {append}",
                   "-qmp", f"unix:{self._monitor},server=on,wait=off",
                   "-netdev", "user,id=net", "-device", f"virtio-net-{bus},netdev=net",
                   "-device", f"virtio-rng-{bus}",
                   "-chardev", f"file,id=marks,path={self._marks}",
                   "-device", "isa-debugcon,iobase=0x3f0,chardev=marks"]
        if initrd:
            command += ["-initrd", str(initrd)]
        for index, disk in enumerate(disks):
            command += ["-drive", f"if=none,id=disk{index},format=raw,file={disk}",
                        "-device", f"virtio-blk-{bus},drive=disk{index}"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                         stderr=subprocess.STDOUT)
        os.set_blocking(self._process.stdout.fileno(), False)
        self.output = ""
        self._seen = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()

    def _more(self, timeout):
        """False at the end of the output."""
        if not select.select([self._process.stdout], [], [], timeout)[0]:
            return True
        data = os.read(self._process.stdout.fileno(), 1 << 16)
        self.output += data.decode(errors="replace").replace("\r", "")
        return bool(data)

    def expect(self, pattern, timeout=PATIENCE):
        """Waits for the expression in the output after the last one found. The answer is the match."""
        end = time.monotonic() + timeout
        while True:
            found = re.search(pattern, self.output[self._seen:])
            if found:
                self._seen += found.end()
                return found
            if time.monotonic() > end:
                raise AssertionError(f"{pattern!r} did not appear within {timeout} s after:\n{self.output[-2000:]}")
            if not self._more(0.2):
                raise AssertionError(f"the machine ended before {pattern!r}:\n{self.output[-2000:]}")

    def send(self, line):
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def command(self, line, timeout=PATIENCE):
        """Runs a shell command. The answer is its output; its status must be 0."""
        # The terminal's echo shows the quotes, the output of echo does not.
        self.send(f"{line}; echo \"--\"\"[$?]--\"")
        start = self._seen
        found = self.expect(r"--\[(\d+)\]--", timeout)
        text = self.output[start:self._seen]
        if found.group(1) != "0":
            raise AssertionError(f"{line}: status {found.group(1)}:\n{text}")
        return text

    def press_power_button(self):
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.connect(str(self._monitor))
            with monitor.makefile("rw") as stream:
                stream.readline()
                for command in ("qmp_capabilities", "system_powerdown"):
                    stream.write(json.dumps({"execute": command}) + "\n")
                    stream.flush()
                    stream.readline()

    def wait_for_end(self, timeout=PATIENCE):
        """Reads on until the machine is gone."""
        end = time.monotonic() + timeout
        while self._more(0.2):
            if time.monotonic() > end:
                raise AssertionError(f"the machine was still there after {timeout} s:\n{self.output[-2000:]}")
        self._process.wait(10)

    def marks(self):
        return list(self._marks.read_bytes()) if self._marks.exists() else []

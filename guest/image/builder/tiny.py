# SPDX-License-Identifier: Apache-2.0
"""tiny: a root file system of busybox and a few scripts (guest/image/tiny/root). Seconds to build, a second to boot."""

import pathlib
import subprocess

from . import packages, programs
from .report import BuildError
from .tree import Tree

OVERLAY = pathlib.Path(__file__).resolve().parents[1] / "tiny" / "root"
DEFAULT_SIZE = "256M"
JOURNAL_MIB = 4
COMPRESSOR = ""


def inputs():
    return [OVERLAY, programs.SOURCES, programs.TOOLS, packages.version("busybox-static")]


def busybox(scratch, report):
    return packages.unpack("busybox-static", scratch / "busybox", report) / "bin" / "busybox"


def archives(scratch, report, force=False):
    """The tar archives that make up the root, to be unpacked in this order."""
    tree = Tree()
    program = busybox(scratch, report)
    tree.file("bin/busybox", program, 0o755)
    listed = subprocess.run([str(program), "--list-full"], stdout=subprocess.PIPE, check=False)
    if listed.returncode != 0:
        raise BuildError("ask busybox for its applets: it does not run here (this host is not x86-64 Linux?)")
    for applet in listed.stdout.decode().split():
        if applet != "bin/busybox":
            tree.link(applet, "/bin/busybox")
    for path in ("dev", "proc", "sys", "run", "mnt", "home", "lib/modules", "var/log", "usr/local/bin"):
        tree.directory(path)
    tree.directory("root", 0o700)
    tree.file("etc/shadow", "root::19000:0:99999:7:::\n", 0o600)  # no password: the console is the key
    tree.directory("tmp", 0o1777)
    tree.link("etc/resolv.conf", "/run/resolv.conf")
    tree.link("etc/mtab", "/proc/mounts")
    tree.link("var/run", "/run")
    tree.link("var/tmp", "/tmp")
    mark = programs.build("mark", scratch / "programs")
    tree.file("sbin/mark", mark, 0o755)
    tree.file("bin/vsock", programs.build("vsock", scratch / "programs", programs.TOOLS), 0o755)
    # The first process tells the VMM that it is there, then becomes busybox's init.
    tree.file("sbin/init", mark, 0o755)
    tree.link("sbin/init.real", "/bin/busybox")
    tree.overlay(OVERLAY)
    tree.write(scratch / "tiny.tar")
    return [scratch / "tiny.tar"]

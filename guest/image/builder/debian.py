# SPDX-License-Identifier: Apache-2.0
"""debian: Debian 12 by mmdebstrap, with systemd, DHCP, root's shell on the console and the usual tools.

Packages are named in guest/image/debian/packages, our files lie in guest/image/debian/root.
"""

import os
import pathlib
import re

from . import cache, programs
from .report import BuildError, watched
from .tree import Tree

HERE = pathlib.Path(__file__).resolve().parents[1] / "debian"
SUITE = "bookworm"
DEFAULT_SIZE = "2G"
JOURNAL_MIB = 16
COMPRESSOR = "zstd -q -T0 -6"

# What a virtual machine's guest has no use for.
EXCLUDE = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/lintian/*",
           "/usr/share/bug/*", "/usr/share/i18n/*", "/usr/lib/x86_64-linux-gnu/gconv/*")
KEEP = ("/usr/share/doc/*/copyright", "/usr/share/locale/locale.alias")

# Things that a fresh system does by the clock, or that wait for what a virtual machine does not have.
MASKED = ("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "e2scrub_reap.service",
          "fstrim.timer", "systemd-networkd-wait-online.service", "systemd-pstore.service", "getty@tty1.service",
          "systemd-update-utmp.service", "systemd-update-utmp-runlevel.service", "sys-kernel-debug.mount",
          "sys-kernel-tracing.mount", "sys-kernel-config.mount", "sys-fs-fuse-connections.mount", "dev-hugepages.mount",
          "proc-sys-fs-binfmt_misc.automount", "modprobe@configfs.service", "modprobe@dm_mod.service",
          "modprobe@drm.service", "modprobe@efi_pstore.service", "modprobe@fuse.service", "modprobe@loop.service",
          "iperf3.service")
ENABLED = ("systemd-networkd.service", "systemd-resolved.service")


def inputs():
    return [HERE, programs.SOURCES, SUITE, os.environ.get("VMM_DEBIAN_MIRROR", "")]


def _packages():
    lines = (HERE / "packages").read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def _overlay(scratch):
    tree = Tree()
    mark = programs.build("mark", scratch / "programs")
    tree.file("usr/sbin/mark", mark, 0o755)
    # The first process tells the VMM that it is there, then becomes systemd.
    tree.file("usr/sbin/init", mark, 0o755)
    tree.overlay(HERE / "root")
    tree.file("etc/machine-id", "")  # made at the first boot: no two machines share one
    # As new as /usr: systemd need not bring users, the linker's cache and the like up to date at the first boot.
    tree.file("etc/.updated", "")
    tree.file("var/.updated", "")
    tree.link("etc/systemd/system/default.target", "/lib/systemd/system/multi-user.target")
    # Cards are called eth0, eth1… in the order given, as in the tiny image.
    tree.link("etc/systemd/network/99-default.link", "/dev/null")
    tree.link("etc/resolv.conf", "/run/systemd/resolve/stub-resolv.conf")
    for unit in MASKED:
        tree.link(f"etc/systemd/system/{unit}", "/dev/null")
    tree.write(scratch / "overlay.tar")
    return scratch / "overlay.tar"


def _hooks(overlay):
    enable = " ".join(ENABLED)
    return ["dpkg-divert --root=\"$1\" --local --rename --divert /sbin/init.real --add /sbin/init",
            f"chroot \"$1\" systemctl enable {enable}",
            "chroot \"$1\" passwd --delete root",
            "mkdir -p \"$1/usr/lib/modules\"",
            f"tar-in {overlay} /",
            "rm -rf \"$1\"/var/log/*.log \"$1\"/var/log/apt \"$1\"/var/cache/* \"$1\"/var/lib/apt/lists/* "
            "\"$1\"/var/lib/dpkg/*-old \"$1\"/etc/*-"]


_built = set()  # in this run of the program


def archives(scratch, report, force=False):
    """The root as an archive. It is kept: an image of another size or form need not ask the network again."""
    store = cache.Store()
    key = cache.digest(pathlib.Path(__file__), *inputs())
    with store.lock("debian-tar"):
        kept = store.find("debian", key, "tar.zst")
        if not kept or (force and key not in _built):
            kept = store.keep(_bootstrap(scratch, report), "debian", key, "tar.zst")
            store.link("debian", key, "tar.zst")
        _built.add(key)
    return [kept]


def _bootstrap(scratch, report):
    out = scratch / "debian.tar.zst"
    command = ["mmdebstrap", "--variant=minbase", f"--include={','.join(_packages())}",
               "--aptopt=APT::Install-Recommends \"false\""]
    command += [f"--dpkgopt=path-exclude={path}" for path in EXCLUDE]
    command += [f"--dpkgopt=path-include={path}" for path in KEEP]
    command += [f"--customize-hook={hook}" for hook in _hooks(_overlay(scratch))]
    command += [SUITE, str(out)]
    if mirror := os.environ.get("VMM_DEBIAN_MIRROR"):
        command.append(mirror)
    report.step("debian: starting mmdebstrap")
    _run(command, scratch, report)
    return out


def _run(command, scratch, report):
    """mmdebstrap tells its progress as lines that begin with "I:"."""
    environment = dict(os.environ, TMPDIR=str(scratch), LC_ALL="C")
    tail = []
    with watched(command, "build the debian image", env=environment) as process:
        for raw in process.stdout:
            line = raw.decode(errors="replace").rstrip()
            tail = [*tail[-39:], line]
            if found := re.match(r"I: (.*?)\.*$", line):
                report.step(f"debian: {found.group(1)}")
        status = process.wait()
    if status != 0:
        raise BuildError(f"build the debian image: mmdebstrap failed with status {status}; it needs a network, and root "
                         "or user namespaces (newuidmap, /etc/subuid)", "\n".join(tail))

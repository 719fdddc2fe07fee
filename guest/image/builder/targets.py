# SPDX-License-Identifier: Apache-2.0
"""Which files there are to build, what each is made of, and the way from inputs to the cache."""

import dataclasses
import pathlib

from . import cache, debian, pack, stock, tiny
from .report import Stopwatch, human

HERE = pathlib.Path(__file__).resolve().parent
# A change of how things are packed changes every result.
COMMON = [HERE / name for name in ("pack.py", "pack-script", "tree.py", "programs.py", "targets.py")]
ROOTS = {"tiny": tiny, "debian": debian}


@dataclasses.dataclass(frozen=True)
class Target:
    what: str
    form: str  # ext4, initramfs, or kernel

    def name(self, size, extra):
        """The name in the cache: what differs from the usual has a name of its own, beside the usual one."""
        variant = ""
        if self.form == "ext4" and size != default_size(self.what):
            variant = f"+{size >> 20}M"
        elif self.form != "ext4" and extra:
            variant = "".join(f"+{module}" for module in sorted(extra))
        return self.what + variant


def default_size(what):
    return pack.parse_size(ROOTS[what].DEFAULT_SIZE)


def select(whats, form):
    if "all" in whats:
        whats = [*ROOTS, "stock"]
    chosen = []
    for what in dict.fromkeys(whats):
        if what == "stock":
            chosen.append(Target("stock", "kernel"))
        else:
            chosen += [Target(what, each) for each in ("ext4", "initramfs") if form in (None, each)]
    return chosen


def _key(target, size, extra):
    inputs = list(COMMON)
    if target.what in ROOTS:
        inputs += [HERE / f"{target.what}.py", *ROOTS[target.what].inputs()]
    if target.form != "ext4":
        inputs += [HERE / "stock.py", *stock.inputs(extra)]
    if target.form == "ext4":
        inputs.append(f"size={size}")
    return cache.digest(*inputs)


def _suffixes(target):
    return ("vmlinuz", "initrd") if target.form == "kernel" else (target.form,)


def _make(target, size, extra, key, scratch, force, report):
    """Builds into `scratch`. The answer is a file for each suffix."""
    if target.form == "kernel":
        root, release, archives = stock.archives(scratch, report, extra)
        report.step("packing stock.initrd")
        pack.initramfs(archives, scratch / "stock.initrd", scratch=scratch)
        return [stock.vmlinuz(root, release), scratch / "stock.initrd"]
    root = ROOTS[target.what]
    archives = root.archives(scratch, report, force)
    report.step(f"packing {target.what}.{target.form}")
    out = scratch / f"{target.what}.{target.form}"
    if target.form == "ext4":
        pack.ext4(archives, out, size=size, label=target.what, key=key, scratch=scratch, journal_mib=root.JOURNAL_MIB)
    else:
        kernel, release = stock.kernel(scratch, report)
        archives.append(stock.modules_archive(kernel, release, scratch, extra))
        pack.initramfs(archives, out, scratch=scratch, compressor=root.COMPRESSOR)
    return [out]


def _tell(report, path, how):
    held = path.stat()
    size = human(held.st_size)
    if held.st_blocks * 512 < held.st_size * 3 // 4:
        size += f" ({human(held.st_blocks * 512)} on disk)"
    report.line(f"{path.name:<18} {size:<28} {how}")


def build(target, *, size, extra, force, report):
    """Finds or builds. The answer is the stable paths in the cache."""
    store = cache.Store()
    watch = Stopwatch()
    if target.form == "ext4":
        size = size or default_size(target.what)
    name, suffixes = target.name(size, extra), _suffixes(target)
    report.step(f"looking for {name} ({target.form})")
    with store.lock(f"{name}-{target.form}"):
        key = _key(target, size, extra)
        built = force or not all(store.find(name, key, suffix) for suffix in suffixes)
        if built:
            with store.scratch() as scratch:
                made = _make(target, size, extra, key, scratch, force, report)
                for path, suffix in zip(made, suffixes):
                    store.keep(path, name, key, suffix)
        stable = [store.link(name, key, suffix) for suffix in suffixes]
    for path in stable:
        _tell(report, path, f"built in {watch}" if built else "from the cache")
    return stable

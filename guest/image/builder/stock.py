# SPDX-License-Identifier: Apache-2.0
"""stock: Debian's kernel for virtual machines as it is shipped, and an initramfs that loads its virtio modules.

The initramfs holds guest/init/initramfs.cpp as /init, busybox for the shell of last resort, and the modules that
guest/image/stock/modules names.
"""

import dataclasses
import pathlib
import re

from . import packages, programs, tiny
from .report import BuildError, run
from .tree import Tree

MODULES = pathlib.Path(__file__).resolve().parents[1] / "stock" / "modules"
META = "linux-image-cloud-amd64"


def package():
    """The newest kernel that the meta package depends on."""
    found = re.search(r"linux-image-\S+", packages.field(META, "Depends"))
    if not found:
        raise BuildError(f"find the kernel: the package {META} names none; run `apt-get update`")
    return found.group(0)


def inputs(extra=()):
    return [MODULES, programs.SOURCES, packages.version("busybox-static"), package(), packages.version(package()),
            *extra]


@dataclasses.dataclass
class Wish:
    module: str
    load: bool
    condition: str


def wishes(extra=()):
    listed = []
    for line in MODULES.read_text(encoding="utf-8").splitlines():
        words = line.split("#")[0].split()
        if words:
            listed.append(Wish(words[1], words[0] == "load", words[2] if len(words) > 2 else "-"))
    return listed + [Wish(name, False, "-") for name in extra]


class Modules:
    """The modules of an unpacked kernel package, with what each depends on."""

    def __init__(self, root, release):
        self.folder = root / "lib" / "modules" / release
        run(["depmod", "-b", str(root), release], what=f"list the dependencies of {release}'s modules")
        self._needs, self._path = {}, {}
        for line in (self.folder / "modules.dep").read_text(encoding="ascii").splitlines():
            path, _, needs = line.partition(":")
            self._needs[path] = needs.split()
            self._path[self._plain(path)] = path
        self._built_in = {self._plain(line) for line in
                          (self.folder / "modules.builtin").read_text(encoding="ascii").splitlines()}

    @staticmethod
    def _plain(name):
        return pathlib.PurePath(name).name.split(".")[0].replace("-", "_")

    def with_needs(self, name):
        """The module's path after those that it needs; nothing where the kernel has it built in."""
        plain = self._plain(name)
        if plain in self._built_in:
            return []
        if plain not in self._path:
            raise BuildError(f"add the module {name}: this kernel has none of that name")
        path = self._path[plain]
        # modules.dep has the needed ones nearest first; they load in the opposite order.
        return [*reversed(self._needs[path]), path]


def kernel(scratch, report):
    """Unpacks the kernel. The answer is its folder and its release (uname -r)."""
    root = packages.unpack(package(), scratch / "kernel", report)
    return root, package().removeprefix("linux-image-").removesuffix("-unsigned")


def vmlinuz(root, release):
    return root / "boot" / f"vmlinuz-{release}"


def modules_archive(root, release, scratch, extra=()):
    """/init and the modules: what an initramfs needs for this kernel, whatever else is in it."""
    modules = Modules(root, release)
    tree = Tree()
    folder = f"lib/modules/{release}"
    order, kept = [], {}
    for wish in wishes(extra):
        for path in modules.with_needs(wish.module):
            kept[path] = True
            # A dependency comes under the condition of each module that needs it; loading it twice does no harm.
            if wish.load and not {("-", path), (wish.condition, path)} & set(order):
                order.append((wish.condition, path))
    for path in kept:
        tree.file(f"{folder}/{path}", modules.folder / path)
    tree.file(f"{folder}/initramfs.load", "".join(f"{condition} {path}\n" for condition, path in order))
    # modprobe's indexes, of these modules only.
    subset = scratch / "subset"
    for path in kept:
        copy = subset / folder / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.symlink_to(modules.folder / path)
    for name in ("modules.builtin", "modules.builtin.modinfo", "modules.order"):
        (subset / folder / name).write_bytes((modules.folder / name).read_bytes())
    run(["depmod", "-b", str(subset), release], what="index the modules of the initramfs")
    # As text for busybox, in binary for kmod, which a larger root has.
    for name in ("modules.dep", "modules.alias", "modules.softdep", "modules.builtin", "modules.dep.bin",
                 "modules.alias.bin", "modules.builtin.bin", "modules.builtin.alias.bin"):
        tree.file(f"{folder}/{name}", subset / folder / name)
    tree.file("init", programs.build("initramfs", scratch / "programs"), 0o755)
    tree.write(scratch / "modules.tar")
    return scratch / "modules.tar"


def archives(scratch, report, extra=()):
    root, release = kernel(scratch, report)
    tree = Tree()
    tree.file("bin/busybox", tiny.busybox(scratch, report), 0o755)
    tree.link("bin/sh", "busybox")
    # The kernel asks /sbin/modprobe for file systems and protocols that it has as modules.
    tree.link("sbin/modprobe", "/bin/busybox")
    tree.directory("sys")
    tree.write(scratch / "rescue.tar")
    return root, release, [scratch / "rescue.tar", modules_archive(root, release, scratch, extra)]

# SPDX-License-Identifier: Apache-2.0
"""What a case is, and what all of them have at hand. A case is a function of a Bench; it raises Failure, or Skip with
why."""

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from guest import Failure, Guest

MIB = 1 << 20
PROMPT = r"^(\x1b\[6n)?tiny:\S+# "


class Skip(Exception):
    """The case cannot be run here, and this is why."""


@dataclass
class Bench:
    vmm: Path
    images: dict[str, Path]  # of guest/image/build and guest/kernel/build, as far as they are there
    scratch: Path            # a folder of this case alone, on a real file system
    limit: float             # seconds for one wait
    cpu: str                 # --cpu

    def image(self, name: str) -> Path:
        if name not in self.images:
            raise Skip(f"there is no {name}: guest/image/build or guest/kernel/build makes it")
        return self.images[name]

    def copy(self, name: str) -> Path:
        """A copy that a guest may write to."""
        target = self.scratch / self.image(name).name
        shutil.copyfile(self.image(name), target)
        return target

    def stock(self, *arguments: str, prefix: list[str] | None = None) -> Guest:
        """Debian's kernel, as shipped, with our initramfs."""
        return Guest(self.vmm, ["--kernel", str(self.image("stock.vmlinuz")), "--initrd",
                                str(self.image("stock.initrd")), "--cpu", self.cpu, "--append", "quiet", *arguments],
                     limit=self.limit, prefix=prefix)

    def tiny(self, *arguments: str, prefix: list[str] | None = None) -> Guest:
        return self.stock("--disk", f"{self.image('tiny.ext4')},ro", *arguments, prefix=prefix)


CASES: dict[str, Callable[[Bench], None]] = {}


def case(function: Callable[[Bench], None]) -> Callable[[Bench], None]:
    CASES[function.__name__.replace("_", "-")] = function
    return function


def require(fact: bool, message: str) -> None:
    if not fact:
        raise Failure(message)


def kernel_complaints(log: str) -> list[str]:
    """Lines of a kernel log that accuse the machine."""
    accusation = re.compile(r"ACPI( BIOS)? Error|BIOS Error|firmware bug|\bBUG:|WARNING:|call trace|"
                            r"unable to handle|PCI: Fatal|irq \d+: nobody cared|I/O error", re.IGNORECASE)
    return [line for line in log.splitlines() if accusation.search(line)]

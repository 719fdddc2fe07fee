# SPDX-License-Identifier: Apache-2.0
"""Compiles the freestanding programs of guest/init and guest/tools."""

import os
import pathlib

from .report import run

ROOT = pathlib.Path(__file__).resolve().parents[3]
SOURCES = ROOT / "guest" / "init"
TOOLS = ROOT / "guest" / "tools"

# No libc, no relocations, no page of padding: a program of a few kilobytes that faults in two pages.
FLAGS = ("-std=c++20 -Os -Wall -Wextra -Wshadow -Wconversion -Wsign-conversion -Werror -ffreestanding -nostdlib -static "
         "-fno-exceptions -fno-rtti -fno-stack-protector -fno-asynchronous-unwind-tables -fno-pic -no-pie -mno-sse "
         "-fcf-protection=none -Wl,--build-id=none -Wl,-z,norelro -Wl,-z,noseparate-code -s").split()


def build(name, folder, sources=SOURCES):
    """Builds NAME.cpp of `sources`. The answer is the program's path."""
    out = folder / name
    folder.mkdir(parents=True, exist_ok=True)
    compiler = os.environ.get("CXX", "g++").split()
    run([*compiler, *FLAGS, "-I", str(ROOT), str(sources / f"{name}.cpp"), "-o", str(out)],
        what=f"compile guest/{sources.name}/{name}.cpp")
    return out

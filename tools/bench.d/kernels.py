# SPDX-License-Identifier: Apache-2.0
"""The ELF image inside a bzImage, for monitors that take no bzImage."""

import gzip
import lzma
import struct
import subprocess
from pathlib import Path

PROGRAMS = {b"\x02\x21\x4c\x18": ["lz4", "-dc"], b"\x28\xb5\x2f\xfd": ["zstd", "-dc"]}


def payload(image: bytes) -> bytes:
    """The compressed kernel, without the size that follows it (Documentation/arch/x86/boot.rst)."""
    if image[0x202:0x206] != b"HdrS":
        raise ValueError("not a bzImage")
    start = (image[0x1F1] + 1) * 512 + struct.unpack_from("<I", image, 0x248)[0]
    return image[start:start + struct.unpack_from("<I", image, 0x24C)[0] - 4]


def unpack(image: bytes) -> bytes:
    data = payload(image)
    if data.startswith(b"\xfd7zXZ\0"):
        return lzma.decompress(data)
    if data.startswith(b"\x1f\x8b"):
        return gzip.decompress(data)
    for magic, program in PROGRAMS.items():
        if data.startswith(magic):
            return subprocess.run(program, input=data, capture_output=True, check=True).stdout
    raise ValueError("a bzImage whose compression is unknown here")


def unpacked(kernel: Path, cache: Path) -> Path:
    """The ELF file, made once for this kernel."""
    final = cache / f"{kernel.stem}.elf"
    if not final.exists() or final.stat().st_mtime < kernel.stat().st_mtime:
        cache.mkdir(parents=True, exist_ok=True)
        part = final.with_suffix(".part")
        part.write_bytes(unpack(kernel.read_bytes()))
        part.rename(final)
    return final

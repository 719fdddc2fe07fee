# SPDX-License-Identifier: Apache-2.0
"""The cache of built images: files named by a digest of their inputs, with a stable name that links to the newest.

    images/tiny-3f2a….ext4         the file, read-only
    images/tiny.ext4 -> tiny-3f2a….ext4
"""

import contextlib
import fcntl
import hashlib
import os
import pathlib
import shutil
import subprocess
import tempfile
import time

from .report import BuildError


def directory():
    if chosen := os.environ.get("VMM_CACHE"):
        return pathlib.Path(chosen)
    if chosen := os.environ.get("XDG_CACHE_HOME"):
        return pathlib.Path(chosen) / "vmm"
    return pathlib.Path.home() / ".cache" / "vmm"


def digest(*inputs):
    """A name for these inputs: strings count as they are, paths by their content (directories: all files in them)."""
    state = hashlib.sha256()

    def add(tag, data):
        state.update(f"{tag}:{len(data)}:".encode())
        state.update(data)

    for item in inputs:
        if not isinstance(item, pathlib.Path):
            add("text", str(item).encode())
            continue
        files = sorted(p for p in item.rglob("*") if p.is_file() or p.is_symlink()) if item.is_dir() else [item]
        for path in files:
            if "__pycache__" in path.parts:
                continue
            add("path", str(path.relative_to(item)).encode())
            if path.is_symlink():
                add("link", os.readlink(path).encode())
            else:
                add("mode", b"x" if os.access(path, os.X_OK) else b"-")
                add("file", path.read_bytes())
    return state.hexdigest()[:16]


class Store:
    """One folder of the cache. `lock` keeps two builders of the same thing from doing the work twice."""

    def __init__(self, name="images"):
        self.path = directory() / name
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BuildError(f"make {self.path}: {error.strerror}; VMM_CACHE=DIR names another place") from None

    @contextlib.contextmanager
    def lock(self, name):
        with open(self.path / f".{name}.lock", "w", encoding="ascii") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @contextlib.contextmanager
    def scratch(self):
        """A folder beside the results, so that a finished file is renamed, never copied; gone afterwards."""
        for left in self.path.glob(".work-*"):  # by a builder that was killed
            if time.time() - left.stat().st_mtime > 86400:
                shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=".work-", dir=self.path) as path:
            yield pathlib.Path(path)

    def find(self, name, key, suffix):
        path = self.path / f"{name}-{key}.{suffix}"
        return path if path.exists() else None

    def keep(self, made, name, key, suffix):
        """Takes `made` in under its key."""
        path = self.path / f"{name}-{key}.{suffix}"
        os.chmod(made, 0o444)
        os.replace(made, path)
        return path

    def link(self, name, key, suffix):
        """Points the stable name at this key. Older builds of the same thing go."""
        stable = self.path / f"{name}.{suffix}"
        target = f"{name}-{key}.{suffix}"
        fresh = self.path / f".{name}.{suffix}.{os.getpid()}"
        fresh.symlink_to(target)
        os.replace(fresh, stable)
        for old in self.path.glob(f"{name}-*.{suffix}"):
            if old.name != target and len(old.name) == len(target):
                old.unlink(missing_ok=True)
        return stable


def copy_out(source, to):
    """A copy that keeps holes, shares blocks where the file system can, and appears whole or not at all."""
    to = pathlib.Path(to)
    if to.is_dir():
        raise BuildError(f"write {to}: it is a directory; --out names a file")
    part = to.with_name(f".{to.name}.{os.getpid()}")
    try:
        subprocess.run(["cp", "--sparse=always", "--reflink=auto", "-L", "--", str(source), str(part)], check=True,
                       stderr=subprocess.PIPE)
        os.chmod(part, 0o644)
        os.replace(part, to)
    except subprocess.CalledProcessError as error:
        raise BuildError(f"write {to}: {error.stderr.decode(errors='replace').strip()}") from None
    finally:
        part.unlink(missing_ok=True)

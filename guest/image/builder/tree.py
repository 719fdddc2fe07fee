# SPDX-License-Identifier: Apache-2.0
"""A root file system under construction, written as a tar archive: owners and devices need no root that way."""

import io
import os
import pathlib
import tarfile

# Files bear the day of Debian 12's release unless told otherwise, so that the same inputs give the same bytes.
EPOCH = int(os.environ.get("SOURCE_DATE_EPOCH", "1686355200"))


class Tree:
    def __init__(self):
        self._entries = {}

    def _add(self, path, kind, mode, *, data=None, target=""):
        path = str(path).strip("/")
        parent = os.path.dirname(path)
        if parent and parent not in self._entries:
            self.directory(parent)
        info = tarfile.TarInfo(path)
        info.type, info.mode, info.mtime, info.linkname = kind, mode, EPOCH, target
        info.uname = info.gname = "root"
        info.size = len(data) if data is not None else 0
        self._entries[path] = (info, data)

    def directory(self, path, mode=0o755):
        self._add(path, tarfile.DIRTYPE, mode)

    def file(self, path, content, mode=0o644):
        data = content.read_bytes() if isinstance(content, pathlib.Path) else content
        self._add(path, tarfile.REGTYPE, mode, data=data.encode() if isinstance(data, str) else data)

    def link(self, path, target):
        self._add(path, tarfile.SYMTYPE, 0o777, target=target)

    def overlay(self, source):
        """Adds the files of a folder as they lie there; an executable stays one, everything belongs to root."""
        for path in sorted(source.rglob("*")):
            name = path.relative_to(source)
            if path.is_symlink():
                self.link(name, os.readlink(path))
            elif path.is_dir():
                self.directory(name)
            else:
                self.file(name, path, 0o755 if os.access(path, os.X_OK) else 0o644)

    def paths(self):
        return list(self._entries)

    def write(self, to):
        with tarfile.open(to, "w", format=tarfile.PAX_FORMAT) as archive:
            for info, data in self._entries.values():
                archive.addfile(info, io.BytesIO(data) if data is not None else None)

# SPDX-License-Identifier: Apache-2.0
"""Files out of Debian packages, downloaded by apt and unpacked, never installed."""

import contextlib
import functools
import hashlib
import json
import os
import pathlib
import re
import tempfile

from . import cache
from .report import BuildError, run


APT_KNOWS_BY = ("/etc/apt", "/var/lib/apt/lists")


def _apt_state():
    """Changes when apt's answers may: with its lists, sources and preferences."""
    seen = []
    for top in APT_KNOWS_BY:
        for path in sorted(pathlib.Path(top).rglob("*")):
            with contextlib.suppress(OSError):
                seen.append(f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}")
    return hashlib.sha256("\n".join(seen).encode()).hexdigest()[:16]


class _Records:
    """What `apt-cache show` says, remembered: apt takes most of a second for each question."""

    def __init__(self):
        self._path = cache.Store("packages").path / f"records-{_apt_state()}.json"
        try:
            self._known = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            self._known = {}

    def get(self, package):
        if package not in self._known:
            self._known[package] = run(["apt-cache", "show", "--no-all-versions", package],
                                       what=f"look up the package {package}",
                                       remedy="apt does not know it: run `apt-get update`, or tools/setup")
            part = self._path.with_suffix(f".{os.getpid()}")
            part.write_text(json.dumps(self._known), encoding="utf-8")
            os.replace(part, self._path)
            for old in self._path.parent.glob("records-*.json"):
                if old != self._path:
                    old.unlink(missing_ok=True)
        return self._known[package]


@functools.cache
def _records():
    return _Records()


def field(package, name):
    found = re.search(rf"^{name}: (.*)$", _records().get(package), re.MULTILINE)
    return found.group(1) if found else ""


def version(package):
    return field(package, "Version")


def unpack(package, to, report):
    """Unpacks the candidate version into the folder `to`. The download is kept in the cache."""
    store = cache.Store("packages")
    kept = store.path / f"{package}_{version(package).replace(':', '%3a')}.deb"
    with store.lock(package):
        if not kept.exists():
            size = int(field(package, "Size") or 0)
            report.step(f"downloading {package} {version(package)} ({size / 1e6:.1f} MB)")
            with tempfile.TemporaryDirectory(prefix=".get-", dir=store.path) as folder:
                # apt drops to the user _apt for downloads; it must be able to write here, or it warns.
                os.chmod(folder, 0o777)
                run(["apt-get", "download", f"{package}={version(package)}"], cwd=folder, what=f"download {package}",
                    remedy="is there a network? are apt's lists fresh? (apt-get update)")
                files = [name for name in os.listdir(folder) if name.endswith(".deb")]
                if len(files) != 1:
                    raise BuildError(f"download {package}: apt-get left {len(files)} packages instead of one")
                for old in store.path.glob(f"{package}_*.deb"):
                    old.unlink()
                os.replace(os.path.join(folder, files[0]), kept)
    to.mkdir(parents=True, exist_ok=True)
    run(["dpkg", "-x", str(kept), str(to)], what=f"unpack {kept.name}")
    return to

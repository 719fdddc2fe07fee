# SPDX-License-Identifier: Apache-2.0
"""A network of a test's own, and a server on the host's side of it."""

import contextlib
import hashlib
import random
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

from bench import MIB, PROMPT, Bench, Skip, require
from guest import Guest

GIVEN = 32 * MIB  # bytes to the guest
# And back. Less: busybox's nc sends a KiB at a time, and where the lab has one CPU each is acknowledged before the next
# is sent, which makes 600 KiB a second.
TAKEN = 4 * MIB


class Server(threading.Thread):
    """A TCP server on the host: gives data on one port, takes the first of it on the other, and remembers checksums."""

    def __init__(self, address: str):
        super().__init__(daemon=True)
        self.data = random.Random("seed").randbytes(GIVEN)
        self.checksum = hashlib.sha256(self.data).hexdigest()
        self.expected = hashlib.sha256(self.data[:TAKEN]).hexdigest()
        self.taken = ""
        self.give = socket.create_server((address, 0))
        self.take = socket.create_server((address, 0))
        self.give_port = self.give.getsockname()[1]
        self.take_port = self.take.getsockname()[1]

    def run(self) -> None:
        with contextlib.suppress(OSError):
            connection, _ = self.give.accept()
            with connection:
                connection.sendall(self.data)
            connection, _ = self.take.accept()
            digest = hashlib.sha256()
            with connection:
                while data := connection.recv(1 << 16):
                    digest.update(data)
            self.taken = digest.hexdigest()


def streams_both_ways(guest: Guest, server: Server, address: str) -> None:
    server.start()
    got = guest.run(f"nc {address} {server.give_port} < /dev/null > /tmp/data; sha256sum < /tmp/data", 300)
    require(got.split()[0] == server.checksum, "what the guest received is not what was sent")
    guest.run(f"head -c {TAKEN} /tmp/data | nc {address} {server.take_port}", 300)
    server.join(timeout=60)
    require(server.taken == server.expected, "what the host received is not what was sent")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


@contextlib.contextmanager
def network_namespace(name: str, *kind: str) -> Iterator[None]:
    """A network of this test's own, with a tap in it."""
    commands = [["ip", "netns", "add", name],
                ["ip", "-n", name, "link", "set", "lo", "up"],
                ["ip", "-n", name, "tuntap", "add", "tap0", "mode", "tap", *kind],
                ["ip", "-n", name, "addr", "add", "10.77.0.1/24", "dev", "tap0"],
                ["ip", "-n", name, "link", "set", "tap0", "up"]]
    try:
        for command in commands:
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode != 0:
                raise Skip(f"{' '.join(command)}: {done.stderr.strip()}")
        yield
    finally:
        subprocess.run(["ip", "netns", "del", name], capture_output=True)


class NamespacedServer:
    """The same server, in a process inside the namespace."""

    def __init__(self, namespace: str, address: str):
        code = (f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
                f"from networks import Server\n"
                f"s = Server({address!r}); s.start(); print(s.give_port, s.take_port, s.checksum, s.expected, flush=True)\n"
                f"s.join(); print(s.taken, flush=True)\n")
        self.process = subprocess.Popen(["ip", "netns", "exec", namespace, "python3", "-c", code],
                                        stdout=subprocess.PIPE, text=True)
        give, take, self.checksum, self.expected = self.process.stdout.readline().split()
        self.give_port, self.take_port = int(give), int(take)
        self.taken = ""

    def start(self) -> None:
        pass

    def join(self, timeout: float) -> None:
        try:
            self.taken = self.process.communicate(timeout=timeout)[0].strip()
        except subprocess.TimeoutExpired:
            self.process.kill()


def on_tap(bench: Bench, name: str, *arguments: str) -> Guest:
    """With tap0 of that namespace, and room for what is sent."""
    return bench.tiny("--memory", "1G", *arguments, prefix=["ip", "netns", "exec", name])


def configure_eth0(guest: Guest) -> None:
    guest.expect(PROMPT)
    guest.run("killall udhcpc 2> /dev/null; ip link set eth0 up && ip addr add 10.77.0.2/24 dev eth0")
    guest.run("mount -t tmpfs none /tmp 2> /dev/null; ping -c 3 10.77.0.1")

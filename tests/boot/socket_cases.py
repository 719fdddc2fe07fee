# SPDX-License-Identifier: Apache-2.0
"""Sockets between guest and host (vsock)."""

import contextlib
import hashlib
import json
import re
import socket
import stat
import threading
from pathlib import Path

from bench import CASES, MIB, PROMPT, Bench, kernel_complaints, require

SOCKET_STREAM = 16 * MIB  # bytes, each way


def received(connection: socket.socket) -> bytes:
    """All until the other side ends."""
    parts = []
    while part := connection.recv(1 << 20):
        parts.append(part)
    return b"".join(parts)


def full_duplex(connection: socket.socket, data: bytes) -> bytes:
    """Sends the data and the end of it, and takes what comes meanwhile and after that."""

    def send() -> None:
        with contextlib.suppress(OSError):
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    taken = received(connection)
    sender.join()
    return taken


def connected_to_guest(path: Path, port: int, limit: float) -> tuple[socket.socket, bytes]:
    """A connection through the machine's socket, and what the answer was: nothing if it was refused."""
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(limit)
    client.connect(str(path))
    client.sendall(b"CONNECT %d\n" % port)
    answer = b""
    while not answer.endswith(b"\n") and (byte := client.recv(1)):
        answer += byte
    return client, answer


def checksum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def vsock_streams(bench: Bench, transport: str) -> None:
    """Programs of the guest and of the host reach each other, both ways, at once, and each tells its end."""
    path = bench.scratch / "vm.vsock"
    stats = bench.scratch / "stats.json"
    data = hashlib.sha256(b"host").digest() * (SOCKET_STREAM // 32)
    with (socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as lazy,
          bench.tiny("--vsock", f"cid=5,path={path}", "--net", "none", "--transport", transport, "--stats",
                     str(stats)) as guest):
        for server, port in ((listener, 5000), (lazy, 5001)):
            server.bind(f"{path}_{port}")
            server.listen(8)
            server.settimeout(bench.limit)
        guest.expect(PROMPT)
        require(stat.S_IMODE(path.stat().st_mode) == 0o600, "the socket is not its owner's alone")
        guest.run(f"head -c {SOCKET_STREAM} /dev/urandom > /tmp/up")
        sent = guest.run("sha256sum < /tmp/up").split()[0]

        # A program that accepts and never reads stops its own connection only: all that follows goes past it.
        guest.run("(vsock connect 2 5001 < /tmp/up > /dev/null) > /dev/null 2>&1 &")
        stuck, _ = lazy.accept()

        guest.send("vsock connect 2 5000 < /tmp/up > /tmp/down\n")
        connection, _ = listener.accept()
        with connection:
            require(checksum(full_duplex(connection, data)) == sent, "the host did not get what the guest sent")
        guest.run(f"sha256sum < /tmp/down | grep {checksum(data)}", 3 * bench.limit)

        guest.run("(vsock listen 6000 < /tmp/up > /tmp/down2) > /dev/null 2>&1 & echo $! > /tmp/listener; sleep 1")
        connection, answer = connected_to_guest(path, 6000, bench.limit)
        with connection:
            require(re.fullmatch(rb"OK \d+\n", answer) is not None, f"the answer is {answer!r}")
            require(checksum(full_duplex(connection, data)) == sent, "the host's client did not get what was sent")
        guest.run("for i in $(seq 60); do test -d /proc/$(cat /tmp/listener) || break; sleep 1; done; "
                  f"sha256sum < /tmp/down2 | grep {checksum(data)}", 3 * bench.limit)

        # Nobody listens there.
        guest.run("! vsock connect 2 5002 < /dev/null 2> /tmp/why && grep connect /tmp/why")
        connection, answer = connected_to_guest(path, 6001, bench.limit)
        connection.close()
        require(answer == b"", f"the guest refuses, and the answer is {answer!r}")

        with stuck:
            stuck.settimeout(bench.limit)
            require(checksum(received(stuck)) == sent, "the slow program did not get what the guest sent")
        complaints = kernel_complaints(guest.run("dmesg"))
        require(not complaints, "the kernel complains:\n" + "\n".join(complaints))
        guest.send("poweroff\n")
        guest.ended(0)
    require(not path.exists(), "the socket stayed behind")
    traffic = {each["device"]: each for each in json.loads(stats.read_text())["traffic_bytes"]}
    require(traffic["vsock0"]["in"] == 2 * SOCKET_STREAM, f"the receipt says {traffic['vsock0']}")
    require(traffic["vsock0"]["out"] == 3 * SOCKET_STREAM, f"the receipt says {traffic['vsock0']}")


for _transport in ("pci", "mmio"):
    CASES[f"vsock-{_transport}"] = lambda bench, t=_transport: vsock_streams(bench, t)

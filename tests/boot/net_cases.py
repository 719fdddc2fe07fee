# SPDX-License-Identifier: Apache-2.0
"""Networks."""

import contextlib
import os
import socket
import subprocess
import time

from bench import CASES, MIB, PROMPT, Bench, Skip, case, kernel_complaints, require
from networks import NamespacedServer, Server, configure_eth0, free_port, network_namespace, on_tap, streams_both_ways


@case
def net_user(bench: Bench) -> None:
    """DHCP, TCP to the host both ways, and a port forwarded into the guest."""
    port = free_port()
    with bench.tiny("--net", f"user,hostfwd=tcp:127.0.0.1:{port}-:8080,mac=52:54:00:00:00:77", "--memory", "1G") as guest:
        guest.expect(PROMPT)
        guest.run("for i in $(seq 30); do ip route | grep -q default && break; sleep 1; done; ip route | grep default")
        require("52:54:00:00:00:77" in guest.run("cat /sys/class/net/eth0/address"), "the MAC address is lost")
        guest.run("mount -t tmpfs none /tmp 2> /dev/null; df /tmp")
        streams_both_ways(guest, Server("127.0.0.1"), "10.0.2.2")
        guest.run("(echo from-the-guest | nc -l -p 8080 > /tmp/heard) > /dev/null 2>&1 &")
        deadline = time.monotonic() + bench.limit
        heard = b""
        while heard != b"from-the-guest\n" and time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
                connection.sendall(b"from-the-host\n")
                connection.shutdown(socket.SHUT_WR)
                heard = connection.recv(100)
            time.sleep(0.5)
        require(heard == b"from-the-guest\n", f"through the forwarded port came {heard!r}")
        guest.run("for i in $(seq 10); do grep -q from-the-host /tmp/heard && break; sleep 1; done; cat /tmp/heard")
        guest.send("poweroff\n")
        guest.ended(0)


@case
def net_tap(bench: Bench) -> None:
    name = f"vmm-boot-{bench.scratch.name}"
    with network_namespace(name), on_tap(bench, name, "--net", "tap=tap0") as guest:
        configure_eth0(guest)
        streams_both_ways(guest, NamespacedServer(name, "10.77.0.1"), "10.77.0.1")
        guest.send("poweroff\n")
        guest.ended(0)


def net_vhost(bench: Bench, transport: str) -> None:
    """The kernel carries the frames; a driver that starts again, and a guest that does, find it working."""
    if not os.access("/dev/vhost-net", os.R_OK | os.W_OK):
        raise Skip("there is no /dev/vhost-net that can be opened")
    name = f"vmm-boot-{bench.scratch.name}"
    with network_namespace(name), on_tap(bench, name, "--net", "tap=tap0,vhost", "--transport", transport) as guest:
        configure_eth0(guest)
        features = guest.run("cat /sys/class/net/eth0/device/features")
        for bit, what in ((0, "checksums"), (1, "checksums in"), (7, "TSO4 in"), (8, "TSO6 in"), (11, "TSO4"),
                          (12, "TSO6"), (15, "merged buffers"), (28, "indirect descriptors"), (29, "event index")):
            require(features[bit] == "1", f"{what} (feature bit {bit}) was not negotiated: {features}")
        streams_both_ways(guest, NamespacedServer(name, "10.77.0.1"), "10.77.0.1")

        subprocess.run(["ip", "-n", name, "link", "set", "tap0", "down"], check=True)
        guest.run("for i in $(seq 30); do grep -qx 0 /sys/class/net/eth0/carrier && break; sleep 1; done; "
                  "grep -qx 0 /sys/class/net/eth0/carrier")
        subprocess.run(["ip", "-n", name, "link", "set", "tap0", "up"], check=True)
        guest.run("for i in $(seq 30); do ping -c 1 -W 1 10.77.0.1 && break; done; ping -c 3 10.77.0.1")

        device = guest.run("basename $(readlink /sys/class/net/eth0/device)")
        driver = "/sys/bus/virtio/drivers/virtio_net"
        for _ in range(3):
            guest.run(f"echo {device} > {driver}/unbind && echo {device} > {driver}/bind")
            guest.run("ip link set eth0 up && ip addr add 10.77.0.2/24 dev eth0; ping -c 3 10.77.0.1")
        guest.send("reboot\n")
        guest.expect("^tiny: a busybox system")
        configure_eth0(guest)
        streams_both_ways(guest, NamespacedServer(name, "10.77.0.1"), "10.77.0.1")
        guest.send("poweroff\n")
        guest.ended(0)


for _transport in ("pci", "mmio"):
    CASES[f"net-vhost-{_transport}"] = lambda bench, t=_transport: net_vhost(bench, t)


def net_tap_queues(bench: Bench, transport: str, options: str) -> None:
    """The guest uses a pair of queues for each CPU, and does so again after a reboot."""
    name = f"vmm-boot-{bench.scratch.name}"
    arguments = ["--transport", transport, "--net", f"tap=tap0,queues=4{options}", "--cpus", "2"]
    with network_namespace(name, "multi_queue"):
        with on_tap(bench, name, *arguments) as guest:
            for again in (False, True):
                configure_eth0(guest)
                queues = guest.run("cd /sys/class/net/eth0/queues && echo *; cd /").split()
                require(queues == ["rx-0", "rx-1", "tx-0", "tx-1"], f"the guest uses {queues}")
                if transport == "pci":
                    named = guest.run("grep -o 'virtio[0-9]*-input[.][0-9]' /proc/interrupts").split()
                    require(len(named) == 4, f"the interrupts of the queues are {named}")
                if not again:
                    guest.send("reboot\n")
                    guest.expect("^tiny: a busybox system")
            streams_both_ways(guest, NamespacedServer(name, "10.77.0.1"), "10.77.0.1")
            complaints = kernel_complaints(guest.run("dmesg"))
            require(not complaints, "the kernel complains:\n" + "\n".join(complaints))
            guest.send("poweroff\n")
            guest.ended(0)


for _transport, _options in (("pci", ""), ("mmio", ",iothread")):
    CASES[f"net-tap-queues-{_transport}{_options.replace(',', '-')}"] = (
        lambda bench, t=_transport, o=_options: net_tap_queues(bench, t, o))


METER = """
import socket, sys
address, amount = sys.argv[1], int(sys.argv[2])
give, take = (socket.create_server((address, 0)) for _ in range(2))
print(give.getsockname()[1], take.getsockname()[1], flush=True)
with give.accept()[0] as connection:
    connection.sendall(bytes(amount))
with take.accept()[0] as connection:
    print(sum(iter(lambda: len(connection.recv(1 << 16)), 0)), flush=True)
"""


@case
def net_limit(bench: Bench) -> None:
    """A connection is slowed to the limit, in either direction, and comes through whole."""
    name = f"vmm-boot-{bench.scratch.name}"
    rate, amount = 2 * MIB, 12 * MIB
    least = (amount - rate) / rate  # seconds: one second's worth comes at once
    with network_namespace(name):
        with on_tap(bench, name, "--net", "tap=tap0,bps=2M") as guest:
            configure_eth0(guest)
            with subprocess.Popen(["ip", "netns", "exec", name, "python3", "-c", METER, "10.77.0.1", str(amount)],
                                  stdout=subprocess.PIPE, text=True) as meter:
                give, take = meter.stdout.readline().split()
                times = [time.monotonic()]
                got = guest.run(f"nc 10.77.0.1 {give} < /dev/null | wc -c", 300)
                times.append(time.monotonic())
                guest.run(f"dd if=/dev/zero bs={MIB} count={amount // MIB} 2> /dev/null | nc 10.77.0.1 {take}", 300)
                count = meter.stdout.readline()
                times.append(time.monotonic())
            require(int(got) == amount and int(count) == amount, f"{got} and {count} bytes of {amount} came through")
            for way, seconds in (("in", times[1] - times[0]), ("out", times[2] - times[1])):
                require(0.9 * least < seconds < 6 * least,
                        f"{amount} bytes {way} took {seconds:.1f} s at {rate} a second")
            guest.send("poweroff\n")
            guest.ended(0)


@case
def net_frame_limit(bench: Bench) -> None:
    """As many frames a second as it says, each way, and the rest waits: none is lost."""
    name = f"vmm-boot-{bench.scratch.name}"
    rate, count = 20, 120
    least = (count - rate) / rate  # seconds: one second's worth comes at once
    with network_namespace(name), on_tap(bench, name, "--net", f"tap=tap0,pps={rate}") as guest:
        configure_eth0(guest)
        began = time.monotonic()
        said = guest.run(f"ping -A -q -c {count} 10.77.0.1")
        seconds = time.monotonic() - began
        require(f"{count} packets transmitted, {count} packets received" in said, said)
        require(0.9 * least < seconds < 6 * least, f"{count} frames each way took {seconds:.1f} s at {rate} a second")
        guest.send("poweroff\n")
        guest.ended(0)

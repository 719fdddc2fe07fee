# SPDX-License-Identifier: Apache-2.0
"""Debian's kernel on every machine, how a guest ends, and what is refused."""

import dataclasses
import json
import re
import signal
import subprocess

from bench import CASES, PROMPT, Bench, case, kernel_complaints, require
from guest import Guest


def boots(bench: Bench, transport: str, cpus: int, memory: str, least: int) -> None:
    with bench.tiny("--transport", transport, "--cpus", str(cpus), "--memory", memory) as guest:
        guest.expect(PROMPT)
        require(guest.run("nproc") == str(cpus), "not as many CPUs as asked for")
        found = re.search(r"MemTotal:\s+(\d+)", guest.run("cat /proc/meminfo"))
        require(found is not None and int(found.group(1)) >= least * 1024, f"less memory than {least} MiB")
        require("/dev/vda / ext4 ro" in guest.run("cat /proc/mounts"), "the root is not the disk")
        queues = guest.run("ls /sys/block/vda/mq").split()
        require(len(queues) == cpus, f"the disk's queues are {queues}, and not one for each CPU")
        complaints = kernel_complaints(guest.run("dmesg"))
        require(not complaints, "the kernel complains:\n" + "\n".join(complaints))
        guest.send("poweroff\n")
        guest.ended(0)


for _transport in ("pci", "mmio"):
    for _cpus in (1, 2, 4):
        for _memory, _least in (("256M", 180), ("5G", 4700)):
            CASES[f"boot-{_transport}-{_cpus}cpu-{_memory}"] = (
                lambda bench, t=_transport, c=_cpus, m=_memory, l=_least: boots(bench, t, c, m, l))


@case
def boot_16cpu(bench: Bench) -> None:
    boots(bench, "pci", 16, "1G", 800)


@case
def boot_small_kernel(bench: Bench) -> None:
    """The project's own kernel: exactly --kernel and --disk, nothing else."""
    kernel = bench.image("guest.bzImage")
    disk = bench.copy("tiny.ext4")
    with Guest(bench.vmm, ["--kernel", str(kernel), "--disk", str(disk)], limit=bench.limit) as guest:
        guest.expect(PROMPT)
        require("/dev/root / ext4 rw" in guest.run("cat /proc/mounts"), "the root is not the disk")
        guest.run("ip route | grep -q default")
        guest.send("poweroff\n")
        guest.ended(0)


@case
def static_program(bench: Bench) -> None:
    """vmm-static, which lies beside vmm: the same machine, but no user network."""
    bench = dataclasses.replace(bench, vmm=bench.vmm.with_name("vmm-static"))
    with bench.tiny("--net", "none") as guest:
        guest.expect(PROMPT)
        guest.send("poweroff\n")
        guest.ended(0)
    with bench.tiny() as guest:
        guest.complaint("use --net tap=NAME or none")
        guest.ended(1)


@case
def virtio_console(bench: Bench) -> None:
    """On the terminal it is the guest's console, and costs less than a serial port."""
    on_hvc0 = ["--console", "none", "--virtio-console", "stdio"]
    exits = {}
    for name, options in (("ttyS0", []), ("hvc0", on_hvc0)):
        stats = bench.scratch / f"{name}.json"
        with bench.tiny("--stats", str(stats), *options) as guest:
            guest.expect(PROMPT)
            active = guest.run("cat /sys/class/tty/console/active").split()
            require(active[-1] == name, f"the console is {active}")
            guest.run("seq 500")
            guest.send("poweroff\n")
            guest.ended(0)
        exits[name] = json.loads(stats.read_text())["exits_to_user_space"]["total"]
    require(exits["hvc0"] < exits["ttyS0"] / 2, f"exits to user space: {exits}")
    script = ["--expect", "tiny:~# ", "--send", "echo o''k\\n", "--expect", "^ok"]
    with bench.tiny(*on_hvc0, *script) as guest:
        guest.ended(0)


@case
def kernel_addresses(bench: Bench) -> None:
    """Unpacked or from the cache, each boot has random addresses, virtual and physical; with --no-kaslr the usual ones."""
    stats = bench.scratch / "stats.json"

    def addresses(*arguments: str) -> tuple[str, str]:
        with bench.tiny("--net", "none", "--kernel-cache", str(bench.scratch / "cache"), "--stats", str(stats),
                        *arguments) as guest:
            guest.expect(PROMPT)
            text = guest.run("grep -m 1 ' T _text$' /proc/kallsyms").split()[0]
            code = guest.run("grep 'Kernel code' /proc/iomem").split("-")[0].strip()
            guest.send("poweroff\n")
            guest.ended(0)
        return text, code

    linked = ("ffffffff81000000", "01000000")
    require(addresses("--no-kaslr") == linked, "with --no-kaslr the kernel is not where it is linked")
    require("unpacked here" in json.loads(stats.read_text())["kernel"], "the empty cache knew the kernel")
    found = []
    for _ in range(3):
        found.append(addresses())
        kernel = json.loads(stats.read_text())["kernel"]
        require("from the cache" in kernel and "KASLR" in kernel, f"the receipt says {kernel!r}")
    for name, column in zip(("virtual", "physical"), zip(*found)):
        require(len(set(column)) > 1, f"the {name} address is not random: {column}")
    require(addresses("--append", "nokaslr") == linked, "the guest's nokaslr was not heeded")


@case
def pci_configuration_is_memory(bench: Bench) -> None:
    """Linux takes ECAM for our bus, and reads it without exits: only what is absent costs one."""
    stats = bench.scratch / "stats.json"
    with bench.tiny("--stats", str(stats)) as guest:
        guest.expect(PROMPT)
        devices = guest.run("ls /sys/bus/pci/devices").split()
        require("0001:00:01.0" in devices, f"the disk is not at 0001:00:01.0, but there are {devices}")
        header = "dd if=/sys/bus/pci/devices/0001:00:01.0/config bs=64 count=1 2>/dev/null | md5sum"
        first = guest.run(header)
        require(guest.run(f"for i in $(seq 50); do {header}; done | sort -u") == first, "its header changes")
        guest.send("poweroff\n")
        guest.ended(0)
    accesses = json.loads(stats.read_text())["exits_to_user_space"]["by_device"]
    reads = sum(device["reads"] for device in accesses if device["device"] in ("pci-config", "pci-ecam"))
    require(reads < 300, f"{reads} exits to read PCI configuration")


@case
def reset_restarts_in_place(bench: Bench) -> None:
    stats = bench.scratch / "stats.json"
    disk = bench.copy("tiny.ext4")
    with bench.stock("--disk", str(disk), "--stats", str(stats)) as guest:
        guest.expect(PROMPT)
        guest.run("echo kept > /root/file && sync")
        guest.send("reboot\n")
        guest.expect("^tiny: a busybox system")  # there may be a prompt before the shell ends
        guest.expect(PROMPT)
        require(guest.run("cat /root/file") == "kept", "a synced file is gone after the reset")
        guest.send("poweroff\n")
        guest.ended(0)
    receipt = json.loads(stats.read_text())
    require(receipt["resets"] == 1, "the receipt does not count the reset")
    names = [mark["name"] for mark in receipt["marks"]]
    require(names.count("ready") == 2, f"the marks are not those of two boots: {names}")
    require(receipt["times_ms"]["first_instruction"] > 0, "no time to the first instruction")


@case
def no_reboot_exits(bench: Bench) -> None:
    with bench.tiny("--no-reboot") as guest:
        guest.expect(PROMPT)
        guest.send("reboot\n")
        guest.ended(8)


@case
def panic_has_its_code(bench: Bench) -> None:
    with bench.tiny() as guest:
        guest.expect(PROMPT)
        guest.send("echo c > /proc/sysrq-trigger\n")
        guest.expect("Kernel panic")
        guest.ended(3)


@case
def sigterm_powers_off(bench: Bench) -> None:
    with bench.tiny() as guest:
        guest.expect(PROMPT)
        guest.signal(signal.SIGTERM)
        guest.ended(0)


@case
def second_signal_stops(bench: Bench) -> None:
    with bench.stock("--append", "earlyprintk=ttyS0", "--net", "none") as guest:
        guest.expect(".")  # too early for a guest to hear its power button
        guest.signal(signal.SIGTERM)
        guest.complaint("a second one stops it")
        guest.signal(signal.SIGINT)
        guest.ended(128 + signal.SIGINT)


@case
def expectations_and_timeout(bench: Bench) -> None:
    stats = bench.scratch / "stats.json"
    with bench.tiny("--expect", "tiny:.*# ", "--send", "echo $((6*7))\\n", "--expect", "^42$", "--stats",
                    str(stats)) as guest:
        guest.ended(0)
    receipt = json.loads(stats.read_text())
    require(len(receipt["expectations_met"]) == 2, "the receipt does not say when each was met")
    with bench.tiny("--expect", "never said", "--timeout", "2") as guest:
        guest.ended(6)


@case
def silence_is_diagnosed(bench: Bench) -> None:
    with bench.stock("--append", "root=/dev/vdz rootwait", "--silence", "5", "--net", "none") as guest:
        text = guest.complaint("try:")
        require("vCPU 0: " in text and "RIP 0x" in text, "it does not say where the vCPU is")
        require("likely cause" in text, "it names no cause")


@case
def refusals(bench: Bench) -> None:
    """One line that names the thing and the fault, exit code 1, nothing left behind."""
    kernel = str(bench.image("stock.vmlinuz"))
    tiny = bench.copy("tiny.ext4")
    text = bench.scratch / "text"
    text.write_text("not a kernel\n" * 100)
    refused = [
        (["--kernel", "/nonexistent"], ["/nonexistent", "No such file"]),
        (["--kernel", str(text)], [str(text)]),
        (["--kernel", str(bench.scratch)], [str(bench.scratch), "directory"]),
        (["--kernel", kernel, "--initrd", "/nonexistent"], ["/nonexistent", "No such file"]),
        (["--kernel", kernel, "--disk", "/nonexistent"], ["/nonexistent", "No such file"]),
        (["--kernel", kernel, "--disk", str(bench.scratch)], [str(bench.scratch), "directory"]),
        (["--kernel", kernel, "--disk", str(tiny), "--disk", str(tiny)], [str(tiny), "use"]),
        (["--kernel", kernel, "--net", "tap=a-name-of-16-chr"], ["a-name-of-16-chr"]),
        (["--kernel", kernel, "--memory", "64M", "--initrd", str(bench.image("debian.ext4"))], ["memory"]),
        (["--kernel", kernel, "--console", f"file={bench.scratch}"], [str(bench.scratch), "directory"]),
        (["--kernel", kernel, "--cpus", "1,pin=1023"], ["pin=1023", "no CPU of this host"]),
        (["--kernel", kernel, "--vsock", "cid=3,path=/" + 96 * "x"], ["96", "_4294967295"]),
    ]
    for arguments, words in refused:
        done = subprocess.run([str(bench.vmm), *arguments, "--timeout", "20"], capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, timeout=60)
        lines = done.stderr.strip().splitlines()
        require(done.returncode == 1, f"{arguments}: exit code {done.returncode}, not 1:\n{done.stderr}")
        require(len(lines) == 1, f"{arguments}: not one line:\n{done.stderr}")
        for word in words:
            require(word.lower() in lines[0].lower(), f"{arguments}: does not say {word!r}: {lines[0]}")

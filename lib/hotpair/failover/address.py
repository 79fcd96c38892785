"""The shared address: take it when nobody else has it, tell the neighbours, give it back."""

import ipaddress
import json
import subprocess
import time
from typing import Any, NamedTuple

from hotpair import child

ARPS = 3  # times that the neighbours are told at once; cron's minute tells them again
PROBES = 2  # questions whether anybody has the address
WAIT = 15.0  # seconds that ip(8) and arping(8) may take, and the kernel's own duplicate check of IPv6
LOOK = 0.1  # seconds between two looks at that check


class Address(NamedTuple):
    """One line of [failover] address."""

    ip: str
    length: str
    device: str

    @property
    def six(self) -> bool:
        return ":" in self.ip


def parse(line: str) -> Address:
    """Return what a line says, which the configuration has checked: ADDRESS/LENGTH dev INTERFACE."""
    address, _, device = line.split()
    ip, _, length = address.partition("/")
    return Address(ip, length, device)


def found(address: Address) -> dict[str, Any] | None:
    """Return what ip(8) says of the address on its device, None when it is not there or the device is not."""
    said = subprocess.run(
        ["ip", "-j", "address", "show", "dev", address.device],
        env=child.environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=WAIT,
        check=False,
    )
    if said.returncode:
        return None
    wanted = ipaddress.ip_address(address.ip)
    for device in json.loads(said.stdout or b"[]"):
        for one in device.get("addr_info", ()):
            if ipaddress.ip_address(one["local"]) == wanted:
                return dict(one)
    return None


def take(line: str) -> str:
    """Have the address on this node and tell the neighbours. Returns "" or why not; what is there already is kept."""
    address = parse(line)
    if found(address) is None:
        if not address.six and (failed := _somebody_has(address)):
            return failed
        if failed := _ip("add", address):
            return failed
    if address.six:
        return _settled(address)
    return announce(line, ARPS)


def _somebody_has(address: Address) -> str:
    """Return "" when no neighbour answers for the address (RFC 5227)."""
    failed = _arping(address, "-D", "-c", str(PROBES), "-w", str(PROBES + 1))
    if failed.partition(":")[0] == "exit 1":
        return f"another machine has {address.ip}"
    return failed


def _settled(address: Address) -> str:
    """Wait for the kernel's own duplicate check of IPv6, and drop an address that did not pass it."""
    until = time.monotonic() + WAIT
    while (now := found(address)) is not None:
        if now.get("dadfailed"):
            _ip("del", address)
            return f"another machine has {address.ip}"
        if not now.get("tentative"):
            return ""
        if time.monotonic() > until:
            return f"{address.ip} is not in use after {WAIT:g} s: is the link of {address.device} up?"
        time.sleep(LOOK)
    return f"{address.ip} has gone again"


def announce(line: str, times: int = 1) -> str:
    """Tell the neighbours who has an IPv4 address (gratuitous ARP)."""
    address = parse(line)
    return "" if address.six else _arping(address, "-U", "-c", str(times), "-w", str(times + 1))


def drop(line: str) -> str:
    """Give the address back, if it is here."""
    address = parse(line)
    return _ip("del", address) if found(address) is not None else ""


def _ip(verb: str, address: Address) -> str:
    argv = ["ip", "address", verb, f"{address.ip}/{address.length}", "dev", address.device]
    return child.run(argv, child.environment(), WAIT)


def _arping(address: Address, *words: str) -> str:
    return child.run(["arping", "-q", *words, "-I", address.device, address.ip], child.environment(), WAIT)

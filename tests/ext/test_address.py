"""The shared address between two real network namespaces: taken once, never twice in the network, told, given back."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hotpair import child
from hotpair.failover import address

LIB = str(Path(__file__).parents[2] / "lib")
FOUR, SIX = "192.0.2.10/24 dev v", "2001:db8::10/64 dev v"


def missing() -> str:
    if os.geteuid():
        return "needs root"
    if not all(map(shutil.which, ("unshare", "nsenter", "ip", "arping"))):
        return "needs unshare, nsenter, ip and arping (iputils)"
    return (
        "" if subprocess.run(["unshare", "-n", "true"], capture_output=True).returncode == 0 else "no namespaces here"
    )


WHY = missing()
pytestmark = pytest.mark.skipif(bool(WHY), reason=WHY)


class Machine:
    """A network namespace, which ends with the process that has it."""

    def __init__(self) -> None:
        argv = ["unshare", "-n", "sh", "-c", "echo up; exec cat"]
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdout and self.process.stdout.readline() == b"up\n"

    def run(self, *argv: str) -> str:
        inside = ["nsenter", "-t", str(self.process.pid), "-n", *argv]
        return subprocess.run(inside, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True).stdout

    def call(self, name: str, line: str) -> str:
        code = f"from hotpair.failover import address; print(address.{name}({line!r}), end='')"
        return self.run("env", f"PYTHONPATH={LIB}", sys.executable, "-c", code)

    def addresses(self) -> list[dict[str, Any]]:
        [device] = json.loads(self.run("ip", "-j", "address", "show", "dev", "v"))
        return [one for one in device["addr_info"] if one["scope"] == "global"]

    def has(self, line: str) -> bool:
        return any(f"{one['local']}/{one['prefixlen']}" == line.split(maxsplit=1)[0] for one in self.addresses())

    def mac(self) -> str:
        return str(json.loads(self.run("ip", "-j", "link", "show", "dev", "v"))[0]["address"])

    def end(self) -> None:
        self.process.communicate()


@pytest.fixture(scope="module")
def wire() -> Iterator[tuple[Machine, Machine]]:
    here, there = Machine(), Machine()
    here.run("ip", "link", "add", "v", "type", "veth", "peer", "name", "v", "netns", str(there.process.pid))
    for machine in (here, there):
        machine.run("ip", "link", "set", "v", "up")
    until = time.monotonic() + 20
    while "tentative" in here.run("ip", "address", "show", "dev", "v"):  # of the link's own address
        assert time.monotonic() < until
        time.sleep(0.05)
    yield here, there
    here.end()
    there.end()


@pytest.fixture
def two(wire: tuple[Machine, Machine]) -> tuple[Machine, Machine]:
    for machine in wire:
        machine.run("ip", "address", "flush", "dev", "v", "scope", "global")
        machine.run("ip", "neigh", "flush", "dev", "v")
    return wire


def test_an_address_is_taken_once_and_the_neighbours_learn_who_has_it(two: tuple[Machine, Machine]) -> None:
    here, there = two
    there.run("ip", "address", "add", "192.0.2.1/24", "dev", "v")
    there.run("ip", "neigh", "replace", "192.0.2.10", "lladdr", "02:00:00:00:00:99", "nud", "stale", "dev", "v")
    assert here.call("take", FOUR) == ""
    assert here.call("take", FOUR) == ""
    assert [one["local"] for one in here.addresses()] == ["192.0.2.10"]
    assert here.mac() in there.run("ip", "neigh", "show", "192.0.2.10")
    assert here.call("drop", FOUR) == "" == here.call("drop", FOUR)
    assert not here.has(FOUR)


@pytest.mark.parametrize("line", [FOUR, SIX])
def test_an_address_that_another_machine_has_is_not_taken(two: tuple[Machine, Machine], line: str) -> None:
    here, there = two
    there.run("ip", "address", "add", line.split(maxsplit=1)[0], "dev", "v", *(["nodad"] if line == SIX else []))
    assert here.call("take", line) == f"another machine has {line.partition('/')[0]}"
    assert not here.has(line) and there.has(line)


def test_an_address_of_ipv6_is_in_use_when_it_was_taken(two: tuple[Machine, Machine]) -> None:
    here, _ = two
    assert here.call("take", SIX) == ""
    [found] = here.addresses()
    assert found["local"] == "2001:db8::10" and "tentative" not in found


def test_without_arping_no_other_machine_is_blamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "PATH", str(tmp_path))
    monkeypatch.setattr(address, "found", lambda _: None)
    assert address.take(FOUR).startswith("exit 127: ")


def test_an_interface_that_is_not_there_is_a_failure_that_names_it(two: tuple[Machine, Machine]) -> None:
    said = two[0].call("take", "192.0.2.10/24 dev nothing")
    assert "nothing" in said

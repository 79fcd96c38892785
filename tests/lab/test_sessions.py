"""Session tables on two nodes with kernels' tables of their own: what the standby has while the master is in use."""

import json
import os
import random
import subprocess
import threading
import time

import pytest

from tests.lab.conftest import Node, Pair
from tests.lab.mirrors import does, give_roles, needs

LONG = bool(os.environ.get("HOTPAIR_LONG"))
RULES = [
    f"{tool} -A INPUT -p udp --dport 9 -m recent --name SSH --{word}"
    for tool in ("iptables", "ip6tables")
    for word in ("set", "update --seconds 600 --hitcount 20")
]
ADDRESSES = [f"127.1.0.{n}" for n in range(1, 81)] + [f"fd00::{n:x}" for n in range(1, 21)]
KNOCK = """\
import socket, sys
for line in sys.stdin:
    address = line.strip()
    six = ":" in address
    with socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM) as knock:
        knock.bind((address, 0))
        knock.sendto(b"x", ("::1" if six else "127.0.0.1", 9))
"""
HZ = round(1 / time.clock_getres(6))  # CLOCK_MONOTONIC_COARSE


@pytest.fixture
def mirrored(own_pair: Pair) -> Pair:
    give_roles(own_pair)
    return own_pair


class Traffic:
    """Clients that come to a node at random until it is closed."""

    def __init__(self, node: Node, seed: int) -> None:
        argv, environment = node.lab.entry(node.name, ["/usr/bin/python3", "-I", "-c", KNOCK])
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, env=environment, text=True)
        self.random, self.ended = random.Random(seed), threading.Event()
        self.thread = threading.Thread(target=self._knock, daemon=True)
        self.thread.start()

    def _knock(self) -> None:
        assert self.process.stdin
        first = iter(self.random.sample(ADDRESSES, len(ADDRESSES)))
        while not self.ended.wait(self.random.expovariate(100)):  # a hundred a second
            self.process.stdin.write(next(first, self.random.choice(ADDRESSES)) + "\n")
            self.process.stdin.flush()

    def close(self) -> None:
        self.ended.set()
        self.thread.join()
        assert self.process.stdin
        self.process.stdin.close()
        assert self.process.wait(10) == 0


def recent(node: Node, name: str) -> dict[str, list[int]]:
    """Return the stamps of each address of a table in jiffies, which are the same on both nodes: one kernel."""
    found = {}
    for line in does(node, f"cat /proc/net/xt_recent/{name}").splitlines():
        words = line.split()
        address, stamps = words[0].removeprefix("src="), [int(word.strip(",")) for word in words[7:]]
        found[address] = sorted(stamps)
    return found


@pytest.mark.parametrize(("every", "seconds"), [(1.0, 60), (0.2, 30)] if LONG else [(0.2, 8)])
def test_firewalls_know_the_same_clients_on_both_nodes(mirrored: Pair, every: float, seconds: float) -> None:
    needs("iptables")
    for node in (mirrored.alpha, mirrored.beta):
        for rule in RULES:
            does(node, rule)
    does(mirrored.alpha, "for n in $(seq 1 20); do ip -6 addr add fd00::$(printf %x $n)/128 dev lo nodad; done")
    does(mirrored.alpha, "ssync start recent")
    said: list[str] = []
    words = f"ssync mirror --every {every} --for {seconds + 3 * every + 3} --json"
    mirroring = threading.Thread(target=lambda: said.append(does(mirrored.alpha, words, seconds=seconds + 60)))
    mirroring.start()
    # whom the mirror finds there when it begins looks younger than he is until he comes again
    assert mirrored.wait_until(lambda: bool(does(mirrored.beta, "ls /var/lib/hotpair/sessions/*.jsonl || :")), 30)
    traffic = Traffic(mirrored.alpha, seed=7)
    time.sleep(seconds)
    traffic.close()
    mirroring.join()
    mirror = json.loads(said[0])
    assert mirror["problems"] == []
    master, standby = recent(mirrored.alpha, "SSH"), recent(mirrored.beta, "SSH")
    assert len(master) == len(ADDRESSES)
    assert {key: len(stamps) for key, stamps in standby.items()} == {key: len(stamps) for key, stamps in master.items()}
    bound = every if LONG else mirror["behind"]  # a machine that does other things as well is late
    late = [(standby[key][-1] - master[key][-1]) / HZ for key in master]
    assert min(late) >= 0 and max(late) <= bound + 0.25, (min(late), max(late))


TABLE = "nft add table inet f && nft 'add set inet f seen { type ipv4_addr; flags timeout; timeout 1h; counter; }'"
FLOW = "conntrack -I -s 192.0.2.7 -d 198.51.100.7 -p udp --sport 7 --dport 53 -t 300 -u SEEN_REPLY,ASSURED -m 5"


def times_left(node: Node) -> dict[str, int]:
    listed = json.loads(does(node, "nft -j list set inet f seen"))["nftables"]
    elements = next(one["set"] for one in listed if "set" in one)["elem"]
    return {one["elem"]["val"]: one["elem"]["expires"] for one in elements}


def test_sets_and_flows_of_the_kernel_are_the_same_on_both_nodes(mirrored: Pair) -> None:
    needs("nft", "ipset", "conntrack")
    alpha, beta = mirrored.alpha, mirrored.beta
    for node in (alpha, beta):
        does(node, f"{TABLE} && ipset create users hash:ip timeout 3600 counters")
    elements = ",".join(f"10.1.{n >> 8}.{n & 255} timeout {600 + n % 1000}s" for n in range(10_000))
    does(alpha, "nft -f -", f"add element inet f seen {{ {elements} }}\n")
    does(alpha, "ipset add users 192.0.2.1 timeout 500 packets 7 bytes 700")
    does(alpha, FLOW)
    for table in ("nft inet f seen", "ipset users", "conntrack"):
        does(alpha, f"ssync start {table}")
    said = json.loads(does(alpha, "ssync mirror --every 1 --for 2 --json"))
    assert said["problems"] == []
    began = time.monotonic()
    there, here = times_left(beta), times_left(alpha)
    looked = time.monotonic() - began  # seconds that lie between the two looks, at most
    assert there.keys() == here.keys() and len(here) == 10_000
    assert max(abs(there[key] - left) for key, left in here.items()) <= 1 + looked
    (entry,) = [line for line in does(beta, "ipset list users").splitlines() if line.startswith("192.0.2.1 ")]
    assert "packets 7 bytes 700" in entry and 490 < int(entry.split()[2]) <= 501, entry
    assert "mark=5" in does(beta, "conntrack -L -p udp --dport 53")
    does(alpha, "ipset del users 192.0.2.1 && nft delete element inet f seen '{ 10.1.0.7 }' && conntrack -D -p udp")
    does(alpha, "ssync mirror --every 1 --for 4")
    assert "192.0.2.1 " not in does(beta, "ipset list users")
    assert "10.1.0.7" not in times_left(beta)
    assert "mark=5" not in does(beta, "conntrack -L -p udp --dport 53")


def test_a_node_that_is_no_master_tells_nothing_and_a_stopped_table_is_left_alone(mirrored: Pair) -> None:
    needs("ipset")
    alpha, beta = mirrored.alpha, mirrored.beta
    for node in (alpha, beta):
        does(node, "ipset create users hash:ip timeout 3600")
    does(alpha, "ipset add users 192.0.2.1 && ssync start ipset users")
    refused = beta("ssync start ipset users && ssync mirror --for 0")
    assert refused.code == 75 and "standby" in refused.err, refused
    does(alpha, "ssync mirror --for 0")
    assert "192.0.2.1 " in does(beta, "ipset list users")
    assert json.loads(does(beta, "ssync show --json").splitlines()[0])[1]["key"] == "192.0.2.1"
    does(alpha, "ipset add users 192.0.2.2 && ssync stop ipset users")
    assert alpha("ssync mirror --for 0").code == 66
    assert "192.0.2.2 " not in does(beta, "ipset list users")
    does(beta, "ipset flush users && ssync write")
    assert "192.0.2.1 " in does(beta, "ipset list users")
    does(beta, "ipset destroy users && ipset create users hash:net timeout 3600")
    does(alpha, "ssync start ipset users")
    differs = alpha("ssync check")
    assert differs.code == 74 and "hash:net on the standby" in differs.out, differs


SET = """
[files sessions]
paths =
    /var/lib/sessions/dump
"""
LOADS = """
[/var/lib/sessions/dump]
run = /usr/local/sbin/ssync load /var/lib/sessions/dump
on = peer
"""


def test_a_dump_in_a_files_set_is_loaded_where_it_arrives(own_pair: Pair) -> None:
    """The example of ssync(8), on two nodes that know no [hotsync]."""
    needs("ipset")
    for node in (own_pair.alpha, own_pair.beta):
        does(node, "cat >>/etc/hotpair/hotpair.ini", SET)
        does(node, "cat >>/etc/hotpair/syncr.ini", LOADS)
        does(node, "mkdir -p -m 700 /var/lib/sessions && hotpair tables && ipset create users hash:ip timeout 3600")
    does(own_pair.alpha, "ipset add users 192.0.2.1 && ssync dump /var/lib/sessions/dump ipset users")
    assert own_pair.wait_until(lambda: "192.0.2.1 " in does(own_pair.beta, "ipset list users"), 30)
    does(own_pair.alpha, "ipset add users 192.0.2.2 && ssync dump /var/lib/sessions/dump ipset users")
    assert own_pair.wait_until(lambda: "192.0.2.2 " in does(own_pair.beta, "ipset list users"), 30)

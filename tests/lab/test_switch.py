"""Clients whose node is switched under them: their server, and their connection, stay what they were."""

import json
import socket
import subprocess

import pytest

from tests.ext.netspaces import Stream, inside
from tests.lab import lan
from tests.lab.conftest import Pair
from tests.lab.mirrors import does, give_roles, needs
from tests.lab.visitors import PORTS, Visitors, configuration

ON = f"ip address add {lan.SHARED}/24 dev {lan.LAN} && arping -c 1 -U -I {lan.LAN} {lan.SHARED}"
SERVER, CLIENT = lan.ADDRESSES["client"].partition("/")[0], "10.98.0.20"  # both in the clients' network
ADD_CLIENT = f"ip address add {CLIENT}/24 dev lan".split()
OFF = f"ip address del {lan.SHARED}/24 dev {lan.LAN}"


@pytest.fixture
def served(own_pair: Pair) -> Pair:
    """alpha is master and has the clients' address, beta is its standby."""
    needs("arping")
    lan.connect(own_pair.lab)
    give_roles(own_pair)
    does(own_pair.alpha, ON)
    return own_pair


def mirror(pair: Pair) -> None:
    """Have beta know what alpha's tables have."""
    said = json.loads(does(pair.alpha, "ssync mirror --for 0 --json"))
    assert said["problems"] == []


def switch(pair: Pair) -> None:
    """Give the clients' address to beta."""
    does(pair.alpha, OFF)
    does(pair.beta, ON)


def test_visitors_stay_on_their_servers_by_address_and_by_cookie(served: Pair) -> None:
    needs("haproxy")
    for node in (served.alpha, served.beta):
        does(node, "mkdir -p /run/haproxy /etc/haproxy")
        names = sorted(PORTS, reverse=node.name == "beta")
        does(node, "cat >/etc/haproxy/haproxy.cfg", configuration(names))
        does(node, "haproxy -D -f /etc/haproxy/haproxy.cfg </dev/null >/dev/null 2>&1")
    visitors = Visitors(served.lab)
    before = visitors.visit()
    assert set(before.values()) == set(PORTS)
    does(served.alpha, "ssync start haproxy by-address && ssync start haproxy by-cookie")
    mirror(served)
    switch(served)
    assert visitors.visit() == before


# the service is behind the pair, which has the clients' address: an answer must come back through the pair too
RULES = f"""\
*nat
-A PREROUTING -d {lan.SHARED}/32 -p tcp --dport 7000 -j DNAT --to-destination {SERVER}:7000
-A POSTROUTING -d {SERVER}/32 -p tcp --dport 7000 -j SNAT --to-source {lan.SHARED}
COMMIT
*filter
:FORWARD DROP
-A FORWARD -m conntrack --ctstate ESTABLISHED -j ACCEPT
-A FORWARD -p tcp --syn -m conntrack --ctstate NEW -j ACCEPT
COMMIT
"""


def stream_through(pair: Pair) -> Stream:
    """Connect a client to the server behind the pair."""
    with inside(pair.lab.running("client")), socket.create_server((SERVER, 7000)) as listening:
        near = socket.create_connection((lan.SHARED, 7000), 20, (CLIENT, 0))
        far, _ = listening.accept()
    return Stream(near, far)


@pytest.mark.parametrize("mirrored", [True, False], ids=["with the mirror", "without"])
def test_a_stream_through_the_pair_goes_on(served: Pair, mirrored: bool) -> None:
    needs("iptables", "conntrack")
    for node in (served.alpha, served.beta):
        does(node, "echo 1 >/proc/sys/net/ipv4/ip_forward && iptables-restore", RULES)
    subprocess.run(["nsenter", "-t", served.lab.running("client"), "-n", *ADD_CLIENT], check=True)
    stream = stream_through(served)
    assert stream.goes()
    does(served.alpha, "ssync start conntrack")
    if mirrored:
        mirror(served)
    switch(served)
    assert stream.goes(20 if mirrored else 1) == mirrored
    stream.close()

"""A client and a server with two routers between them, each a network namespace: the route goes through one."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable

from tests.ext.netspaces import Space

CLIENT, SERVER, SHARED = "192.0.2.10", "198.51.100.10", "192.0.2.1"
# what is not known to the tracking passes only with the first packet of a connection
STATEFUL = """*raw
COMMIT
*mangle
:FORWARD ACCEPT
{marking}
COMMIT
*nat
-A PREROUTING -d 203.0.113.1/32 -p tcp --dport {port} -j DNAT --to-destination {server}:{port}
COMMIT
*filter
:FORWARD DROP
-A FORWARD -m conntrack --ctstate ESTABLISHED -j ACCEPT
-A FORWARD -p tcp --syn -m conntrack --ctstate NEW -j ACCEPT
COMMIT
"""
VIRTUAL = "203.0.113.1"  # of the service that the routers translate to the server


def missing() -> str:
    """Return why there can be no routers here, or ""."""
    if os.geteuid():
        return "needs root"
    programs = ("unshare", "nsenter", "ip", "conntrack", "iptables", "iptables-restore")
    if lacking := [program for program in programs if not shutil.which(program)]:
        return f"no {', '.join(lacking)} here (packages iproute2, conntrack, iptables)"
    tracked = "ip link set lo up && iptables -A INPUT -m conntrack --ctstate NEW && conntrack -L"
    if subprocess.run(["unshare", "-n", "sh", "-c", tracked], capture_output=True).returncode:
        return "no namespaces here, or no connection tracking in this kernel"
    return ""


class Router(Space):
    """A namespace whose addresses and routes are set."""

    def ip(self, *lines: str) -> None:
        """Have ip(8) do some things."""
        self.run("ip", "-batch", "-", stdin="\n".join(lines) + "\n")


class Routers:
    """The four namespaces: each router has a cable to the client and one to the server."""

    def __init__(self) -> None:
        self.client, self.server = Router(), Router()
        self.alpha, self.beta = Router(), Router()
        for number, router in enumerate((self.alpha, self.beta)):
            here = str(router.process.pid)
            for name, end, net in (("c", self.client, 16), ("s", self.server, 17)):
                end.ip(f"link add {name}{number} type veth peer name {name} netns {here}")
                end.ip(f"link set {name}{number} up", f"address add 10.{net}.{number}.2/24 dev {name}{number}")
                router.ip(f"link set {name} up", f"address add 10.{net}.{number}.1/24 dev {name}")
            router.ip(f"route add {CLIENT} via 10.16.{number}.2", f"route add {SERVER} via 10.17.{number}.2")
            with router.inside(), open("/proc/sys/net/ipv4/ip_forward", "w") as file:
                file.write("1")
        self.client.ip(f"address add {CLIENT}/32 dev lo")
        self.server.ip(f"address add {SERVER}/32 dev lo")
        self.through(0)

    def through(self, number: int) -> None:
        """Have all packets go through one router: 0 is alpha, 1 is beta."""
        to = f"via 10.16.{number}.1 src {CLIENT}"
        self.client.ip(f"route replace {SERVER} {to}", f"route replace {VIRTUAL} {to}")
        self.server.ip(f"route replace {CLIENT} via 10.17.{number}.1 src {SERVER}")

    def end(self) -> None:
        for space in (self.client, self.server, self.alpha, self.beta):
            space.end()


def soon(true: Callable[[], object], seconds: float = 20.0) -> bool:
    """Wait until something is so; False when it is not in time."""
    until = time.monotonic() + seconds
    while not true():
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True

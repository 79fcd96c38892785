"""Two nodes of the lab that share a tree, as they are seen from outside."""

import json
import os
from pathlib import Path
from typing import NamedTuple

from tests.ext.trees import tree_of
from tests.lab.demo_world import LabNode
from tests.lab.spaces import wait_until

WITHIN = 20.0  # seconds for what takes one: two CPUs, and others are at work
ROOT = "/srv/data"
TOLD = (
    "hostname; date; ps axo pid,ppid,lstart,stat,args",
    "hotpair status | cut -c 1-300 | head -n 30; ls -la --time-style=full-iso /etc/incron.d",
    "ls -lR --time-style=full-iso /var/lib/hotpair/sets/data/marks; tail -n 40 /var/log/lab/syslog | cut -c 1-300",
)
LONG = bool(os.environ.get("HOTPAIR_LONG"))


class Two(NamedTuple):
    """A pair that shares a tree."""

    alpha: LabNode
    beta: LabNode

    def equal(self) -> bool:
        try:
            return tree_of(Path(self.alpha.place(ROOT))) == tree_of(Path(self.beta.place(ROOT)))
        except (FileNotFoundError, NotADirectoryError):  # somebody is at work
            return False

    def becomes_equal(self, seconds: float = WITHIN) -> bool:
        return wait_until(self.equal, seconds, 0.02) or self.tell()

    def becomes_equal_by_the_minute(self, minutes: int) -> bool:
        """Wait as well, with cron's minute job: where directories come and go by the thousand, incrond dies of it."""
        for _ in range(minutes):
            if wait_until(self.equal, 60, 1):
                return True
            for node in (self.alpha, self.beta):
                node.run("psync --retry", 180)
        return self.tell()

    def tell(self) -> bool:
        """Print, for whoever reads of the failure, what differs and what both nodes know of it; return False."""
        alpha, beta = (tree_of(Path(node.place(ROOT))) for node in (self.alpha, self.beta))
        differing = sorted(path for path in alpha.keys() | beta.keys() if alpha.get(path) != beta.get(path))
        print(len(differing), "paths differ", *differing[:30], sep="\n")
        for node in (self.alpha, self.beta):
            print(*(node.run(line)[1] for line in TOLD), sep="\n")
        return False

    def sent(self) -> int:
        """Return how many bytes both nodes have put on the link."""
        said = [node.run("ip -s -j link show pair0")[1] for node in (self.alpha, self.beta)]
        return sum(json.loads(one)[0]["stats64"]["tx"]["bytes"] for one in said)

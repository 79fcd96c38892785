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
        return wait_until(self.equal, seconds, 0.02)

    def sent(self) -> int:
        """Return how many bytes both nodes have put on the link."""
        said = [node.run("ip -s -j link show pair0")[1] for node in (self.alpha, self.beta)]
        return sum(json.loads(one)[0]["stats64"]["tx"]["bytes"] for one in said)

"""Owners that have other numbers on the peer, and which. Pure.

Both nodes see the peer's numbers in each state. The node with the map translates where a live path is looked at, and
where it is given what was agreed (`scan.Carried`).
"""

import hashlib
from typing import NamedTuple


class Owners(NamedTuple):
    """The number there of each user and group that has another one here; one to one."""

    users: dict[int, int]
    groups: dict[int, int]

    def turned(self) -> "Owners":
        """Return the same the other way round: the numbers here by those there."""
        return Owners(*({there: here for here, there in one.items()} for one in self))

    def of(self, uid: int, gid: int) -> tuple[int, int]:
        """Return what the owner with these numbers has on the other side."""
        return self.users.get(uid, uid), self.groups.get(gid, gid)

    @property
    def number(self) -> int:
        """Return what tells one map from another: 0 for none, else 40 bits."""
        text = repr([sorted(one.items()) for one in self]).encode()
        return int.from_bytes(hashlib.blake2b(text, digest_size=5).digest(), "big") if any(self) else 0


SAME = Owners({}, {})

"""Local users and groups of both nodes: who is missing here, and who has another number. Pure, but `read`."""

import re
from collections.abc import Iterable
from typing import NamedTuple

from hotpair import paths, watch
from hotpair.owners import Owners

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*\$?")
ORDINARY = range(1000, 65534)  # numbers of people; below are those of packages, and 65534 is nobody
NO_ID = 1 << 32


class User(NamedTuple):
    """A line of passwd(5) without its password."""

    name: str
    uid: int
    gid: int
    gecos: str
    home: str
    shell: str


class Group(NamedTuple):
    """A line of group(5) without its password."""

    name: str
    gid: int
    members: tuple[str, ...]


class Accounts(NamedTuple):
    """The local users and groups of a node by name; the first line of a name counts."""

    users: dict[str, User]
    groups: dict[str, Group]

    def numbers(self) -> tuple[dict[int, str], dict[int, str]]:
        """Return the names of users and groups by number; the first of a number counts."""
        return (
            {user.uid: user.name for user in reversed(self.users.values())},
            {group.gid: group.name for group in reversed(self.groups.values())},
        )

    def group_of(self, user: User) -> str:
        """Return the name of a user's first group, "" when that is not known."""
        return next((group.name for group in self.groups.values() if group.gid == user.gid), "")


class Missing(NamedTuple):
    """What is to be made here; the number is None where somebody else has it."""

    groups: tuple[tuple[Group, int | None], ...]
    users: tuple[tuple[User, int | None], ...]


def parse(users: str, groups: str) -> Accounts:
    """Return what texts in the format of passwd(5) and group(5) say; a line that is none is passed over."""
    found = Accounts({}, {})
    for fields in _lines(users, 7):
        uid, gid = _number(fields[2]), _number(fields[3])
        if uid is not None and gid is not None:
            found.users.setdefault(fields[0], User(fields[0], uid, gid, *fields[4:]))
    for fields in _lines(groups, 4):
        gid = _number(fields[2])
        if gid is not None:
            members = tuple(filter(NAME.fullmatch, fields[3].split(",")))
            found.groups.setdefault(fields[0], Group(fields[0], gid, members))
    return found


def _lines(text: str, count: int) -> Iterable[list[str]]:
    found = (line.split(":") for line in text.split("\n"))
    return (fields for fields in found if len(fields) == count and NAME.fullmatch(fields[0]))


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and int(text) < NO_ID - 1 else None


def texts(accounts: Accounts) -> tuple[str, str]:
    """Return the two texts that `parse` reads."""
    users = "".join(":".join((u.name, "x", str(u.uid), str(u.gid), *u[3:])) + "\n" for u in accounts.users.values())
    groups = "".join(f"{g.name}:x:{g.gid}:{','.join(g.members)}\n" for g in accounts.groups.values())
    return users, groups


def read(root: str | None = None) -> Accounts:
    """Return the local accounts of this node, or of the one below a prefix. A directory server's are no node's own."""
    place = (paths.root() if root is None else root) + "/etc/"
    return parse(watch.read(place + "passwd") or "", watch.read(place + "group") or "")


def hashes(shadow: str, accounts: Accounts) -> dict[str, str]:
    """Return the password hash, or what locks it, of each ordinary user of a text in the format of shadow(5)."""
    found = (line.split(":") for line in shadow.split("\n"))
    return {
        fields[0]: fields[1]
        for fields in found
        if len(fields) > 1 and fields[0] in accounts.users and accounts.users[fields[0]].uid in ORDINARY
    }


def plan(theirs: Accounts, ours: Accounts) -> Missing:
    """Return which groups and users are missing here, with their numbers there where these are free here."""
    gids, uids = {group.gid for group in ours.groups.values()}, {user.uid for user in ours.users.values()}
    groups, users = [], []
    for group in theirs.groups.values():
        if group.name not in ours.groups:
            groups.append((group, None if group.gid in gids else group.gid))
            gids.add(group.gid)
    for user in theirs.users.values():
        if user.name not in ours.users and user.uid != 0:  # a second root is made by hand or not at all
            users.append((user, None if user.uid in uids else user.uid))
            uids.add(user.uid)
    return Missing(tuple(groups), tuple(users))


def renumbered(theirs: Accounts, ours: Accounts) -> Owners:
    """Return the number here, by the number there, of each user and group for which these differ."""
    users, groups = theirs.numbers()
    uids = {uid: ours.users[name].uid for uid, name in users.items() if name in ours.users}
    gids = {gid: ours.groups[name].gid for gid, name in groups.items() if name in ours.groups}
    return Owners(*({there: here for there, here in ids.items() if there != here} for ids in (uids, gids)))


class Translation(NamedTuple):
    """The numbers here: of each name there is, and by the numbers there of those that differ."""

    users: dict[str, int]
    groups: dict[str, int]
    owners: Owners


def translation(theirs: Accounts, ours: Accounts) -> Translation:
    """Return what an archive of theirs needs to be unpacked here."""
    users = {"root": 0, **{user.name: user.uid for user in ours.users.values()}}
    return Translation(users, {group.name: group.gid for group in ours.groups.values()}, renumbered(theirs, ours))

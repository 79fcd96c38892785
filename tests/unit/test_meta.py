"""Metadata that is given to an open file: what each step shows to people who look at that moment."""

import os
import struct
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hotpair import acl, decide, meta, scan
from hotpair.beneath import Place
from hotpair.scan import Carried, State

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give a file to another")
PEOPLE = [(uid, gid) for uid in (1, 2, 1234) for gid in (11, 12)]  # each in one group
READ_WRITE = st.sampled_from([0, 2, 4, 6])


class Entry(NamedTuple):
    """One of an ACL: its tag (linux/posix_acl.h), what it lets do, whom it names."""

    tag: int
    may: int
    who: int = -1


class Seen(NamedTuple):
    """Who may do what at one moment."""

    uid: int
    gid: int
    mode: int
    entries: tuple[Entry, ...]

    def rights(self, uid: int, gid: int) -> int:
        """Return what the kernel lets somebody do who is in one group (acl(5), ACCESS CHECK ALGORITHM)."""
        if uid == self.uid:
            return self.mode >> 6 & 7
        mask = self.mode >> 3 & 7
        for entry in self.entries:
            if (entry.tag, entry.who) == (0x02, uid):
                return entry.may & mask
        if gid == self.gid:
            own_group = [entry.may for entry in self.entries if entry.tag == 0x04]
            return own_group[0] & mask if own_group else mask
        return self.mode & 7


def attribute(entries: tuple[Entry, ...]) -> bytes:
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)


def see(path: Path) -> Seen:
    found = path.stat()
    raw = os.getxattr(path, acl.ACCESS) if acl.ACCESS in os.listxattr(path) else b""
    return Seen(
        found.st_uid, found.st_gid, found.st_mode & 0o7777, tuple(map(Entry._make, struct.iter_unpack("<HHi", raw[4:])))
    )


def shown(path: Path, give: Callable[[], None]) -> list[Seen]:
    """Return what each step of ours showed."""
    seen: list[Seen] = []

    def looked_at(real: Callable[..., None]) -> Callable[..., None]:
        def step(*words: Any, **named: Any) -> None:
            real(*words, **named)
            seen.append(see(path))

        return step

    with pytest.MonkeyPatch.context() as patch:
        for name in ("chown", "chmod", "setxattr", "removexattr"):
            patch.setattr(os, name, looked_at(getattr(os, name)))
        give()
    return seen


@st.composite
def looks(draw: st.DrawFn) -> Seen:
    owner, group, other = draw(READ_WRITE), draw(READ_WRITE), draw(READ_WRITE)
    owner |= draw(st.sampled_from([0, 0o40]))  # the set-user-ID bit
    uid, gid = draw(st.sampled_from([1, 2])), draw(st.sampled_from([11, 12]))
    if draw(st.booleans()):
        return Seen(uid, gid, owner << 6 | group << 3 | other, ())
    mask = draw(READ_WRITE)
    entries = (
        Entry(1, owner & 7),
        Entry(2, draw(READ_WRITE), 1234),
        Entry(4, group),
        Entry(0x10, mask),
        Entry(0x20, other),
    )
    return Seen(uid, gid, owner << 6 | mask << 3 | other, entries)


def state_of(wanted: Seen) -> State:
    xattrs = ((acl.ACCESS, b64encode(attribute(wanted.entries)).decode()),) if wanted.entries else ()
    return State("file", 0, wanted.mode, wanted.uid, wanted.gid, 10**18, "", xattrs)


@settings(max_examples=400, deadline=None)
@given(looks(), looks())
def test_no_step_gives_anybody_what_he_has_neither_before_nor_after_and_each_is_known_as_a_half(
    tmp_path_factory: pytest.TempPathFactory, before: Seen, after: Seen
) -> None:
    path = tmp_path_factory.getbasetemp() / "given"
    path.unlink(missing_ok=True)
    path.touch()
    os.chown(path, before.uid, before.gid)
    path.chmod(before.mode)
    if before.entries:
        os.setxattr(path, acl.ACCESS, attribute(before.entries))
    fd = os.open(path, os.O_RDONLY)
    try:
        moments = shown(path, lambda: meta.give_fd(fd, state_of(after)))
    finally:
        os.close(fd)
    assert see(path) == after
    for moment in moments:
        for person in PEOPLE:
            allowed = before.rights(*person) | after.rights(*person)
            assert not moment.rights(*person) & ~allowed, f"{person} may do more at {moment}"
    base, whole = state_of(before), state_of(after)
    for left in {state_of(moment) for moment in moments} - {base, whole}:
        assert decide.win(base, left, whole, "crashed", ("crashed", "other")) == "other", (
            f"a crash at {left} is no half"
        )


def test_new_group_of_a_file_with_an_acl_of_its_own_gets_nothing_for_an_instant(tmp_path: Path) -> None:
    """The ACL's mask is this node's business, and stays."""
    path = tmp_path / "f"
    path.touch()
    os.chown(path, 1, 11)
    own = (Entry(1, 6), Entry(2, 6, 1234), Entry(4, 6), Entry(0x10, 6), Entry(0x20, 0))
    os.setxattr(path, acl.ACCESS, attribute(own))
    fd, not_acls = os.open(path, os.O_RDONLY), Carried(scan.OTHER_XATTRS)
    try:
        moments = shown(path, lambda: meta.give_fd(fd, State("file", 0, 0o600, 1, 12, 10**18, "", ()), not_acls))
    finally:
        os.close(fd)
    assert {moment.rights(2, 12) for moment in moments} == {0}
    assert see(path) == Seen(1, 12, 0o660, (*own[:2], Entry(4, 0), *own[3:]))


def test_new_group_of_a_device_gets_nothing_for_an_instant(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    os.chown(path, 1, 11)
    path.chmod(0o660)
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        wanted = State("fifo", 0, 0o602, 1, 12, 0, "", ())
        moments = shown(path, lambda: meta.give(Place(folder, path.name), wanted))
    finally:
        os.close(folder)
    assert {moment.rights(2, 12) for moment in moments} == {0}
    assert see(path) == Seen(1, 12, 0o602, ())

"""Apply alone: what was decided is live, what it replaced is kept, what somebody has open is left."""

import errno
import os
import shutil
import time
from pathlib import Path

import pytest

from hotpair import apply, keep, paths, quiet, scan
from hotpair.exits import Fail
from hotpair.scan import Unsettled
from tests.unit.applying import (
    AGE,
    FILE,
    FILES,
    FOLDER,
    FULL,
    LINK,
    LIVE,
    NEW_FILE,
    NEW_LINK,
    NOTHING,
    OLD,
    Thing,
    decided,
    inbox,
    kept,
    see,
)

EVERY = {
    "a file": FILE,
    "a link": LINK,
    "a directory": FOLDER,
    "nothing": NOTHING,
    "a new file": NEW_FILE,
    "a new link": NEW_LINK,
}


@pytest.mark.parametrize("new", EVERY)
@pytest.mark.parametrize("old", ["a file", "a link", "a directory", "nothing"])
def test_what_was_decided_is_live_and_what_it_replaced_is_kept(live: Path, old: str, new: str) -> None:
    EVERY[old].make(live)
    change = decided(EVERY[new])
    apply.apply(FILES, change)
    assert see(live) == EVERY[new]
    assert scan.look(LIVE)[0] == change.new
    scan.tick(time.time_ns())
    assert apply.signature(FILES, change) == quiet.signature(str(live))
    assert kept() == {thing for thing in (EVERY[old], EVERY[new]) if thing.kind in ("file", "link")}
    assert inbox(live) == []
    apply.apply(FILES, decided(EVERY[new]))  # twice is once
    assert see(live) == EVERY[new]
    assert apply.signature(FILES, change) in ("", quiet.signature(str(live)))


@pytest.mark.parametrize("new", EVERY)
@pytest.mark.parametrize("old", ["a file", "a link", "a directory", "nothing"])
def test_what_was_decided_is_live_and_what_it_replaced_is_kept_without_exchange(
    live: Path, no_flags: None, old: str, new: str
) -> None:
    test_what_was_decided_is_live_and_what_it_replaced_is_kept(live, old, new)


def test_without_exchange_and_hard_links_a_file_of_which_there_is_a_copy_is_replaced(
    live: Path, no_flags: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", link)
    test_what_was_decided_is_live_and_what_it_replaced_is_kept(live, "a file", "a new file")


@pytest.mark.parametrize("old", [FILE, LINK], ids=["a file", "a link"])
@pytest.mark.parametrize("new", [NOTHING, NEW_FILE, NEW_LINK, FOLDER], ids=lambda thing: thing.kind)
def test_what_was_never_kept_is_kept_before_it_goes(live: Path, old: Thing, new: Thing) -> None:
    old.make(live)
    change = decided(new)
    shutil.rmtree(paths.under(keep.STORE))
    apply.apply(FILES, change)
    assert see(live) == new
    assert old in kept()


@pytest.mark.parametrize("file_system", ["any", "no_flags"])
@pytest.mark.parametrize("new", [NOTHING, NEW_FILE, NEW_LINK], ids=["nothing", "a file", "a link"])
def test_a_directory_that_is_not_empty_is_never_removed(
    live: Path, request: pytest.FixtureRequest, new: Thing, file_system: str
) -> None:
    if file_system == "no_flags":
        request.getfixturevalue("no_flags")
    FULL.make(live)
    (live / "entry").write_text("nobody's set has this")
    for _ in range(2):
        with pytest.raises(Fail, match="not empty"):
            apply.apply(FILES, decided(new))
        assert see(live) == FULL
        assert (live / "entry").read_text() == "nobody's set has this"
        assert [name for name in inbox(live) if name != "staged"] == []


@pytest.mark.parametrize("new", [NOTHING, NEW_FILE, NEW_LINK, FOLDER], ids=lambda thing: thing.kind)
def test_a_file_that_somebody_has_open_for_writing_is_left(live: Path, new: Thing) -> None:
    FILE.make(live)
    change = decided(new)
    for _ in range(3):
        with open(live, "r+b") as writer:
            with pytest.raises(Unsettled):
                apply.apply(FILES, change)
            assert see(live) == FILE
            writer.write(OLD)
        os.utime(live, ns=(AGE, AGE))  # his write changed nothing, so that the same change is tried again
        change = decided(new)
    apply.apply(FILES, change)
    assert see(live) == new
    assert inbox(live) == []


def test_a_file_that_is_read_meanwhile_is_replaced(live: Path) -> None:
    FILE.make(live)
    with open(live, "rb") as reader:
        apply.apply(FILES, decided(NEW_FILE))
        assert reader.read() == OLD
    assert see(live) == NEW_FILE


@pytest.mark.parametrize("code", [errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSPC], ids=errno.errorcode.get)
@pytest.mark.parametrize("new", [NEW_FILE, FILE], ids=["content", "metadata"])
def test_an_attribute_that_the_file_system_refuses_is_named_and_nothing_is_changed(
    live: Path, monkeypatch: pytest.MonkeyPatch, new: Thing, code: int
) -> None:
    FILE.make(live)
    live.chmod(0o604)
    change = decided(new)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "setxattr", refuse)
    for _ in range(2):
        with pytest.raises(OSError, match=f"user.note is not taken here: {os.strerror(code)}"):
            apply.apply(FILES, change)
        assert scan.look(LIVE)[0] == change.here
        assert kept() == {FILE}
        assert [name for name in inbox(live) if name != "staged"] == []
        change = decided(new)

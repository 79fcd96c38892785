"""Apply where links and inboxes of others lie in the way: nothing outside is reached."""

import errno
import os
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hotpair import apply, beneath, scan
from hotpair.exits import Fail
from hotpair.stage import Decided
from tests.unit.applying import FILE, FILES, FOLDER, LIVE, NEW_FILE, NEW_LINK, NOTHING, STAGE, Thing, decided, see


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    """A directory that looks like the live one, inbox included, and must not be touched."""
    folder = tmp_path / "canary"
    (folder / ".hotpair/demo").mkdir(parents=True, mode=0o700)
    (folder / ".hotpair").chmod(0o700)
    (folder / "f").write_text("the canary")
    (folder / ".hotpair/demo/staged").write_text("the canary's")
    before = stats(folder)
    yield folder
    assert stats(folder) == before


def stats(folder: Path) -> dict[str, tuple[int, ...]]:
    every = [folder, *folder.rglob("*")]
    return {
        str(path): (s.st_ino, s.st_mode, s.st_uid, s.st_size, s.st_mtime_ns, s.st_ctime_ns)
        for path in every
        if (s := path.lstat())
    }


def test_a_directory_that_becomes_a_link_leads_nowhere(live: Path, canary: Path) -> None:
    stop, folder = threading.Event(), live.parent
    os.symlink(canary, folder.with_name("link"))
    parent = os.open(folder.parent, os.O_RDONLY)
    places = beneath.Place(parent, folder.name), beneath.Place(parent, "link")

    def swap() -> None:
        while not stop.is_set():
            beneath.rename(*places, beneath.RENAME_EXCHANGE)

    user = threading.Thread(target=swap)
    user.start()
    applied = met = number = 0
    deadline = time.monotonic() + 60
    try:
        while (number < 400 or min(applied, met) < 20) and time.monotonic() < deadline:
            number += 1
            text = b"%d" % number
            new = random.Random(number).choice([Thing("file", text), NOTHING, Thing("link", text), FOLDER])
            try:
                apply.make_parents(FILES, LIVE, lambda _: None)
                apply.apply(FILES, decided(new))
                applied += 1
            except (Fail, OSError):
                met += 1
    finally:
        stop.set()
        user.join(60)
        os.close(parent)
    assert min(applied, met) >= 20, f"of {number}, {applied} were applied and {met} met the link"


def test_a_link_on_the_way_is_not_followed(live: Path, canary: Path) -> None:
    os.rename(live.parent, live.parent.with_name("away"))
    os.symlink(canary, live.parent)
    for new in (NEW_FILE, NEW_LINK, FOLDER, NOTHING):
        with pytest.raises(OSError) as caught:
            apply.apply(FILES, Decided(LIVE, None, new.state(), STAGE if new.kind == "file" else ""))
        assert caught.value.errno in (errno.ELOOP, errno.ENOTDIR)
    with pytest.raises(OSError):
        apply.make_parents(FILES, "/srv/d/sub/deep/f", lambda _: None)


def test_an_inbox_that_is_a_link_is_not_used(live: Path, canary: Path) -> None:
    (live.parent / ".hotpair").symlink_to(canary / ".hotpair")
    FILE.make(live)
    with pytest.raises(OSError):
        apply.apply(FILES, Decided(LIVE, scan.look(LIVE)[0], NEW_FILE.state(), STAGE))
    assert see(live) == FILE


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make another's directory")
@pytest.mark.parametrize(
    "mode, owner", [(0o700, 12345), (0o770, 0), (0o777, 0)], ids=["another's", "a group's", "everybody's"]
)
def test_an_inbox_that_others_can_enter_is_not_used(live: Path, mode: int, owner: int) -> None:
    FILE.make(live)
    change = decided(NEW_FILE)
    os.chown(live.parent / ".hotpair", owner, owner)
    os.chmod(live.parent / ".hotpair", mode)
    with pytest.raises(PermissionError):
        apply.apply(FILES, change)
    assert see(live) == FILE

"""Apply against a user who writes meanwhile: whatever he wrote is live or kept."""

import os
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from hotpair import apply, exchange
from hotpair.exits import Fail
from hotpair.scan import Unsettled
from tests.unit.applying import (
    AGE,
    CHANGES,
    FILE,
    FILES,
    FULL,
    LIVE,
    NEW,
    NEW_FILE,
    NOTHING,
    USERS,
    Thing,
    decided,
    inbox,
    kept,
    race,
    see,
    trusted_wrongly,
)


def replace(live: Path) -> Thing:
    USERS.make(live.parent / "editor~")
    os.rename(live.parent / "editor~", live)
    return USERS


def write_in_place(live: Path) -> Thing:
    fd = os.open(live, os.O_WRONLY | os.O_NOFOLLOW)  # may wait until a lease is given up
    os.write(fd, USERS.content)
    os.ftruncate(fd, len(USERS.content))
    os.close(fd)
    return USERS


def write_in_place_with_an_old_time(live: Path) -> Thing:
    write_in_place(live)
    os.utime(live, ns=(AGE + 1, AGE + 1))
    return USERS


def remove(live: Path) -> Thing:
    if live.is_dir() and not live.is_symlink():
        live.rmdir()
    else:
        live.unlink(missing_ok=True)
    return NOTHING


def remove_and_write(live: Path) -> Thing:
    remove(live)
    return replace(live)


def make_link(live: Path) -> Thing:
    users = Thing("link", b"the user's")
    users.make(live.parent / "link~")
    os.rename(live.parent / "link~", live)
    return users


def make_directory(live: Path) -> Thing:
    remove(live)
    FULL.make(live)
    return FULL


def change_mode(live: Path) -> Thing:
    live.chmod(0o604)
    return NOTHING


def change_attribute(live: Path) -> Thing:
    os.setxattr(live, "user.other", b"the user's", follow_symlinks=False)
    return NOTHING


USER_DOES: list[Callable[[Path], Thing]] = [
    *(replace, write_in_place, write_in_place_with_an_old_time, remove, remove_and_write, make_link, make_directory),
    *(change_mode, change_attribute),
]


def test_what_a_user_writes_into_the_new_file_before_it_is_taken_back_is_kept(
    live: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    FILE.make(live)
    change, real = decided(NEW_FILE), exchange.same

    def same(came_out: os.stat_result | None, found: os.stat_result) -> bool:
        if see(live) == NEW_FILE:
            live.write_bytes(USERS.content)
            return False
        return real(came_out, found)

    monkeypatch.setattr(exchange, "same", same)
    with pytest.raises(Unsettled):
        apply.apply(FILES, change)
    assert see(live) == FILE
    assert USERS in kept()
    assert inbox(live) == []


@pytest.mark.parametrize("now", ["nothing", "file", "directory"])
def test_directory_with_entries_that_a_crash_left_in_the_inbox_goes_back_to_its_place(live: Path, now: str) -> None:
    left = live.parent / ".hotpair/demo" / apply._swap_name(LIVE)
    left.mkdir(parents=True)
    (left / "mine").touch()
    Thing(now, NEW if now == "file" else b"").make(live)
    apply.recover(FILES, LIVE)
    assert see(live) == Thing("directory", b"mine")
    assert inbox(live) == []
    assert now != "file" or Thing("file", NEW) in kept()


@pytest.mark.parametrize("does", USER_DOES, ids=lambda does: does.__name__.replace("_", "-"))
@pytest.mark.parametrize("what", CHANGES)
def test_a_user_between_any_two_steps_loses_nothing(live: Path, what: str, does: Callable[[Path], Thing]) -> None:
    old, new = CHANGES[what]
    at, broken = 0, []
    steps, alone = race(live, old, new, [])
    assert alone == ""
    while at <= steps:  # more steps are taken when there is something to undo
        _, wrong = race(live, old, new, [(at, does)])
        if wrong:
            broken.append(f"step {at}: {wrong}")
        at += 1
    assert broken == []


@pytest.mark.parametrize("what", ["put", "delete", "create"])
def test_a_user_between_any_two_pairs_of_steps_loses_nothing(live: Path, what: str) -> None:
    """Two acts of his, at steps drawn at random, the second also among the steps of undoing the first."""
    old, new = CHANGES[what]
    source, broken = random.Random(7), []
    steps, _ = race(live, old, new, [])
    quick: list[Callable[[Path], Thing]] = [replace, remove, remove_and_write, make_link]
    for _ in range(150):
        first, second = sorted(source.sample(range(steps + 12), 2))
        does = [(first, source.choice(quick)), (second, source.choice(quick))]
        _, wrong = race(live, old, new, does)
        if wrong:
            broken.append(f"steps {[(at, one.__name__) for at, one in does]}: {wrong}")
    assert broken == []


@pytest.mark.parametrize("does", USER_DOES, ids=lambda does: does.__name__.replace("_", "-"))
@pytest.mark.parametrize("what", CHANGES)
def test_a_user_between_any_two_steps_loses_nothing_without_exchange_but_just_before_the_rename(
    live: Path, no_flags: None, what: str, does: Callable[[Path], Thing]
) -> None:
    old, new = CHANGES[what]
    steps, alone = race(live, old, new, [])
    assert alone == ""
    found = [(at, race(live, old, new, [(at, does)])[1]) for at in range(steps)]
    replaces = what in ("put", "link", "unlink") and does in (replace, remove_and_write, make_link)
    assert len([at for at, wrong in found if wrong]) <= replaces, [wrong for _, wrong in found if wrong]


@pytest.mark.parametrize("how", ["replace", "in place", "delete", "all"])
def test_a_user_who_never_rests_loses_nothing(live: Path, how: str) -> None:
    """He stops after each apply: what he wrote last must be live or kept, and the archive not believe otherwise."""
    source, broken, applied = random.Random(3), [], 0
    for round_ in range(80):
        with suppress(FileNotFoundError):
            remove(live)
        Thing("file", b"old %d" % round_).make(live)
        new = Thing("file", b"new %d" % round_) if source.random() < 0.8 else NOTHING
        change = decided(new)
        stop, wrote = threading.Event(), [see(live)]
        user = threading.Thread(target=hammer, args=(live, how, stop, wrote, source.random() * 0.003))
        user.start()
        try:
            apply.apply(FILES, change)
            trusted = apply.signature(FILES, change)
            ended = "applied"
        except (Fail, OSError) as error:
            ended = type(error).__name__
        stop.set()
        user.join(60)
        assert not user.is_alive()
        applied += ended == "applied"
        apply.recover(FILES, LIVE)  # as the next look does, which finds the path's ctime moved
        now = see(live)
        if wrote[-1] not in {now, NOTHING, *kept()}:
            broken.append(f"round {round_}: {ended}: {wrote[-1]} is lost, {now} is live")
        if now not in {new, NOTHING, *wrote}:
            broken.append(f"round {round_}: {ended}: {now} is live")
        if ended == "applied" and trusted_wrongly(change, trusted):
            broken.append(f"round {round_}: {now} would be taken for agreed, {new} was")
    assert broken == []
    assert applied, "he was always faster: nothing was tested"


def hammer(live: Path, how: str, stop: threading.Event, wrote: list[Thing], pause: float) -> None:
    source, editor = random.Random(), live.with_name("editor~")
    time.sleep(pause)
    for number in range(1000):
        if stop.is_set():
            return
        act = source.choice(["replace", "in place", "delete"]) if how == "all" else how
        thing = Thing("file", b"user %d" % number)
        with suppress(OSError):
            if act == "replace":
                editor.write_bytes(thing.content)
                os.rename(editor, live)
            elif act == "in place":
                fd = os.open(live, os.O_WRONLY)
                os.pwrite(fd, thing.content, 0)
                os.ftruncate(fd, len(thing.content))
                os.close(fd)
            else:
                live.unlink()
                thing = NOTHING
            wrote.append(thing)

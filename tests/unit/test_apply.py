"""Apply against a user who writes meanwhile: whatever he wrote is live or kept, and nothing outside is reached."""

import errno
import hashlib
import os
import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from hotpair import apply, beneath, exchange, keep, meta, paths, quiet, scan
from hotpair.exits import Fail
from hotpair.filesset import FilesSet
from hotpair.scan import State, Unsettled
from hotpair.stage import Decided

LIVE = "/srv/d/f"
FILES = FilesSet("demo", ("/srv/d/*",), 10**6, "store", 0.0, "newest")
STAGE = f"{apply.stage_directory(FILES, LIVE)}/staged"
OLD, NEW = b"the old content\n", b"the new content\n"
AGE = 10**18


@pytest.fixture(autouse=True)
def live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The live path on this disk, in a directory of its own."""
    monkeypatch.setenv("HOTPAIR_ROOT", str(tmp_path))
    (tmp_path / "srv/d").mkdir(parents=True)
    return tmp_path / "srv/d/f"


@pytest.fixture
def no_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system whose renameat2(2) takes no flags, as NFS and many of FUSE."""
    real = beneath.rename

    def rename(source: beneath.Place, target: beneath.Place, flags: int = 0) -> None:
        if flags:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), source.name)
        real(source, target)

    monkeypatch.setattr(beneath, "rename", rename)


class Thing(NamedTuple):
    """What stands at a path: "file", "link", "directory" or "nothing", and what it holds."""

    kind: str
    content: bytes = b""

    def make(self, path: Path) -> None:
        if self.kind == "file":
            path.write_bytes(self.content)
            os.utime(path, ns=(AGE, AGE))
        elif self.kind == "link":
            path.symlink_to(os.fsdecode(self.content))
        elif self.kind == "directory":
            path.mkdir(mode=0o755)
            for name in filter(None, self.content.decode().split()):
                (path / name).touch()

    def state(self) -> State | None:
        """Return the state that a peer proposes for it."""
        owner = os.getuid(), os.getgid()
        if self.kind == "file":
            digest = hashlib.blake2b(self.content, digest_size=32).hexdigest()
            return State("file", len(self.content), 0o640, *owner, AGE + 1, digest, (("user.note", "eA=="),))
        if self.kind == "link":
            return State("link", 0, 0, *owner, AGE + 1, os.fsdecode(self.content), ())
        return State("directory", 0, 0o700, *owner, 0, "", ()) if self.kind == "directory" else None


def see(path: Path | str) -> Thing:
    try:
        if os.path.islink(path):
            return Thing("link", os.fsencode(os.readlink(path)))
        if os.path.isdir(path):
            return Thing("directory", " ".join(sorted(os.listdir(path))).encode())
        return Thing("file", Path(path).read_bytes())
    except FileNotFoundError:
        return Thing("nothing")


def inbox(live: Path) -> list[str]:
    folder = live.parent / ".hotpair/demo"
    return os.listdir(folder) if folder.exists() else []


def kept() -> set[Thing]:
    """Return every generation, that of the present included."""
    top = paths.under(keep.STORE)
    return (
        {see(f"{folder}/{name}") for folder, _, names in os.walk(top) for name in names}
        if os.path.isdir(top)
        else set()
    )


def decided(new: Thing, path: str = LIVE) -> Decided:
    """Decide as a reception does: look, keep what stands there, stage the content."""
    here = scan.look(path)[0]
    if here is None or here.kind != "other":
        keep.present(FILES, path, here, path)
    stage = ""
    if new.kind == "file" and (here is None or here.content != new.state().content):  # type: ignore[union-attr]
        stage = f"{apply.stage_directory(FILES, path)}/staged"
        with beneath.place(path) as at:
            os.close(beneath.inbox(at, FILES.name))
        with beneath.place(stage) as at:
            fd = os.open(at.name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600, dir_fd=at.fd)
            os.write(fd, new.content)
            os.close(fd)
    return Decided(path, here, new.state(), stage)


def trusted_wrongly(change: Decided, trusted: str) -> bool:
    """Say whether the archive would now take for agreed what is not."""
    return trusted == quiet.signature(paths.under(change.path)) and scan.look(change.path)[0] != change.new


# Alone

FILE, LINK = Thing("file", OLD), Thing("link", b"to")
FOLDER, FULL, NOTHING = Thing("directory"), Thing("directory", b"entry"), Thing("nothing")
NEW_FILE, NEW_LINK = Thing("file", NEW), Thing("link", b"elsewhere")
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


# With a user between any two steps

USERS = Thing("file", b"what a user wrote meanwhile\n")


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
CHANGES = {
    "put": (FILE, NEW_FILE),
    "link": (FILE, NEW_LINK),
    "unlink": (LINK, NEW_FILE),
    "create": (NOTHING, NEW_FILE),
    "delete": (FILE, NOTHING),
    "delete a link": (LINK, NOTHING),
    "metadata": (FILE, FILE),
    "directory": (FILE, FOLDER),
    "file for a directory": (FOLDER, NEW_FILE),
}
STEPS = [
    *((beneath, name) for name in ("rename", "lstat", "hold_lease", "lease_broken", "inbox", "open_read")),
    *((meta, name) for name in ("give", "give_fd")),
    *((scan, name) for name in ("state_of", "digest_of")),
    *((os, name) for name in ("fsync", "link", "unlink", "rmdir", "symlink", "mkdir")),
]


class User:
    """Does one thing before the n-th step of the program; in a thread, for a lease can make him wait."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, live: Path, does: list[tuple[int, Callable[[Path], Thing]]]
    ) -> None:
        self.live, self.does, self.steps = live, does, 0
        self.wrote: list[Thing] = []
        self.threads: list[threading.Thread] = []
        self.program = threading.get_ident()
        for module, name in STEPS:
            monkeypatch.setattr(module, name, self._step(getattr(module, name)))

    def _step(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **named: Any) -> Any:
            if threading.get_ident() == self.program:
                for at, what in self.does:
                    if at == self.steps:
                        thread = threading.Thread(target=self._act, args=(what,))
                        self.threads.append(thread)
                        thread.start()
                        thread.join(0.05)  # he waits for us, not we for him
                self.steps += 1
            return real(*arguments, **named)

        return step

    def _act(self, what: Callable[[Path], Thing]) -> None:
        with suppress(OSError):  # a link cannot be written in place, and so on: then he did nothing
            self.wrote.append(what(self.live))

    def rest(self) -> None:
        """Wait until he is done."""
        for thread in self.threads:
            thread.join(60)
            assert not thread.is_alive()


def race(live: Path, old: Thing, new: Thing, does: list[tuple[int, Callable[[Path], Thing]]]) -> tuple[int, str]:
    """Apply once with a user at work; return how many steps it took and what was broken, "" for nothing."""
    shutil.rmtree(paths.under("/srv"))
    shutil.rmtree(paths.under("/var"), ignore_errors=True)
    live.parent.mkdir(parents=True)
    old.make(live)
    change = decided(new)
    with pytest.MonkeyPatch.context() as patch:
        user = User(patch, live, does)
        trusted, ended = "", "applied"
        try:
            apply.apply(FILES, change)
            trusted = apply.signature(FILES, change)
        except (Fail, OSError) as error:
            ended = f"{type(error).__name__}: {error}"
        user.rest()
    return user.steps, judge(live, change, old, new, user.wrote, trusted, ended)


def judge(live: Path, change: Decided, old: Thing, new: Thing, wrote: list[Thing], trusted: str, ended: str) -> str:
    now, copies = see(live), kept()
    if now not in {old, new, NOTHING, *wrote}:
        return f"{ended}: {now} is live, which nobody wrote"
    if wrote and wrote[-1].kind != "nothing" and wrote[-1] != now and wrote[-1] not in copies:
        return f"{ended}: the user's {wrote[-1]} is lost, {now} is live"
    if old.kind in ("file", "link") and old != now and old not in copies:
        return f"{ended}: {old} was not kept"
    if not wrote and ended == "applied" and now != new:
        return f"{ended}: {now} is live"
    if ended == "applied" and trusted_wrongly(change, trusted):
        return f"{ended}: {now} would be taken for agreed"
    if not ended.startswith(("applied", "Unsettled", "Impossible")):
        return f"{ended}: what a user does is no failure, to be logged and retried in a minute"
    if ended != "applied" and new.kind != "nothing" and new not in (old, now) and new in copies:
        return f"{ended}: {new} is a generation, and was never live"
    apply.recover(FILES, LIVE)
    left = [name for name in inbox(live) if name != "staged"]
    return f"{ended}: {left} left in the inbox" if left else ""


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


# With a user in a tight loop


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


# A directory swapped for a link (P10)


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


# A crash at any step


class Killed(BaseException):
    """Stands for kill -9: nothing of ours runs after it, so it must not be caught, and `finally` only closes files."""


@pytest.mark.parametrize("what", CHANGES)
def test_a_crash_at_any_step_leaves_one_whole_content_and_loses_none(live: Path, what: str) -> None:
    old, new = CHANGES[what]
    crash_at_any_step(live, old, new, (old, new))


@pytest.mark.parametrize("what", CHANGES)
def test_a_crash_at_any_step_loses_no_content_without_exchange(live: Path, no_flags: None, what: str) -> None:
    old, new = CHANGES[what]
    absent = (NOTHING,) if FOLDER in (old, new) else ()  # a directory cannot take a file's place in one step
    crash_at_any_step(live, old, new, (old, new, *absent))


def crash_at_any_step(live: Path, old: Thing, new: Thing, leaves: tuple[Thing, ...]) -> None:
    steps, _ = race(live, old, new, [])
    for at in range(steps):
        race(live, NOTHING, NOTHING, [])  # a clean start
        old.make(live)
        change = decided(new)

        with pytest.MonkeyPatch.context() as patch:
            killer = Killer(patch, at)
            with suppress(Killed):
                apply.apply(FILES, change)
            assert killer.steps
        assert see(live) in leaves, f"step {at}: {see(live)}"
        apply.apply(FILES, decided(new))
        assert see(live) == new, f"step {at}"
        wanted = {thing for thing in (old, new) if thing.kind in ("file", "link")}
        assert wanted <= kept(), f"step {at}"
        assert [name for name in inbox(live) if name != "staged"] == []


class Killer:
    """Ends the program before its n-th step and lets nothing of it run on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
        self.at, self.steps = at, 0
        for module, name in STEPS:
            monkeypatch.setattr(module, name, self._step(getattr(module, name)))

    def _step(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **named: Any) -> Any:
            if self.steps >= self.at:
                self.steps += 1
                raise Killed
            self.steps += 1
            return real(*arguments, **named)

        return step

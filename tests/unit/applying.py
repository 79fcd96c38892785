"""What stands at a path, how it is made and applied, and a user who acts between two steps."""

import hashlib
import os
import shutil
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from hotpair import apply, beneath, keep, meta, paths, quiet, scan
from hotpair.exits import Fail
from hotpair.filesset import FilesSet
from hotpair.scan import State
from hotpair.stage import Decided

LIVE = "/srv/d/f"
FILES = FilesSet("demo", ("/srv/d/*",), 10**6, "store", 0.0, "newest")
STAGE = f"{apply.stage_directory(FILES, LIVE)}/staged"
OLD, NEW = b"the old content\n", b"the new content\n"
AGE = 10**18


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


FILE, LINK = Thing("file", OLD), Thing("link", b"to")
FOLDER, FULL, NOTHING = Thing("directory"), Thing("directory", b"entry"), Thing("nothing")
NEW_FILE, NEW_LINK = Thing("file", NEW), Thing("link", b"elsewhere")
# With a user between any two steps

USERS = Thing("file", b"what a user wrote meanwhile\n")
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

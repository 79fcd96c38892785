"""What both nodes last agreed on, and what is owed: SQLite at var/lib/hotpair/archive.db.

One `Archive` speaks for one set with one peer. Everything that must be true together is written in one transaction:
"agreed, and these commands are owed". WAL with synchronous=FULL: a commit that returned survives a power cut.
"""

import json
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from hotpair import paths, scan
from hotpair.scan import State

SCHEMA = """
CREATE TABLE path (peer TEXT, set_name TEXT, folder BLOB, name BLOB, agreed TEXT, seen TEXT, signature TEXT,
    inode TEXT, from_peer INTEGER, PRIMARY KEY (peer, set_name, folder, name)) WITHOUT ROWID;
CREATE INDEX path_inode ON path (peer, set_name, inode) WHERE inode != '';
CREATE INDEX path_pending ON path (peer, set_name) WHERE seen IS NOT '=';
CREATE TABLE fact (peer TEXT, set_name TEXT, key TEXT, value REAL, PRIMARY KEY (peer, set_name, key)) WITHOUT ROWID;
CREATE TABLE problem (peer TEXT, set_name TEXT, path BLOB, kind TEXT, since REAL, attempts INTEGER, due REAL,
    subject TEXT, detail TEXT, PRIMARY KEY (peer, set_name, path, kind)) WITHOUT ROWID;
CREATE TABLE content (path BLOB, digest BLOB, node TEXT, seen_at REAL, PRIMARY KEY (path, digest)) WITHOUT ROWID;
CREATE TABLE owed (id INTEGER PRIMARY KEY, set_name TEXT, section TEXT, path BLOB, since REAL,
    attempts INTEGER DEFAULT 0, due REAL DEFAULT 0, failure TEXT DEFAULT '');
CREATE UNIQUE INDEX owed_once ON owed (section, set_name, path);
PRAGMA user_version = 2;
"""


class Row(NamedTuple):
    """What is known of a path. `seen` is the live state last looked at, under `signature` ("" when not trusted)."""

    agreed: State | None = None
    seen: State | None = None
    signature: str = ""
    from_peer: bool = False  # the last agreement came from the peer, who may not have heard that we applied it


class Problem(NamedTuple):
    """Something a person should know of a path: kind is "conflict", "held", "failed" or "unsupported"."""

    path: str
    kind: str
    since: float
    attempts: int
    due: float
    subject: str  # digest the problem is about; another content is another attempt
    detail: str


SAME = "="  # in the column `seen`: as agreed
_WHOSE = "peer = ? AND set_name = ?"
_COLUMNS = "agreed, seen, signature, from_peer"


def _dump(state: State | None) -> str | None:
    return None if state is None else json.dumps(state)


def _load(text: str | None) -> State | None:
    return None if text is None else scan.from_json(json.loads(text))


def row_of(agreed: str | None, seen: str | None, signature: str, from_peer: int) -> Row:
    """Return the row that the database's columns stand for."""
    state = _load(agreed)
    return Row(state, state if seen == SAME else _load(seen), signature, bool(from_peer))


def _inode(signature: str) -> str:
    return " ".join(signature.split(" ", 2)[:2]) if " " in signature else ""


def _split(path: str) -> tuple[bytes, bytes]:
    folder, _, name = os.fsencode(path).rpartition(b"/")
    return folder, name


def _range(path: str) -> tuple[bytes, bytes, bytes]:
    """Return a directory, and between which two all folders below it are sorted ("0" comes after "/")."""
    folder = os.fsencode(path)
    return folder, folder + b"/", folder + b"0"


def _join(folder: bytes, name: bytes) -> str:
    return os.fsdecode(folder + b"/" + name)


def connect() -> sqlite3.Connection:
    """Open the database, made on first use. Waits up to 60 s for another process's transaction.

    A file that is there is opened by SQLite alone: closing a descriptor of our own would drop the locks by which other
    processes see that this one still uses the log (fcntl(2); https://sqlite.org/howtocorrupt.html, 2.2).
    """
    file = paths.make_private(paths.state()) + "/archive.db"
    with suppress(FileExistsError):
        os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    db = sqlite3.connect(file, timeout=60, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    if not _made(db):
        with transaction(db):
            for statement in SCHEMA.split(";") if not _made(db) else ():
                db.execute(statement)
    return db


def _made(db: sqlite3.Connection) -> bool:
    return bool(db.execute("PRAGMA user_version").fetchone()[0])


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """All or nothing of what is written inside; a transaction inside another is part of it."""
    if db.in_transaction:
        yield
        return
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


class Archive:
    """The rows of one set with one peer."""

    def __init__(self, db: sqlite3.Connection, peer: str, set_name: str) -> None:
        self.db, self.set_name = db, set_name
        self._key = (peer, set_name)

    def version(self) -> int:
        """Return a number that changes once any other process has written to the archive (PRAGMA data_version)."""
        return int(self.db.execute("PRAGMA data_version").fetchone()[0])

    def in_memory(self) -> "Archive":
        """Return a copy that can be written to without a trace."""
        copy = sqlite3.connect(":memory:", isolation_level=None)
        self.db.backup(copy)
        return Archive(copy, *self._key)

    def rows(self) -> dict[str, Row]:
        """Return what is known of every path of the set."""
        found = self.db.execute(f"SELECT folder, name, {_COLUMNS} FROM path WHERE {_WHOSE}", self._key)
        return {_join(folder, name): row_of(*row) for folder, name, *row in found}

    def row(self, path: str) -> Row:
        found = self.db.execute(
            f"SELECT {_COLUMNS} FROM path WHERE {_WHOSE} AND folder = ? AND name = ?", (*self._key, *_split(path))
        ).fetchone()
        return Row() if found is None else row_of(*found)

    def agreed(self, path: str) -> State | None:
        """Return the state of a path that both nodes last had."""
        return self.row(path).agreed

    def put(self, path: str, row: Row, inode: str = "") -> None:
        """Record what is known of a path. inode: where the signature is not to be trusted and does not tell it."""
        agreed = _dump(row.agreed)
        seen = SAME if row.seen == row.agreed else _dump(row.seen)
        self.db.execute(
            "REPLACE INTO path VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*self._key, *_split(path), agreed, seen, row.signature, inode or _inode(row.signature), row.from_peer),
        )

    def distrust(self) -> None:
        """Have every path looked at again, whatever its signature."""
        self.db.execute(f"UPDATE path SET signature = '' WHERE {_WHOSE} AND signature != '-'", self._key)

    def disown(self) -> None:
        """Take no row for one that the peer sent and knows of."""
        self.db.execute(f"UPDATE path SET from_peer = 0 WHERE {_WHOSE} AND from_peer", self._key)

    def forget(self, path: str) -> None:
        """Drop a path that is absent on both nodes."""
        self.db.execute(f"DELETE FROM path WHERE {_WHOSE} AND folder = ? AND name = ?", (*self._key, *_split(path)))

    def folder(self, folder: str) -> dict[str, tuple[str | None, str | None, str, int]]:
        """Return what is known of the entries of one folder by name, as `row_of` takes it: most are never parsed."""
        found = self.db.execute(
            f"SELECT name, {_COLUMNS} FROM path WHERE {_WHOSE} AND folder = ?", (*self._key, os.fsencode(folder))
        )
        return {os.fsdecode(name): tuple(row) for name, *row in found}

    def below(self, path: str) -> dict[str, Row]:
        """Return what is known of every path below a directory, parents first."""
        found = self.db.execute(
            f"SELECT folder, name, {_COLUMNS} FROM path WHERE {_WHOSE} AND (folder = ? OR folder > ? AND folder < ?)"
            " ORDER BY folder, name",
            (*self._key, *_range(path)),
        )
        return {_join(folder, name): row_of(*row) for folder, name, *row in found}

    def pending(self) -> dict[str, Row]:
        """Return the paths whose live state, as last looked at, is not the agreed one."""
        found = self.db.execute(
            f"SELECT folder, name, {_COLUMNS} FROM path INDEXED BY path_pending WHERE {_WHOSE} AND seen IS NOT '='",
            self._key,
        )
        return {_join(folder, name): row_of(*row) for folder, name, *row in found}

    def by_inode(self, inode: str) -> list[str]:
        """Return the paths that were last seen on an inode ("DEVICE INODE")."""
        found = self.db.execute(
            f"SELECT folder, name FROM path WHERE {_WHOSE} AND inode = ? AND inode != ''", (*self._key, inode)
        )
        return [_join(folder, name) for folder, name in found]

    def count(self) -> int:
        """Return how many paths both nodes agreed that there are."""
        found = self.db.execute(f"SELECT count(*) FROM path WHERE {_WHOSE} AND agreed IS NOT NULL", self._key)
        return int(found.fetchone()[0])

    def move(self, old: str, new: str) -> list[str]:
        """Give a directory and all below it another path, as rename(2) does. Returns what rows were moved from and to:
        the directory and each folder below it that has any.
        """
        folders = self.db.execute(
            f"SELECT DISTINCT folder FROM path WHERE {_WHOSE} AND (folder = ? OR folder > ? AND folder < ?)",
            (*self._key, *_range(old)),
        ).fetchall()
        for (folder,) in folders:
            moved = os.fsencode(new) + folder[len(os.fsencode(old)) :]
            self.db.execute(f"DELETE FROM path WHERE {_WHOSE} AND folder = ?", (*self._key, moved))
            self.db.execute(f"UPDATE path SET folder = ? WHERE {_WHOSE} AND folder = ?", (moved, *self._key, folder))
        row = self.row(old)
        self.forget(old)
        self.put(new, row)
        below = [os.fsdecode(folder)[len(old) :] for (folder,) in folders]
        return [top + path for path in {"", *below} for top in (old, new)]

    def fact(self, key: str) -> float:
        """Return a number kept for the set (times in seconds since the epoch); 0 when never recorded."""
        found = self.db.execute(
            "SELECT value FROM fact WHERE peer = ? AND set_name = ? AND key = ?", (*self._key, key)
        ).fetchone()
        return float(found[0]) if found else 0.0

    def note(self, key: str, value: float) -> None:
        self.db.execute("REPLACE INTO fact VALUES (?, ?, ?, ?)", (*self._key, key, value))

    def origin(self, path: str, digest: str, node: str) -> None:
        """Record which node a content was first seen on; the first word stands."""
        row = (os.fsencode(path), os.fsencode(digest), node, time.time())
        self.db.execute("INSERT OR IGNORE INTO content VALUES (?, ?, ?, ?)", row)

    def first_seen(self, path: str, digest: str) -> tuple[str, float]:
        """Return the node on which a content was first seen and when; "" and 0 when that is not known."""
        found = self.db.execute(
            "SELECT node, seen_at FROM content WHERE path = ? AND digest = ?", (os.fsencode(path), os.fsencode(digest))
        ).fetchone()
        return (str(found[0]), float(found[1])) if found else ("", 0.0)

    def problems(self, *kinds: str) -> list[Problem]:
        """Return what a person should know of the set, the oldest first: of these kinds, or of all."""
        of_kind = f"AND kind IN ({', '.join('?' * len(kinds))})" if kinds else ""
        found = self.db.execute(
            f"SELECT path, kind, since, attempts, due, subject, detail FROM problem WHERE {_WHOSE} {of_kind}"
            " ORDER BY since",
            (*self._key, *kinds),
        )
        return [Problem(os.fsdecode(path), *rest) for path, *rest in found]

    def problem(self, path: str, kind: str, subject: str, detail: str, due: float = 0.0) -> bool:
        """Record a problem, or one more attempt at it; return whether it is new, so that it is said only once."""
        key = (*self._key, os.fsencode(path), kind)
        detail = detail.encode("utf-8", "backslashreplace").decode()  # a name in it may be any bytes
        old = self.db.execute(
            "SELECT since, attempts FROM problem WHERE peer = ? AND set_name = ? AND path = ? AND kind = ?"
            " AND subject = ?",
            (*key, subject),
        ).fetchone()
        since, attempts = old or (time.time(), 0)
        self.db.execute(
            "REPLACE INTO problem VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*key, since, attempts + 1, due, subject, detail),
        )
        return old is None

    def solved(self, path: str, *kinds: str) -> None:
        """Drop the problems of these kinds that a path has."""
        self.db.execute(
            f"DELETE FROM problem WHERE {_WHOSE} AND path = ? AND kind IN ({', '.join('?' * len(kinds))})",
            (*self._key, os.fsencode(path), *kinds),
        )

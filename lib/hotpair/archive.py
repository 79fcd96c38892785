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
CREATE TABLE path (peer TEXT, set_name TEXT, path BLOB, agreed TEXT, seen TEXT, signature TEXT, from_peer INTEGER,
    PRIMARY KEY (peer, set_name, path)) WITHOUT ROWID;
CREATE TABLE fact (peer TEXT, set_name TEXT, key TEXT, value REAL, PRIMARY KEY (peer, set_name, key)) WITHOUT ROWID;
CREATE TABLE problem (peer TEXT, set_name TEXT, path BLOB, kind TEXT, since REAL, attempts INTEGER, due REAL,
    subject TEXT, detail TEXT, PRIMARY KEY (peer, set_name, path, kind)) WITHOUT ROWID;
CREATE TABLE content (path BLOB, digest BLOB, node TEXT, seen_at REAL, PRIMARY KEY (path, digest)) WITHOUT ROWID;
CREATE TABLE owed (id INTEGER PRIMARY KEY, set_name TEXT, section TEXT, path BLOB, since REAL,
    attempts INTEGER DEFAULT 0, due REAL DEFAULT 0, failure TEXT DEFAULT '');
CREATE UNIQUE INDEX owed_once ON owed (section, set_name, path);
PRAGMA user_version = 1;
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


def _dump(state: State | None) -> str | None:
    return None if state is None else json.dumps(state)


def _load(text: str | None) -> State | None:
    return None if text is None else scan.from_json(json.loads(text))


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
    with transaction(db):
        if db.execute("PRAGMA user_version").fetchone()[0] == 0:
            for statement in SCHEMA.split(";"):
                db.execute(statement)
    return db


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

    def rows(self) -> dict[str, Row]:
        """Return what is known of every path of the set."""
        found = self.db.execute(
            "SELECT path, agreed, seen, signature, from_peer FROM path WHERE peer = ? AND set_name = ?", self._key
        )
        return {os.fsdecode(p): Row(_load(a), _load(s), sig, bool(f)) for p, a, s, sig, f in found}

    def row(self, path: str) -> Row:
        found = self.db.execute(
            "SELECT agreed, seen, signature, from_peer FROM path WHERE peer = ? AND set_name = ? AND path = ?",
            (*self._key, os.fsencode(path)),
        ).fetchone()
        return Row() if found is None else Row(_load(found[0]), _load(found[1]), found[2], bool(found[3]))

    def put(self, path: str, row: Row) -> None:
        """Record what is known of a path."""
        values = (_dump(row.agreed), _dump(row.seen), row.signature, row.from_peer)
        self.db.execute("REPLACE INTO path VALUES (?, ?, ?, ?, ?, ?, ?)", (*self._key, os.fsencode(path), *values))

    def forget(self, path: str) -> None:
        """Drop a path that is absent on both nodes."""
        self.db.execute(
            "DELETE FROM path WHERE peer = ? AND set_name = ? AND path = ?", (*self._key, os.fsencode(path))
        )

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

    def problems(self) -> list[Problem]:
        found = self.db.execute(
            "SELECT path, kind, since, attempts, due, subject, detail FROM problem WHERE peer = ? AND set_name = ?"
            " ORDER BY since",
            self._key,
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
        for kind in kinds:
            self.db.execute(
                "DELETE FROM problem WHERE peer = ? AND set_name = ? AND path = ? AND kind = ?",
                (*self._key, os.fsencode(path), kind),
            )

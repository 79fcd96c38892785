"""What is committed to the archive stays, whoever else opens and closes it meanwhile."""

import subprocess
import sys

import pytest

from hotpair import archive, paths
from hotpair.archive import Row
from hotpair.scan import State

VISIT = "import sqlite3, sys; db = sqlite3.connect(sys.argv[1]); db.execute('SELECT * FROM fact'); db.close()"


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("HOTPAIR_ROOT", str(tmp_path))


def visit() -> None:
    """Let another process read the archive and leave: the last one out removes the write-ahead log."""
    subprocess.run([sys.executable, "-c", VISIT, paths.state("archive.db")], check=True)


# POSIX: closing any descriptor of a file drops all locks that the process has on it (fcntl(2)), and by these locks
# SQLite knows whether somebody else still uses the log that it is about to remove
def test_second_connection_of_a_process_takes_nothing_from_the_first():
    first = archive.Archive(archive.connect(), "ssh:beta", "etc")
    first.note("before", 1.0)
    archive.connect().close()
    visit()
    first.note("after", 2.0)
    fresh = archive.Archive(archive.connect(), "ssh:beta", "etc")
    assert (fresh.fact("before"), fresh.fact("after")) == (1.0, 2.0)


def test_archive_is_made_for_root_alone(tmp_path):
    archive.connect().close()
    assert (tmp_path / "var/lib/hotpair/archive.db").stat().st_mode & 0o777 == 0o600


# a sweep that finds nothing asks this on both nodes: 100,000 rows that are as agreed are not to be read for it
def test_what_is_pending_is_found_without_reading_what_is_as_agreed():
    db, asked = archive.connect(), []
    rows = archive.Archive(db, "ssh:beta", "data")
    state = State("directory", 0, 0o755, 0, 0, 0, "", ())
    rows.put("/srv/agreed", Row(state, state, "1 2 3 4 5"))
    rows.put("/srv/new", Row(None, state, "1 3 3 4 5"))
    db.set_trace_callback(asked.append)
    assert list(rows.pending()) == ["/srv/new"]
    plan = db.execute(f"EXPLAIN QUERY PLAN {asked[0]}").fetchall()
    assert "USING INDEX path_pending" in plan[0][3]

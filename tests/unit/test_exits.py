"""What a person is told of a failure that no program expected, and the exit code."""

import os
import sqlite3
import sys
from pathlib import Path

import pytest

from hotpair import log
from hotpair.exits import guard


def told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], failure: Exception) -> tuple[int, str]:
    def main(_: object) -> int:
        raise failure

    monkeypatch.setattr(log, "person", True)
    monkeypatch.setattr(sys, "argv", ["psync"])
    return guard(main), capsys.readouterr().err


@pytest.mark.parametrize("user, remedy", [(1000, "run as root"), (0, "see `lsattr`: it is kept even from root")])
def test_what_may_not_be_touched_is_named_with_who_may(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], user: int, remedy: str
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    found = told(monkeypatch, capsys, PermissionError(13, "Permission denied", "/a\nb"))
    assert found == (os.EX_NOPERM, f"psync: /a\\nb: Permission denied: {remedy}\n")


def test_a_database_that_another_program_holds_too_long_is_no_error_of_the_program(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = told(monkeypatch, capsys, sqlite3.OperationalError("database is locked"))
    assert code == os.EX_TEMPFAIL and "tried again" in said


def test_a_database_that_is_damaged_is_named_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "archive.db").write_text("not SQLite's" * 100)
    with pytest.raises(sqlite3.DatabaseError) as damaged:
        sqlite3.connect(tmp_path / "archive.db").execute("PRAGMA user_version")
    code, said = told(monkeypatch, capsys, damaged.value)
    assert code == os.EX_IOERR and "archive.db: file is not a database: move it away" in said

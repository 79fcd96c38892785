"""Beneath: directories that are entered, and made, one component at a time."""

import os
from pathlib import Path

import pytest

from hotpair import beneath


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOTPAIR_ROOT", str(tmp_path))
    return tmp_path


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_an_inbox_that_cannot_be_made_leaves_nothing_open(root: Path) -> None:
    before = open_files()
    with beneath.place("/f") as at, pytest.raises(OSError):
        beneath.inbox(at, "a name that is too long for any file system".ljust(300, "."))
    assert open_files() == before

"""Payload: what is sent when a user was faster than we."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from hotpair import payload
from hotpair.filesset import FilesSet
from hotpair.wire import Wire

FILES = FilesSet("demo", ("/f",), 6, "store", 0.0, "newest")
KEPT = "var/lib/hotpair/generations/0/f"
INSTEAD: dict[str, Callable[[Path], object]] = {
    "nothing": lambda path: None,
    "a directory": lambda path: path.mkdir(),
    "a link": lambda path: path.symlink_to("/etc/passwd"),
    "a pipe": os.mkfifo,
}


@pytest.mark.parametrize("instead", INSTEAD)
def test_no_content_is_sent_of_what_is_no_file_any_more(
    instead: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOTPAIR_ROOT", str(tmp_path))
    (tmp_path / KEPT).parent.mkdir(parents=True)
    INSTEAD[instead](tmp_path / KEPT)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        payload.send_small(Wire(ours.fileno(), ours.fileno(), 5.0), FILES, "/f", 9)
        assert theirs.recv(99) == b"0\n"

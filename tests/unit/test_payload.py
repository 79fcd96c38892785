"""Payload: what is sent when a user was faster than we."""

import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from hotpair import payload, scan
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


def test_a_content_that_a_failing_disk_does_not_take_is_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(fd: int, data: bytes) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setenv("HOTPAIR_ROOT", str(tmp_path))
    monkeypatch.setattr(scan, "write_sparse", failing)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b'3\nabc3\ndef0\n{"bye": true}\n')
        wire = Wire(ours.fileno(), ours.fileno(), 5.0)
        with pytest.raises(payload.Unstaged, match="cannot be staged: Input/output error"):
            payload.receive_small(wire, "/staged", 6)
        assert wire.receive() == {"bye": True}
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("full", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_ends_the_conversation(full: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(fd: int, data: bytes) -> None:
        raise OSError(full, os.strerror(full))

    monkeypatch.setenv("HOTPAIR_ROOT", str(tmp_path))
    monkeypatch.setattr(scan, "write_sparse", failing)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"3\nabc0\n")
        with pytest.raises(OSError):
            payload.receive_small(Wire(ours.fileno(), ours.fileno(), 5.0), "/staged", 3)
    assert os.listdir(tmp_path) == []

"""Fixtures: a live path in a prefix of its own, a file system that knows no flags, a configuration to be written."""

import errno
import os
from pathlib import Path

import pytest

from hotpair import beneath
from tests.unit.written import Write


@pytest.fixture
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


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Return a function that makes the configuration of a prefix and returns its file."""
    monkeypatch.setenv("HOTPAIR_ROOT", str(tmp_path))
    tmp_path.chmod(0o755)
    for directory in ("etc", "etc/hotpair"):
        (tmp_path / directory).mkdir(mode=0o755)

    def write(text: str) -> Path:
        file = tmp_path / "etc/hotpair/hotpair.ini"
        file.write_text(text)
        file.chmod(0o644)
        return file

    return write

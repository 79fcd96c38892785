"""Beneath: directories that are entered, and made, one component at a time."""

import gc
import os
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from hotpair import apply, beneath, descend, keep, scan
from hotpair.filesset import FilesSet

FILES = FilesSet("demo", ("/srv/*",), 6, "store", 0.0, "newest")


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOTPAIR_ROOT", str(tmp_path))
    return tmp_path


def open_files() -> int:
    gc.collect()  # what other tests left open is not to be closed between two counts
    return len(os.listdir("/proc/self/fd"))


def test_an_inbox_that_cannot_be_made_leaves_nothing_open(root: Path) -> None:
    before = open_files()
    with beneath.place("/f") as at, pytest.raises(OSError):
        beneath.inbox(at, "a name that is too long for any file system".ljust(300, "."))
    assert open_files() == before


@pytest.fixture
def deep(root: Path) -> Iterator[str]:
    """A path of more directories than Python calls itself, and of more bytes than one call to the kernel takes."""
    try:
        yield "/srv" + "/directory" * 1100
    finally:
        subprocess.run(["rm", "-rf", *root.iterdir()], check=True)  # pytest's own removal calls itself at each


def test_parents_are_made_at_any_depth(deep: str) -> None:
    apply.make_parents(FILES, f"{deep}/f", lambda _: None)
    with beneath.place(f"{deep}/f") as at:
        assert os.fstat(at.fd).st_mode & 0o777 == 0o755


def test_generations_are_kept_at_any_depth(deep: str) -> None:
    apply.make_parents(FILES, f"{deep}/f", lambda _: None)
    for text in (b"one", b"two"):
        with beneath.place(f"{deep}/f") as at:
            fd = os.open(at.name, os.O_WRONLY | os.O_CREAT, dir_fd=at.fd)
            os.write(fd, text)
            os.close(fd)
        keep.present(FILES, f"{deep}/f", scan.look(f"{deep}/f")[0], f"{deep}/f")
    with beneath.place(keep.slot(FILES, f"{deep}/f", 1)) as at:
        fd = beneath.open_read(at)
        assert os.read(fd, 9) == b"one"
        assert os.fstat(at.fd).st_mode & 0o777 == 0o700
        os.close(fd)


def test_directory_that_is_a_link_is_neither_entered_nor_made_anew(root: Path) -> None:
    (root / "outside").mkdir()
    (root / "link").symlink_to("outside")
    before = open_files()
    with pytest.raises(NotADirectoryError):
        descend.open_directory("/link/d", partial(beneath.make_directory, 0o700))
    assert list((root / "outside").iterdir()) == [] and open_files() == before

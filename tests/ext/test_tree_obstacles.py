"""What stands in the way of one path of a tree, or of one set, holds up nothing else, and is not called in sync."""

import os
import shutil
import socket
import sqlite3

import pytest

from hotpair import archive, exits, folder, locks, scan
from hotpair.cmd import hotpair as person
from hotpair.cmd import psync
from tests.ext.trees import SETS, Trees, fill


def test_entry_that_root_may_not_look_at_keeps_nothing_else_from_crossing(tmp_path, monkeypatch):
    trees = Trees(tmp_path)
    fill(trees.alpha, "anna/mnt/x", "bert/f")
    trees.sync()
    fill(trees.alpha, "bert/new")
    monkeypatch.setenv("HOTPAIR_ROOT", str(trees.alpha.root))
    real = os.scandir

    class Entry:  # as the kernel answers root about a mount by FUSE without allow_other
        def __init__(self, entry):
            self.name, self.is_dir, self._stat = entry.name, entry.is_dir, entry.stat

        def stat(self, follow_symlinks=True):
            if self.name == "mnt":
                raise PermissionError(13, "Permission denied", self.name)
            return self._stat(follow_symlinks=follow_symlinks)

    class Scan:
        def __init__(self, fd):
            self.entries = real(fd)

        def __enter__(self):
            return map(Entry, self.entries)

        def __exit__(self, *_):
            self.entries.close()

    monkeypatch.setattr(folder.os, "scandir", Scan)
    psync.main(["--cron"])
    assert trees.beta.live("/srv/data/bert/new").exists()
    assert trees.beta.live("/srv/data/anna/mnt/x").exists()


@pytest.mark.parametrize("how", ["gone", "a link"])
def test_part_that_is_asked_about_and_is_no_directory_any_more_is_not_called_in_sync(tmp_path, how):
    trees = Trees(tmp_path)
    fill(trees.alpha, "a/b/f", "elsewhere/f")
    trees.sync()
    shutil.rmtree(trees.alpha.live("/srv/data/a"))
    if how == "a link":
        trees.alpha.live("/srv/data/a").symlink_to("elsewhere")
    said = trees.alpha.run("psync", "/srv/data/a" if how == "a link" else "/srv/data/a/b/f")
    assert said.code or not trees.beta.live("/srv/data/a/b/f").exists(), said


def test_set_at_work_keeps_no_other_from_its_sweep(tmp_path, monkeypatch):
    trees = Trees(tmp_path, SETS + "[tree other]\nroot = /srv/other\n")
    for node in trees.nodes:
        node.live("/srv/other").mkdir()
    assert trees.alpha.run("psync").code == 0
    fill(trees.alpha, "../other/f")
    monkeypatch.setenv("HOTPAIR_ROOT", str(trees.alpha.root))
    monkeypatch.setattr(psync, "WAIT", 0.2)
    held = locks.try_run("data")
    monkeypatch.setattr("sys.argv", ["psync", "--cron"])
    code = exits.guard(psync.main)
    os.close(held)
    assert code == os.EX_TEMPFAIL
    assert trees.beta.live("/srv/other/f").exists()


@pytest.mark.parametrize("maker", ["alpha", "beta"])
def test_socket_in_place_of_a_file_is_left_and_so_is_the_file(tmp_path, maker):
    trees = Trees(tmp_path)
    fill(getattr(trees, maker), "f", "g")
    trees.sync()
    trees.alpha.live("/srv/data/f").unlink()
    with socket.socket(socket.AF_UNIX) as service:
        service.bind(f"/proc/self/fd/{os.open(trees.alpha.live('/srv/data'), os.O_PATH)}/f")
    assert "skip /srv/data/f" in trees.alpha.run("psync", "--dry-run").out
    print(trees.alpha.run("psync"), trees.beta.run("psync"))
    assert trees.alpha.live("/srv/data/f").is_socket()
    assert trees.beta.live("/srv/data/f").is_file()


def test_hashing_holds_up_no_other_set(tmp_path, monkeypatch):
    trees = Trees(tmp_path)
    trees.sync()
    fill(trees.alpha, "dump")
    monkeypatch.setenv("HOTPAIR_ROOT", str(trees.alpha.root))
    digest, connect, codes = scan.digest_of, sqlite3.connect, []

    def slow(fd, copy_to=None):  # as 60 s of reading
        monkeypatch.setattr(archive.sqlite3, "connect", lambda *a, **k: connect(*a, **{**k, "timeout": 0.1}))
        monkeypatch.setattr("sys.argv", ["hotpair", "status"])
        codes.append(exits.guard(person.main))
        return digest(fd, copy_to)

    monkeypatch.setattr(scan, "digest_of", slow)
    psync.main(["--cron"])
    assert os.EX_SOFTWARE not in codes


def test_name_forges_no_line_of_a_check(tmp_path):
    trees = Trees(tmp_path)
    fill(trees.alpha, "a\nforged/f")
    trees.sync()
    said = trees.alpha.run("psync", "--check", "/srv/data/a\nforged")
    assert said.out.count("\n") == 1, said

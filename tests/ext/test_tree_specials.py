"""FIFOs and devices in a tree: carried where specials = yes, never opened; listed and left alone where not."""

import os
import socket
import stat
from pathlib import Path

import pytest

from hotpair import plausible
from hotpair.scan import State
from tests.ext.trees import Trees, fill

NULL = os.makedev(1, 3)
YES = "[tree data]\nroot = /srv/data\nspecials = yes\n"


def facts(path: Path) -> tuple[int, int, int, int, int]:
    seen = path.lstat()
    return stat.S_IFMT(seen.st_mode), stat.S_IMODE(seen.st_mode), seen.st_uid, seen.st_gid, seen.st_rdev


@pytest.fixture
def pair(tmp_path: Path) -> Trees:
    pair = Trees(tmp_path, YES)
    fill(pair.alpha, "f", "stays", "more")
    os.mkfifo(pair.alpha.live("/srv/data/pipe"))
    pair.alpha.live("/srv/data/pipe").chmod(0o620)
    try:
        os.mknod(pair.alpha.live("/srv/data/null"), stat.S_IFCHR | 0o600, NULL)
    except PermissionError:
        pytest.skip("nobody here may make devices")
    synced(pair)
    return pair


def synced(pair: Trees) -> None:
    said = pair.alpha.run("psync")
    assert (said.code, said.out.partition(",")[0]) == (0, "data: in sync"), said
    roots = [node.root / "srv/data" for node in pair.nodes]
    assert sorted(os.listdir(roots[0])) == sorted(os.listdir(roots[1]))
    for name in os.listdir(roots[0]):
        if name != ".hotpair":
            assert facts(roots[0] / name) == facts(roots[1] / name)


@pytest.mark.parametrize(
    "value", ["", "1:3", "p:1:3", "c:1", "c:1:3:5", "c:-1:3", "c:01:3", "c:1:3\n", "c:10000:3", "c:a:b"]
)
def test_device_that_cannot_be_is_not_plausible(value):
    null = State("device", 0, 0o600, 0, 0, 0, "c:1:3", ())
    assert plausible.state(null)
    assert not plausible.state(null._replace(digest=value))
    assert not plausible.state(null._replace(mtime_ns=1))
    assert not plausible.state(null._replace(kind="fifo"))


def test_pipes_and_devices_cross_and_so_do_their_modes_owners_and_removal(pair):
    pipe, null = (pair.beta.live(f"/srv/data/{name}") for name in ("pipe", "null"))
    assert facts(pipe)[:2] == (stat.S_IFIFO, 0o620)
    assert facts(null)[4] == NULL
    assert pair.alpha.run("psync", "--check").code == 0
    pair.alpha.live("/srv/data/pipe").chmod(0o606)
    os.chown(pair.alpha.live("/srv/data/null"), 1234, 1234)
    inode = pipe.stat().st_ino
    synced(pair)
    assert pipe.stat().st_ino == inode
    pair.alpha.live("/srv/data/pipe").unlink()
    synced(pair)
    assert not pipe.exists()


def test_they_become_files_and_files_become_them_and_what_is_replaced_is_kept(pair):
    data = pair.alpha.root / "srv/data"
    (data / "pipe").unlink()
    (data / "pipe").write_text("a file now")
    (data / "f").unlink()
    os.mkfifo(data / "f")
    (data / "null").unlink()
    os.mknod(data / "null", stat.S_IFCHR | 0o600, os.makedev(1, 5))
    synced(pair)
    kept = pair.beta.root / "srv/data/.hotpair/data.kept"
    assert [path.read_text() for path in kept.rglob("*") if path.is_file()] == ["f"]


def test_socket_is_listed_and_left_where_its_server_made_it(pair, monkeypatch):
    monkeypatch.chdir(pair.alpha.root / "srv/data")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
    assert pair.alpha.run("psync").code == 0
    assert not pair.beta.live("/srv/data/socket").exists()
    assert "socket" in pair.alpha.hotpair("status").out


def test_what_was_shared_stays_where_it_is_once_it_is_not(pair):
    for node in pair.nodes:
        node.configure("[tree data]\nroot = /srv/data\n")
    assert pair.alpha.run("psync").code == 0
    pair.alpha.live("/srv/data/pipe").unlink()
    pair.alpha.live("/srv/data/null").chmod(0o666)
    assert pair.alpha.run("psync").code == 0
    assert facts(pair.beta.live("/srv/data/pipe"))[0] == stat.S_IFIFO
    assert facts(pair.beta.live("/srv/data/null"))[1] == 0o600

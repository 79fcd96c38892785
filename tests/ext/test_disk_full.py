"""A full disk on either node: nothing is lost, it is said, and once there is space all goes on by itself."""

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.ext.twonodes import Node, Pair, Said

SIZE = 40 << 20  # bytes of the small disk: more than a content must leave free (judge.SPARE)
LARGE = 4 << 20  # bytes of a content that rsync carries
SMALL = "two, a content that goes in the conversation\n"


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    """Two nodes that agree, each on a small disk of its own, with a second file at hand."""
    if os.geteuid():
        pytest.skip("needs root, to mount small disks")
    pair, mounted = Pair(tmp_path), []
    for node in pair.nodes:
        shutil.copytree(node.root, copy := tmp_path / "copy")
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=0755", "hotpair-test", node.root])
        if done.returncode:
            pytest.skip("cannot mount here")
        mounted.append(node.root)
        shutil.copytree(copy, node.root, dirs_exist_ok=True)
        shutil.rmtree(copy)
    try:
        for node in pair.nodes:
            assert node.hotpair("tables").code == 0
        pair.agree("/srv/a.conf", "one\n")
        pair.agree("/srv/b.txt", "b\n")
        yield pair
    finally:
        for root in mounted:
            subprocess.run(["umount", "--lazy", root], check=True)


def fill(node: Node, leave: int) -> None:
    """Fill a node's disk but for so many bytes."""
    disk = os.statvfs(node.root)
    with (node.root / "filler").open("wb") as out:
        os.posix_fallocate(out.fileno(), 0, disk.f_bavail * disk.f_frsize - leave)
    if not leave:
        assert os.statvfs(node.root).f_bavail == 0


def free(node: Node) -> None:
    (node.root / "filler").unlink()


def said_well(node: Node, said: Said) -> None:
    """A full disk is a thing of every day, no bug of ours."""
    log = node.root / "var/log/hotpair.log"
    for text in (said.out, said.err, log.read_text() if log.exists() else ""):
        assert "internal error" not in text, text
        assert "Traceback" not in text, text


def contents(pair: Pair) -> set[str]:
    """Return what is live or kept on either node."""
    found = set()
    for node in pair.nodes:
        for place in ("srv", "var/lib/hotpair/generations"):
            found |= {path.read_text() for path in (node.root / place).rglob("*") if path.is_file()}
    return found


def clears(pair: Pair, path: str, text: str | None) -> None:
    """With space again, cron's own sweep brings the nodes together and status has no complaint."""
    for node in pair.nodes:
        with sqlite3.connect(node.root / "var/lib/hotpair/archive.db") as db:
            db.execute("UPDATE problem SET due = 0")  # the pause is over
    assert pair.alpha.run("psync", "--cron").code == 0
    for node in pair.nodes:
        live = node.live(path)
        assert (live.read_text() if live.exists() else None) == text
        left = [one for one in (node.root / "srv").rglob(".hotpair/**/*") if one.is_file()]
        assert left == []
        assert list((node.root / "var/lib/hotpair/generations/tmp").glob("*")) == []
    assert pair.beta.run("psync", "--cron").code == 0
    for node in pair.nodes:
        found = node.json("status")
        assert [one for one in found["problems"] if one["kind"] not in ("watch", "event", "conflict")] == []


@pytest.mark.parametrize("leave", [24 << 20, 1 << 20], ids=["less than it must leave free", "less than it takes"])
def test_a_content_that_does_not_fit_on_the_peer_waits(pair: Pair, leave: int) -> None:
    alpha, beta = pair.nodes
    fill(beta, leave)
    large = "x" * (LARGE if leave < LARGE else 3 * LARGE)
    alpha.write("/srv/a.conf", large)
    for _ in range(3):
        said = alpha.sweep()
        assert said.code == os.EX_TEMPFAIL, said
        assert (alpha.text("/srv/a.conf"), beta.text("/srv/a.conf")) == (large, "one\n")
        assert alpha.hotpair("status").code != 0
    said_well(alpha, said)
    assert "disk full" in alpha.hotpair("status").out
    assert alpha.run("syncr", "demo", "0").code == os.EX_TEMPFAIL
    free(beta)
    clears(pair, "/srv/a.conf", large)
    assert "one\n" in contents(pair)


def test_contents_that_fit_one_by_one_and_not_together_hold_up_no_delete(pair: Pair) -> None:
    alpha, beta = pair.nodes
    for node in pair.nodes:
        node.configure("[files demo]\npaths = /srv/*.conf\n")
    pair.agree("/srv/goes.conf", "goes\n")
    fill(beta, (16 << 20) + 2 * LARGE + (LARGE >> 1))
    for name in ("c", "d", "e"):
        alpha.write(f"/srv/{name}.conf", name * LARGE)
    alpha.live("/srv/goes.conf").unlink()
    assert alpha.sweep().code == os.EX_TEMPFAIL
    assert not beta.live("/srv/goes.conf").exists()
    assert sorted(path.name for path in beta.live("/srv").glob("[cde].conf")) == ["c.conf", "d.conf"]
    assert "e.conf: failed" in alpha.hotpair("status").out


def link(live: Path) -> None:
    live.unlink()
    live.symlink_to("b.txt")


CHANGES: dict[str, Callable[[Path], object]] = {
    "a content": lambda live: live.with_name("b.txt").rename(live),
    "a large content": lambda live: live.with_name("large").rename(live),
    "a mode": lambda live: live.chmod(0o600),
    "a delete": lambda live: live.unlink(),
    "a link": link,
}


def after(what: str) -> str | None:
    return {"a content": "b\n", "a large content": "y" * LARGE, "a delete": None, "a link": "b\n"}.get(what, "one\n")


@pytest.mark.parametrize("what", CHANGES)
@pytest.mark.parametrize("which", ["the peer's", "the sender's"])
def test_a_disk_without_a_single_byte_loses_nothing(pair: Pair, what: str, which: str) -> None:
    alpha, beta = pair.nodes
    full = beta if which == "the peer's" else alpha
    alpha.live("/srv/large").write_text("y" * LARGE)  # of no set
    fill(full, 0)
    CHANGES[what](alpha.live("/srv/a.conf"))  # needs no space, as a user's rename does not
    for _ in range(3):
        said = alpha.sweep()
        said_well(alpha, said)
        said_well(beta, said)
        assert said.code in (os.EX_OK, os.EX_TEMPFAIL), said
        assert {"one\n", "b\n"} <= contents(pair) or what == "a mode"
        if said.code != os.EX_OK:
            status = alpha.hotpair("status")
            assert status.code != 0
            said_well(alpha, status)
    event = alpha.run("syncr", "demo", "0")
    said_well(alpha, event)
    assert event.code in (os.EX_OK, os.EX_TEMPFAIL), event
    free(full)
    clears(pair, "/srv/a.conf", after(what))
    assert {"one\n", "b\n"} <= contents(pair)


def test_a_disk_that_fills_up_again_and_again_loses_no_generation(pair: Pair) -> None:
    alpha, beta = pair.nodes
    texts = [f"content {number}\n" for number in range(4)]
    for text in texts:
        alpha.write("/srv/a.conf", text)
        fill(beta, 0)
        said = alpha.sweep()
        said_well(alpha, said)
        said_well(beta, said)
        assert said.code == os.EX_TEMPFAIL, said
        free(beta)
        clears(pair, "/srv/a.conf", text)
    assert {"one\n", *texts} <= contents(pair)


def test_an_event_on_a_full_disk_is_not_lost(pair: Pair) -> None:
    alpha, beta = pair.nodes
    fill(alpha, 0)
    alpha.live("/srv/b.txt").rename(alpha.live("/srv/a.conf"))
    said = alpha.run("syncr", "demo", "0")
    said_well(alpha, said)
    assert said.code == os.EX_TEMPFAIL, said
    free(alpha)
    retried = alpha.run("psync", "--retry")
    if retried.code != 0:
        said_well(alpha, retried)
        clears(pair, "/srv/a.conf", "b\n")
    assert beta.text("/srv/a.conf") == "b\n"

"""A large content holds up nobody: runs leave it aside, and it is carried beside them."""

import os
import shutil
import subprocess
import sys
import time

import pytest

from hotpair import payload, scan
from tests.ext.trees import SETS, Trees, fill
from tests.ext.twonodes import BIN

LARGE = os.urandom(200_000)
# rsync as it is, that waits until it may go on
SLOW = """#!/bin/sh
: > "$(dirname "$0")/started"
until [ -e "$(dirname "$0")/go" ]; do sleep 0.02; done
exec /usr/bin/rsync "$@"
"""


@pytest.fixture
def pair(tmp_path):
    found = Trees(tmp_path)
    for node in found.nodes:
        node.configure(SETS, "large = 100K\n")
    found.sync()
    return found


class SlowLink:
    """An event on a node whose rsync does not get on until it is let go."""

    def __init__(self, node, directory):
        self.directory, self.node = directory, node
        directory.mkdir()
        (directory / "rsync").write_text(SLOW)
        (directory / "rsync").chmod(0o755)

    def event(self):
        environment = {"PATH": f"{self.directory}:{os.environ['PATH']}", "HOTPAIR_ROOT": str(self.node.root)}
        words = [sys.executable, "-IS", str(BIN / "syncr"), "data", "0"]
        self.process = subprocess.Popen(words, env=environment)
        deadline = time.monotonic() + 20
        while not (self.directory / "started").exists():
            assert time.monotonic() < deadline and self.process.poll() is None
            time.sleep(0.01)

    def go(self):
        (self.directory / "go").touch()
        assert self.process.wait(20) == 0


@pytest.fixture
def slow(pair, tmp_path):
    link = SlowLink(pair.alpha, tmp_path / "slow")
    yield link
    (link.directory / "go").touch()
    link.process.wait(20)


def test_small_changes_cross_both_ways_while_a_large_one_is_under_way(pair, slow):
    alpha, beta = pair.nodes
    alpha.live("/srv/data/large").write_bytes(LARGE)
    slow.event()
    fill(alpha, "small")
    assert alpha.run("syncr", "data", "0") == (0, "", "")
    fill(beta, "back", "large beside")
    assert beta.run("syncr", "data", "0") == (0, "", "")
    assert beta.text("/srv/data/small") == "small" and alpha.text("/srv/data/back") == "back"
    assert not beta.live("/srv/data/large").exists()
    assert slow.process.poll() is None
    slow.go()
    assert pair.equal()


def test_large_content_of_a_run_that_was_killed_is_carried_by_the_minute_job(pair, slow):
    pair.alpha.live("/srv/data/large").write_bytes(LARGE)
    slow.event()
    slow.process.kill()
    slow.process.wait()
    assert pair.alpha.run("psync", "--retry").code == 0
    assert pair.equal()


def test_two_large_contents_of_two_events_are_both_carried(pair, slow):
    pair.alpha.live("/srv/data/large").write_bytes(LARGE)
    slow.event()
    pair.alpha.live("/srv/data/other").write_bytes(LARGE + b"other")
    assert pair.alpha.run("syncr", "data", "0") == (0, "", "")
    slow.go()
    assert pair.equal()


def test_large_content_that_is_edited_while_it_is_under_way_crosses_as_it_is_then(pair, slow):
    pair.alpha.live("/srv/data/large").write_bytes(LARGE)
    slow.event()
    pair.alpha.live("/srv/data/large").write_bytes(LARGE[::-1])
    assert pair.alpha.run("syncr", "data", "0").code in (0, os.EX_TEMPFAIL)
    (slow.directory / "go").touch()
    slow.process.wait(20)
    assert pair.alpha.run("psync", "--retry").code == 0
    assert pair.equal()


def test_sweep_waits_for_the_large_contents_of_both_nodes(pair):
    for node in pair.nodes:
        node.live(f"/srv/data/of {node.root.name}").write_bytes(LARGE + node.root.name.encode())
        node.live("/srv/data/of both").write_bytes(LARGE[::-1])
        os.utime(node.live("/srv/data/of both"), (1e9, 1e9))
    pair.sync()


def test_large_content_is_no_alarm_while_it_is_under_way(pair, slow):
    pair.alpha.live("/srv/data/large").write_bytes(LARGE)
    slow.event()
    status = pair.alpha.hotpair("status")
    assert "ok: data: /srv/data/large: large" in status.out and "not sent" not in status.out
    slow.go()
    assert pair.alpha.run("psync").code == 0
    assert "/large" not in pair.alpha.hotpair("status").out


def test_large_content_that_loses_a_conflict_comes_from_the_peer(pair):
    pair.alpha.live("/srv/data/large").write_bytes(LARGE)
    pair.sync()
    for node in (pair.alpha, pair.beta):
        node.live("/srv/data/large").write_bytes(LARGE + node.root.name.encode())
        os.utime(node.live("/srv/data/large"), (2e9 + (node is pair.beta),) * 2)
    assert pair.alpha.run("syncr", "data", "0").code == 0
    deadline = time.monotonic() + 20
    while not pair.equal():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert pair.alpha.live("/srv/data/large").read_bytes() == LARGE + b"beta"


def test_large_content_that_a_new_peer_never_had_is_carried_again(pair):
    pair.alpha.live("/srv/data/large").write_bytes(LARGE)
    pair.sync()
    for lost in ("var/lib/hotpair", "srv/data"):
        shutil.rmtree(pair.beta.root / lost)
    (pair.beta.root / "srv/data").mkdir()
    pair.sync()


def test_sweep_by_hand_tries_a_large_content_again_that_had_failed(pair):
    inbox = pair.beta.live("/srv/data/.hotpair/data.large")
    inbox.touch()  # where a directory should be
    pair.alpha.live("/srv/data/large").write_bytes(LARGE)
    assert pair.alpha.run("psync").code == os.EX_TEMPFAIL
    inbox.unlink()
    assert pair.alpha.run("psync", "--retry").code == os.EX_TEMPFAIL
    assert not pair.equal()
    pair.sync()


def test_two_people_who_sweep_on_both_nodes_at_once_wait_for_nobody_in_vain(pair):
    for node in pair.nodes:
        for number in range(5):
            node.live(f"/srv/data/{node.root.name}{number}").write_bytes(LARGE + os.urandom(9))
    started = [
        subprocess.Popen(
            [sys.executable, "-IS", str(BIN / "psync")],
            env={"PATH": os.environ["PATH"], "HOTPAIR_ROOT": str(node.root)},
            stdout=subprocess.DEVNULL,
        )
        for node in pair.nodes
    ]
    assert [process.wait(40) in (0, os.EX_TEMPFAIL) for process in started] == [True, True]
    pair.sync()


def test_half_of_a_content_that_was_edited_since_is_removed(pair):
    pair.alpha.live("/srv/data/large").write_bytes(LARGE)
    pair.sync()
    partial = pair.beta.live("/srv/data/.hotpair/data.large/.partial")
    partial.mkdir(mode=0o700)
    of_path = payload.stage_name("/large", scan.look(f"{pair.beta.root}/srv/data/large")[0]).rpartition("-")[2]
    (partial / f"{'0' * 32}-{of_path}").write_bytes(LARGE[:1000])
    pair.alpha.live("/srv/data/large").write_bytes(LARGE[::-1])
    pair.sync()
    assert not partial.exists() or list(partial.iterdir()) == []

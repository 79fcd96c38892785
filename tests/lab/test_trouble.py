"""Trouble: lost events, dead daemons, a cut link, killed programs, both nodes at once. Nothing is lost by any of it."""

import json
import os
import shlex
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.lab import pairlab
from tests.lab.conftest import Pair
from tests.lab.demo_world import LabNode
from tests.lab.spaces import wait_until

WITHIN = 20.0  # seconds for what takes a fifth of one
TABLE = "/etc/incron.d/hotpair-etc"
FILE = "/etc/pair/file.conf"
SYSLOG = "/var/log/lab/syslog"
ROUNDS = 200 if os.environ.get("HOTPAIR_LONG") else 60
OPTIONS = "connect-timeout = 1\\nio-timeout = 5"
PAUSE = """
import sqlite3, time
db = sqlite3.connect("/var/lib/hotpair/archive.db")
due = db.execute("SELECT max(due) FROM problem WHERE kind = 'peer'").fetchone()[0]
print(due - time.time() if due else 0)
"""
SSH = "timeout 10 ssh -o BatchMode=yes -i /etc/hotpair/id_ed25519 -o UserKnownHostsFile=/etc/hotpair/known_hosts"


class Two(NamedTuple):
    """A pair in sync that a test may break."""

    pair: Pair
    alpha: LabNode
    beta: LabNode

    def arrives(self, line: str, path: str = FILE) -> bool:
        """Make a change on alpha and say whether beta comes to have it."""
        assert self.alpha.run(line) == (0, "")
        return wait_until(lambda: self.equal(path), WITHIN)

    def equal(self, path: str = FILE) -> bool:
        return self.alpha.look(path) == self.beta.look(path)


@pytest.fixture
def two(own_pair: Pair) -> Two:
    found = Two(own_pair, LabNode(own_pair.lab, "alpha"), LabNode(own_pair.lab, "beta"))
    for node in found[1:]:
        ini = "/etc/hotpair/hotpair.ini"
        line = f"mkdir -p /etc/pair; sed -i -e '/^peer/a {OPTIONS}' -e '/^.files/a keep = 1000' {ini}; hotpair tables"
        assert node.run(line)[0] == 0
    assert found.alpha.run("psync")[0] == 0
    assert found.arrives(f"echo one >{FILE}")
    assert wait_until(lambda: all(map(resting, found[1:])), WITHIN)
    return found


def resting(node: LabNode) -> bool:
    """Say whether no event waits to be dealt with, and nothing of ours is at work."""
    return node.run("find /var/lib/hotpair/sets/etc/marks -type f; pgrep -f 'bin/sync[r]'")[1] == ""


def logged(node: LabNode, words: str) -> int:
    seen = node.look(SYSLOG)
    return sum(words in line for line in seen.content.decode().splitlines()) if seen else 0


def told(node: LabNode) -> dict[str, Any]:
    """Return what the status says of the set."""
    return json.loads(node.run("hotpair status --json")[1])["sets"][0]


def blind(node: LabNode) -> None:
    """Take the set's table away, so that events are lost."""
    destroyed = logged(node, "hotpair-etc destroyed")
    node.run(f"mv {TABLE} /root/table")
    assert wait_until(lambda: logged(node, "hotpair-etc destroyed") > destroyed, WITHIN)


@pytest.mark.parametrize("where", ["alpha", "beta"])
def test_lost_event_is_repaired_and_counted_by_the_sweep(two, where):
    node = two.alpha if where == "alpha" else two.beta
    blind(node)
    node.run(f"echo unannounced >{FILE}")
    before = told(node)
    assert before["waiting"] == 1 and not two.equal()
    assert node.run("psync") == (0, "etc: in sync, 1 repaired\n")
    assert two.equal() and two.alpha.look(FILE).content == b"unannounced\n"
    assert told(node)["repaired"] == before["repaired"] + 1


def test_sweep_of_one_node_repairs_what_the_other_lost(two):
    blind(two.beta)
    two.beta.run(f"echo unannounced >{FILE}")
    assert two.alpha.run("psync")[0] == 0
    assert two.alpha.look(FILE).content == b"unannounced\n"


def test_dead_incrond_is_restarted_and_what_it_missed_crosses(two):
    pid = two.alpha.run("cat /run/incrond.pid")[1].strip()
    two.alpha.run(f"kill -9 {pid}")
    two.alpha.run(f"echo missed >{FILE}")
    assert "1 waiting" in two.alpha.run("hotpair status")[1]
    assert two.alpha.run("psync --retry")[0] == 0
    assert two.equal()
    assert logged(two.alpha, "incrond was not running: started again") == 1
    assert two.arrives(f"echo noticed again >{FILE}")


def pause(node: LabNode) -> float:
    """Return how many seconds the last failure to reach the peer has put off the next attempt; 0 when none has."""
    code, said = node.run(f"python3 -c {shlex.quote(PAUSE)}")
    assert code == 0, said
    return float(said)


@pytest.mark.parametrize("silent", [False, True], ids=["plug pulled", "packets vanish"])
def test_peer_that_is_away_costs_nothing_but_time(two, silent):
    alpha = two.alpha

    def retried(code: int) -> bool:
        """Do cron's minute job until it ends so; while an event's own run is at work it has nothing to do."""
        return wait_until(lambda: alpha.run("psync --retry", 60)[0] == code, 60, 0.2)

    two.pair.cut(silent=silent)
    try:
        for number in (2, 3, 4):
            alpha.run(f"echo {number} >{FILE}")
            assert retried(75)
        if not silent:
            assert wait_until(lambda: pause(alpha) <= 0, WITHIN)
            assert retried(75)
            assert wait_until(lambda: 5 < pause(alpha) <= 10, WITHIN), "the second pause is longer than the first, 5 s"
        assert 1 <= alpha.run("hotpair status")[0] <= 2
        assert logged(alpha, "etc: ssh:beta:") == 1, "a line when the state changes, and no other"
    finally:
        two.pair.heal()
    assert not two.equal()
    assert retried(0) and wait_until(two.equal, WITHIN)
    assert two.beta.look(FILE).content == b"4\n"
    assert logged(alpha, "ssh:beta is back") == 1
    assert {b"2\n", b"3\n", b"4\n"} <= kept(alpha, FILE)


def kept(node: LabNode, path: str) -> set[bytes]:
    """Return every content that a node has of a path, live or as a generation."""
    copies = Path(node.place("/var/lib/hotpair/generations")).glob("*" + path)
    return {copy.read_bytes() for copy in [Path(node.place(path)), *copies]}


def write_at_once(two: Two, number: int) -> list[str]:
    """Have both nodes write at the same instant: the same file, every other round a file of its own."""
    paths = [FILE, FILE] if number % 2 else [f"/etc/pair/{node.name}.conf" for node in two[1:]]
    barrier = threading.Barrier(2)

    def write(node: LabNode, path: str) -> None:
        text = f"{number} {node.name}\n"
        barrier.wait()
        with open(node.place(path), "w") as file:
            file.write(text)

    writers = [threading.Thread(target=write, args=pair) for pair in zip(two[1:], paths, strict=True)]
    for thread in writers:
        thread.start()
    for thread in writers:
        thread.join()
    return paths


def test_nodes_that_change_at_once_never_wait_for_each_other_and_keep_every_content(two):
    for number in range(ROUNDS):
        paths = write_at_once(two, number)
        # two that waited for each other would do so until a time-out of 5 s or more
        assert wait_until(lambda paths=paths: all(map(two.equal, paths)), 5), f"round {number}: not equal after 5 s"
    for node in two[1:]:
        assert wait_until(lambda node=node: node.run("psync")[0] == 0, WITHIN)
    for number in range(ROUNDS):
        for node in two[1:]:
            path = FILE if number % 2 else f"/etc/pair/{node.name}.conf"
            content = f"{number} {node.name}\n".encode()
            assert content in kept(two.alpha, path) | kept(two.beta, path), f"{content!r} of {path} is lost"
    assert all(map(two.equal, (FILE, "/etc/pair/alpha.conf", "/etc/pair/beta.conf")))


@pytest.mark.parametrize("who", ["sender", "receiver"])
def test_killed_halfway_a_transfer_is_done_again_and_nobody_sees_half_a_file(two, who):
    old = two.beta.look(FILE).content
    two.alpha.run("tc qdisc replace dev pair0 root tbf rate 16mbit burst 32k latency 400ms")  # 2 MB/s
    two.alpha.run(f"head -c 4000000 /dev/urandom >{FILE}")
    inbox = Path(two.beta.place("/etc/pair/.hotpair/etc"))
    assert wait_until(lambda: any(inbox.iterdir()), WITHIN), "it never began"
    node, program = (two.alpha, "bin/syncr etc") if who == "sender" else (two.beta, "syncr-receive")
    pids = node.run(f"pgrep -f '{program[:-1]}[{program[-1]}]'")[1].split()
    assert pids
    node.run(f"kill -9 {' '.join(pids)}")
    assert two.beta.look(FILE).content == old
    two.alpha.run("tc qdisc del dev pair0 root")
    seen = set()

    def crossed() -> bool:
        now = two.beta.look(FILE)
        seen.add(now.content)
        return now == two.alpha.look(FILE)

    # cron's minute job, once the pause after the failure is over
    retry = threading.Thread(target=wait_until, args=(lambda: two.alpha.run("psync --retry")[0] == 0, 60, 0.5))
    retry.start()
    assert wait_until(crossed, 60)
    retry.join()
    assert seen == {old, two.alpha.look(FILE).content}
    assert wait_until(lambda: [entry.name for entry in inbox.iterdir()] == [], WITHIN)
    assert two.alpha.run("psync")[0] == 0


@pytest.mark.parametrize(
    "asked",
    [
        "root@beta touch /root/got-in",
        "root@beta 'syncr-receive etc; touch /root/got-in'",
        "root@beta syncr-receive ../etc",
        "root@beta rsync --server -a . /root",
        "root@beta",
    ],
)
def test_key_of_the_peer_starts_the_receiver_and_nothing_else(two, asked):
    code, said = two.alpha.run(f"{SSH} {asked} </dev/null")
    assert code != 0, said
    assert two.beta.look("/root/got-in") is None
    assert logged(two.beta, "this key starts `syncr-receive SET` only") == 1


def ran(node: LabNode) -> list[str]:
    """Return the contents that the commands of a node were run for."""
    seen = node.look("/var/log/ran")
    return seen.content.decode().splitlines() if seen else []


def test_look_at_the_status_while_a_run_works_loses_nothing(two):
    """Two edits in one run, and readers of the archive that come and go meanwhile: what was committed stays."""
    two.alpha.write_ini("syncr.ini", '[/etc/pair/*.conf]\nrun = sh:cat "$HOTPAIR_PATH" >>/var/log/ran\n')
    for number in range(12):
        line = f"echo {number} >{FILE}; hotpair status >/dev/null; echo {number}b >{FILE}; hotpair status >/dev/null"
        two.alpha.run(line)
        assert wait_until(two.equal, WITHIN)
        wait_until(lambda number=number: ran(two.alpha)[-1:] == [f"{number}b"], WITHIN)
        assert ran(two.alpha)[-1:] == [f"{number}b"]
        assert told(two.alpha)["waiting"] == 0


@pytest.fixture
def with_cron(may_build: None, tmp_path: Path) -> Iterator[Two]:
    lab = pairlab.Lab(str(tmp_path / "lab"))
    lab.up(cron=True)
    try:
        found = Two(Pair(lab), LabNode(lab, "alpha"), LabNode(lab, "beta"))
        for node in found[1:]:  # cron does not see a file of the second in which it looked last: it counts in seconds
            node.run("psync; touch -d '2 seconds' /etc/cron.d/hotpair /etc/cron.d")
        assert wait_until(lambda: all(map(resting, found[1:])), WITHIN)
        yield found
    finally:
        lab.down()


def test_cron_repairs_within_the_minute_what_no_event_announced(with_cron):
    blind(with_cron.alpha)
    path = "/etc/motd"
    with_cron.alpha.run(f"echo unannounced >{path}")
    assert not with_cron.equal(path)
    assert wait_until(lambda: with_cron.equal(path), 75, 0.1)
    # at every 15th minute, the sweep of either node may have been faster
    assert any(logged(node, "CMD (/usr/local/sbin/psync --") for node in with_cron[1:])

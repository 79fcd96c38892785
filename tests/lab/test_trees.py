"""A tree in the lab: real users' work on both nodes, noticed by real incrond, carried by real ssh."""

import json
import os
import stat
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.ext.trees import tree_of
from tests.lab.conftest import Pair
from tests.lab.demo_world import Contents, LabNode

WITHIN = 20.0  # seconds for what takes one: two CPUs, and others are at work
ROOT = "/srv/data"
CANARY = "/srv/canary"
LONG = bool(os.environ.get("HOTPAIR_LONG"))


class Two(NamedTuple):
    """A pair that shares a tree."""

    pair: Pair
    alpha: LabNode
    beta: LabNode

    def equal(self) -> bool:
        try:
            return tree_of(Path(self.alpha.place(ROOT))) == tree_of(Path(self.beta.place(ROOT)))
        except (FileNotFoundError, NotADirectoryError):  # somebody is at work
            return False

    def becomes_equal(self, seconds: float = WITHIN) -> bool:
        return bool(self.pair.wait_until(self.equal, seconds, 0.02))

    def sent(self) -> int:
        """Return how many bytes both nodes have put on the link."""
        said = [node.run("ip -s -j link show pair0")[1] for node in (self.alpha, self.beta)]
        return sum(json.loads(one)[0]["stats64"]["tx"]["bytes"] for one in said)


@pytest.fixture(scope="module")
def two(pair: Pair) -> Iterator[Two]:
    nodes = [LabNode(pair.lab, "alpha"), LabNode(pair.lab, "beta")]
    for node in nodes:
        section = f"\\n[tree data]\\nroot = {ROOT}\\nmax-delete = 100%%\\n"
        line = f"mkdir -p {ROOT}; printf '{section}' >>/etc/hotpair/hotpair.ini; hotpair tables >/dev/null"
        assert node.run(line) == (0, "")
    found = Two(pair, *nodes)
    nodes[0].run(f"echo stays >{ROOT}/.stays")  # a tree that somebody emptied would wait for a person
    assert nodes[0].run("psync data")[0] == 0
    yield found
    for node in nodes:
        node.run("sed -i '/^.tree data/,$d' /etc/hotpair/hotpair.ini; hotpair tables >/dev/null")


STEPS = {
    "create": "echo one >$R/file",
    "append": "echo two >>$R/file",
    "mkdir with files": "mkdir -p $R/a/b/c; for f in a/1 a/b/2 a/b/c/3; do echo $f >$R/$f; done",
    "later in the new directories": "sleep 0.5; echo later >$R/a/b/later",
    "replace": "echo new >$R/t; mv $R/t $R/a/1",
    "sed -i": "sed -i s/new/newer/ $R/a/1",
    "link": "ln -s a/1 $R/link",
    "chmod": "chmod 2750 $R/a/b; chmod 600 $R/a/1",
    "ACL": "setfacl -m u:65534:rw $R/a/1; setfacl -d -m g:65534:rx $R/a",
    "xattr": "setfattr -n user.origin -v x $R/a/b",
    "rename a file": "mv $R/a/1 $R/a/b/one",
    "rename a directory": "mv $R/a/b $R/moved",
    "rename it again": "mv $R/moved $R/a/b2",
    "file becomes directory": "rm $R/file; mkdir $R/file; echo x >$R/file/x",
    "remove": "rm -r $R/a/b2/c $R/link",
    "untar": "mkdir $R/u; cd $R/u; for i in $(seq 30); do mkdir $i; for j in 1 2 3; do echo $j >$i/$j; done; done",
    "remove much": "rm -r $R/u",
}


@pytest.mark.parametrize("who", ["alpha", "beta"])
def test_what_a_user_does_crosses_step_by_step(two, who):
    node = two.alpha if who == "alpha" else two.beta
    for what, line in STEPS.items():
        assert node.run(f"R={ROOT}; {line}") == (0, ""), what
        assert two.becomes_equal(), what
    assert node.run(f"rm -r {ROOT}/*") == (0, "")
    assert two.becomes_equal()


def test_both_nodes_at_work_at_once_end_equal(two):
    script = "for i in $(seq 12); do mkdir -p $N/$i; echo $i >$N/$i/f; echo $N >both-$i; mv $N/$i $N/m$i; done"
    running = [node.start(f"cd {ROOT}; N={node.name}; {script}") for node in (two.alpha, two.beta)]
    assert [process.wait(60) for process in running] == [0, 0]
    assert two.becomes_equal(40)
    assert two.alpha.run("psync data")[0] == 0
    found = tree_of(Path(two.alpha.place(ROOT)))
    assert {f"{name}/m{i}/f" for name in ("alpha", "beta") for i in range(1, 13)} <= found.keys()


# incrond reports none of these files: a mkdir blinds it for a second
def test_directories_made_in_bursts_are_all_on_the_peer_within_seconds(two):
    burst = "for d in $(seq 40); do mkdir -p burst/$b/$d; echo $d >burst/$b/$d/f; done; sleep 0.3"
    assert two.alpha.run(f"cd {ROOT}; for b in 1 2 3 4 5; do {burst}; done") == (0, "")
    began = time.monotonic()
    assert two.becomes_equal()
    assert time.monotonic() - began < 10, "5 s on a machine that does nothing else"
    assert two.alpha.run("hotpair status --json")[1].count('"repaired": 0') >= 1


def test_rename_of_a_thousand_files_sends_no_payload(two):
    line = f"mkdir {ROOT}/many; for i in $(seq 1000); do head -c 2000 /dev/urandom >{ROOT}/many/$i; done"
    assert two.alpha.run(line) == (0, "")
    assert two.becomes_equal(40)
    before = two.sent()
    assert two.alpha.run(f"mv {ROOT}/many {ROOT}/renamed") == (0, "")
    assert two.becomes_equal()
    assert two.sent() - before < 200_000, "two million bytes were moved"


def test_a_thousand_nested_directories_cross(two):
    assert two.beta.run(f"cd {ROOT}; for i in $(seq 1000); do mkdir n; cd n; done; echo deep >f") == (0, "")
    assert two.becomes_equal(60)
    assert two.beta.run("psync data", 180)[0] == 0  # each path is walked down from the root


SWAP = """
import os, sys, time
os.setgid(65534); os.setuid(65534)
top, canary, until = sys.argv[1], sys.argv[2], time.time() + float(sys.argv[3])
number = 0
while time.time() < until:
    number += 1
    for name in "abc":
        path = f"{top}/{name}"
        try:
            if os.path.islink(path):
                os.unlink(path)
                os.mkdir(path)
                with open(f"{path}/f", "w") as file: file.write(str(number))
                with open(f"{path}/{number % 7}", "w") as file: file.write(str(number))
            else:
                os.rename(path, f"{path}.{number % 3}")
                os.symlink(canary, path)
        except OSError:
            pass
"""


def test_user_who_swaps_directories_for_links_reaches_nothing_outside(two):
    """P10. The canary looks as the user's own directories do, and is on both nodes."""
    seconds = 60 if LONG else 15
    for node in (two.alpha, two.beta):
        line = f"mkdir -p -m 700 {CANARY}; cd {CANARY}; for i in f 0 1 2 3; do echo safe >$i; done"
        assert node.run(line) == (0, "")
        Path(node.place("/root/swap.py")).write_text(SWAP)
    assert two.alpha.run(f"mkdir -m 777 {ROOT}/play; mkdir -m 777 {ROOT}/play/a {ROOT}/play/b {ROOT}/play/c") == (0, "")
    assert two.becomes_equal()
    before = [tree_of(Path(node.place(CANARY))) for node in (two.alpha, two.beta)]
    inodes = [changed(node) for node in (two.alpha, two.beta)]
    users = [
        node.start(f'python3 -c "$(cat /root/swap.py)" {ROOT}/play {CANARY} {seconds}')
        for node in (two.alpha, two.beta)
    ]
    while any(user.poll() is None for user in users):
        two.alpha.run("psync --force data")
        two.beta.run("psync --force data")
    assert [user.returncode for user in users] == [0, 0]
    assert [tree_of(Path(node.place(CANARY))) for node in (two.alpha, two.beta)] == before
    assert [changed(node) for node in (two.alpha, two.beta)] == inodes


def changed(node: LabNode) -> dict[str, int]:
    """Return the ctimes below the canary: not even a mode was set twice."""
    place = node.place(CANARY)
    return {name: os.lstat(f"{place}/{name}").st_ctime_ns for name in (".", *os.listdir(place))}


def test_small_files_cross_both_ways_while_a_large_one_is_under_way(two, slow_link, large):
    inbox, arrived = Path(two.beta.place(f"{ROOT}/.hotpair/data.large")), Path(two.beta.place(f"{ROOT}/large"))
    assert two.pair.wait_until(lambda: inbox.is_dir() and any(inbox.iterdir()), WITHIN, 0.02)
    for node, peer in ((two.alpha, two.beta), (two.beta, two.alpha)):
        assert node.run(f"echo small >{ROOT}/small-of-{node.name}") == (0, "")
        assert two.pair.wait_until(Path(peer.place(f"{ROOT}/small-of-{node.name}")).exists, WITHIN, 0.02)
    assert not arrived.exists()
    assert two.pair.wait_until(arrived.exists, 120, 0.1)


def test_large_file_that_changed_a_little_costs_the_link_little(two, large):
    assert two.becomes_equal(120)
    write = f"dd if=/dev/urandom of={ROOT}/large bs=40000 count=1 conv=notrunc status=none"
    line = f"for i in $(seq {large // 100 // 40000}); do {write} seek=$((i * 100)); done"  # 1 % of it
    before = two.sent()
    assert two.alpha.run(line) == (0, "")
    assert two.becomes_equal(120)
    assert two.sent() - before < large * 0.02


MINUTES = """
import sqlite3
db = sqlite3.connect("/var/lib/hotpair/archive.db", timeout=20)
with db:
    db.execute("UPDATE problem SET due = due - 600")
"""
EDITS = {
    "alpha": "for i in 1 2 3 4 5; do echo $N >a$i; done; echo $N >new$N; mv moved-a* moved-a$N; rm -f new$((N - 2))",
    "beta": "for i in 1 2 3 4 5; do echo $N >b$i; done; mkdir d$N; echo $N >d$N/f; rm -rf d$((N - 2))",
}


def test_renames_of_files_one_after_the_other_send_no_content(two):
    line = f"cd {ROOT}; mkdir from to; head -c 9999 /dev/urandom >from/0; mkdir -p -m 700 .hotpair/data"
    assert [node.run(line)[0] for node in (two.alpha, two.beta)] == [0, 0]
    assert two.alpha.run("psync data")[0] == 0
    contents = Contents(two.beta.place(f"{ROOT}/.hotpair/data"))
    names = ["from/0", "from/1", "to/1", "to/2", "3", "from/4"]
    for source, target in pairwise(names):
        assert two.alpha.run(f"cd {ROOT}; mv {source} {target}") == (0, "")
        assert two.becomes_equal()
        assert two.alpha.run("psync data")[0] == 0  # alpha knows, too, that they are
    assert contents.arrived() == 0
    contents.close()


def test_after_an_hour_without_the_peer_one_pass_sends_each_path_once(two):
    """Six times ten minutes: the clock is not waited for, what is to be done at some time is moved towards now."""
    nodes = (two.alpha, two.beta)
    for node in nodes:
        line = f"cd {ROOT}; mkdir -p -m 700 .hotpair/data; head -c 9999 /dev/urandom >moved-{node.name}"
        assert node.run(line) == (0, "")
    assert [node.run("psync data")[0] for node in nodes] == [0, 0]
    two.pair.cut()
    try:
        for number in range(1, 7):
            for node in nodes:
                assert node.run(f"cd {ROOT}; N={number}; {EDITS[node.name]}") == (0, "")
                assert two.pair.wait_until(lambda node=node: node.run("psync --retry")[0] == 75, WITHIN, 0.2)
                assert node.run(f"python3 -c '{MINUTES}'") == (0, "")
    finally:
        two.pair.heal()
    counts = [Contents(node.place(f"{ROOT}/.hotpair/data")) for node in nodes]
    assert two.alpha.run("psync data")[0] == 0
    assert two.equal()
    assert [one.arrived() for one in counts] == [7, 7]  # what was moved, and what is gone again, is not sent
    assert two.beta.run("psync data")[0] == 0
    assert [one.arrived() for one in counts] == [7, 7]
    for one in counts:
        one.close()


WRITE = """
import os, sys
top, number, word = sys.argv[1], int(sys.argv[2]), sys.argv[3]
for at in range(number):
    folder = f"{top}/{at // 100}"
    os.makedirs(folder, exist_ok=True)
    own = at % 100 == 1 and word or at % 1000 == 2 and "different " + word
    name = f"{folder}/{at}" + (f" of {own}" if own == word else "")
    with open(name, "w") as file: file.write(f"{own or at}")
    os.utime(name, (1e9, 1e9 + (word == "beta")) if own else (1e9, 1e9))
"""


def test_first_pairing_adopts_what_is_equal_copies_what_is_one_sided_and_deletes_nothing(two):
    """One in a hundred is on one node only, one in a thousand differs: then the newer one is live."""
    number, top = 100_000 if LONG else 2_000, "/srv/many"
    for node in (two.alpha, two.beta):
        assert node.run(f"mkdir {top}; python3 -c '{WRITE}' {top} {number} {node.name}", 100) == (0, "")
        section = f"\\n[tree many]\\nroot = {top}\\n"
        assert node.run(f"printf '{section}' >>/etc/hotpair/hotpair.ini; mkdir -p -m 700 {top}/.hotpair/many")[0] == 0
    assert [node.run("hotpair tables >/dev/null", 100) for node in (two.alpha, two.beta)] == [(0, ""), (0, "")]
    counts = [Contents(node.place(f"{top}/.hotpair/many")) for node in (two.alpha, two.beta)]
    code, said = two.alpha.run("psync many", 600)
    assert code == 0, said
    alpha, beta = (tree_of(Path(node.place(top))) for node in (two.alpha, two.beta))
    assert alpha == beta
    assert sum(stat.S_ISREG(one[0]) for one in alpha.values()) == number + number // 100
    assert [one.arrived() for one in counts] == [number // 100 + number // 1000, number // 100]
    assert {alpha[f"{at // 100}/{at}"][5] for at in range(2, number, 1000)} == {b"different beta"}
    listed = json.loads(two.alpha.run("hotpair conflicts --json")[1])
    assert sum(one["path"].startswith(top) for one in listed) == number // 1000
    for one in counts:
        one.close()
    for node in (two.alpha, two.beta):
        assert node.run("sed -i '/^.tree many/,$d' /etc/hotpair/hotpair.ini; hotpair tables >/dev/null")[0] == 0


@pytest.fixture
def slow_link(two):
    """Let no more than 200 Mbit/s out of alpha."""
    shape = "tc qdisc add dev pair0 root tbf rate 200mbit burst 256k latency 50ms"
    assert two.alpha.run(shape) == (0, "")
    yield
    two.alpha.run("tc qdisc del dev pair0 root")


@pytest.fixture(scope="module")
def large(two) -> int:
    """Write a large file on alpha; return its size in bytes."""
    size = 1 << 30 if LONG else 256 << 20
    assert two.alpha.run(f"head -c {size} /dev/urandom >{ROOT}/large") == (0, "")
    return size

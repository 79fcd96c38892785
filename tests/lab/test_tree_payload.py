"""What trees put on the link, in the lab: moves send no content, each change sends one, large contents send little."""

import json
import stat
from itertools import pairwise
from pathlib import Path

import pytest

from tests.ext.trees import tree_of
from tests.lab.demo_world import Contents
from tests.lab.spaces import wait_until
from tests.lab.trees import LONG, ROOT, WITHIN


def test_rename_of_a_thousand_files_sends_no_payload(two):
    line = f"mkdir {ROOT}/many; for i in $(seq 1000); do head -c 2000 /dev/urandom >{ROOT}/many/$i; done"
    assert two.alpha.run(line) == (0, "")
    assert two.becomes_equal(40)
    before = two.sent()
    assert two.alpha.run(f"mv {ROOT}/many {ROOT}/renamed") == (0, "")
    assert two.becomes_equal()
    assert two.sent() - before < 200_000, "two million bytes were moved"


def test_small_files_cross_both_ways_while_a_large_one_is_under_way(two, slow_link, large):
    inbox, arrived = Path(two.beta.place(f"{ROOT}/.hotpair/data.large")), Path(two.beta.place(f"{ROOT}/large"))
    assert wait_until(lambda: inbox.is_dir() and any(inbox.iterdir()), WITHIN, 0.02)
    for node, peer in ((two.alpha, two.beta), (two.beta, two.alpha)):
        assert node.run(f"echo small >{ROOT}/small-of-{node.name}") == (0, "")
        assert wait_until(Path(peer.place(f"{ROOT}/small-of-{node.name}")).exists, WITHIN, 0.02)
    assert not arrived.exists()
    assert wait_until(arrived.exists, 120, 0.1)


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


def test_after_an_hour_without_the_peer_one_pass_sends_each_path_once(pair_of_module, two):
    """Six times ten minutes: the clock is not waited for, what is to be done at some time is moved towards now."""
    nodes = (two.alpha, two.beta)
    for node in nodes:
        line = f"cd {ROOT}; mkdir -p -m 700 .hotpair/data; head -c 9999 /dev/urandom >moved-{node.name}"
        assert node.run(line) == (0, "")
    assert [node.run("psync data")[0] for node in nodes] == [0, 0]
    pair_of_module.cut()
    try:
        for number in range(1, 7):
            for node in nodes:
                assert node.run(f"cd {ROOT}; N={number}; {EDITS[node.name]}") == (0, "")
                assert wait_until(lambda node=node: node.run("psync --retry")[0] == 75, WITHIN, 0.2)
                assert node.run(f"python3 -c '{MINUTES}'") == (0, "")
    finally:
        pair_of_module.heal()
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


BEFORE = """
mkdir -p -m 700 .hotpair/data; mkdir many-$N files-$N
for i in $(seq 1000); do head -c 2000 /dev/urandom >many-$N/$i; done
for i in $(seq 30); do echo $N $i >files-$N/$i; done
"""
AT_ONCE = """
mv many-$N renamed-$N
for i in $(seq 10); do echo edited >>files-$N/$i; echo $N >files-$N/new$i; [ $i = 10 ] || rm files-$N/2$i; done
chmod 640 files-$N/11; chown 65534:65534 files-$N/12; touch -d @1e9 files-$N/13
setfacl -m u:65534:rw files-$N/14; setfattr -n user.origin -v $N files-$N/15; mv files-$N/16 files-$N/moved
mkdir nested-$N; cd nested-$N; for i in $(seq $D); do mkdir n; cd n; done; echo deep $N >f
"""


DEPTH = {"alpha": 999 if LONG else 99, "beta": 999}  # a path is walked down from the root: a deep tree takes its time


def test_whatever_both_nodes_do_at_once_ends_equal_and_only_new_contents_cross(two):
    nodes = (two.alpha, two.beta)
    assert [node.run(f"cd {ROOT}; N={node.name}; {BEFORE}") for node in nodes] == [(0, "")] * 2
    assert two.becomes_equal(60)
    assert [node.run("psync data")[0] for node in nodes] == [0, 0]
    counts = [Contents(node.place(f"{ROOT}/.hotpair/data")) for node in nodes]
    working = [node.start(f"cd {ROOT}; N={node.name} D={DEPTH[node.name]}; {AT_ONCE}") for node in nodes]
    assert [process.wait(60) for process in working] == [0, 0]
    assert two.becomes_equal_by_the_minute(7 if LONG else 3)
    assert [one.arrived() for one in counts] == [21, 21]  # ten edited, ten new, one at the bottom
    for one in counts:
        one.close()
    found = tree_of(Path(two.alpha.place(ROOT)))
    for name in ("alpha", "beta"):
        assert f"renamed-{name}/1000" in found and f"files-{name}/21" not in found
        assert f"nested-{name}/" + "n/" * DEPTH[name] + "f" in found
    assert two.beta.run("psync data", 180)[0] == 0  # each path is walked down from the root


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

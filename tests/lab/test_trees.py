"""A tree in the lab: real users' work on both nodes, noticed by real incrond, carried by real ssh."""

import os
import time
from pathlib import Path

import pytest

from tests.ext.trees import tree_of
from tests.lab.demo_world import LabNode
from tests.lab.trees import LONG, ROOT

CANARY = "/srv/canary"
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
    assert time.monotonic() - began < (5 if LONG else 10), "5 s on a machine that does nothing else"
    assert two.alpha.run("hotpair status --json")[1].count('"repaired": 0') >= 1


def test_what_an_incrond_that_died_missed_crosses_with_the_next_minute(two):
    assert two.alpha.run(f"mkdir -p {ROOT}/missed/deep; echo old >{ROOT}/missed/deep/file") == (0, "")
    assert two.becomes_equal()
    assert two.alpha.run("psync data")[0] == 0
    assert two.alpha.run("kill -9 $(cat /run/incrond.pid)") == (0, "")
    assert two.alpha.run(f"echo new >>{ROOT}/missed/deep/file") == (0, "")
    assert "no event arrives" in two.alpha.run("hotpair status")[1]
    assert two.alpha.run("psync --retry")[0] == 0
    assert two.equal()
    assert "no event arrives" not in two.alpha.run("hotpair status")[1]


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

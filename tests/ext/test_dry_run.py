"""What `psync --dry-run` says of files that two prefixes share, and that the sweep then does so."""

import os
import sqlite3

import pytest

from tests.ext.twonodes import Node, Pair


def planned(node: Node) -> list[str]:
    said = node.run("psync", "--dry-run")
    assert said.code == 0, said
    return said.out.splitlines()


def test_the_plan_names_each_step_and_the_sweep_then_leaves_none(pair: Pair) -> None:
    for name in ("changed", "chmodded", "removed", "becomes-link", "theirs"):
        pair.alpha.write(f"/srv/{name}.txt", "base")
    assert pair.alpha.sweep().code == 0
    alpha, beta = pair.nodes
    alpha.write("/srv/changed.txt", "changed")
    alpha.live("/srv/chmodded.txt").chmod(0o600)
    alpha.live("/srv/removed.txt").unlink()
    alpha.live("/srv/becomes-link.txt").unlink()
    alpha.live("/srv/becomes-link.txt").symlink_to("x")
    alpha.write("/srv/new.txt", "new")
    alpha.live("/srv/link.txt").symlink_to("y")
    beta.write("/srv/theirs.txt", "theirs!")
    beta.write("/srv/from-beta.txt", "b")
    assert planned(alpha) == [
        "demo: send link /srv/becomes-link.txt",
        "demo: send put /srv/changed.txt (7 bytes)",
        "demo: send meta /srv/chmodded.txt (4 bytes)",
        "demo: receive put /srv/from-beta.txt (1 bytes)",
        "demo: send link /srv/link.txt",
        "demo: send put /srv/new.txt (3 bytes)",
        "demo: send delete /srv/removed.txt",
        "demo: receive put /srv/theirs.txt (7 bytes)",
    ]
    assert [
        line.replace("receive", "SEND").replace("send", "receive").replace("SEND", "send") for line in planned(beta)
    ] == planned(alpha)
    assert alpha.sweep().code == 0
    assert planned(alpha) == ["demo: nothing to do"]


def test_a_plan_writes_nothing_on_either_node(pair: Pair) -> None:
    pair.agree("/srv/a.conf", "base")
    pair.alpha.write("/srv/a.conf", "changed")
    pair.beta.write("/srv/new.txt", "new")
    before = [node.snapshot() for node in pair.nodes]
    assert len(planned(pair.alpha)) == 2
    assert [node.snapshot() for node in pair.nodes] == before


@pytest.mark.parametrize("last", ["alpha", "beta"])
def test_a_plan_tells_who_wins_a_conflict_and_the_sweep_does_so(pair: Pair, last: str) -> None:
    pair.agree("/srv/a.conf", "base")
    for node in pair.nodes if last == "beta" else pair.nodes[::-1]:
        node.write("/srv/a.conf", f"{node.root.name} wrote")
    way = "send" if last == "alpha" else "receive"
    text = f"{last} wrote"
    remark = f"({len(text)} bytes) (conflict: {last}'s wins, the other is kept)"
    assert planned(pair.alpha) == [f"demo: {way} put /srv/a.conf {remark}"]
    assert pair.alpha.sweep().code == 0
    assert [node.text("/srv/a.conf") for node in pair.nodes] == [text, text]


def test_a_plan_does_not_delete_what_the_peer_wrote_meanwhile(pair: Pair) -> None:
    pair.agree("/srv/a.conf", "base")
    pair.alpha.live("/srv/a.conf").unlink()
    pair.beta.write("/srv/a.conf", "edited")
    assert planned(pair.alpha) == ["demo: receive put /srv/a.conf (6 bytes) (conflict: beta's wins, the other is kept)"]
    assert pair.alpha.sweep().code == 0
    assert [node.text("/srv/a.conf") for node in pair.nodes] == ["edited", "edited"]


def believe_agreed(node: Node) -> None:
    """Make a node take what it has for agreed, as an archive that was restored from a backup may."""
    node.sweep()
    with sqlite3.connect(node.root / "var/lib/hotpair/archive.db") as db:
        db.execute("UPDATE path SET agreed = seen, from_peer = 0")


@pytest.mark.parametrize("last, way", [("alpha", "send"), ("beta", "receive")])
def test_a_difference_that_neither_node_counts_as_its_own_is_in_the_plan(pair: Pair, last: str, way: str) -> None:
    pair.agree("/srv/a.conf", "base")
    node, other = pair.nodes if last == "alpha" else pair.nodes[::-1]
    (other.root / "etc/hotpair/hotpair.ini").rename(other.root / "etc/hotpair/away")
    node.write("/srv/a.conf", "changed")
    believe_agreed(node)
    (other.root / "etc/hotpair/away").rename(other.root / "etc/hotpair/hotpair.ini")
    (line,) = planned(pair.alpha)
    assert line.startswith(f"demo: {way} put /srv/a.conf (7 bytes)")
    assert pair.alpha.sweep().code == 0
    assert [one.text("/srv/a.conf") for one in pair.nodes] == ["changed", "changed"]


def test_a_plan_of_what_is_held_says_so(holding: Pair) -> None:
    holding.clash()
    assert planned(holding.alpha) == ["demo: hold /srv/a.conf (both nodes changed it)"]


def test_a_plan_that_cannot_ask_the_peer_is_left_for_later(pair: Pair) -> None:
    pair.agree("/srv/a.conf", "base")
    pair.cut()
    assert pair.alpha.run("psync", "--dry-run").code in (os.EX_TEMPFAIL, os.EX_PROTOCOL)

"""Conflicts between two prefixes: listed, decided by a person, and what retry does."""

import os

import pytest

from tests.ext.twonodes import Node, Pair


def kinds(node: Node) -> set[str]:
    return {one["kind"] for one in node.json("conflicts")}


def test_a_decided_conflict_is_listed_on_both_nodes_with_what_is_live_and_where_the_other_is(pair: Pair) -> None:
    pair.clash()
    (here,), (there,) = (node.json("conflicts") for node in pair.nodes)
    assert (here["path"], here["kind"], here["live"]) == ("/srv/a.conf", "conflict", "what the peer wrote")
    assert (
        pair.alpha.live(f"/var/lib/hotpair/generations/{here['kept_generation']}/srv/a.conf").read_text()
        == "alpha wrote"
    )
    assert (there["live"], there["kept_generation"]) == ("what this node wrote", None)
    assert "11 bytes" in here["detail"] and "13 bytes" in here["detail"]
    assert "ours is generation 1 here" in pair.alpha.hotpair("conflicts").out


def test_taking_what_is_live_already_only_ends_the_conflict_on_both_nodes(pair: Pair) -> None:
    pair.clash()
    before = [node.live("/srv/a.conf").stat() for node in pair.nodes]
    said = pair.alpha.hotpair("resolve", "/srv/a.conf", "--take", "peer")
    assert said.code == 0, said
    assert [node.live("/srv/a.conf").stat() for node in pair.nodes] == before
    assert [kinds(node) for node in pair.nodes] == [set(), set()]


def test_taking_the_loser_on_its_own_node_brings_it_back_on_both(pair: Pair) -> None:
    pair.clash()
    said = pair.alpha.hotpair("resolve", "/srv/a.conf", "--take", "here")
    assert said.code == 0, said
    assert [node.text("/srv/a.conf") for node in pair.nodes] == ["alpha wrote", "alpha wrote"]
    assert [kinds(node) for node in pair.nodes] == [set(), set()]


def test_taking_the_loser_on_the_other_node_says_where_it_is(pair: Pair) -> None:
    pair.clash()
    said = pair.beta.hotpair("resolve", "/srv/a.conf", "--take", "peer")
    assert said.code == os.EX_NOINPUT
    assert f"on local:{pair.alpha.root}: hotpair resolve /srv/a.conf --take here" in said.err
    assert kinds(pair.beta) == {"conflict"}


def test_ending_a_conflict_while_the_peer_is_away_ends_it_here_and_says_so(pair: Pair) -> None:
    pair.clash()
    pair.cut()
    said = pair.alpha.hotpair("resolve", "/srv/a.conf", "--take", "peer")
    assert (said.code, "still lists it" in said.out) == (0, True)
    assert kinds(pair.alpha) == set()
    pair.mend()
    assert kinds(pair.beta) == {"conflict"}


def test_a_path_without_a_conflict_has_none_to_end(pair: Pair) -> None:
    pair.agree("/srv/a.conf", "base")
    said = pair.alpha.hotpair("resolve", "/srv/a.conf", "--take", "here")
    assert (said.code, said.err) == (os.EX_NOINPUT, "hotpair: /srv/a.conf has no conflict: see `hotpair conflicts`\n")


@pytest.mark.parametrize("on", ["alpha", "beta"])
@pytest.mark.parametrize("take", ["here", "peer"])
def test_what_is_held_ends_as_the_person_says_and_the_other_is_kept(holding: Pair, on: str, take: str) -> None:
    holding.clash()
    assert [node.text("/srv/a.conf") for node in holding.nodes] == ["alpha wrote", "beta wrote it"]
    node, other = (holding.alpha, holding.beta) if on == "alpha" else (holding.beta, holding.alpha)
    assert "held" in kinds(node)
    wins, loses = (node, other) if take == "here" else (other, node)
    winner, loser = wins.text("/srv/a.conf"), loses.text("/srv/a.conf")
    said = node.hotpair("resolve", "/srv/a.conf", "--take", take)
    assert said.code == 0, said
    assert [one.text("/srv/a.conf") for one in holding.nodes] == [winner, winner]
    assert loses.live("/var/lib/hotpair/generations/1/srv/a.conf").read_text() == loser
    assert [kinds(one) for one in holding.nodes] == [set(), set()]
    assert holding.alpha.sweep().code == 0


def test_what_is_held_stays_as_it_is_while_the_peer_is_away(holding: Pair) -> None:
    holding.clash()
    holding.cut()
    for take in ("here", "peer"):
        assert holding.alpha.hotpair("resolve", "/srv/a.conf", "--take", take).code != 0
        assert "held" in kinds(holding.alpha)
    holding.mend()
    assert [node.text("/srv/a.conf") for node in holding.nodes] == ["alpha wrote", "beta wrote it"]


def test_retry_does_not_wait_for_the_pause_after_the_peer_was_away(pair: Pair) -> None:
    pair.agree("/srv/a.conf", "one")
    pair.cut()
    pair.alpha.write("/srv/a.conf", "two")
    assert pair.alpha.run("syncr", "demo", "0").code == os.EX_TEMPFAIL
    said = pair.alpha.hotpair("retry", "demo")
    assert (said.code, "still peer" in said.out) == (os.EX_TEMPFAIL, True)
    pair.mend()
    assert pair.alpha.run("psync", "--retry").code == os.EX_TEMPFAIL, "cron's minute waits for the pause"
    assert pair.beta.text("/srv/a.conf") == "one"
    assert pair.alpha.hotpair("retry", "demo").code == 0
    assert pair.beta.text("/srv/a.conf") == "two"


def test_retry_runs_commands_that_were_given_up(pair: Pair) -> None:
    flag = pair.alpha.root / "mended"
    pair.alpha.write_ini("syncr.ini", f"[/srv/a.conf]\nrun = test -e {flag}\n")
    pair.agree("/srv/a.conf", "one")
    pair.alpha.write("/srv/a.conf", "two")
    pair.alpha.sweep()
    for _ in range(5):
        assert pair.alpha.hotpair("retry").code == os.EX_TEMPFAIL
    assert pair.alpha.json("status")["sets"][0]["failed_commands"] == 1
    flag.touch()
    assert pair.alpha.hotpair("retry").code == 0
    assert pair.alpha.json("status")["sets"][0]["owed"] == 0


def test_retry_of_a_set_that_is_not_there_is_refused(pair: Pair) -> None:
    said = pair.alpha.hotpair("retry", "nope")
    assert said.code == os.EX_NOINPUT and "no set 'nope': the sets are demo" in said.err

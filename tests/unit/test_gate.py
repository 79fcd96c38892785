"""The gate's decision as a table: what a node is, what the sender says of itself, what becomes of the push."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from hotpair.failover import gate, notes, peer_role, role
from hotpair.failover.peer_role import PeerRole
from hotpair.failover.role import Role

STANDBY_OF_3 = Role("standby", 3)
MASTER_OF_3 = Role("master", 3)
FENCED = Role("standby", 3, reason=gate.FENCED)


def says(role_: str, epoch: object, **more: object) -> dict[str, Any]:
    return {"node": "alpha", "role": role_, "epoch": epoch, "boot": "b", **more}


def sent(said: object) -> int:
    """Return a descriptor from which a sender's line is read."""
    read, write = os.pipe()
    os.write(write, (said if isinstance(said, str) else json.dumps(said)).encode() + b"\n")
    os.close(write)
    return read


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOTPAIR_ROOT", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    "mine, theirs, accepted, noted, why",
    [
        (STANDBY_OF_3, says("master", 3), True, 0, ""),
        (STANDBY_OF_3, says("master", 4), True, 4, ""),
        (STANDBY_OF_3, says("master", 2), False, 0, "epoch 2 of alpha is over: this node knows of epoch 3"),
        (STANDBY_OF_3, says("standby", 3), False, 0, "alpha is standby, no master"),
        (STANDBY_OF_3, says("peer", 9), False, 0, "alpha is peer, no master"),
        (MASTER_OF_3, says("master", 2), False, 0, "calls itself master of the older epoch 2"),
        (MASTER_OF_3, says("master", 3), False, 0, "calls itself master of epoch 3 too"),
        (MASTER_OF_3, says("master", 4), False, 4, "this node was master of epoch 3 until now"),
        (MASTER_OF_3, says("standby", 4), False, 0, "alpha is standby, no master"),
        (FENCED, says("master", 3), False, 0, "has not kept its unseen writes"),
        (FENCED, says("master", 4), False, 0, "has not kept its unseen writes"),
        (Role(), says("master", 1), False, 0, "this node is no standby"),
    ],
)
def test_a_push_comes_in_only_from_the_master_of_this_epoch_or_a_later_one(
    mine: Role, theirs: dict[str, Any], accepted: bool, noted: int, why: str
) -> None:
    verdict = gate.decide(mine, theirs)
    assert (verdict.accepted, verdict.note_epoch) == (accepted, noted)
    assert why in verdict.why and bool(verdict.why) != accepted


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{",
        "[]",
        "null",
        '"master"',
        json.dumps(says("master", "3")),
        json.dumps(says("master", True)),
        json.dumps(says("master", -1)),
        json.dumps(says("master", 3.0)),
        json.dumps(says("king", 3)),
        json.dumps(says("master", 3, node="a\nb")),
        json.dumps(says("master", 3, node="")),
        json.dumps(says("master", 3, more="x" * gate.MOST)),
        "[" * 4000,
        "\udcff".encode("utf-8", "surrogateescape").decode("latin-1"),
    ],
    ids=lambda line: ascii(line)[:30],
)
def test_what_is_no_word_of_a_hotsync_is_refused_and_nothing_is_written(node: Path, line: str) -> None:
    with pytest.raises(gate.Closed, match="no word of a hotsync"):
        gate.serve("standby", sent(line))
    assert list(node.iterdir()) == []


def test_an_accepted_push_is_remembered_and_its_higher_epoch_is_ours_from_now_on(node: Path) -> None:
    gate.serve("standby", sent(says("master", 4)))
    known = notes.read(notes.PEER)
    assert (known["node"], known["role"], known["epoch"], known["accepted"], known["why"]) == (
        "alpha",
        "master",
        4,
        True,
        "",
    )
    assert (role.current().role, role.current().epoch, role.current().by) == ("standby", 4, "alpha")


def test_a_refused_push_is_remembered_with_the_reason(node: Path) -> None:
    role.become("master", 5, by="test")
    with pytest.raises(gate.Closed, match="master of the older epoch 4"):
        gate.serve("standby", sent(says("master", 4)))
    known = notes.read(notes.PEER)
    assert not known["accepted"] and "older epoch 4" in known["why"]
    assert role.current().role == "master"


def test_a_dry_question_gets_the_same_answer_and_writes_nothing(node: Path) -> None:
    gate.serve("standby", sent(says("master", 4, dry=True)))
    with pytest.raises(gate.Closed):
        gate.serve("master", sent(says("master", 1, dry=True)))
    assert list(node.iterdir()) == []


def test_a_master_that_hears_of_a_later_one_takes_no_push_before_it_was_demoted(node: Path) -> None:
    role.become("master", 3, by="test")
    for _ in range(2):
        with pytest.raises(gate.Closed, match="hotsync-slave demote"):
            gate.serve("master", sent(says("master", 4)))
    assert (role.current().role, role.current().epoch) == ("standby", 4)
    role.become("standby", 4, by="hotsync-slave demote")
    gate.serve("master", sent(says("master", 4)))


def test_a_push_is_complete_only_when_its_own_transfer_ended_well(node: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RSYNC_PID", "11")
    gate.serve("standby", sent(says("master", 1)))
    for pid, status in (("11", "23"), ("12", "0")):
        monkeypatch.setenv("RSYNC_PID", pid)
        monkeypatch.setenv("RSYNC_EXIT_STATUS", status)
        gate.landed()
        assert "complete" not in notes.read(notes.RECEIVED)
    monkeypatch.setenv("RSYNC_PID", "11")
    gate.landed()
    known = notes.read(notes.RECEIVED)
    assert known["complete"]["begun"] == known["begun"] <= known["complete"]["ended"]


@pytest.mark.parametrize(
    "found, role_, epoch, serving",
    [
        (PeerRole("beta", "standby", 3, False), "master", 3, True),
        (PeerRole("beta", "peer", 0, False), "master", 3, True),
        (PeerRole("beta", "standby", 4, False), "master", 3, False),  # somebody was master after us
        (PeerRole("beta", "master", 3, True), "master", 3, False),
        (PeerRole("beta", "master", 2, True), "master", 3, False),
        (PeerRole("beta", "master", 4, True), "standby", 4, False),
    ],
)
def test_a_master_that_has_rebooted_goes_on_only_when_the_peer_is_none(
    node: Path, monkeypatch: pytest.MonkeyPatch, found: PeerRole, role_: str, epoch: int, serving: bool
) -> None:
    role.become("master", 3, by="test")
    monkeypatch.setattr(role, "boot_id", lambda: "the next boot")
    assert not role.current().serving
    me = peer_role.hear(found)
    assert (me.role, me.epoch, me.serving) == (role_, epoch, serving)


def test_an_answer_in_other_words_is_no_answer() -> None:
    assert peer_role.parse(b"") is None
    assert peer_role.parse(b"hotsync-slave: no such program") is None
    assert peer_role.parse(json.dumps(says("standby", 2)).encode()) == PeerRole("alpha", "standby", 2, False)

"""Two nodes and their roles: what they ask each other, the gate, both master at once, what status says."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from hotpair import config
from hotpair.failover import gate, notes, peer_role, role, standing, takeover
from hotpair.failover.takeover import Order
from tests.ext.failovers import OLD, Both, me, promote, remarks
from tests.ext.twonodes import BIN


def test_a_node_asks_the_other_one_what_it_is(both: Both) -> None:
    both.on(both.beta)
    found = peer_role.ask(config.load().node)
    assert found == peer_role.PeerRole("alpha", "master", 1, True)
    both.lose_alpha()
    assert peer_role.ask(config.load().node) is None


@pytest.mark.parametrize("word, code", [("role", 0), ("promote", 76), ("role; id", 76), ("role ", 76), ("Role", 76)])
def test_the_key_of_the_peer_may_ask_for_three_words_and_no_other(both: Both, word: str, code: int) -> None:
    asked = {"SSH_ORIGINAL_COMMAND": f"hotsync-slave {word}", "SSH_CONNECTION": "x"}
    said = both.beta.run("syncr-receive", env=asked)
    assert said.code == code, said
    assert ('"role": "standby"' in said.out) == (code == 0)


def test_the_gate_is_a_program_that_refuses_with_77_and_says_why(both: Both) -> None:
    for epoch, code in ((1, 0), (0, 77)):
        said = subprocess.run(
            [sys.executable, "-IS", str(BIN / "hotsync-slave"), "gate"],
            env={"PATH": os.environ["PATH"], "HOTPAIR_ROOT": str(both.beta.root)},
            input=json.dumps({"node": "alpha", "role": "master", "epoch": epoch}) + "\n",
            capture_output=True,
            text=True,
        )
        assert said.returncode == code, said
    assert "epoch 0 of alpha is over" in said.stdout


def test_a_master_that_has_rebooted_serves_again_when_the_peer_is_standby_and_not_before(both: Both) -> None:
    both.on(both.alpha)
    both.patch.setattr(role, "boot_id", lambda: "next")
    (both.beta.root / "etc/hotpair/hotpair.ini").rename(both.beta.root / "etc/hotpair/away")
    takeover.minute(config.load())
    assert not role.current().serving and both.alpha.trace() == []
    assert "has not heard" in remarks()["role"]
    assert standing.may_push(config.load()) == "the other node does not answer"
    (both.beta.root / "etc/hotpair/away").rename(both.beta.root / "etc/hotpair/hotpair.ini")
    for _ in range(2):
        takeover.minute(config.load())
    assert role.current().serving and both.alpha.trace() == ["start db", "start web"]
    assert standing.may_push(config.load()) == "" and "role" not in remarks()


def test_a_master_that_has_rebooted_needs_no_new_epoch_to_serve_when_the_peer_is_standby(both: Both) -> None:
    both.on(both.alpha)
    both.patch.setattr(role, "boot_id", lambda: "next")
    assert promote(Order("keepalived"))["already"]
    assert me() == ("master", 1) and role.current().serving and both.alpha.trace() == ["start db", "start web"]


def test_a_command_for_the_master_runs_there_alone(both: Both) -> None:
    said = both.alpha.run("hotsync-slave", "run-if-master", "echo", "-n", "ran")
    assert (said.code, said.out) == (0, "ran")
    said = both.beta.run("hotsync-slave", "run-if-master", "echo", "ran")
    assert (said.code, said.out, said.err) == (0, "", "")


def test_a_command_for_the_master_that_is_not_there_is_named(both: Both) -> None:
    said = both.alpha.run("hotsync-slave", "run-if-master", "--", "no-such-program", "x")
    assert said.code == 66 and "no-such-program: No such file or directory" in said.err
    assert both.beta.run("hotsync-slave", "run-if-master", "no-such-program").code == 0  # it may not be installed yet


def test_neither_node_pushes_onto_the_other_when_both_are_master_and_both_say_so(both: Both) -> None:
    both.on(both.beta)
    promote()  # alpha lives: somebody was wrong
    said = {"node": "alpha", "role": "master", "epoch": 1}
    assert not gate.hear(role.current(), said).accepted
    assert "master of an older epoch: 1" in remarks()["role"]
    assert standing.may_push(config.load()) == "the other node is master of epoch 1, no standby"
    both.on(both.alpha)
    assert standing.may_push(config.load()) == "this node is standby of epoch 2, no master"
    assert "beta was promoted to epoch 2" in remarks()["role"]
    assert both.alpha.json("status")["code"] == 2
    both.on(both.beta)
    assert standing.may_push(config.load()) == ""
    assert not gate.decide(both.alpha.own_role(), {"node": "beta", "role": "master", "epoch": 2}).accepted


@pytest.mark.parametrize(
    "role_, name, known, kind",
    [
        ("master", notes.SENT, {"last_complete": OLD}, "no complete push since then"),
        ("master", notes.SENT, {}, "the standby has had no complete push"),
        ("master", notes.SENT, {"failing_since": OLD, "failure": "rsync 23"}, "hotsync fails: rsync 23"),
        ("standby", notes.RECEIVED, {"begun": 5e9, "complete": {"begun": OLD}}, "come in since then"),
        ("standby", notes.RECEIVED, {}, "no complete push has come in"),
    ],
)
def test_status_says_on_both_nodes_that_the_standby_falls_behind(
    both: Both, role_: str, name: str, known: dict[str, Any], kind: str
) -> None:
    both.on(both.alpha if role_ == "master" else both.beta)
    assert remarks() == {}
    both.patch.setattr(role, "current", lambda: role.Role(role_, 1, OLD, "test", "", role.boot_id()))
    notes.write(name, known)
    assert kind in remarks()["hotsync"]


def test_without_a_command_it_says_what_this_node_is_and_what_the_other_said(both: Both) -> None:
    both.beta.run("hotsync-slave", "promote")  # asks
    said = both.beta.run("hotsync-slave")
    assert said.code == 0 and "beta is standby of epoch 1 by hotpair.ini" in said.out
    assert "alpha last said it is master of epoch 1" in said.out


def test_a_node_that_has_no_role_yet_is_what_hotpair_ini_says_in_the_words_it_will_have(both: Both) -> None:
    written = both.beta.root / "var/lib/hotpair/role.json"
    said = both.beta.run("hotsync-slave")
    written.unlink()
    assert both.beta.run("hotsync-slave") == said and "beta is standby of epoch 1 by hotpair.ini" in said.out
    assert not written.exists()  # a question begins nothing
    both.beta.configure("")
    assert "beta is peer of epoch 0\n" in both.beta.run("hotsync-slave").out

"""A master hands over, the standby fails back, and keepalived decides."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from hotpair import config
from hotpair.exits import Refused
from hotpair.failover import demotion, follow, handover, notes, role, steps
from tests.ext.failovers import Both, me
from tests.ext.twonodes import BIN
from tests.lab.spaces import wait_until


def hotsync_that(both: Both, code: int) -> None:
    """Have the last push of a hand-over be a program that leaves a trace."""
    script = both.beta.root.parent / "hotsync"
    script.write_text(f'#!/bin/sh\necho push >> "$HOTPAIR_ROOT/trace"\necho no; exit {code}\n')
    script.chmod(0o755)
    there = handover.peer.program
    both.patch.setattr(handover.peer, "program", lambda name: str(script) if name == "hotsync" else there(name))


def test_a_hand_over_pushes_last_with_the_services_still_up_and_is_standby_then(both: Both) -> None:
    hotsync_that(both, 0)
    both.on(both.alpha)
    assert handover.hand_over(config.load()) == 1
    assert both.alpha.trace() == ["demote 1", "push", "stop web", "stop db"] and me() == ("standby", 1)


def test_a_hand_over_whose_push_fails_serves_on(both: Both) -> None:
    hotsync_that(both, 23)
    both.on(both.alpha)
    with pytest.raises(steps.Stopped, match="the last hotsync is not complete: exit 23: no"):
        handover.hand_over(config.load())
    assert both.alpha.trace() == ["demote 1", "push", "start db", "start web", "promote 1"]
    assert role.current().serving and me() == ("master", 1)


def test_a_hand_over_is_for_a_master_and_a_standby(both: Both) -> None:
    both.on(both.beta)
    with pytest.raises(Refused, match="no master that serves"):
        handover.hand_over(config.load())
    both.on(both.alpha)
    both.lose_alpha()
    both.alpha_is_back()
    (both.beta.root / "etc/hotpair/hotpair.ini").unlink()
    with pytest.raises(Refused, match="away, no standby"):
        handover.hand_over(config.load())
    assert role.current().serving and both.alpha.trace() == []


def test_failback_asks_the_master_and_is_promoted_when_it_has_handed_over(both: Both) -> None:
    said = both.beta.run("hotsync-slave", "failback")  # the real hand-over of alpha, whose hotsync has no way here
    assert said.code == 69 and "did not hand over: the last hotsync is not complete" in said.err
    assert both.alpha.trace()[-3:] == ["start db", "start web", "promote 1"]
    both.on(both.alpha)
    assert role.current().serving
    demotion.become_standby(1, "test", "")
    said = both.beta.run("hotsync-slave", "failback")
    assert said.code == 0, said
    both.on(both.beta)
    assert me() == ("master", 2)


@pytest.mark.parametrize(
    "text, state, left",
    [
        (b'INSTANCE "VI_1" MASTER 100\n', "MASTER", b""),
        (b'INSTANCE "VI_1" MASTER 100\nINSTANCE "VI_1" BACKUP 100\nINSTAN', "BACKUP", b"INSTAN"),
        (b'GROUP "G" FAULT 100\n', "FAULT", b""),
        (b'VS [192.0.2.1]:tcp:80 DOWN\nINSTANCE "a" DELETED 1\nINSTANCE x MASTER\n', "", b""),
        (b'INSTANCE "VI_1" MAST', "", b'INSTANCE "VI_1" MAST'),
    ],
)
def test_the_newest_line_of_keepalived_counts(text: bytes, state: str, left: bytes) -> None:
    assert follow.newest(text) == (state, left)


@pytest.fixture
def fifo(both: Both) -> Iterator[tuple[int, "subprocess.Popen[bytes]"]]:
    """Return the end to write to of a FIFO that a reader follows on beta."""
    path = both.beta.root / "fifo"
    os.mkfifo(path)
    code = f"import sys; from hotpair.failover import follow\nfollow.follow({str(path)!r}, settle=0.5, again=0.2)\n"
    env = {**os.environ, "HOTPAIR_ROOT": str(both.beta.root), "PYTHONPATH": str(BIN.parent / "lib")}
    reader = subprocess.Popen([sys.executable, "-c", code], env=env, stderr=subprocess.DEVNULL)
    fd = os.open(path, os.O_WRONLY)
    yield fd, reader
    os.close(fd)
    assert reader.wait(20) == 0


def test_keepalived_promotes_when_the_master_is_away_and_demotes(both: Both, fifo: tuple[int, Any]) -> None:
    both.on(both.beta)
    os.write(fifo[0], b'INSTANCE "VI_1" BACKUP 100\nINSTANCE "VI_1" MASTER 100\n')
    log = both.beta.root / "var/log/hotpair.log"
    assert wait_until(
        lambda: log.exists() and "keepalived says MASTER: preflight: alpha answers as master" in log.read_text(), 20
    )
    assert me() == ("standby", 1)
    both.lose_alpha()  # tried again without a further line
    assert wait_until(lambda: me() == ("master", 2) and "ended" in notes.read(notes.PROMOTION), 20)
    both.alpha_is_back()
    os.write(fifo[0], b'INSTANCE "VI_1" BACKUP 100\nINSTANCE "VI_1" MASTER 100\nINSTANCE "VI_1" FAULT 100\n')
    assert wait_until(lambda: me() == ("standby", 2), 20)
    assert both.beta.is_("web") == "down" and both.beta.trace().count("demote 2") == 1


def test_a_restart_of_keepalived_demotes_nobody(both: Both, fifo: tuple[int, Any]) -> None:
    both.on(both.beta)
    both.lose_alpha()
    os.write(fifo[0], b'INSTANCE "VI_1" MASTER 100\n')
    assert wait_until(lambda: "ended" in notes.read(notes.PROMOTION), 20)
    for _ in range(4):
        os.write(fifo[0], b'INSTANCE "VI_1" BACKUP 100\n')
        time.sleep(0.05)  # shorter than what settles
        os.write(fifo[0], b'INSTANCE "VI_1" MASTER 100\n')
    time.sleep(0.7)
    assert me() == ("master", 2) and "demote 2" not in both.beta.trace()

"""Whoever held the run lock answers for the events that found it held."""

import os

import pytest

from hotpair import config, marks, paths, run, storm, watch
from hotpair.cmd import syncr
from tests.ext.twonodes import Pair

SET = "demo"


@pytest.fixture
def pair(tmp_path, monkeypatch):
    pair = Pair(tmp_path)
    pair.agree("/srv/a.conf", "one")
    monkeypatch.setenv("HOTPAIR_ROOT", str(pair.alpha.root))
    monkeypatch.setattr("sys.argv", ["/usr/local/sbin/psync"])
    monkeypatch.setattr(storm, "ARMED", 0.02)  # no incrond reads the table
    watch.write(config.load())
    return pair


# when a program of a person's or cron's holds the lock, no later event need come to send this one's change
def test_event_that_found_the_lock_held_is_dealt_with_when_it_is_free(pair):
    scope = run.scope(config.load(), SET)
    with run.alone(scope, 1.0):
        pair.alpha.write("/srv/a.conf", "two")
        assert syncr.main([SET, "0"]) == 0
        assert pair.beta.text("/srv/a.conf") == "one"
    assert pair.beta.text("/srv/a.conf") == "two"
    assert not marks.waiting(SET)


def test_run_under_way_is_left_alone(pair):
    scope = run.scope(config.load(), SET)
    with run.alone(scope, 1.0):
        assert run.unless_under_way(scope) is None


def test_watch_that_was_switched_off_while_the_lock_was_held_is_on_again(pair):
    scope = run.scope(config.load(), SET)
    with run.alone(scope, 1.0):
        storm.switch_off(SET)
    assert not storm.away(SET)
    assert os.path.exists(paths.incron_table(SET))


def test_event_during_a_run_is_dealt_with_by_it(pair, monkeypatch):
    scope = run.scope(config.load(), SET)
    once, real = [], run.run

    def busy(scope, force=False):
        code = real(scope, force)
        if not once:
            once.append(1)
            pair.alpha.write("/srv/a.conf", "three")
            marks.add(SET, "0")
        return code

    monkeypatch.setattr(run, "run", busy)
    assert run.unless_under_way(scope) == 0
    assert pair.beta.text("/srv/a.conf") == "three"

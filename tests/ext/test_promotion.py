"""A standby is promoted: when it may be, in which order, and whatever ends it midway."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from hotpair import config
from hotpair.failover import demotion, notes, role, standing, steps, takeover
from hotpair.failover.takeover import Order
from hotpair.hotsync import backup
from tests.ext.failovers import DEAD, Both, ends_when_killed, killed_at, me, promote, remarks
from tests.ext.standbys import has_open
from tests.ext.twonodes import BIN
from tests.lab.spaces import wait_until


def test_a_standby_is_not_promoted_while_the_master_answers(both: Both) -> None:
    said = both.beta.run("hotsync-slave", "promote")
    assert said.code == 69 and "alpha answers as master of epoch 1" in said.err
    assert both.beta.trace() == []
    both.on(both.beta)
    assert me() == ("standby", 1)


def test_a_standby_is_not_promoted_unless_somebody_knows_that_the_master_is_dead(both: Both) -> None:
    both.lose_alpha()
    said = both.beta.run("hotsync-slave", "promote")
    assert said.code == 69 and "--master-is-dead REASON" in said.err
    both.beta.sections("standby", "fence = false")
    said = both.beta.run("hotsync-slave", "promote")
    assert said.code == 69 and "fence: exit 1" in said.err
    both.on(both.beta)
    assert me() == ("standby", 1)
    both.beta.sections("standby", "fence = true")
    said = both.beta.run("hotsync-slave", "promote")
    assert said.code == 0, said
    assert me() == ("master", 2)


def test_a_promotion_restores_starts_loads_and_runs_hooks_in_this_order_once(both: Both) -> None:
    both.lose_alpha()
    both.on(both.beta)
    record = promote()
    assert list(record["done"]) == [step.name for step in steps.STEPS]
    assert me() == ("master", 2) and role.current().reason == "it burns"
    assert both.beta.trace() == ["start db", "start web", "load", "promote 2"]
    assert both.beta.text("/rows") == "rows of alpha\n" and both.beta.text("/etc/app.conf") == "of alpha\n"
    assert promote()["already"] and len(both.beta.trace()) == 4
    assert not (both.beta.root / "var/lib/hotpair/hotsync/out").exists()  # its own hotsync begins there anew


def test_a_dry_promotion_says_the_steps_and_changes_nothing(both: Both) -> None:
    before = sorted(both.beta.root.rglob("*"))
    said = both.beta.run("hotsync-slave", "promote", "--dry-run")
    assert said.code == 0 and "REFUSED" in said.out and "services: start the services: db, web" in said.out
    assert [
        path for path in sorted(both.beta.root.rglob("*")) if path not in before and "var/log" not in str(path)
    ] == []


def test_a_dry_promotion_refuses_what_the_promotion_would(both: Both) -> None:
    said = both.beta.run("hotsync-slave", "promote", "--dry-run", "--skip", "servces")
    assert said.code == 64 and "servces: no step to be left out" in said.err
    both.beta.configure("")
    said = both.beta.run("hotsync-slave", "promote", "--dry-run")
    assert said.code == 78 and "no section [hotsync]" in said.err


def test_a_failing_step_stops_the_promotion_which_goes_on_there(both: Both) -> None:
    both.lose_alpha()
    both.beta.script("/etc/hotpair/restore.d/10-db", "#!/bin/sh\necho no space; exit 3\n")
    said = both.beta.run("hotsync-slave", "promote", "--master-is-dead", "x")
    assert said.code == 69 and "dumps: restore.d/10-db: exit 3: no space" in said.err and "--skip dumps" in said.err
    both.on(both.beta)
    assert "stopped at dumps" in remarks()["promotion"]
    assert standing.may_push(config.load()) == "the promotion of this node has not come to its end"
    both.beta.furnish()
    said = both.beta.run("hotsync-slave", "promote")
    assert said.code == 0, said
    assert both.beta.trace() == ["start db", "start web", "load", "promote 2"] and me() == ("master", 2)
    assert "promotion" not in remarks()


def test_a_step_that_cannot_be_done_may_be_left_out_but_not_those_that_keep_two_masters_apart(both: Both) -> None:
    both.lose_alpha()
    both.on(both.beta)
    both.beta.script("/etc/hotpair/restore.d/10-db", "#!/bin/sh\nexit 3\n")
    promote(DEAD._replace(without=("dumps",)))
    assert me() == ("master", 2) and "load" not in both.beta.trace()
    said = both.beta.run("hotsync-slave", "promote", "--skip", "fence")
    assert said.code == 64 and "fence" in said.err


def test_a_node_that_was_master_itself_since_does_not_load_older_data(both: Both) -> None:
    both.on(both.alpha)
    both.lose_alpha()  # beta could not be asked either way: both ends read the same file
    both.alpha_is_back()
    demotion.demote(config.load(), "test")
    both.alpha.live("/rows").write_text("newest\n")
    out = both.alpha.root / "var/lib/hotpair/hotsync/out/dumps"
    out.mkdir(parents=True, exist_ok=True)
    (out / "rows").write_text("a quarter of an hour old\n")
    promote()
    assert both.alpha.text("/rows") == "newest\n" and me() == ("master", 2)


def test_a_promotion_that_a_reboot_cut_short_starts_the_services_again_and_loads_what_it_had_not(both: Both) -> None:
    both.lose_alpha()
    both.on(both.beta)
    both.beta.script("/etc/hotpair/restore.d/10-db", "#!/bin/sh\nexit 3\n")
    with pytest.raises(steps.Stopped, match="dumps"):
        promote()
    both.beta.furnish()
    both.patch.setattr(role, "boot_id", lambda: "next")
    with pytest.raises(steps.Stopped, match="nobody says that the master is dead"):  # it may have come back
        promote(Order("test"))
    promote()
    assert me() == ("master", 3) and role.current().serving
    assert both.beta.trace() == ["start db", "start web", "start db", "start web", "load", "promote 3"]
    assert both.beta.text("/rows") == "rows of alpha\n"


def promoted_until(at: int) -> bool:
    return killed_at(at, promote, (backup, "unpack"))


def end_state(both: Both) -> dict[str, Any]:
    record = notes.read(notes.PROMOTION)
    masters = [(one.role, one.epoch, one.reason) for one in role.history()]
    kept = sorted(path.name for path in (both.beta.root / "var/lib/hotpair/hotsync").iterdir())
    files = [both.beta.text(path) for path in ("/rows", "/etc/app.conf", "/db.is", "/web.is")]
    order = list(dict.fromkeys(both.beta.trace()))
    return {"done": list(record["done"]), "roles": masters, "kept": kept, "files": files, "order": order}


def test_killed_before_any_of_its_changes_a_promotion_ends_in_the_same_state_when_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backed_up: tuple[bytes, str]
) -> None:
    states = ends_when_killed(
        tmp_path, monkeypatch, backed_up, lambda both: both.on(both.beta), promoted_until, end_state
    )
    assert len(states) > 2 * len(steps.STEPS)  # each step has changes to be killed at
    assert [state for state in states if state != states[-1]] == []


def test_what_a_killed_promotion_left_running_is_waited_for(both: Both) -> None:
    wait = "while [ ! -e {root}/go ]; do sleep 0.02; done"
    slow = f"#!/bin/sh\necho begin >> {{root}}/trace\n{wait}\necho end >> {{root}}/trace\n"
    both.beta.script("/etc/hotpair/restore.d/10-db", slow)
    both.lose_alpha()
    argv = [sys.executable, "-IS", str(BIN / "hotsync-slave"), "promote", "--master-is-dead", "x"]
    env = {"PATH": os.environ["PATH"], "HOTPAIR_ROOT": str(both.beta.root)}
    with subprocess.Popen(argv, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as first:
        assert wait_until(lambda: "begin" in both.beta.trace(), 20)
        first.kill()
    with subprocess.Popen(argv, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as second:
        record = both.beta.root / "var/lib/hotpair/hotsync/hook.pid"
        assert wait_until(lambda: has_open(second.pid, record), 20)
        time.sleep(0.5)  # time to start another one, if it did not wait
        both.beta.live("/go").touch()
        assert second.wait(30) == 0
    assert both.beta.trace()[2:6] == ["begin", "end", "begin", "end"]


def test_two_promotions_at_once_are_one(both: Both) -> None:
    both.on(both.beta)
    with takeover.alone():
        said = both.beta.run("hotsync-slave", "promote", "--master-is-dead", "x")
    assert said.code == 75 and "another hotsync-slave" in said.err
    assert me() == ("standby", 1)


def test_a_backup_is_restored_below_a_directory_and_nowhere_else(both: Both, tmp_path: Path) -> None:
    (tmp_path / "look").mkdir()
    said = both.beta.run("hotsync-slave", "restore", str(tmp_path / "look"))
    assert said.code == 0, said
    assert (tmp_path / "look/etc/app.conf").read_text() == "of alpha\n" and not both.beta.live("/etc/app.conf").exists()
    assert both.beta.run("hotsync-slave", "restore", str(tmp_path / "nowhere")).code == 66
    both.beta.write("/etc/app.conf", "of beta\n")
    said = both.beta.run("hotsync-slave", "restore", "/")
    assert said.code == 0 and both.beta.text("/etc/app.conf") == "of alpha\n"
    assert list((both.beta.root / "var/lib/hotpair/hotsync").glob("before-restore-*/config.tar.xz"))


def test_a_rehearsal_finds_what_a_promotion_would_stop_at_and_changes_nothing(both: Both) -> None:
    archive = both.beta.root / "var/lib/hotpair/hotsync/out/config.tar.xz"
    archive.write_bytes(archive.read_bytes()[:-9])
    said = both.beta.run("hotsync-slave", "rehearse", "--json")
    found = json.loads(said.out)
    assert said.code == found["level"] == 2
    assert "backup" in [one["topic"] for one in found["findings"] if one["level"] == "critical"]
    assert both.beta.trace() == ["rehearse"]
    assert both.alpha.run("hotsync-slave", "rehearse", "--cron") == (0, "", "")


def test_a_node_without_hotsync_is_no_standby_to_be_promoted(both: Both) -> None:
    both.beta.configure("[files x]\npaths = /srv/a\n")
    said = both.beta.run("hotsync-slave", "promote", "--master-is-dead", "x")
    assert said.code == 78 and "no section [hotsync]" in said.err

"""A master is demoted, and keeps what its peer never saw, whatever ends it midway."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from hotpair import config
from hotpair.failover import demotion, follow, gate, notes, peer_role, role, standing, unseen
from hotpair.status import CRITICAL
from tests.ext.failovers import Both, ends_when_killed, killed_at, me, promote, remarks
from tests.ext.standbys import has_open
from tests.ext.twonodes import BIN
from tests.lab.spaces import wait_until


def test_a_demotion_stops_everything_and_keeps_what_the_peer_never_saw(both: Both) -> None:
    both.on(both.alpha)
    both.alpha.write("/srv/old", "pushed")
    both.alpha.live("/srv/link").symlink_to("/etc/passwd")
    later = time.time() + 1
    notes.write(notes.SENT, {"last_complete": later, "last_complete_start": later})
    (both.alpha.root / "srv/deep").mkdir()
    for name in ("new", "deep/\n\udcff", "deep/secret"):
        both.alpha.live(f"/srv/{name}").write_text("unseen")
        os.utime(both.alpha.live(f"/srv/{name}"), (later + 9, later + 9))
    os.utime(both.alpha.live("/srv/link"), (later + 9, later + 9), follow_symlinks=False)
    both.alpha.live("/srv/deep/secret").chmod(0o600)
    dump = '#!/bin/sh\necho "$HOTPAIR_DATABASES" > "$HOTPAIR_DUMPS/rows"\necho dump >> {root}/trace\n'
    both.alpha.script("/etc/hotpair/hotsync.d/10-db", dump)
    note = demotion.demote(config.load(), "test")
    assert sorted(note["files"]) == ["/srv/deep/\n\udcff", "/srv/deep/secret", "/srv/link", "/srv/new"]
    kept = Path(note["directory"])
    assert (kept / "srv/deep/\n\udcff").read_text() == "unseen" and os.readlink(kept / "srv/link") == "/etc/passwd"
    assert (kept / "srv/deep/secret").stat().st_mode & 0o777 == 0o600 and kept.stat().st_mode & 0o777 == 0o700
    assert both.alpha.trace() == ["demote 1", "dump", "stop web", "stop db"]
    assert (kept.parent / "1-dumps/rows").read_text() == "enabled\n"
    assert me() == ("standby", 1) and "4 files" in remarks()["unseen"]
    assert demotion.demote(config.load(), "test")["already"]


def test_an_old_master_that_comes_back_is_demoted_with_the_epoch_of_the_new_one(both: Both) -> None:
    both.lose_alpha()
    both.on(both.beta)
    promote()
    both.alpha_is_back()
    both.on(both.alpha)
    both.alpha.write("/srv/unseen", "x")
    assert "standby of epoch 2" in standing.may_push(config.load())
    pushed = {"node": "beta", "role": "master", "epoch": 2}
    assert "unseen writes" in gate.decide(role.current(), pushed).why
    said = both.alpha.run("hotsync-slave", "demote")
    assert said.code == 0 and "/srv/unseen" in said.out
    assert gate.decide(role.current(), pushed).accepted and both.alpha.is_("db") == "down"
    assert both.alpha.trace()[0] == "demote 1" and me() == ("standby", 2)


# as a plugin of ours: a server that does not run is a failure, and leaves the last dump alone
DUMP = """#!/bin/sh
[ "$(cat {root}/db.is)" = up ] || { echo no server; exit 1; }
echo rows > "$HOTPAIR_DUMPS/.rows.new" && mv "$HOTPAIR_DUMPS/.rows.new" "$HOTPAIR_DUMPS/rows"
"""


def demoted_until(at: int) -> bool:
    return killed_at(at, lambda: demotion.demote(config.load(), "test"), (os, "unlink"), (os, "copy_file_range"))


def demoted_state(both: Both) -> dict[str, Any]:
    note, place = notes.read(notes.UNSEEN), both.alpha.root / "var/lib/hotpair/hotsync"
    kept = Path(note["directory"])
    return {
        "role": me(),
        "kept": {str(path.relative_to(kept)): _what(path) for path in kept.rglob("*")},
        "dumps": {path.name: path.read_text() for path in (place / "unseen/1-dumps").iterdir()},
        "places": len(list((place / "unseen").iterdir())),
        "noted": (sorted(note["files"]), note["dumps"], "ended" in note),
        "notes": sorted(path.name for path in place.iterdir()),
        "order": list(dict.fromkeys(both.alpha.trace())),
    }


def _what(path: Path) -> str:
    return os.readlink(path) if path.is_symlink() else "" if path.is_dir() else path.read_text()


def test_killed_before_any_of_its_changes_a_demotion_keeps_the_same_when_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backed_up: tuple[bytes, str]
) -> None:
    def begin(both: Both) -> None:
        both.on(both.alpha)
        both.alpha.script("/etc/hotpair/hotsync.d/10-db", DUMP)
        both.alpha.live("/db.is").write_text("up\n")
        both.alpha.live("/srv/deep").mkdir()
        for name in ("a", "deep/b"):
            both.alpha.write(f"/srv/{name}", f"unseen {name}")
        both.alpha.live("/srv/deep/link").symlink_to("b")
        notes.write(notes.SERVED, {"boot": role.boot_id()})

    states = ends_when_killed(tmp_path, monkeypatch, backed_up, begin, demoted_until, demoted_state)
    assert len(states) > 20  # notes, hooks, dumps, services, files, the role: each is killed at
    assert states[-1]["dumps"] == {"rows": "rows\n"} and states[-1]["places"] == 2
    assert states[-1]["noted"] == (["/srv/a", "/srv/deep/b", "/srv/deep/link"], [], True)
    assert [state for state in states if state != states[-1]] == []


def test_a_master_whose_demotion_was_killed_says_so_and_a_promotion_takes_it_back(both: Both) -> None:
    both.on(both.alpha)
    both.patch.setattr(peer_role, "ask", lambda _: None)
    both.alpha.live("/db.is").write_text("up\n")

    def cut_short() -> list[int]:
        found = standing.remarks(config.load(), role.current())
        return [one.level for one in found if "cut short: it is master, and serves nothing" in one.what]

    at = 0
    while both.alpha.is_("db") == "up":
        assert not cut_short() or at
        assert not demoted_until(at)
        at += 1
    assert cut_short() == [CRITICAL] and me() == ("master", 1)
    assert promote() == {"epoch": 1, "already": True}
    assert both.alpha.is_("db") == "up" and me() == ("master", 1) and both.alpha.trace()[-1] == "promote 1"
    assert not cut_short()


def demoting(both: Both) -> "subprocess.Popen[bytes]":
    argv = [sys.executable, "-IS", str(BIN / "hotsync-slave"), "demote"]
    env = {"PATH": os.environ["PATH"], "HOTPAIR_ROOT": str(both.alpha.root)}
    return subprocess.Popen(argv, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_a_dump_that_a_killed_demotion_left_running_is_waited_for(both: Both) -> None:
    both.on(both.alpha)
    wait = "while [ ! -e {root}/go ]; do sleep 0.02; done"
    slow = f"#!/bin/sh\necho begin >> {{root}}/trace\n{wait}\n{DUMP}\necho end >> {{root}}/trace\n"
    both.alpha.script("/etc/hotpair/hotsync.d/10-db", slow)
    both.alpha.live("/db.is").write_text("up\n")
    with demoting(both) as first:
        assert wait_until(lambda: "begin" in both.alpha.trace(), 20)
        first.kill()
    with demoting(both) as second:
        record = both.alpha.root / "var/lib/hotpair/hotsync/plugin.pid"
        assert wait_until(lambda: has_open(second.pid, record), 20)
        time.sleep(1.0)  # time to start another one, if it did not wait
        both.alpha.live("/go").touch()
        assert second.wait(60) == 0
    assert [line for line in both.alpha.trace() if line in ("begin", "end")] == ["begin", "end", "begin", "end"]


def test_a_directory_that_goes_while_it_is_looked_through_hides_no_other_file(both: Both) -> None:
    both.on(both.alpha)
    both.alpha.live("/srv/goes").mkdir()
    both.alpha.write("/srv/stays", "unseen")
    real = os.open

    def opens(path: Any, *words: Any, **more: Any) -> int:
        if path == "goes":
            raise FileNotFoundError
        return real(path, *words, **more)

    with both.patch.context() as patch:
        patch.setattr(os, "open", opens)
        assert unseen.keep(("/srv",), 0.0, 1)["files"] == ["/srv/stays"]


def test_keepalived_demotes_a_master_that_has_already_heard_of_a_later_one(both: Both) -> None:
    both.on(both.alpha)
    gate.hear(role.current(), {"node": "beta", "role": "master", "epoch": 2})
    assert follow.become("BACKUP") == ""
    assert both.alpha.trace() == ["demote 1", "stop web", "stop db"] and role.current().reason != gate.FENCED

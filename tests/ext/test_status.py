"""`hotpair status`: what it says, how it exits, and that "in sync" is said only of what was compared."""

import fcntl
import json
import os
import pty
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.ext.twonodes import BIN, Node, Pair

TOP = {"state", "code", "at", "node", "peer", "role", "epoch", "sets", "problems"}
OF_A_SET = {
    *("name", "state", "in_sync", "proved", "proof_age", "waiting", "held", "conflict", "failed", "unreadable"),
    *("unsupported", "label", "owed", "failed_commands", "repaired", "swept_only", "canary", "peer_away_since"),
}
OF_A_PROBLEM = {"state", "set", "path", "kind", "since", "what", "remedy"}
OK, WARNING, CRITICAL = 0, 1, 2


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    """Two nodes with tables, which agree on one file: all is well."""
    pair = Pair(tmp_path)
    for node in pair.nodes:
        assert node.hotpair("tables").code == 0
    pair.agree("/srv/a.conf", "one")
    return pair


def status(node: Node) -> dict[str, Any]:
    """Return the status; the exit code must be the one it tells."""
    said = node.hotpair("status", "--json")
    found = json.loads(said.out)
    assert (said.code, said.err) == (found["code"], "")
    return found


def only_set(node: Node) -> dict[str, Any]:
    return status(node)["sets"][0]


def problems(node: Node) -> dict[str, dict[str, Any]]:
    return {one["kind"]: one for one in status(node)["problems"]}


def database(node: Node, statement: str, *values: object) -> None:
    """Change what the node remembers: time cannot be waited for."""
    with sqlite3.connect(node.root / "var/lib/hotpair/archive.db") as db:
        assert db.execute(statement, values).rowcount > 0


def test_all_is_well_when_the_trees_were_compared_and_equal(pair: Pair) -> None:
    found = status(pair.alpha)
    assert (found["state"], found["code"], found["problems"]) == ("ok", OK, [])
    one = found["sets"][0]
    assert one["in_sync"] and one["waiting"] == 0
    assert 0 <= time.time() - one["proved"] < 60


def test_the_keys_for_machines_stay(pair: Pair) -> None:
    pair.agree("/srv/a.conf", "two")
    pair.cut()
    pair.alpha.write("/srv/a.conf", "three")
    pair.alpha.sweep()
    found = status(pair.alpha)
    assert set(found) == TOP
    assert set(found["sets"][0]) == OF_A_SET
    assert found["problems"] and all(set(one) == OF_A_PROBLEM for one in found["problems"])
    assert (found["node"], found["role"], found["epoch"]) == ("alpha", "peer", 0)


def test_without_a_comparison_nothing_is_called_in_sync(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    pair.alpha.hotpair("tables")
    pair.alpha.write("/srv/a.conf", "one")
    pair.alpha.run("syncr", "demo", "0")
    assert pair.beta.text("/srv/a.conf") == "one", "everything is equal, but nobody has compared"
    said = pair.alpha.hotpair("status")
    assert (said.code, "in sync" in said.out) == (WARNING, False)
    assert "demo: proof: not yet compared with the peer: psync demo" in said.out
    assert not only_set(pair.alpha)["in_sync"]


def test_the_peer_is_not_asked(pair: Pair) -> None:
    os.rename(pair.beta.root, pair.beta.root.with_name("gone"))
    assert status(pair.alpha)["code"] == OK


def test_a_proof_that_is_old_is_a_warning_and_no_longer_in_sync(pair: Pair) -> None:
    database(pair.alpha, "UPDATE fact SET value = ? WHERE key = 'proved'", time.time() - 19 * 60)
    assert status(pair.alpha)["code"] == OK
    database(pair.alpha, "UPDATE fact SET value = ? WHERE key = 'proved'", time.time() - 21 * 60)
    found = status(pair.alpha)
    assert (found["code"], found["sets"][0]["in_sync"]) == (WARNING, False)
    assert found["problems"][0]["kind"] == "proof"
    assert "last compared equal at" in pair.alpha.hotpair("status").out


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda file: file.write_text("two"), id="written"),
        pytest.param(lambda file: file.chmod(0o600), id="chmod"),
        pytest.param(lambda file: file.unlink(), id="removed"),
        pytest.param(lambda file: file.with_name("new.txt").write_text("x"), id="created"),
    ],
)
def test_a_change_that_no_run_has_seen_is_waiting_and_not_in_sync(pair: Pair, change: Callable[[Path], object]) -> None:
    time.sleep(0.1)
    assert pair.alpha.sweep().code == 0  # the signature is trusted by now
    change(pair.alpha.live("/srv/a.conf"))
    one = only_set(pair.alpha)
    assert (one["waiting"], one["in_sync"]) == (1, False)
    assert pair.alpha.sweep().code == 0
    one = only_set(pair.alpha)
    assert (one["waiting"], one["in_sync"]) == (0, True)


def test_a_change_that_was_seen_but_not_agreed_is_waiting(pair: Pair) -> None:
    pair.cut()
    pair.alpha.write("/srv/a.conf", "two")
    pair.alpha.sweep()
    assert only_set(pair.alpha)["waiting"] == 1


def test_a_change_that_should_have_been_sent_by_now_is_a_warning(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    from hotpair import config
    from hotpair import status as module

    pair.alpha.write("/srv/a.conf", "two")
    monkeypatch.setenv("HOTPAIR_ROOT", str(pair.alpha.root))
    assert module.collect(config.load()).level == module.OK
    monkeypatch.setattr(module, "LATE", 0.0)
    (remark,) = module.collect(config.load()).sets[0].remarks
    assert (remark.level, remark.kind, remark.path) == (module.WARNING, "waiting", "/srv/a.conf")


def test_an_event_that_nobody_dealt_with_is_a_warning(pair: Pair) -> None:
    mark = pair.alpha.live("/var/lib/hotpair/sets/demo/marks/taken/0")
    mark.write_text(".")
    assert status(pair.alpha)["code"] == OK
    os.utime(mark, (time.time() - 300,) * 2)
    assert problems(pair.alpha)["event"]["state"] == "warning"


def test_a_peer_that_is_away_is_a_warning_and_critical_after_five_minutes(pair: Pair) -> None:
    pair.cut()
    pair.alpha.write("/srv/a.conf", "two")
    began = time.time()
    pair.alpha.sweep()
    found = status(pair.alpha)
    assert found["code"] == WARNING
    assert began - 1 <= found["sets"][0]["peer_away_since"] <= time.time()
    database(pair.alpha, "UPDATE problem SET since = ? WHERE kind = 'peer'", time.time() - 301)
    assert problems(pair.alpha)["peer"]["state"] == "critical"
    pair.mend()
    assert pair.alpha.sweep().code == 0
    assert status(pair.alpha)["code"] == OK


def test_a_failed_check_is_critical_on_the_node_that_sent(pair: Pair) -> None:
    pair.beta.write_ini("syncr.ini", "[/srv/a.conf]\ncheck = grep -q good %s\n")
    pair.alpha.write("/srv/a.conf", "bad")
    pair.alpha.sweep()
    found = problems(pair.alpha)["failed"]
    assert (found["state"], found["path"], found["remedy"]) == (
        "critical",
        "/srv/a.conf",
        "mend that, then hotpair retry demo",
    )
    assert "check failed" in found["what"] and "grep -q good" in found["what"]
    assert only_set(pair.alpha)["failed"] == 1
    assert pair.beta.text("/srv/a.conf") == "one"
    pair.alpha.write("/srv/a.conf", "good")
    pair.alpha.sweep()
    assert status(pair.alpha)["code"] == OK


def test_commands_that_fail_are_a_warning_and_critical_when_given_up(pair: Pair) -> None:
    pair.alpha.write_ini("syncr.ini", "[/srv/a.conf]\nrun = false\n")
    pair.alpha.write("/srv/a.conf", "two")
    pair.alpha.sweep()
    found = problems(pair.alpha)["commands"]
    assert (found["state"], found["path"]) == ("warning", "/srv/a.conf")
    for _ in range(4):
        pair.alpha.hotpair("retry")
    found = problems(pair.alpha)["commands"]
    assert (found["state"], "given up after 5 attempts" in found["what"]) == ("critical", True)
    assert found["remedy"] == "mend that, then hotpair retry demo"


def test_commands_that_nobody_starts_are_a_warning(pair: Pair) -> None:
    pair.alpha.write_ini("syncr.ini", "[/srv/a.conf]\nrun = true\n")
    with sqlite3.connect(pair.alpha.root / "var/lib/hotpair/archive.db") as db:
        row = ("demo", "/srv/a.conf", b"/srv/a.conf", time.time() - 300)
        db.execute("INSERT INTO owed (set_name, section, path, since) VALUES (?, ?, ?, ?)", row)
    assert problems(pair.alpha)["commands"]["what"] == "commands not run for 1 changed paths"


def test_a_conflict_is_a_warning_with_the_words_that_end_it(pair: Pair) -> None:
    pair.alpha.write("/srv/a.conf", "alpha wrote")
    pair.beta.write("/srv/a.conf", "beta wrote")
    pair.alpha.sweep()
    for node in pair.nodes:
        found = problems(node)["conflict"]
        assert (found["state"], found["path"]) == ("warning", "/srv/a.conf")
        assert found["remedy"] == "hotpair conflicts, then hotpair resolve /srv/a.conf --take here|peer"
        assert only_set(node)["conflict"] == 1


def test_what_is_held_is_a_warning_and_not_in_sync(tmp_path: Path) -> None:
    pair = Pair(tmp_path, "[files demo]\npaths = /srv/a.conf\nprefer = hold\n")
    pair.agree("/srv/a.conf", "base")
    pair.alpha.write("/srv/a.conf", "alpha wrote")
    pair.beta.write("/srv/a.conf", "beta wrote")
    pair.alpha.sweep()
    found = status(pair.alpha)
    assert (found["code"], found["sets"][0]["held"], found["sets"][0]["in_sync"]) == (WARNING, 1, False)


def test_a_pipe_is_listed_as_unsupported(pair: Pair) -> None:
    os.mkfifo(pair.alpha.live("/srv/pipe.txt"))
    pair.alpha.sweep()
    found = problems(pair.alpha)["unsupported"]
    assert (found["state"], found["path"]) == ("warning", "/srv/pipe.txt")
    assert only_set(pair.alpha)["unsupported"] == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_cannot_be_read_is_critical(pair: Pair) -> None:
    pair.alpha.write("/srv/secret.txt", "x")
    pair.alpha.live("/srv").chmod(0o000)
    pair.alpha.sweep()
    found = problems(pair.alpha)
    pair.alpha.live("/srv").chmod(0o755)
    assert found["unreadable"]["state"] == "critical"


def test_what_a_sweep_repaired_is_counted(pair: Pair) -> None:
    before = only_set(pair.alpha)["repaired"]
    pair.agree("/srv/a.conf", "two")
    assert only_set(pair.alpha)["repaired"] == before + 1


def test_without_tables_a_warning_says_that_nothing_is_watched(pair: Pair) -> None:
    pair.alpha.live("/etc/incron.d/hotpair-demo").unlink()
    found = problems(pair.alpha)["watch"]
    assert (found["state"], found["remedy"]) == ("warning", "hotpair tables")
    assert only_set(pair.alpha)["canary"]["installed"] is False


def test_events_that_do_not_arrive_are_a_warning(pair: Pair) -> None:
    pair.alpha.live("/var/lib/hotpair/sets/demo/canary-dead").write_text(f"{int(time.time()) - 60} 1\n")
    found = problems(pair.alpha)["watch"]
    assert (found["state"], "no event arrives" in found["what"]) == ("warning", True)


def test_a_directory_that_incrond_cannot_watch_is_listed_as_swept_only(tmp_path: Path) -> None:
    pair = Pair(tmp_path, "[files demo]\npaths = /srv/my files/x\n")
    for node in pair.nodes:
        node.live("/srv/my files").mkdir()
    pair.alpha.hotpair("tables")
    assert only_set(pair.alpha)["swept_only"] == ["/srv/my files"]
    assert "/srv/my files: swept" in pair.alpha.hotpair("status").out


def test_a_configuration_that_cannot_be_used_is_critical(pair: Pair) -> None:
    pair.alpha.configure("[files demo]\npaths = rel\n")
    found = status(pair.alpha)
    assert (found["code"], found["problems"][0]["kind"]) == (CRITICAL, "configuration")
    said = pair.alpha.hotpair("status")
    assert (said.code, said.out.startswith("critical: configuration: ")) == (CRITICAL, True)


def test_a_role_file_that_is_none_is_critical(pair: Pair) -> None:
    pair.alpha.live("/var/lib/hotpair/role.json").write_text("{")
    found = status(pair.alpha)
    assert (found["code"], found["role"]) == (CRITICAL, "unknown")


def test_a_configuration_without_a_set_is_a_warning(tmp_path: Path) -> None:
    pair = Pair(tmp_path, "")
    assert problems(pair.alpha)["empty"]["state"] == "warning"


def test_status_does_not_wait_for_a_run(pair: Pair) -> None:
    with ExitStack() as stack:
        for kind in ("run", "state"):
            lock = stack.enter_context(open(pair.alpha.live(f"/run/hotpair/demo.{kind}.lock"), "w"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        began = time.monotonic()
        assert status(pair.alpha)["code"] == OK
        assert time.monotonic() - began < 10


def test_a_name_from_a_user_forges_no_line_and_no_markup(pair: Pair) -> None:
    name = "/srv/[red]x\ncritical: forged\x1b[2J.txt"
    os.mkfifo(pair.alpha.live(name))
    pair.alpha.sweep()
    for said in (pair.alpha.hotpair("status").out, on_a_terminal(pair.alpha)):
        assert "[red]x\\ncritical: forged\\x1b[2J.txt" in said
        assert "\ncritical" not in said and "\x1b[2J" not in said


def on_a_terminal(node: Node) -> str:
    """Return what `hotpair status` writes to a terminal."""
    outer, inner = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-IS", str(BIN / "hotpair"), "status"],
        env={"PATH": os.environ["PATH"], "HOTPAIR_ROOT": str(node.root), "TERM": "xterm", "COLUMNS": "200"},
        stdin=inner,
        stdout=inner,
        stderr=inner,
    )
    os.close(inner)
    text = b""
    try:
        while chunk := os.read(outer, 4096):
            text += chunk
    except OSError:  # the terminal's other end is closed
        pass
    os.close(outer)
    process.wait(10)
    return text.decode(errors="replace")


def test_a_person_at_a_terminal_gets_a_table(pair: Pair) -> None:
    plain = re.sub(r"\x1b\[[0-9;]*m", "", on_a_terminal(pair.alpha))
    assert "│ demo │" in plain and "in sync, compared" in plain


def test_a_line_stands_for_each_problem_with_its_remedy(pair: Pair) -> None:
    os.mkfifo(pair.alpha.live("/srv/pipe.txt"))
    pair.alpha.live("/etc/incron.d/hotpair-demo").unlink()
    pair.alpha.sweep()
    lines = pair.alpha.hotpair("status").out.splitlines()
    assert lines[0].startswith("alpha (peer, epoch 0) with local:") and lines[0].endswith(": warning")
    assert lines[1].startswith("demo: warning: ")
    assert len(lines) == 2 + len(status(pair.alpha)["problems"]) == 4
    assert lines[2].endswith(": remove it, or take it out of set demo")
    assert lines[3].endswith(": hotpair tables")

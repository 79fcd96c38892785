"""The program `hotpair` over two prefixes: check, history, restore, conflicts, retry, plan, tables, import."""

import fcntl
import os
import re
import sqlite3
import stat
import time
from pathlib import Path

import pytest

from hotpair import config, run
from hotpair import restore as restoring
from hotpair.cmd import hotpair as program
from tests.ext.twonodes import BIN, Node, Pair

MAN = Path(__file__).parents[2] / "docs/man"
HOSTILE = ["x;touch pwned;y.txt", "a\nb.txt", "$(touch pwned).txt", "-rf.txt", 'it\'s "[red]".txt', "\udcff\udcfe.txt"]


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair(tmp_path)


@pytest.fixture
def holding(tmp_path: Path) -> Pair:
    return Pair(tmp_path, "[files demo]\npaths = /srv/a.conf\nprefer = hold\n")


def snapshot(node: Node) -> dict[str, object]:
    """Return every file of a prefix with its content and stat, and every row of its archive."""
    found: dict[str, object] = {}
    for path in sorted(node.root.rglob("*")):
        if path.name.startswith("archive.db") or path.suffix == ".lock":
            continue
        seen = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(seen.st_mode) else b""
        found[str(path)] = (seen.st_ino, seen.st_mode, content) + ((seen.st_mtime_ns,) if content else ())
    with sqlite3.connect(node.root / "var/lib/hotpair/archive.db") as db:
        for table in ("path", "fact", "problem", "content", "owed"):
            found[table] = db.execute(f"SELECT * FROM {table}").fetchall()
    return found


# --- check


def fake(directory: Path, name: str, text: str) -> None:
    file = directory / name
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)


def rsync(directory: Path, version: str, proof: str, package: str = "") -> dict[str, str]:
    """Make an rsync that says it is of some version, first on PATH."""
    directory.mkdir()
    text = f'case $1 in --version) echo "rsync  version {version}  protocol version 32";; --help) echo "{proof}";; esac'
    fake(directory, "rsync", text)
    fake(directory, "dpkg-query", f'echo "{package}"' if package else "exit 1")
    return {"PATH": f"{directory}:{os.environ['PATH']}"}


def test_a_sound_configuration_is_said_to_be_sound(pair: Pair, tmp_path: Path) -> None:
    said = pair.alpha.hotpair("check", env=rsync(tmp_path / "bin", "3.5.1", "--confine-root"))
    assert said == (0, "configuration is sound: 1 set\n", "")


def test_check_says_every_mistake_of_both_files_at_once(pair: Pair) -> None:
    pair.alpha.configure("[files Demo]\npaths =\n    /srv/x\n    srv/y\nkep = 3\n[files other]\npaths = /srv/x\n")
    pair.alpha.write_ini("syncr.ini", "[/srv/x]\nrun = true\nchek = true\n")
    said = pair.alpha.hotpair("check")
    assert said.code == os.EX_CONFIG
    ini, tasks = (f"{pair.alpha.root}/etc/hotpair/{name}" for name in ("hotpair.ini", "syncr.ini"))
    lines = [line for line in said.out.splitlines() if not line.startswith("warning: ")]
    assert [line.split(": ")[0] for line in lines] == [f"{ini}:{n}" for n in (4, 7, 8, 10)] + [f"{tasks}:3"]
    assert all(len(line.split(": ")) >= 3 for line in lines)


def test_check_warns_of_commands_that_never_run(pair: Pair, tmp_path: Path) -> None:
    pair.alpha.configure("[files demo]\npaths = /srv/*.conf\n[tree home]\nroot = /home\n")
    pair.alpha.write_ini("syncr.ini", "".join(f"[{p}]\nrun = true\n" for p in ("/srv/a.conf", "/home/*/x", "/hom/x")))
    said = pair.alpha.hotpair("check", env=rsync(tmp_path / "bin", "3.5.1", "--confine-root"))
    ini = f"{pair.alpha.root}/etc/hotpair/syncr.ini"
    assert said.out == (
        f"warning: {ini}: [/hom/x] is in no set: its commands never run\nconfiguration is sound: 2 sets\n"
    )


def test_check_says_that_a_fence_is_not_there(pair: Pair) -> None:
    pair.alpha.configure("[failover]\nfence = /usr/local/sbin/fense now\n")
    said = pair.alpha.hotpair("check")
    assert said.code == os.EX_CONFIG and "[failover] '/usr/local/sbin/fense now' is not run: " in said.out


def test_a_conflict_that_a_node_is_to_win_which_there_is_not_is_refused(pair: Pair) -> None:
    for node in pair.nodes:
        node.configure("[files demo]\npaths = /srv/*.conf\nprefer = gamma\n")
    said = pair.alpha.run("psync")
    assert said.code == os.EX_TEMPFAIL and "prefer = gamma: neither node is called so" in said.err


@pytest.mark.parametrize(
    "words", [("--check", "-n"), ("--cron", "--retry"), ("--once", "--until-quiet"), ("--check", "--retry")]
)
def test_modes_that_contradict_each_other_are_refused(pair: Pair, words: tuple[str, ...]) -> None:
    said = pair.alpha.run("psync", *words)
    assert said.code == os.EX_USAGE and "not allowed with" in said.err


@pytest.mark.parametrize(
    "words",
    [
        ("hotpair", "check"),
        ("psync",),
        ("psync", "--cron"),
        ("syncr", "demo", "0"),
        ("syncr-receive", "demo"),
        ("hotpair", "tables"),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("wrong", ["mode", "mistake"])
def test_with_a_configuration_that_is_wrong_nothing_is_done(pair: Pair, words: tuple[str, ...], wrong: str) -> None:
    pair.alpha.write("/srv/a.conf", "new")
    if wrong == "mode":
        (pair.alpha.root / "etc/hotpair/hotpair.ini").chmod(0o666)
    else:
        pair.alpha.configure("[files demo]\npaths = /srv/a.conf\nkep = 3\n")
    before = {str(p) for node in pair.nodes for p in node.root.rglob("*")}
    assert pair.alpha.run(*words).code == os.EX_CONFIG
    after = {str(p) for node in pair.nodes for p in node.root.rglob("*")}
    assert after - before <= {
        f"{pair.alpha.root}/var",
        f"{pair.alpha.root}/var/log",
        f"{pair.alpha.root}/var/log/hotpair.log",
    }


def test_a_table_that_would_paste_names_is_refused(pair: Pair) -> None:
    assert pair.alpha.hotpair("tables").code == 0
    table = pair.alpha.live("/etc/incron.d/hotpair-demo")
    table.write_text(table.read_text() + "/srv IN_CLOSE_WRITE syncr demo $@\n")
    said = pair.alpha.hotpair("check")
    assert said.code == os.EX_CONFIG
    assert f"{table}:{len(table.read_text().splitlines())}: a `$`" in said.out


@pytest.mark.parametrize(
    "version, proof, package, warned",
    [
        pytest.param("3.5.1", "--confine-root", "", False, id="upstream's floor"),
        pytest.param("3.6.0", "--confine-root", "", False, id="newer"),
        pytest.param("3.5.0", "--confine-root", "", True, id="3.5.0 without a package"),
        pytest.param("3.5.0", "--confine-root", "3.5.0+ds1-0+deb12u1", False, id="Debian's floor"),
        pytest.param("3.5.0", "--confine-root", "3.5.0+ds1-0", True, id="Debian's before it"),
        pytest.param("3.4.1", "", "", True, id="old"),
        pytest.param("3.9.9", "", "", True, id="a number without the proof"),
    ],
)
def test_rsync_below_the_security_floor_is_a_warning(
    pair: Pair, tmp_path: Path, version: str, proof: str, package: str, warned: bool
) -> None:
    said = pair.alpha.hotpair("check", env=rsync(tmp_path / "bin", version, proof, package))
    assert said.code == 0
    assert said.out.startswith("warning: rsync") is warned
    assert said.out.endswith("configuration is sound: 1 set\n")


def test_a_missing_rsync_is_a_warning(pair: Pair, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    said = pair.alpha.hotpair("check", env={"PATH": str(tmp_path / "empty")})
    assert (said.code, said.out.splitlines()[0]) == (
        0,
        "warning: rsync is not there, and larger files need it: apt install rsync",
    )


# --- history and restore


def test_history_tells_number_time_size_digest_and_node(pair: Pair) -> None:
    began = time.time()
    pair.agree("/srv/a.conf", "one")
    pair.beta.write("/srv/a.conf", "three")
    assert pair.beta.sweep().code == 0
    for node in pair.nodes:
        found = node.json("history", "/srv/a.conf")
        assert (found["path"], found["set"]) == ("/srv/a.conf", "demo")
        told = [(one["number"], one["kind"], one["size"], one["node"]) for one in found["contents"]]
        assert told == [(0, "file", 5, "beta"), (1, "file", 3, "alpha")]
        assert all(began - 1 <= one["seen_at"] <= time.time() for one in found["contents"])
        lines = node.hotpair("history", "/srv/a.conf").out.splitlines()
        assert [line.split()[0] for line in lines] == ["N", "now", "1"]
        assert found["contents"][1]["digest"].startswith(lines[2].split()[-2])
        assert len(lines[2].split()[-2]) == 12


def test_history_of_a_deleted_file_says_that_it_is_absent(pair: Pair) -> None:
    pair.agree("/srv/a.conf", "one")
    pair.alpha.live("/srv/a.conf").unlink()
    assert pair.alpha.sweep().code == 0
    found = pair.beta.json("history", "/srv/a.conf")["contents"]
    assert [(one["number"], one["kind"], one["size"]) for one in found] == [(0, "absent", None), (1, "file", 3)]


def test_a_restored_generation_is_live_on_both_nodes_and_what_it_replaced_is_the_first(pair: Pair) -> None:
    for text in ("one", "two", "three", "four"):
        pair.agree("/srv/a.conf", text)
    said = pair.beta.hotpair("restore", "/srv/a.conf", "3")
    assert said.code == 0, said
    for node in pair.nodes:
        assert node.text("/srv/a.conf") == "one"
        kept = [node.live(f"/var/lib/hotpair/generations/{n}/srv/a.conf").read_text() for n in (1, 2, 3)]
        assert kept == ["four", "three", "two"]
        assert node.json("status")["sets"][0]["waiting"] == 0


def test_without_a_number_the_newest_generation_is_restored(pair: Pair) -> None:
    pair.agree("/srv/a.conf", "one")
    pair.agree("/srv/a.conf", "two")
    assert pair.alpha.hotpair("restore", "/srv/a.conf").code == 0
    assert [node.text("/srv/a.conf") for node in pair.nodes] == ["one", "one"]


def test_a_restored_file_has_its_mode_and_attributes_again_and_the_time_of_now(pair: Pair) -> None:
    pair.agree("/srv/a.conf", "one")
    live = pair.alpha.live("/srv/a.conf")
    live.chmod(0o640)
    os.setxattr(live, "user.note", b"kept")
    os.utime(live, (1, 1))
    assert pair.alpha.sweep().code == 0
    live.unlink()
    pair.agree("/srv/a.conf", "two")
    before = time.time()
    assert pair.alpha.hotpair("restore", "/srv/a.conf", "1").code == 0
    for node in pair.nodes:
        found = node.live("/srv/a.conf").stat()
        assert (node.text("/srv/a.conf"), stat.S_IMODE(found.st_mode)) == ("one", 0o640)
        assert os.getxattr(node.live("/srv/a.conf"), "user.note") == b"kept"
        assert before - 1 <= found.st_mtime <= time.time()


def test_a_deleted_file_comes_back_on_both_nodes(pair: Pair) -> None:
    pair.agree("/srv/a.conf", "one")
    pair.alpha.live("/srv/a.conf").unlink()
    assert pair.alpha.sweep().code == 0
    assert not pair.beta.live("/srv/a.conf").exists()
    assert pair.beta.hotpair("restore", "/srv/a.conf").code == 0
    assert [node.text("/srv/a.conf") for node in pair.nodes] == ["one", "one"]


def test_a_link_is_restored_as_a_link(pair: Pair) -> None:
    pair.alpha.live("/srv/a.conf").symlink_to("elsewhere")
    assert pair.alpha.sweep().code == 0
    pair.alpha.live("/srv/a.conf").unlink()
    pair.agree("/srv/a.conf", "a file")
    assert pair.alpha.hotpair("restore", "/srv/a.conf").code == 0
    assert [os.readlink(node.live("/srv/a.conf")) for node in pair.nodes] == ["elsewhere", "elsewhere"]


def test_what_nobody_has_looked_at_yet_is_kept_before_it_is_replaced(pair: Pair) -> None:
    pair.agree("/srv/a.conf", "one")
    pair.agree("/srv/a.conf", "two")
    pair.alpha.write("/srv/a.conf", "unseen")
    assert pair.alpha.hotpair("restore", "/srv/a.conf", "1").code == 0
    assert pair.alpha.text("/srv/a.conf") == "one"
    assert pair.alpha.live("/var/lib/hotpair/generations/1/srv/a.conf").read_text() == "unseen"


def test_a_dry_run_of_restore_writes_nothing(pair: Pair) -> None:
    pair.agree("/srv/a.conf", "one")
    pair.agree("/srv/a.conf", "two")
    before = [snapshot(node) for node in pair.nodes]
    said = pair.alpha.hotpair("restore", "/srv/a.conf", "1", "--dry-run")
    assert (said.code, "generation 1 (3 bytes" in said.out) == (0, True)
    assert [snapshot(node) for node in pair.nodes] == before


def test_a_generation_that_is_not_there_is_refused_with_those_that_are(pair: Pair) -> None:
    pair.agree("/srv/a.conf", "one")
    pair.agree("/srv/a.conf", "two")
    said = pair.alpha.hotpair("restore", "/srv/a.conf", "7")
    assert said.code == os.EX_NOINPUT
    assert said.err == "hotpair: /srv/a.conf has no generation 7: there are 1\n"
    assert pair.alpha.text("/srv/a.conf") == "two"


def test_a_path_of_no_set_is_refused(pair: Pair) -> None:
    for words in (("history", "/etc/passwd"), ("restore", "/etc/passwd"), ("resolve", "/etc/passwd", "--take", "here")):
        said = pair.alpha.hotpair(*words)
        assert said.code == os.EX_NOINPUT
        assert "/etc/passwd is in no set" in said.err


def test_a_restore_while_the_peer_is_away_stands_here_and_crosses_later(pair: Pair) -> None:
    pair.agree("/srv/a.conf", "one")
    pair.agree("/srv/a.conf", "two")
    pair.cut()
    said = pair.alpha.hotpair("restore", "/srv/a.conf", "1")
    assert said.code == os.EX_TEMPFAIL
    assert "is live here, not yet on" in said.out
    assert (pair.alpha.text("/srv/a.conf"), pair.beta.text("/srv/a.conf")) == ("one", "two")
    pair.mend()
    assert pair.alpha.hotpair("retry").code == 0
    assert pair.beta.text("/srv/a.conf") == "one"


def test_a_restore_during_a_run_leaves_a_mark_for_it(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    pair.agree("/srv/a.conf", "one")
    pair.agree("/srv/a.conf", "two")
    monkeypatch.setenv("HOTPAIR_ROOT", str(pair.alpha.root))
    monkeypatch.setattr(restoring, "WAIT", 0.0)
    scope = run.scope(config.load(), "demo")
    with open(pair.alpha.live("/run/hotpair/demo.run.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert restoring.restore(scope, "/srv/a.conf", 1, dry_run=False) == os.EX_TEMPFAIL
    assert [entry.name for entry in os.scandir(pair.alpha.live("/var/lib/hotpair/sets/demo/marks/new"))] == ["restore"]
    assert pair.beta.text("/srv/a.conf") == "two"
    assert pair.alpha.run("psync", "--retry").code == 0
    assert pair.beta.text("/srv/a.conf") == "one"


def test_a_restore_owes_the_commands_of_the_path_on_both_nodes(pair: Pair) -> None:
    for node in pair.nodes:
        log = node.root / "ran"
        node.write_ini("syncr.ini", f'[/srv/a.conf]\nrun = sh: echo "$HOTPAIR_PATH" >> {log}\n')
    pair.agree("/srv/a.conf", "one")
    pair.agree("/srv/a.conf", "two")
    deadline = time.monotonic() + 10
    while not (pair.beta.root / "ran").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    before = [len((node.root / "ran").read_text().splitlines()) for node in pair.nodes]
    assert pair.alpha.hotpair("restore", "/srv/a.conf").code == 0
    while time.monotonic() < deadline:
        after = [len((node.root / "ran").read_text().splitlines()) for node in pair.nodes]
        if all(one > other for one, other in zip(after, before, strict=True)):
            return
        time.sleep(0.05)
    raise AssertionError((before, after))


@pytest.mark.parametrize("name", HOSTILE)
def test_any_name_has_a_history_on_lines_of_their_own_and_is_restored(pair: Pair, name: str) -> None:
    path = f"/srv/{name}"
    pair.agree(path, "one")
    pair.agree(path, "two")
    said = pair.alpha.hotpair("history", path)
    assert (said.code, len(said.out.splitlines())) == (0, 3)
    said = pair.alpha.hotpair("restore", path)
    assert (said.code, len(said.out.splitlines())) == (0, 1)
    assert [node.text(path) for node in pair.nodes] == ["one", "one"]
    assert not list(pair.alpha.root.parent.rglob("pwned"))


# --- conflicts


def clash(pair: Pair, mine: str = "alpha wrote", theirs: str = "beta wrote it") -> None:
    """Have both nodes change one file, beta last, and compare."""
    pair.agree("/srv/a.conf", "base")
    pair.alpha.write("/srv/a.conf", mine)
    pair.beta.write("/srv/a.conf", theirs)
    pair.alpha.sweep()


def kinds(node: Node) -> set[str]:
    return {one["kind"] for one in node.json("conflicts")}


def test_a_decided_conflict_is_listed_on_both_nodes_with_what_is_live_and_where_the_other_is(pair: Pair) -> None:
    clash(pair)
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
    clash(pair)
    before = [node.live("/srv/a.conf").stat() for node in pair.nodes]
    said = pair.alpha.hotpair("resolve", "/srv/a.conf", "--take", "peer")
    assert said.code == 0, said
    assert [node.live("/srv/a.conf").stat() for node in pair.nodes] == before
    assert [kinds(node) for node in pair.nodes] == [set(), set()]


def test_taking_the_loser_on_its_own_node_brings_it_back_on_both(pair: Pair) -> None:
    clash(pair)
    said = pair.alpha.hotpair("resolve", "/srv/a.conf", "--take", "here")
    assert said.code == 0, said
    assert [node.text("/srv/a.conf") for node in pair.nodes] == ["alpha wrote", "alpha wrote"]
    assert [kinds(node) for node in pair.nodes] == [set(), set()]


def test_taking_the_loser_on_the_other_node_says_where_it_is(pair: Pair) -> None:
    clash(pair)
    said = pair.beta.hotpair("resolve", "/srv/a.conf", "--take", "peer")
    assert said.code == os.EX_NOINPUT
    assert f"on local:{pair.alpha.root}: hotpair resolve /srv/a.conf --take here" in said.err
    assert kinds(pair.beta) == {"conflict"}


def test_ending_a_conflict_while_the_peer_is_away_ends_it_here_and_says_so(pair: Pair) -> None:
    clash(pair)
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
    clash(holding)
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
    clash(holding)
    holding.cut()
    for take in ("here", "peer"):
        assert holding.alpha.hotpair("resolve", "/srv/a.conf", "--take", take).code != 0
        assert "held" in kinds(holding.alpha)
    holding.mend()
    assert [node.text("/srv/a.conf") for node in holding.nodes] == ["alpha wrote", "beta wrote it"]


# --- retry


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


# --- the plan


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
    before = [snapshot(node) for node in pair.nodes]
    assert len(planned(pair.alpha)) == 2
    assert [snapshot(node) for node in pair.nodes] == before


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
    clash(holding)
    assert planned(holding.alpha) == ["demo: hold /srv/a.conf (both nodes changed it)"]


def test_a_plan_that_cannot_ask_the_peer_is_left_for_later(pair: Pair) -> None:
    pair.agree("/srv/a.conf", "base")
    pair.cut()
    assert pair.alpha.run("psync", "--dry-run").code in (os.EX_TEMPFAIL, os.EX_PROTOCOL)


# --- tables and import


def test_tables_are_written_once_and_a_dry_run_only_shows_them(pair: Pair) -> None:
    table, cron = pair.alpha.live("/etc/incron.d/hotpair-demo"), pair.alpha.live("/etc/cron.d/hotpair")
    said = pair.alpha.hotpair("tables", "--dry-run")
    assert (said.code, f"+++ {table}" in said.out, table.exists()) == (0, True, False)
    assert pair.alpha.hotpair("tables").out == f"wrote {table}\nwrote {cron}\n"
    assert f"{pair.alpha.live('/srv')} IN_CLOSE_WRITE" in table.read_text()
    assert pair.alpha.hotpair("tables") == (0, "", "")


def test_the_table_of_a_set_that_is_gone_is_removed(pair: Pair) -> None:
    pair.alpha.hotpair("tables")
    pair.alpha.configure("[files other]\npaths = /srv/a.conf\n")
    said = pair.alpha.hotpair("tables")
    assert f"removed {pair.alpha.live('/etc/incron.d/hotpair-demo')}" in said.out
    assert not pair.alpha.live("/etc/incron.d/hotpair-demo").exists()


def test_for_a_peer_over_ssh_the_line_that_lets_us_in_is_shown(pair: Pair) -> None:
    text = (pair.alpha.root / "etc/hotpair/hotpair.ini").read_text()
    pair.alpha.write_ini("hotpair.ini", re.sub("peer = .*", "peer = ssh:beta", text))
    pair.alpha.write_ini("id_ed25519.pub", "ssh-ed25519 AAAAC3 root@alpha\n")
    said = pair.alpha.hotpair("tables")
    assert said.out.splitlines()[-1] == f'restrict,command="{BIN}/syncr-receive" ssh-ed25519 AAAAC3 root@alpha'


def test_an_imported_file_is_converted_and_a_written_one_is_sound(pair: Pair, tmp_path: Path) -> None:
    old = tmp_path / "old.ini"
    old.write_text("[/etc/rsyslog.conf]\nsystemctl stop rsyslog\nsleep 5\nsystemctl start rsyslog\n")
    new = pair.alpha.root / "etc/hotpair/syncr.ini"
    said = pair.alpha.hotpair("import", "syncr.ini", str(old))
    assert (said.code, "[/etc/rsyslog.conf]" in said.out, "systemctl stop rsyslog" in said.out) == (0, True, True)
    assert pair.alpha.hotpair("import", "syncr.ini", str(old), "-o", str(new)) == (0, "", "")
    assert new.read_text() == said.out
    new.chmod(0o644)
    assert pair.alpha.hotpair("check").code == 0


def test_an_imported_rules_file_of_clsync_is_converted_whatever_its_bytes(pair: Pair, tmp_path: Path) -> None:
    old, new = tmp_path / "rules", tmp_path / "filter"
    old.write_bytes(b"-d^cache$\n-f\xff$\n")
    assert pair.alpha.hotpair("import", "clsync-rules", str(old), "-o", str(new)) == (0, "", "")
    assert new.read_bytes() == b"filter =\n    - re:^/cache/$\n    - re:\\U0000dcff$\n"
    said = pair.alpha.hotpair("import", "clsync-rules", str(old))
    assert (said.code, os.fsencode(said.out)) == (0, new.read_bytes())
    old.write_text("-f(\n")
    said = pair.alpha.hotpair("import", "clsync-rules", str(old))
    assert (said.code, "line 1: '(' is no regular expression" in said.err) == (os.EX_DATAERR, True)


def test_an_import_overwrites_nothing_and_leaves_nothing_beside(pair: Pair, tmp_path: Path) -> None:
    (tmp_path / "old.ini").write_text("[/etc/a]\ntrue\n")
    (tmp_path / "new.ini").write_text("mine")
    said = pair.alpha.hotpair("import", "syncr.ini", str(tmp_path / "old.ini"), "-o", str(tmp_path / "new.ini"))
    assert (said.code, "is there already" in said.err) == (os.EX_CANTCREAT, True)
    assert (tmp_path / "new.ini").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alpha", "beta", "new.ini", "old.ini"]


def test_an_import_of_what_is_not_there_is_refused(pair: Pair, tmp_path: Path) -> None:
    said = pair.alpha.hotpair("import", "syncr.ini", str(tmp_path / "none"))
    assert (said.code, f"{tmp_path}/none: No such file" in said.err) == (os.EX_NOINPUT, True)


# --- the program itself


@pytest.mark.parametrize(
    "words", [(), ("nope",), ("resolve", "/x"), ("restore", "/x", "-1"), ("status", "--jsn")], ids=" ".join
)
def test_wrong_words_are_a_usage_error(pair: Pair, words: tuple[str, ...]) -> None:
    said = pair.alpha.hotpair(*words)
    assert (said.code, said.out, "usage: hotpair" in said.err) == (os.EX_USAGE, "", True)


def test_help_has_examples_and_exit_codes_and_every_command(pair: Pair) -> None:
    said = pair.alpha.hotpair("--help")
    assert said.code == 0
    for word in ("examples:", "exit:", *program.COMMANDS):
        assert word in said.out


def test_the_man_page_has_every_command_and_option() -> None:
    text = (MAN / "hotpair.8").read_text()
    for name, command in program.COMMANDS.items():
        assert re.search(rf"^\.It Cm {name}\b", text, re.MULTILINE), name
        for argument in command.arguments:
            for word in argument.names:
                if word.startswith("--"):
                    assert re.search(rf"^\.(It|Fl) .*-{word[2:]}\b", text, re.MULTILINE), (name, word)

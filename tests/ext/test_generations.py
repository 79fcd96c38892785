"""History and restore of files that two prefixes share."""

import fcntl
import os
import stat
import time

import pytest

from hotpair import config, run
from hotpair import restore as restoring
from tests.ext.twonodes import Pair

HOSTILE = ["x;touch pwned;y.txt", "a\nb.txt", "$(touch pwned).txt", "-rf.txt", 'it\'s "[red]".txt', "\udcff\udcfe.txt"]


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
    before = [node.snapshot() for node in pair.nodes]
    said = pair.alpha.hotpair("restore", "/srv/a.conf", "1", "--dry-run")
    assert (said.code, "generation 1 (3 bytes" in said.out) == (0, True)
    assert [node.snapshot() for node in pair.nodes] == before


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

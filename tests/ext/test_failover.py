"""The master goes, the standby takes over, the old master comes back: two prefixes, real programs and hooks."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hotpair import child, config, watch
from hotpair.exits import Refused
from hotpair.failover import demotion, follow, gate, handover, notes, peer_role, role, standing, steps, takeover, unseen
from hotpair.failover.takeover import Order
from hotpair.hotsync import backup, inventory
from hotpair.status import CRITICAL
from tests.ext.standbys import has_open
from tests.ext.twonodes import BIN, Node
from tests.lab.spaces import wait_until

SECTIONS = """[hotsync]
role = {role}
include =
    /srv
config = /etc/app.conf
[failover]
services =
    db
    web.service
{more}
"""
# a service writes what it is to a file, and everything that happens to the trace
SERVICE = """#!/bin/sh
echo "$1 {name}" >> {root}/trace
case $1 in start) echo up ;; *) echo down ;; esac > {root}/{name}.is
"""
HOOK = '#!/bin/sh\necho "{what} $*" >> {root}/trace\n'
OLD = time.time() - 3 * 3600
DEAD = Order("test", "it burns", dead=True)


class FailoverNode(Node):
    """A prefix with two services and hooks that leave a trace."""

    def sections(self, role_: str, more: str = "") -> None:
        self.configure(SECTIONS.format(role=role_, more=more))

    def script(self, path: str, text: str) -> None:
        file = self.live(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text.replace("{root}", str(self.root)))
        file.chmod(0o755)

    def furnish(self) -> None:
        for name in ("db", "web"):
            self.script(f"/etc/init.d/{name}", SERVICE.replace("{name}", name))
        for what in ("promote", "demote"):
            self.script(f"/etc/hotpair/{what}.d/10-trace", HOOK.replace("{what}", what))
        loader = '#!/bin/sh\necho $1 >> {root}/trace\n[ $1 = rehearse ] || cat "$2/rows" > {root}/rows\n'
        self.script("/etc/hotpair/restore.d/10-db", loader)

    def trace(self) -> list[str]:
        file = self.root / "trace"
        return file.read_text().splitlines() if file.exists() else []

    def is_(self, service: str) -> str:
        return self.text(f"/{service}.is").strip()


class Both:
    """alpha is the master, beta its standby, which has had one complete push."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch, archive: tuple[bytes, str]) -> None:
        directory.chmod(0o755)
        self.patch, self.archive = monkeypatch, archive
        self.alpha = FailoverNode(directory / "alpha", directory / "beta")
        self.beta = FailoverNode(directory / "beta", directory / "alpha")
        for node, role_ in ((self.alpha, "master"), (self.beta, "standby")):
            node.sections(role_)
            node.furnish()
        self.on(self.alpha)
        role.begin("master")
        role.confirm()
        monkeypatch.setattr(inventory, "packages", lambda: "")  # which takes seconds to ask
        self.push()

    def on(self, node: Node) -> None:
        """Be on a node, for what is done in this process."""
        self.patch.setenv("HOTPAIR_ROOT", str(node.root))

    def push(self) -> None:
        """Have alpha's data on beta as a complete push leaves it there."""
        self.on(self.beta)
        out = self.beta.root / "var/lib/hotpair/hotsync/out"
        (out / "dumps").mkdir(parents=True)
        (out / "dumps/rows").write_text("rows of alpha\n")
        (out / "config.tar.xz").write_bytes(self.archive[0])
        (out / "config.tar.xz.sha256").write_text(self.archive[1])
        role.begin("standby")
        now = time.time()
        known = {"begun": now, "pid": "", "epoch": role.current().epoch}
        notes.write(notes.RECEIVED, {**known, "complete": {"begun": now, "ended": now, "epoch": known["epoch"]}})

    def lose_alpha(self) -> None:
        (self.alpha.root / "etc/hotpair/hotpair.ini").rename(self.alpha.root / "etc/hotpair/away")

    def alpha_is_back(self) -> None:
        (self.alpha.root / "etc/hotpair/away").rename(self.alpha.root / "etc/hotpair/hotpair.ini")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, str]:
    """Return alpha's configuration backup and its digest."""
    directory = tmp_path_factory.mktemp("archive")
    node = FailoverNode(directory / "alpha", directory / "beta")
    node.sections("master")
    node.live("/etc/app.conf").write_text("of alpha\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOTPAIR_ROOT", str(node.root))
        settings = config.load().hotsync
        assert settings
        backup.make(settings)
        return Path(backup.archive()).read_bytes(), Path(backup.archive() + backup.SUM).read_text()


@pytest.fixture
def both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, archive: tuple[bytes, str]) -> Both:
    return Both(tmp_path, monkeypatch, archive)


def promote(order: Order = DEAD) -> dict[str, Any]:
    return takeover.promote(config.load(), order)


def me() -> tuple[str, int]:
    return role.current()[:2]


def remarks() -> dict[str, str]:
    return {one.kind: one.what for one in standing.remarks(config.load(), role.current())}


# the question


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


# promote


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


class Killer:
    """Kill this process before its n-th change of anything."""

    def __init__(self, at: int) -> None:
        self.left = at

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*words: Any, **more: Any) -> Any:
            self.left -= 1
            if self.left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*words, **more)

        return wrapped


def killed_at(at: int, do: Callable[[], object], *changes: tuple[Any, str]) -> bool:
    """Do something in a process that is killed before its n-th change; say whether it came to its end before."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            killer = Killer(at)
            for module, name in ((watch, "replace"), (child, "run"), (os, "rename"), *changes):
                setattr(module, name, killer.wrap(getattr(module, name)))
            do()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    assert status in (0, signal.SIGKILL), status
    return status == 0


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
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, archive: tuple[bytes, str]
) -> None:
    monkeypatch.setattr(peer_role, "ask", lambda _: None)  # alpha is dead: that takes time to find out
    child.run(["true"], child.environment(), 5)  # what is imported for it is imported once
    states, at, ended = [], 0, False
    while not ended:
        (tmp_path / str(at)).mkdir()
        both = Both(tmp_path / str(at), monkeypatch, archive)
        both.on(both.beta)
        ended = promoted_until(at)
        if not ended:
            assert promoted_until(10**6)
        states.append(end_state(both))
        at += 1
    assert at > 2 * len(steps.STEPS)  # each step has changes to be killed at
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


# two masters


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
    assert not gate.decide(Role_of(both.alpha), {"node": "beta", "role": "master", "epoch": 2}).accepted


def Role_of(node: Node) -> role.Role:  # noqa: N802
    text = (node.root / "var/lib/hotpair/role.json").read_text()
    return role.Role(**json.loads(text)["history"][-1])


# demote, failback


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
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, archive: tuple[bytes, str]
) -> None:
    monkeypatch.setattr(peer_role, "ask", lambda _: None)
    child.run(["true"], child.environment(), 5)  # what is imported for it is imported once
    states, at, ended = [], 0, False
    while not ended:
        (tmp_path / str(at)).mkdir()
        both = Both(tmp_path / str(at), monkeypatch, archive)
        both.on(both.alpha)
        both.alpha.script("/etc/hotpair/hotsync.d/10-db", DUMP)
        both.alpha.live("/db.is").write_text("up\n")
        both.alpha.live("/srv/deep").mkdir()
        for name in ("a", "deep/b"):
            both.alpha.write(f"/srv/{name}", f"unseen {name}")
        both.alpha.live("/srv/deep/link").symlink_to("b")
        notes.write(notes.SERVED, {"boot": role.boot_id()})
        ended = demoted_until(at)
        if not ended:
            assert demoted_until(10**6)
        states.append(demoted_state(both))
        at += 1
    assert at > 20  # notes, hooks, dumps, services, files, the role: each is killed at
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


# keepalived


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


# the program


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

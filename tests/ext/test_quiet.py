"""What an event costs that finds nothing to do, and that none is lost which comes while a run is under way."""

import fcntl
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hotpair import archive, config, listed, quiet, run, survey
from hotpair.filesset import FilesSet
from tests.ext.twonodes import BIN, Node, Pair
from tests.lab.spaces import wait_until

SETS = "[files etc]\npaths =\n    /srv/a.conf\n    /srv/*.txt\n"
HEAVY = {
    *("sh", "filelock", "rich", "logging", "asyncio"),  # plan
    *("sqlite3", "json", "subprocess", "iniconfig", "argparse", "hashlib", "typing", "site"),
}
DEADLINE = 30.0
STRACE = shutil.which("strace")


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    """Two nodes that agree; alpha's next event is a quiet one."""
    pair = Pair(tmp_path, SETS)
    pair.agree("/srv/a.conf", "one")
    # A file as young as its archive row is looked at again
    assert wait_until(lambda: not loaded(pair.alpha) & {"hotpair.run"}, DEADLINE)
    return pair


def event(node: Node, *before: str) -> tuple[int, str]:
    """Fire an event as incrond does; return how it ended and what it, or a program before it, said."""
    done = subprocess.run(
        [*before, str(BIN / "syncr"), "etc", "0"],
        env={"PATH": os.environ["PATH"], "HOTPAIR_ROOT": str(node.root)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=DEADLINE,
    )
    assert done.stdout == b""
    return done.returncode, done.stderr.decode()


def loaded(node: Node) -> set[str]:
    """Return the modules that an event imports, and the packages they are in."""
    code, said = event(node, sys.executable, "-IS", "-X", "importtime")
    assert code == 0, said
    names = re.findall(r"^import time: +\d+ \| +\d+ \| +(\S+)$", said, re.MULTILINE)
    assert "hotpair.cmd.syncr" in names
    return set(names) | {name.partition(".")[0] for name in names}


@contextmanager
def held(node: Node, which: str) -> Iterator[None]:
    """Hold one of the set's locks as another program would."""
    path = node.root / "run/hotpair" / f"etc.{which}.lock"
    with path.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def marks(node: Node, which: str) -> list[str]:
    return os.listdir(node.root / "var/lib/hotpair/sets/etc/marks" / which)


def assert_silent(node: Node) -> None:
    log = node.root / "var/log/hotpair.log"
    assert not log.exists() or log.read_text() == ""


# What a quiet event is


def test_an_event_that_finds_nothing_changed_imports_next_to_nothing(pair: Pair) -> None:
    modules = loaded(pair.alpha)
    assert modules & HEAVY == set()
    assert "hotpair.config" not in modules
    assert marks(pair.alpha, "new") + marks(pair.alpha, "taken") == []
    assert_silent(pair.alpha)


def test_an_event_that_finds_a_change_is_not_quiet(pair: Pair) -> None:
    """So that the test above cannot pass for want of looking."""
    pair.alpha.write("/srv/a.conf", "two")
    assert "hotpair.run" in loaded(pair.alpha)
    assert pair.beta.text("/srv/a.conf") == "two"


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda live: live.chmod(0o600), id="a mode"),
        pytest.param(lambda live: os.utime(live, ns=(5, 5)), id="a time"),
        pytest.param(lambda live: os.setxattr(live, "user.a", b"b"), id="an attribute"),
        pytest.param(lambda live: live.unlink(), id="a delete"),
        pytest.param(lambda live: live.with_name("b.txt").write_text("new"), id="a file that a glob matches"),
        pytest.param(lambda live: live.with_name("b.txt").symlink_to("x"), id="a link that a glob matches"),
    ],
)
def test_a_change_of_any_kind_is_found(pair: Pair, change: Callable[[Path], None]) -> None:
    change(pair.alpha.live("/srv/a.conf"))
    assert "hotpair.run" in loaded(pair.alpha)


def test_a_change_of_equal_size_and_equal_time_is_found(pair: Pair) -> None:
    live = pair.alpha.live("/srv/a.conf")
    before = live.stat()
    live.write_text("ONE")
    os.utime(live, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert live.stat().st_size == before.st_size
    assert event(pair.alpha) == (0, "")
    assert pair.beta.text("/srv/a.conf") == "ONE"


def test_the_loser_of_the_lock_imports_next_to_nothing(pair: Pair) -> None:
    pair.alpha.write("/srv/a.conf", "two")
    with held(pair.alpha, "run"):
        modules = loaded(pair.alpha)
    assert modules & HEAVY == set()
    assert modules & {"hotpair.run", "hotpair.config"} == set()
    assert marks(pair.alpha, "new") == ["0"]
    assert_silent(pair.alpha)


@pytest.mark.skipif(not STRACE, reason="needs strace")
@pytest.mark.parametrize("loses", [False, True], ids=["quiet", "loser"])
def test_an_event_without_work_starts_no_program_and_opens_no_network(pair: Pair, loses: bool, tmp_path: Path) -> None:
    assert STRACE
    trace = tmp_path / "trace"
    before = [STRACE, "-f", "-qq", "-e", "trace=execve,fork,vfork,clone,clone3,socket,connect", "-o", str(trace)]
    if loses:
        pair.alpha.write("/srv/a.conf", "two")
        with held(pair.alpha, "run"):
            assert event(pair.alpha, *before) == (0, "")
    else:
        assert event(pair.alpha, *before) == (0, "")
    if "execve" not in trace.read_text():
        pytest.skip("strace may not trace here")
    calls = [line.split(None, 1)[1] for line in trace.read_text().splitlines() if "+++" not in line]
    assert len(calls) == 1, calls  # itself
    assert calls[0].startswith("execve(")
    if loses:
        assert event(pair.alpha) == (0, "")
        assert pair.beta.text("/srv/a.conf") == "two"


# No event is lost


def test_an_event_during_a_run_is_kept_for_whoever_comes_next(pair: Pair) -> None:
    pair.alpha.write("/srv/a.conf", "two")
    with held(pair.alpha, "run"):
        for _ in range(3):
            assert event(pair.alpha) == (0, "")
    assert pair.beta.text("/srv/a.conf") == "one"
    assert pair.alpha.run("psync", "--retry").code == 0
    assert pair.beta.text("/srv/a.conf") == "two"
    assert marks(pair.alpha, "new") + marks(pair.alpha, "taken") == []


def test_the_winner_looks_again_for_an_event_that_came_after_it_looked(pair: Pair) -> None:
    alpha, beta = pair.nodes
    index = alpha.root / "var/lib/hotpair/sets/etc/index"
    alpha.write("/srv/a.conf", "two")
    known = index.stat().st_ino
    with held(beta, "state"):  # the winner has looked, and waits for its peer
        winner = start(alpha)
        assert wait_until(lambda: index.stat().st_ino != known, DEADLINE)
        alpha.write("/srv/late.txt", "late")
        assert event(alpha) == (0, "")  # the loser
        assert marks(alpha, "new") == ["0"]
        assert winner.poll() is None
    assert winner.wait(DEADLINE) == 0
    assert (beta.text("/srv/a.conf"), beta.text("/srv/late.txt")) == ("two", "late")
    assert marks(alpha, "new") + marks(alpha, "taken") == []
    assert_silent(alpha)


def test_the_winner_looks_again_for_a_file_that_changed_after_it_was_sent(pair: Pair) -> None:
    alpha, beta = pair.nodes
    index = alpha.root / "var/lib/hotpair/sets/etc/index"
    alpha.write("/srv/a.conf", "two")
    known = index.stat().st_ino
    with held(beta, "state"):
        winner = start(alpha)
        assert wait_until(lambda: index.stat().st_ino != known, DEADLINE)
        alpha.write("/srv/a.conf", "three")
        assert event(alpha) == (0, "")
    assert winner.wait(DEADLINE) == 0
    assert beta.text("/srv/a.conf") == "three"
    kept = [path for path in (alpha.root / "var/lib/hotpair/generations").rglob("a.conf") if path.read_text() == "two"]
    assert kept, "what stood here when the run looked is kept"


def test_the_event_of_the_peers_own_delivery_finds_all_quiet(pair: Pair) -> None:
    """P4: the echo."""
    alpha, beta = pair.nodes
    assert wait_until(lambda: not loaded(beta) & {"hotpair.run"}, DEADLINE)
    alpha.write("/srv/a.conf", "two")
    assert event(alpha) == (0, "")
    assert beta.text("/srv/a.conf") == "two"
    assert "hotpair.run" not in loaded(beta)
    assert "hotpair.run" not in loaded(alpha)


# its one event may come before the index is written that then has it
def test_a_file_made_while_the_index_is_written_is_no_part_of_it(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOTPAIR_ROOT", str(pair.alpha.root))
    scope = run.scope(config.load(), "etc")
    real = listed.names

    def names(files: FilesSet, rows: dict[str, archive.Row]) -> list[str]:
        found = real(files, rows)
        pair.alpha.write("/srv/new.txt", "new")
        return found

    monkeypatch.setattr(listed, "names", names)
    assert quiet.unchanged("etc")
    survey.index(scope, [])
    assert not quiet.unchanged("etc")


def test_configuration_edited_while_a_run_works_is_no_part_of_the_index(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOTPAIR_ROOT", str(pair.alpha.root))
    scope = run.scope(config.load(), "etc")
    pair.alpha.configure(SETS + "    /srv/more.conf\n")
    survey.index(scope, [])
    assert not quiet.unchanged("etc")


def test_a_run_that_was_killed_is_taken_up_by_the_next_event(pair: Pair) -> None:
    alpha, beta = pair.nodes
    alpha.write("/srv/a.conf", "two")
    with held(beta, "state"):
        index = alpha.root / "var/lib/hotpair/sets/etc/index"
        known = index.stat().st_ino
        winner = start(alpha)
        assert wait_until(lambda: index.stat().st_ino != known, DEADLINE)
        winner.kill()
        winner.wait()
    assert marks(alpha, "taken") == ["0"]
    assert alpha.run("psync", "--retry").code == 0
    assert beta.text("/srv/a.conf") == "two"
    assert marks(alpha, "taken") == []


def start(node: Node) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-IS", str(BIN / "syncr"), "etc", "0"],
        env={"PATH": os.environ["PATH"], "HOTPAIR_ROOT": str(node.root)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

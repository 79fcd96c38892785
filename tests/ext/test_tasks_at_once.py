"""Commands that belong to a path when two processes run them, one is killed, or a person presses Ctrl-C."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from hotpair import child, tasks
from tests.ext.commanded import LIB, Prefix, lives
from tests.lab.spaces import wait_until

EXCLUSIVE = "sh: mkdir OUT/busy || echo overlap >> OUT/overlap; cat >> OUT/seen; sleep 0.1; rmdir OUT/busy"


def test_a_change_while_its_commands_run_makes_them_run_once_more(prefix: Prefix) -> None:
    prefix.syncr("[/etc/a]\nrun = sh: echo start >> OUT/x; sleep 1\n")
    prefix.owe("/etc/a")
    process = prefix.start()
    assert wait_until(lambda: prefix.out("x"), 20)
    prefix.owe("/etc/a")
    assert process.wait(30) == 0
    assert prefix.out("x") == "start\n" * 2 and prefix.rows() == []


def test_a_failure_leaves_the_fresh_start_of_a_change_that_came_meanwhile(prefix: Prefix) -> None:
    prefix.syncr("[/etc/a]\nrun = sh: echo start >> OUT/x; sleep 1; test -e OUT/good\n")
    prefix.owe("/etc/a")
    process = prefix.start()
    assert wait_until(lambda: prefix.out("x"), 20)
    prefix.owe("/etc/a")
    process.wait(30)
    [(_, attempts, _, _)] = prefix.rows()
    assert prefix.out("x") == "start\n" * 2 and attempts == 1  # the second run's failure, not the second of one row


def test_two_processes_never_run_a_section_at_once_and_none_leaves_work_behind(prefix: Prefix) -> None:
    prefix.syncr(f"[/etc/*]\nrun =\n    {EXCLUSIVE}\n    {EXCLUSIVE}\n")
    processes = []
    for number in range(8):
        prefix.owe(f"/etc/{number}")
        processes.append(prefix.start())
        time.sleep(0.05)
    assert [process.wait(60) for process in processes] == [0] * 8
    assert prefix.out("overlap") == "" and prefix.rows() == []
    seen = prefix.out("seen").split("\0")[:-1]
    assert sorted(seen) == sorted([f"/etc/{number}" for number in range(8)] * 2)


def test_sections_of_their_own_run_at_once(prefix: Prefix) -> None:
    prefix.syncr(
        "[/etc/a]\nrun = sh: echo > OUT/a; while ! test -e OUT/b; do sleep 0.05; done\n[/etc/b]\nrun = touch OUT/b\n"
    )
    prefix.owe("/etc/a")
    first = prefix.start()
    assert wait_until(lambda: prefix.out("a"), 20)
    prefix.owe("/etc/b")
    assert tasks.run_due(prefix.db) == 0
    assert first.wait(10) == 0 and prefix.rows() == []


def test_kill_9_in_the_middle_and_the_commands_start_again(prefix: Prefix) -> None:
    prefix.syncr(
        "[/etc/a]\nrun =\n    sh: echo 1 >> OUT/x\n    sh: echo 2 >> OUT/x; test -e OUT/go || sleep 60\n"
        "    sh: echo 3 >> OUT/x\ntimeout = 1\n"
    )
    prefix.owe("/etc/a")
    process = prefix.start()
    assert wait_until(lambda: "2" in prefix.out("x"), 20)
    process.kill()
    process.wait()
    assert len(prefix.rows()) == 1
    (prefix.root / "out/go").touch()
    assert tasks.run_due(prefix.db) == 0
    assert prefix.out("x") == "1\n2\n1\n2\n3\n" and prefix.rows() == []


def test_a_command_that_outlived_its_hotpair_is_waited_for(prefix: Prefix) -> None:
    prefix.syncr(
        "[/etc/a]\nrun = sh: mkdir OUT/busy || echo overlap > OUT/overlap; echo s >> OUT/x; sleep 1; rmdir OUT/busy\n"
    )
    prefix.owe("/etc/a")
    process = prefix.start()
    assert wait_until(lambda: prefix.out("x"), 20)
    process.kill()
    process.wait()
    assert tasks.run_due(prefix.db) == 0
    assert prefix.out("x") == "s\ns\n" and prefix.out("overlap") == "" and prefix.rows() == []


def test_a_command_that_outlived_its_hotpair_is_ended_when_its_time_is_over(prefix: Prefix) -> None:
    prefix.syncr("[/etc/a]\nrun = sh: echo $$ >> OUT/x; test -e OUT/go || sleep 60; true\ntimeout = 0.5\n")
    prefix.owe("/etc/a")
    process = prefix.start()
    assert wait_until(lambda: prefix.out("x"), 20)
    process.kill()
    process.wait()
    (prefix.root / "out/go").touch()
    assert lives(int(prefix.out("x")))
    assert tasks.run_due(prefix.db) == 0
    assert len(prefix.out("x").split()) == 2 and not lives(int(prefix.out("x").split()[0]))


def test_a_number_that_another_process_has_by_now_is_not_taken_for_a_survivor(prefix: Prefix) -> None:
    prefix.syncr("[/etc/a]\nrun = true\n")
    prefix.owe("/etc/a")
    assert tasks.run_due(prefix.db) == 0
    [record] = (prefix.root / "run/hotpair").glob("section-*.pid")
    with subprocess.Popen(["sleep", "60"]) as stranger:
        record.write_text(f"{stranger.pid} 1\n")
        prefix.owe("/etc/a")
        assert tasks.run_due(prefix.db) == 0
        assert stranger.poll() is None
        stranger.kill()


def test_ctrl_c_takes_the_command_along(prefix: Prefix) -> None:
    prefix.syncr("[/etc/a]\nrun = sh: echo $$ > OUT/pid; sleep 60; true\n")
    prefix.owe("/etc/a")
    process = prefix.start()
    assert wait_until(lambda: prefix.out("pid"), 20)
    process.send_signal(signal.SIGINT)
    process.wait(10)
    assert wait_until(lambda: not lives(int(prefix.out("pid"))), 20)
    assert len(prefix.rows()) == 1


def test_ctrl_c_while_a_command_is_being_started_takes_it_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = tmp_path / "pid"
    start = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        """Sh starts a thread once it has forked."""
        assert wait_until(lambda: pid.exists() and pid.read_text(), 20)
        signal.raise_signal(signal.SIGINT)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # `make test &` ignores it
    with pytest.raises(KeyboardInterrupt):
        child.run(["sh", "-c", f"echo $$ >{pid}; sleep 60"], child.environment(), 60)
    signal.signal(signal.SIGINT, before)
    assert wait_until(lambda: not lives(int(pid.read_text())), 20)


def test_owing_loads_neither_sh_nor_filelock(prefix: Prefix) -> None:
    code = "import sys; from hotpair import tasks; print([m for m in ('sh', 'filelock') if m in sys.modules])"
    seen = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": LIB}, capture_output=True, check=True
    )
    assert seen.stdout == b"[]\n"

"""Commands that belong to a path: checked, owed, run, retried. Real processes, a real database, two at once."""

import os
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hotpair import archive, child, sections, tasks
from hotpair.archive import Archive
from tests.lab.spaces import wait_until

LIB = str(Path(__file__).parents[2] / "lib")
RUN_DUE = """
import signal, sys
from hotpair import archive, tasks
signal.signal(signal.SIGINT, signal.default_int_handler)  # `make test &` ignores it
sys.exit(tasks.run_due(archive.connect()))
"""
HOSTILE = [
    "a;touch pwned;",
    "a\ntouch pwned\n",
    "$(touch pwned)",
    "`touch pwned`",
    "-rf",
    "a' 'b",
    'a" "b',
    "\udcff\udcfe",
    "%s",
    "é",
    "*",
    "x" * 255,
]


class Node:
    """A prefix with its configuration, and one archive in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for directory in (root / "etc", root / "etc/hotpair", root / "out"):
            directory.mkdir(mode=0o755)
        self._write("hotpair.ini", "[node]\nname = alpha\npeer = ssh:beta\n[files x]\npaths = /etc/*\n")
        self.db = archive.connect()
        self.archive = Archive(self.db, "beta", "x")

    def _write(self, name: str, text: str) -> None:
        file = self.root / "etc/hotpair" / name
        file.write_text(text)
        file.chmod(0o644)

    def syncr(self, text: str) -> tuple[sections.Section, ...]:
        """Make a text syncr.ini; OUT in it is the directory that the test looks into."""
        self._write("syncr.ini", text.replace("OUT", str(self.root / "out")))
        return sections.load()

    def owe(self, *lives: str) -> None:
        for live in lives:
            tasks.owe(self.archive, sections.for_path(sections.load(), live, True), live)

    def out(self, name: str) -> str:
        file = self.root / "out" / name
        return os.fsdecode(file.read_bytes()) if file.exists() else ""

    def rows(self) -> list[sqlite3.Row]:
        return self.db.execute("SELECT path, attempts, due, failure FROM owed ORDER BY id").fetchall()

    def log(self) -> list[str]:
        file = self.root / "var/log/hotpair.log"
        return file.read_text().splitlines() if file.exists() else []

    def later(self) -> None:
        """Let every pause be over, but leave what was given up."""
        self.db.execute("UPDATE owed SET due = 0 WHERE due < 9e99")

    def start(self) -> "subprocess.Popen[bytes]":
        """Start a process that runs what is due."""
        return subprocess.Popen([sys.executable, "-c", RUN_DUE], env={**os.environ, "PYTHONPATH": LIB})


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    monkeypatch.setenv("HOTPAIR_ROOT", str(tmp_path))
    made = Node(tmp_path)
    yield made
    made.db.close()


def lives(pid: int) -> bool:
    """Say whether a process runs; a corpse that its parent has not fetched does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


# check: the content before it goes live


def test_a_check_that_passes_says_nothing(node: Node) -> None:
    found = node.syncr("[/etc/a]\ncheck = test -e %s\n")
    assert tasks.check(found, "/etc/a", "/etc/passwd") == ""


def test_a_check_that_fails_says_which_command_with_which_code_and_its_last_line(node: Node) -> None:
    found = node.syncr("[/etc/a]\ncheck = /bin/sh -c 'echo one; echo \"bad: $1\" >&2; echo; exit 3' x %s\n")
    said = tasks.check(found, "/etc/a", "/tmp/staged")
    assert said.startswith("/bin/sh -c ") and said.endswith(" x %s: exit 3: bad: /tmp/staged")


def test_what_a_check_says_is_cut_at_200_characters(node: Node) -> None:
    found = node.syncr("[/etc/a]\ncheck = sh -c 'printf %0300d 5; exit 1' x %s\n".replace("%0300d", "%0300u"))
    said = tasks.check(found, "/etc/a", "/x").rpartition(": exit 1: ")[2]
    assert said == "0" * 200


def test_a_check_for_another_path_is_not_run_and_on_plays_no_part(node: Node) -> None:
    found = node.syncr("[/etc/b]\ncheck = false %s\n[/etc/a]\ncheck = sh -c 'exit 7' x %s\non = here\n")
    assert tasks.check(found, "/etc/a", "/x").endswith("exit 7")
    assert tasks.check(found, "/etc/c", "/x") == ""


def test_every_check_that_has_the_path_is_run(node: Node) -> None:
    found = node.syncr("[/etc/*]\ncheck = test -e %s\n[/etc/a]\ncheck = test -d %s\n")
    assert tasks.check(found, "/etc/a", "/etc/passwd") == "test -d %s: exit 1"


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_whatever_the_name_a_check_gets_it_as_one_argument(node: Node, name: str) -> None:
    found = node.syncr("[/etc/*]\ncheck = /usr/bin/python3 OUT/argv.py --file=%s\n")
    (node.root / "out/argv.py").write_text(
        "import os, sys\nos.chdir(os.path.dirname(sys.argv[0]))\n"
        "open('argv', 'wb').write(os.fsencode(chr(0).join(sys.argv[1:])))\n"
    )
    assert tasks.check(found, "/etc/" + name, "/staged/" + name) == ""
    assert node.out("argv") == "--file=/staged/" + name
    assert sorted(os.listdir(node.root / "out")) == ["argv", "argv.py"]


def test_a_command_that_is_not_there_is_a_failure_that_names_it(node: Node) -> None:
    found = node.syncr("[/etc/a]\ncheck = no-such-command %s\n")
    said = tasks.check(found, "/etc/a", "/x")
    assert said.startswith("no-such-command %s: exit 127: ") and "No such file" in said


def test_a_command_line_too_long_for_the_kernel_is_a_failure(node: Node) -> None:
    found = node.syncr(f"[/etc/a]\ncheck = true {'x' * 200_000} %s\n")
    assert "not started: OSError: [Errno 7] Argument list too long" in tasks.check(found, "/etc/a", "/x")


def test_a_check_over_time_fails_and_nothing_of_it_is_left(node: Node) -> None:
    (node.root / "out/slow").write_text(
        f"trap '' TERM\necho $$ > {node.root}/out/pid\n(trap '' TERM; sleep 60) & echo $! > {node.root}/out/other\nwait"
    )
    found = node.syncr("[/etc/a]\ncheck = sh OUT/slow %s\ntimeout = 0.5\n")
    began = time.monotonic()
    assert tasks.check(found, "/etc/a", "/x").endswith(": not done after 0.5 s")
    assert time.monotonic() - began < 8
    while lives(int(node.out("pid"))) or lives(int(node.out("other"))):  # SIGKILL takes a moment
        assert time.monotonic() - began < 8


# what a command finds


def test_a_command_finds_a_clean_environment_and_nothing_of_ours(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "x")
    node.syncr(
        "[/etc/a]\nrun =\n    sh: env -0 > OUT/env\n    sh: umask > OUT/umask; pwd > OUT/pwd\n"
        "    sh: ls /proc/self/fd > OUT/fds\n    sh: grep -E 'SigIgn|SigBlk' /proc/self/status > OUT/signals\n"
        "    sh: ps -o pid=,sid=,pgid= -p $$ > OUT/ids\n"
    )
    node.owe("/etc/a")
    old = os.umask(0o077)
    signal.signal(signal.SIGIO, signal.SIG_IGN)  # as beneath.hold_lease leaves it
    try:
        assert tasks.run_due(node.db) == 0
    finally:
        os.umask(old)
    found = dict(entry.split("=", 1) for entry in node.out("env").split("\0")[:-1])
    found.pop("PWD")  # dash sets it
    assert found == {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
        "HOME": "/root",
        "HOTPAIR_PATH": "/etc/a",
        "HOTPAIR_NODE": "alpha",
        "HOTPAIR_ROOT": str(node.root),
    }
    assert node.out("umask") == "0022\n" and node.out("pwd") == "/\n"
    assert node.out("fds").split() == ["0", "1", "2", "3"]  # 3: the directory that ls reads
    reserved = 1 << 31 | 1 << 32  # 32 and 33 are the C library's own: no program can set them, whoever ignored them
    assert [int(line.split()[1], 16) & ~reserved for line in node.out("signals").splitlines()] == [0, 0]
    assert len(set(node.out("ids").split())) == 1


def test_a_check_reads_nothing_on_its_standard_input(node: Node) -> None:
    found = node.syncr("[/etc/a]\ncheck = sh -c 'readlink /proc/$$/fd/0; exit 1' x %s\n")
    assert tasks.check(found, "/etc/a", "/x").endswith("exit 1: /dev/null")


def test_a_gigabyte_of_output_costs_no_memory(node: Node) -> None:
    child.run(["true"], child.environment(), 5)  # what is imported for it is not output
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    said = child.run(["sh", "-c", "head -c 1000000000 /dev/zero; echo; echo end; exit 1"], child.environment(), 60)
    assert said == "exit 1: end"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 8_000  # KiB


def test_a_service_left_behind_does_not_hold_us_up_and_lives_on_when_it_prints(node: Node) -> None:
    node.syncr("[/etc/a]\nrun =\n    sh: (sleep 1; echo talk; echo talk; sleep 0.2; echo on > OUT/alive; sleep 60) &\n")
    node.owe("/etc/a")
    assert tasks.run_due(node.db) == 0
    assert not node.out("alive")
    assert wait_until(lambda: node.out("alive"), 20)


# what is owed


def test_a_section_and_path_are_owed_once_with_a_fresh_start(node: Node) -> None:
    node.syncr("[/etc/a]\nrun = false\n")
    node.owe("/etc/a")
    [[old, since]] = node.db.execute("SELECT id, since FROM owed").fetchall()
    tasks.run_due(node.db)
    node.owe("/etc/a")
    assert [tuple(row) for row in node.rows()] == [(b"/etc/a", 0, 0.0, "")]
    # the highest id was taken and is not given again, or a run under way would delete what it has not seen
    assert node.db.execute("SELECT id > ?, since = ? FROM owed", (old, since)).fetchone() == (1, 1)


def test_what_is_owed_goes_with_the_transaction_it_was_written_in(node: Node) -> None:
    node.syncr("[/etc/a]\nrun = true\n")
    with pytest.raises(KeyError), archive.transaction(node.db):
        node.owe("/etc/a")
        assert len(node.rows()) == 1
        raise KeyError
    assert node.rows() == []


def test_a_section_that_only_checks_owes_nothing(node: Node) -> None:
    node.syncr("[/etc/a]\ncheck = true %s\n")
    node.owe("/etc/a")
    assert node.rows() == []


def test_each_section_of_a_path_owes_and_runs_in_the_order_of_the_file(node: Node) -> None:
    node.syncr("[/etc/*]\nrun = sh: echo 1 >> OUT/x\n[/etc/a]\nrun = sh: echo 2 >> OUT/x\n")
    node.owe("/etc/a")
    assert len(node.rows()) == 2
    assert tasks.run_due(node.db) == 0
    assert node.out("x") == "1\n2\n" and node.rows() == []


# running


def test_ten_files_of_one_section_are_one_run_that_is_told_all_of_them(node: Node) -> None:
    node.syncr(
        "[/etc/*]\nrun =\n    sh: cat >> OUT/one; echo >> OUT/one\n    sh: cat > OUT/two; echo $HOTPAIR_PATH > OUT/p\n"
    )
    paths = [f"/etc/{number}" for number in range(10)]
    node.owe(*paths)
    node.owe("/etc/3")
    assert tasks.run_due(node.db) == 0
    order = [path for path in paths if path != "/etc/3"] + ["/etc/3"]
    assert node.out("one") == "".join(path + "\0" for path in order) + "\n"
    assert node.out("two") == node.out("one")[:-1]
    assert node.out("p") == "/etc/3\n" and node.rows() == []


def test_more_names_than_a_pipe_holds_reach_the_command(node: Node) -> None:
    node.syncr("[/etc/*]\nrun =\n    true\n    sh: sleep 0.2; tr -cd '\\000' | wc -c > OUT/n\n")
    with archive.transaction(node.db):
        for number in range(1000):
            node.db.execute(
                "INSERT INTO owed (set_name, section, path, since) VALUES ('x', '/etc/*', ?, 1)",
                (f"/etc/{number}{'x' * 200}".encode(),),
            )
    assert tasks.run_due(node.db) == 0
    assert node.out("n") == "1000\n"


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_whatever_the_name_no_shell_reads_it(node: Node, name: str) -> None:
    node.syncr('[/etc/*]\nrun =\n    sh: cd OUT; cat > stdin; printf %s "$HOTPAIR_PATH" > path\n')
    node.owe("/etc/" + name)
    assert tasks.run_due(node.db) == 0
    assert node.out("stdin") == f"/etc/{name}\0" and node.out("path") == f"/etc/{name}"
    assert sorted(os.listdir(node.root / "out")) == ["path", "stdin"]


def test_a_pattern_of_any_bytes_owes_and_runs(node: Node) -> None:
    file = node.root / "etc/hotpair/syncr.ini"
    file.write_bytes(b"[/etc/\xff*]\nrun = sh: echo x >> " + os.fsencode(node.root) + b"/out/x\n")
    file.chmod(0o644)
    node.owe("/etc/\udcffa")
    assert tasks.run_due(node.db) == 0
    assert node.out("x") == "x\n" and node.rows() == []


def test_only_a_line_that_says_sh_meets_a_shell(node: Node) -> None:
    node.syncr("[/etc/a]\nrun =\n    touch OUT/a';id' OUT/$HOME\n    sh: touch OUT/b; touch OUT/c\n")
    (node.root / "out").joinpath("a;id").touch()
    node.owe("/etc/a")
    tasks.run_due(node.db)
    assert sorted(os.listdir(node.root / "out")) == ["$HOME", "a;id", "b", "c"]


def test_a_line_that_fails_stops_its_section_and_no_other(node: Node) -> None:
    node.syncr(
        "[/etc/a]\nrun =\n    sh: echo 1 >> OUT/x\n    sh: echo no good; exit 4\n    sh: echo 3 >> OUT/x\n"
        "[/etc/*]\nrun = sh: echo other >> OUT/x\n"
    )
    node.owe("/etc/a")
    before = time.time()
    assert tasks.run_due(node.db) == 1
    assert node.out("x") == "1\nother\n"
    [(path, attempts, due, failure)] = node.rows()
    assert (path, attempts, failure) == (b"/etc/a", 1, "sh: echo no good; exit 4: exit 4: no good")
    assert before + 60 <= due <= time.time() + 60
    [line] = node.log()
    assert line.endswith("[/etc/a]: sh: echo no good; exit 4: exit 4: no good: tried again in 60 s")


def test_a_line_over_time_stops_its_section(node: Node) -> None:
    node.syncr("[/etc/a]\nrun =\n    sleep 60\n    sh: echo 2 > OUT/x\ntimeout = 0.2\n")
    node.owe("/etc/a")
    assert tasks.run_due(node.db) == 1
    assert node.out("x") == "" and node.rows()[0][3] == "sleep 60: not done after 0.2 s"


def test_what_is_not_due_waits_and_five_failures_end_it_visibly(node: Node) -> None:
    node.syncr("[/etc/a]\nrun = sh: echo x >> OUT/x; exit 1\n")
    node.owe("/etc/a")
    pauses = []
    for _ in range(5):
        assert tasks.run_due(node.db) == 1
        pauses.append(round(node.rows()[0][2] - time.time()) if node.rows()[0][2] < 9e99 else None)
        assert tasks.run_due(node.db) == 0  # not due
        node.later()
    assert pauses == [60, 120, 240, 480, None]
    assert tasks.run_due(node.db) == 0 and node.out("x") == "x\n" * 5
    first, last = node.log()
    assert "tried again in 60 s" in first and "given up after 5 attempts" in last


def test_force_runs_what_was_given_up_once(node: Node) -> None:
    node.syncr("[/etc/a]\nrun = sh: echo x >> OUT/x; test -e OUT/good\n")
    node.owe("/etc/a")
    node.db.execute("UPDATE owed SET attempts = 5, due = 9e999, failure = 'x'")
    assert tasks.run_due(node.db) == 0 and node.out("x") == ""
    assert tasks.run_due(node.db, force=True) == 1 and node.out("x") == "x\n"
    assert tasks.waiting(node.db)[0].final
    (node.root / "out/good").touch()
    assert tasks.run_due(node.db, force=True) == 0 and node.rows() == []


def test_a_new_change_of_what_was_given_up_is_a_fresh_start(node: Node) -> None:
    node.syncr("[/etc/a]\nrun = sh: echo x >> OUT/x\n")
    node.owe("/etc/a")
    node.db.execute("UPDATE owed SET attempts = 5, due = 9e999, failure = 'x'")
    node.owe("/etc/a")
    assert tasks.run_due(node.db) == 0 and node.out("x") == "x\n" and node.rows() == []


def test_a_clock_that_was_set_back_does_not_put_off_what_is_owed(node: Node) -> None:
    node.syncr("[/etc/a]\nrun = true\n")
    node.owe("/etc/a")
    node.db.execute("UPDATE owed SET attempts = 1, due = ?", (time.time() + 86400,))
    assert tasks.run_due(node.db) == 0 and node.rows() == []


def test_a_live_file_whose_check_fails_starts_no_commands(node: Node) -> None:
    node.syncr("[/etc/*]\ncheck = grep -q good %s\nrun = sh: echo x >> OUT/x\n")
    (node.root / "etc/a").write_text("bad\n")
    (node.root / "etc/b").write_text("good\n")
    node.owe("/etc/a", "/etc/b")
    assert tasks.run_due(node.db) == 1
    assert node.out("x") == ""
    assert [(row[1], row[3]) for row in node.rows()] == [(1, "grep -q good %s: exit 1")] * 2
    (node.root / "etc/a").write_text("good\n")
    node.later()
    assert tasks.run_due(node.db) == 0 and node.out("x") == "x\n" and node.rows() == []


def test_what_is_no_file_is_not_checked_but_its_commands_run(node: Node) -> None:
    node.syncr("[/etc/*]\ncheck = false %s\nrun = sh: echo x >> OUT/x\n[/gone/a]\ncheck = false %s\nrun = true\n")
    (node.root / "etc/link").symlink_to("/etc/passwd")
    (node.root / "etc/directory").mkdir()
    node.owe("/etc/link", "/etc/directory", "/etc/removed", "/gone/a")
    assert tasks.run_due(node.db) == 0 and node.out("x") == "x\n"


def test_a_section_that_is_no_longer_there_is_dropped_with_a_word(node: Node) -> None:
    node.syncr("[/etc/a]\nrun = sh: echo a >> OUT/x\n[/etc/*]\nrun = sh: echo b >> OUT/x\n")
    node.owe("/etc/a", "/etc/b")
    node.syncr("[/etc/*]\nrun = sh: echo c >> OUT/x\n")
    assert tasks.run_due(node.db) == 0
    assert node.out("x") == "c\n" and node.rows() == []
    [line] = node.log()
    assert line.endswith("[/etc/a]: no longer configured: its commands are not run for 1 changed paths")


def test_a_broken_syncr_ini_drops_nothing(node: Node) -> None:
    node.syncr("[/etc/a]\nrun = true\n")
    node.owe("/etc/a")
    (node.root / "etc/hotpair/syncr.ini").write_text("[/etc/b]\nruns = true\n")
    with pytest.raises(tasks.config.ConfigFail):
        tasks.run_due(node.db)
    assert len(node.rows()) == 1


def test_a_set_name_chooses_the_sections_that_owe_something_there(node: Node) -> None:
    node.syncr("[/etc/*]\nrun = sh: cat >> OUT/x\n[/b]\nrun = sh: cat >> OUT/b\n")
    tasks.owe(Archive(node.db, "beta", "y"), sections.for_path(sections.load(), "/b", True), "/b")
    node.owe("/etc/a")
    tasks.owe(Archive(node.db, "beta", "y"), sections.for_path(sections.load(), "/etc/y", True), "/etc/y")
    assert tasks.run_due(node.db, "x") == 0
    # one run for the section, whichever set its files are of: nobody else would take what came while it was locked
    assert node.out("x") == "/etc/a\0/etc/y\0" and node.out("b") == ""
    assert tasks.run_due(node.db, "y") == 0 and node.out("b") == "/b\0"


def test_status_sees_what_waits_and_what_was_given_up(node: Node) -> None:
    node.syncr("[/etc/*]\nrun = sh: exit 3\n[/b]\nrun = true\n")
    node.owe("/etc/old")
    node.db.execute("UPDATE owed SET since = 100, attempts = 5, due = 9e999, failure = 'gone'")
    node.owe("/etc/a", "/etc/b")
    tasks.run_due(node.db)
    node.owe("/b")
    node.db.execute("UPDATE owed SET since = 200 WHERE since > 100 AND section != '/b'")
    given_up, tried, fresh = tasks.waiting(node.db)
    assert given_up == ("/etc/*", "x", 1, 100.0, 5, "gone", True)
    assert tried == ("/etc/*", "x", 2, 200.0, 1, "sh: exit 3: exit 3", False)
    assert (fresh.section, fresh.changed, fresh.attempts, fresh.failure, fresh.final) == ("/b", 1, 0, "", False)


# two at once, and death in between

EXCLUSIVE = "sh: mkdir OUT/busy || echo overlap >> OUT/overlap; cat >> OUT/seen; sleep 0.1; rmdir OUT/busy"


def test_a_change_while_its_commands_run_makes_them_run_once_more(node: Node) -> None:
    node.syncr("[/etc/a]\nrun = sh: echo start >> OUT/x; sleep 1\n")
    node.owe("/etc/a")
    process = node.start()
    assert wait_until(lambda: node.out("x"), 20)
    node.owe("/etc/a")
    assert process.wait(30) == 0
    assert node.out("x") == "start\n" * 2 and node.rows() == []


def test_a_failure_leaves_the_fresh_start_of_a_change_that_came_meanwhile(node: Node) -> None:
    node.syncr("[/etc/a]\nrun = sh: echo start >> OUT/x; sleep 1; test -e OUT/good\n")
    node.owe("/etc/a")
    process = node.start()
    assert wait_until(lambda: node.out("x"), 20)
    node.owe("/etc/a")
    process.wait(30)
    [(_, attempts, _, _)] = node.rows()
    assert node.out("x") == "start\n" * 2 and attempts == 1  # the second run's failure, not the second of one row


def test_two_processes_never_run_a_section_at_once_and_none_leaves_work_behind(node: Node) -> None:
    node.syncr(f"[/etc/*]\nrun =\n    {EXCLUSIVE}\n    {EXCLUSIVE}\n")
    processes = []
    for number in range(8):
        node.owe(f"/etc/{number}")
        processes.append(node.start())
        time.sleep(0.05)
    assert [process.wait(60) for process in processes] == [0] * 8
    assert node.out("overlap") == "" and node.rows() == []
    seen = node.out("seen").split("\0")[:-1]
    assert sorted(seen) == sorted([f"/etc/{number}" for number in range(8)] * 2)


def test_sections_of_their_own_run_at_once(node: Node) -> None:
    node.syncr(
        "[/etc/a]\nrun = sh: echo > OUT/a; while ! test -e OUT/b; do sleep 0.05; done\n[/etc/b]\nrun = touch OUT/b\n"
    )
    node.owe("/etc/a")
    first = node.start()
    assert wait_until(lambda: node.out("a"), 20)
    node.owe("/etc/b")
    assert tasks.run_due(node.db) == 0
    assert first.wait(10) == 0 and node.rows() == []


def test_kill_9_in_the_middle_and_the_commands_start_again(node: Node) -> None:
    node.syncr(
        "[/etc/a]\nrun =\n    sh: echo 1 >> OUT/x\n    sh: echo 2 >> OUT/x; test -e OUT/go || sleep 60\n"
        "    sh: echo 3 >> OUT/x\ntimeout = 1\n"
    )
    node.owe("/etc/a")
    process = node.start()
    assert wait_until(lambda: "2" in node.out("x"), 20)
    process.kill()
    process.wait()
    assert len(node.rows()) == 1
    (node.root / "out/go").touch()
    assert tasks.run_due(node.db) == 0
    assert node.out("x") == "1\n2\n1\n2\n3\n" and node.rows() == []


def test_a_command_that_outlived_its_hotpair_is_waited_for(node: Node) -> None:
    node.syncr(
        "[/etc/a]\nrun = sh: mkdir OUT/busy || echo overlap > OUT/overlap; echo s >> OUT/x; sleep 1; rmdir OUT/busy\n"
    )
    node.owe("/etc/a")
    process = node.start()
    assert wait_until(lambda: node.out("x"), 20)
    process.kill()
    process.wait()
    assert tasks.run_due(node.db) == 0
    assert node.out("x") == "s\ns\n" and node.out("overlap") == "" and node.rows() == []


def test_a_command_that_outlived_its_hotpair_is_ended_when_its_time_is_over(node: Node) -> None:
    node.syncr("[/etc/a]\nrun = sh: echo $$ >> OUT/x; test -e OUT/go || sleep 60; true\ntimeout = 0.5\n")
    node.owe("/etc/a")
    process = node.start()
    assert wait_until(lambda: node.out("x"), 20)
    process.kill()
    process.wait()
    (node.root / "out/go").touch()
    assert lives(int(node.out("x")))
    assert tasks.run_due(node.db) == 0
    assert len(node.out("x").split()) == 2 and not lives(int(node.out("x").split()[0]))


def test_a_number_that_another_process_has_by_now_is_not_taken_for_a_survivor(node: Node) -> None:
    node.syncr("[/etc/a]\nrun = true\n")
    node.owe("/etc/a")
    assert tasks.run_due(node.db) == 0
    [record] = (node.root / "run/hotpair").glob("section-*.pid")
    with subprocess.Popen(["sleep", "60"]) as stranger:
        record.write_text(f"{stranger.pid} 1\n")
        node.owe("/etc/a")
        assert tasks.run_due(node.db) == 0
        assert stranger.poll() is None
        stranger.kill()


def test_ctrl_c_takes_the_command_along(node: Node) -> None:
    node.syncr("[/etc/a]\nrun = sh: echo $$ > OUT/pid; sleep 60; true\n")
    node.owe("/etc/a")
    process = node.start()
    assert wait_until(lambda: node.out("pid"), 20)
    process.send_signal(signal.SIGINT)
    process.wait(10)
    assert wait_until(lambda: not lives(int(node.out("pid"))), 20)
    assert len(node.rows()) == 1


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


def test_owing_loads_neither_sh_nor_filelock(node: Node) -> None:
    code = "import sys; from hotpair import tasks; print([m for m in ('sh', 'filelock') if m in sys.modules])"
    seen = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": LIB}, capture_output=True, check=True
    )
    assert seen.stdout == b"[]\n"

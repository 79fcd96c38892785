"""Checks of a content before it goes live, and what every command of ours finds: real processes."""

import os
import resource
import signal
import time

import pytest

from hotpair import child, tasks
from tests.ext.commanded import HOSTILE, Prefix, lives
from tests.lab.spaces import wait_until


def test_a_check_that_passes_says_nothing(prefix: Prefix) -> None:
    found = prefix.syncr("[/etc/a]\ncheck = test -e %s\n")
    assert tasks.check(found, "/etc/a", "/etc/passwd") == ""


def test_a_check_that_fails_says_which_command_with_which_code_and_its_last_line(prefix: Prefix) -> None:
    found = prefix.syncr("[/etc/a]\ncheck = /bin/sh -c 'echo one; echo \"bad: $1\" >&2; echo; exit 3' x %s\n")
    said = tasks.check(found, "/etc/a", "/tmp/staged")
    assert said.startswith("/bin/sh -c ") and said.endswith(" x %s: exit 3: bad: /tmp/staged")


def test_what_a_check_says_is_cut_at_200_characters(prefix: Prefix) -> None:
    found = prefix.syncr("[/etc/a]\ncheck = sh -c 'printf %0300d 5; exit 1' x %s\n".replace("%0300d", "%0300u"))
    said = tasks.check(found, "/etc/a", "/x").rpartition(": exit 1: ")[2]
    assert said == "0" * 200


def test_a_check_for_another_path_is_not_run_and_on_plays_no_part(prefix: Prefix) -> None:
    found = prefix.syncr("[/etc/b]\ncheck = false %s\n[/etc/a]\ncheck = sh -c 'exit 7' x %s\non = here\n")
    assert tasks.check(found, "/etc/a", "/x").endswith("exit 7")
    assert tasks.check(found, "/etc/c", "/x") == ""


def test_every_check_that_has_the_path_is_run(prefix: Prefix) -> None:
    found = prefix.syncr("[/etc/*]\ncheck = test -e %s\n[/etc/a]\ncheck = test -d %s\n")
    assert tasks.check(found, "/etc/a", "/etc/passwd") == "test -d %s: exit 1"


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_whatever_the_name_a_check_gets_it_as_one_argument(prefix: Prefix, name: str) -> None:
    found = prefix.syncr("[/etc/*]\ncheck = /usr/bin/python3 OUT/argv.py --file=%s\n")
    (prefix.root / "out/argv.py").write_text(
        "import os, sys\nos.chdir(os.path.dirname(sys.argv[0]))\n"
        "open('argv', 'wb').write(os.fsencode(chr(0).join(sys.argv[1:])))\n"
    )
    assert tasks.check(found, "/etc/" + name, "/staged/" + name) == ""
    assert prefix.out("argv") == "--file=/staged/" + name
    assert sorted(os.listdir(prefix.root / "out")) == ["argv", "argv.py"]


def test_a_command_that_is_not_there_is_a_failure_that_names_it(prefix: Prefix) -> None:
    found = prefix.syncr("[/etc/a]\ncheck = no-such-command %s\n")
    said = tasks.check(found, "/etc/a", "/x")
    assert said.startswith("no-such-command %s: exit 127: ") and "No such file" in said


def test_a_command_line_too_long_for_the_kernel_is_a_failure(prefix: Prefix) -> None:
    found = prefix.syncr(f"[/etc/a]\ncheck = true {'x' * 200_000} %s\n")
    assert "not started: OSError: [Errno 7] Argument list too long" in tasks.check(found, "/etc/a", "/x")


def test_a_check_over_time_fails_and_nothing_of_it_is_left(prefix: Prefix) -> None:
    (prefix.root / "out/slow").write_text(
        f"trap '' TERM\ncd {prefix.root}/out\necho $$ > pid\n(trap '' TERM; sleep 60) & echo $! > other\nwait"
    )
    found = prefix.syncr("[/etc/a]\ncheck = sh OUT/slow %s\ntimeout = 0.5\n")
    began = time.monotonic()
    assert tasks.check(found, "/etc/a", "/x").endswith(": not done after 0.5 s")
    assert time.monotonic() - began < 8
    while lives(int(prefix.out("pid"))) or lives(int(prefix.out("other"))):  # SIGKILL takes a moment
        assert time.monotonic() - began < 8


def test_a_command_finds_a_clean_environment_and_nothing_of_ours(
    prefix: Prefix, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "x")
    prefix.syncr(
        "[/etc/a]\nrun =\n    sh: env -0 > OUT/env\n    sh: umask > OUT/umask; pwd > OUT/pwd\n"
        "    sh: ls /proc/self/fd > OUT/fds\n    sh: grep -E 'SigIgn|SigBlk' /proc/self/status > OUT/signals\n"
        "    sh: ps -o pid=,sid=,pgid= -p $$ > OUT/ids\n"
    )
    prefix.owe("/etc/a")
    old = os.umask(0o077)
    signal.signal(signal.SIGIO, signal.SIG_IGN)  # as beneath.hold_lease leaves it
    try:
        assert tasks.run_due(prefix.db) == 0
    finally:
        os.umask(old)
    found = dict(entry.split("=", 1) for entry in prefix.out("env").split("\0")[:-1])
    found.pop("PWD")  # dash sets it
    assert found == {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
        "HOME": "/root",
        "HOTPAIR_PATH": "/etc/a",
        "HOTPAIR_NODE": "alpha",
        "HOTPAIR_ROOT": str(prefix.root),
    }
    assert prefix.out("umask") == "0022\n" and prefix.out("pwd") == "/\n"
    assert prefix.out("fds").split() == ["0", "1", "2", "3"]  # 3: the directory that ls reads
    reserved = 1 << 31 | 1 << 32  # 32 and 33 are the C library's own: no program can set them, whoever ignored them
    assert [int(line.split()[1], 16) & ~reserved for line in prefix.out("signals").splitlines()] == [0, 0]
    assert len(set(prefix.out("ids").split())) == 1


def test_a_check_reads_nothing_on_its_standard_input(prefix: Prefix) -> None:
    found = prefix.syncr("[/etc/a]\ncheck = sh -c 'readlink /proc/$$/fd/0; exit 1' x %s\n")
    assert tasks.check(found, "/etc/a", "/x").endswith("exit 1: /dev/null")


def test_a_gigabyte_of_output_costs_no_memory(prefix: Prefix) -> None:
    child.run(["true"], child.environment(), 5)  # what is imported for it is not output
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    said = child.run(["sh", "-c", "head -c 1000000000 /dev/zero; echo; echo end; exit 1"], child.environment(), 60)
    assert said == "exit 1: end"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 8_000  # KiB


def test_a_service_left_behind_does_not_hold_us_up_and_lives_on_when_it_prints(prefix: Prefix) -> None:
    prefix.syncr(
        "[/etc/a]\nrun =\n    sh: (sleep 1; echo talk; echo talk; sleep 0.2; echo on > OUT/alive; sleep 60) &\n"
    )
    prefix.owe("/etc/a")
    assert tasks.run_due(prefix.db) == 0
    assert not prefix.out("alive")
    assert wait_until(lambda: prefix.out("alive"), 20)

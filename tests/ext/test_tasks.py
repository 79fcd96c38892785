"""Commands that belong to a path: owed, run in order, retried, given up. Real processes, a real database."""

import os
import time

import pytest

from hotpair import archive, sections, tasks
from hotpair.archive import Archive
from tests.ext.commanded import HOSTILE, Prefix


def test_a_section_and_path_are_owed_once_with_a_fresh_start(prefix: Prefix) -> None:
    prefix.syncr("[/etc/a]\nrun = false\n")
    prefix.owe("/etc/a")
    [[old, since]] = prefix.db.execute("SELECT id, since FROM owed").fetchall()
    tasks.run_due(prefix.db)
    prefix.owe("/etc/a")
    assert [tuple(row) for row in prefix.rows()] == [(b"/etc/a", 0, 0.0, "")]
    # the highest id was taken and is not given again, or a run under way would delete what it has not seen
    assert prefix.db.execute("SELECT id > ?, since = ? FROM owed", (old, since)).fetchone() == (1, 1)


def test_what_is_owed_goes_with_the_transaction_it_was_written_in(prefix: Prefix) -> None:
    prefix.syncr("[/etc/a]\nrun = true\n")
    with pytest.raises(KeyError), archive.transaction(prefix.db):
        prefix.owe("/etc/a")
        assert len(prefix.rows()) == 1
        raise KeyError
    assert prefix.rows() == []


def test_a_section_that_only_checks_owes_nothing(prefix: Prefix) -> None:
    prefix.syncr("[/etc/a]\ncheck = true %s\n")
    prefix.owe("/etc/a")
    assert prefix.rows() == []


def test_each_section_of_a_path_owes_and_runs_in_the_order_of_the_file(prefix: Prefix) -> None:
    prefix.syncr("[/etc/*]\nrun = sh: echo 1 >> OUT/x\n[/etc/a]\nrun = sh: echo 2 >> OUT/x\n")
    prefix.owe("/etc/a")
    assert len(prefix.rows()) == 2
    assert tasks.run_due(prefix.db) == 0
    assert prefix.out("x") == "1\n2\n" and prefix.rows() == []


def test_ten_files_of_one_section_are_one_run_that_is_told_all_of_them(prefix: Prefix) -> None:
    prefix.syncr(
        "[/etc/*]\nrun =\n    sh: cat >> OUT/one; echo >> OUT/one\n    sh: cat > OUT/two; echo $HOTPAIR_PATH > OUT/p\n"
    )
    paths = [f"/etc/{number}" for number in range(10)]
    prefix.owe(*paths)
    prefix.owe("/etc/3")
    assert tasks.run_due(prefix.db) == 0
    order = [path for path in paths if path != "/etc/3"] + ["/etc/3"]
    assert prefix.out("one") == "".join(path + "\0" for path in order) + "\n"
    assert prefix.out("two") == prefix.out("one")[:-1]
    assert prefix.out("p") == "/etc/3\n" and prefix.rows() == []


def test_more_names_than_a_pipe_holds_reach_the_command(prefix: Prefix) -> None:
    prefix.syncr("[/etc/*]\nrun =\n    true\n    sh: sleep 0.2; tr -cd '\\000' | wc -c > OUT/n\n")
    with archive.transaction(prefix.db):
        for number in range(1000):
            prefix.db.execute(
                "INSERT INTO owed (set_name, section, path, since) VALUES ('x', '/etc/*', ?, 1)",
                (f"/etc/{number}{'x' * 200}".encode(),),
            )
    assert tasks.run_due(prefix.db) == 0
    assert prefix.out("n") == "1000\n"


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_whatever_the_name_no_shell_reads_it(prefix: Prefix, name: str) -> None:
    prefix.syncr('[/etc/*]\nrun =\n    sh: cd OUT; cat > stdin; printf %s "$HOTPAIR_PATH" > path\n')
    prefix.owe("/etc/" + name)
    assert tasks.run_due(prefix.db) == 0
    assert prefix.out("stdin") == f"/etc/{name}\0" and prefix.out("path") == f"/etc/{name}"
    assert sorted(os.listdir(prefix.root / "out")) == ["path", "stdin"]


def test_a_pattern_of_any_bytes_owes_and_runs(prefix: Prefix) -> None:
    file = prefix.root / "etc/hotpair/syncr.ini"
    file.write_bytes(b"[/etc/\xff*]\nrun = sh: echo x >> " + os.fsencode(prefix.root) + b"/out/x\n")
    file.chmod(0o644)
    prefix.owe("/etc/\udcffa")
    assert tasks.run_due(prefix.db) == 0
    assert prefix.out("x") == "x\n" and prefix.rows() == []


def test_only_a_line_that_says_sh_meets_a_shell(prefix: Prefix) -> None:
    prefix.syncr("[/etc/a]\nrun =\n    touch OUT/a';id' OUT/$HOME\n    sh: touch OUT/b; touch OUT/c\n")
    (prefix.root / "out").joinpath("a;id").touch()
    prefix.owe("/etc/a")
    tasks.run_due(prefix.db)
    assert sorted(os.listdir(prefix.root / "out")) == ["$HOME", "a;id", "b", "c"]


def test_a_line_that_fails_stops_its_section_and_no_other(prefix: Prefix) -> None:
    prefix.syncr(
        "[/etc/a]\nrun =\n    sh: echo 1 >> OUT/x\n    sh: echo no good; exit 4\n    sh: echo 3 >> OUT/x\n"
        "[/etc/*]\nrun = sh: echo other >> OUT/x\n"
    )
    prefix.owe("/etc/a")
    before = time.time()
    assert tasks.run_due(prefix.db) == 1
    assert prefix.out("x") == "1\nother\n"
    [(path, attempts, due, failure)] = prefix.rows()
    assert (path, attempts, failure) == (b"/etc/a", 1, "sh: echo no good; exit 4: exit 4: no good")
    assert before + 60 <= due <= time.time() + 60
    [line] = prefix.log()
    assert line.endswith("[/etc/a]: sh: echo no good; exit 4: exit 4: no good: tried again in 60 s")


def test_a_line_over_time_stops_its_section(prefix: Prefix) -> None:
    prefix.syncr("[/etc/a]\nrun =\n    sleep 60\n    sh: echo 2 > OUT/x\ntimeout = 0.2\n")
    prefix.owe("/etc/a")
    assert tasks.run_due(prefix.db) == 1
    assert prefix.out("x") == "" and prefix.rows()[0][3] == "sleep 60: not done after 0.2 s"


def test_what_is_not_due_waits_and_five_failures_end_it_visibly(prefix: Prefix) -> None:
    prefix.syncr("[/etc/a]\nrun = sh: echo x >> OUT/x; exit 1\n")
    prefix.owe("/etc/a")
    pauses = []
    for _ in range(5):
        assert tasks.run_due(prefix.db) == 1
        pauses.append(round(prefix.rows()[0][2] - time.time()) if prefix.rows()[0][2] < 9e99 else None)
        assert tasks.run_due(prefix.db) == 0  # not due
        prefix.later()
    assert pauses == [60, 120, 240, 480, None]
    assert tasks.run_due(prefix.db) == 0 and prefix.out("x") == "x\n" * 5
    first, last = prefix.log()
    assert "tried again in 60 s" in first and "given up after 5 attempts" in last


def test_force_runs_what_was_given_up_once(prefix: Prefix) -> None:
    prefix.syncr("[/etc/a]\nrun = sh: echo x >> OUT/x; test -e OUT/good\n")
    prefix.owe("/etc/a")
    prefix.db.execute("UPDATE owed SET attempts = 5, due = 9e999, failure = 'x'")
    assert tasks.run_due(prefix.db) == 0 and prefix.out("x") == ""
    assert tasks.run_due(prefix.db, force=True) == 1 and prefix.out("x") == "x\n"
    assert tasks.waiting(prefix.db)[0].final
    (prefix.root / "out/good").touch()
    assert tasks.run_due(prefix.db, force=True) == 0 and prefix.rows() == []


def test_a_new_change_of_what_was_given_up_is_a_fresh_start(prefix: Prefix) -> None:
    prefix.syncr("[/etc/a]\nrun = sh: echo x >> OUT/x\n")
    prefix.owe("/etc/a")
    prefix.db.execute("UPDATE owed SET attempts = 5, due = 9e999, failure = 'x'")
    prefix.owe("/etc/a")
    assert tasks.run_due(prefix.db) == 0 and prefix.out("x") == "x\n" and prefix.rows() == []


def test_a_clock_that_was_set_back_does_not_put_off_what_is_owed(prefix: Prefix) -> None:
    prefix.syncr("[/etc/a]\nrun = true\n")
    prefix.owe("/etc/a")
    prefix.db.execute("UPDATE owed SET attempts = 1, due = ?", (time.time() + 86400,))
    assert tasks.run_due(prefix.db) == 0 and prefix.rows() == []


def test_a_live_file_whose_check_fails_starts_no_commands(prefix: Prefix) -> None:
    prefix.syncr("[/etc/*]\ncheck = grep -q good %s\nrun = sh: echo x >> OUT/x\n")
    (prefix.root / "etc/a").write_text("bad\n")
    (prefix.root / "etc/b").write_text("good\n")
    prefix.owe("/etc/a", "/etc/b")
    assert tasks.run_due(prefix.db) == 1
    assert prefix.out("x") == ""
    assert [(row[1], row[3]) for row in prefix.rows()] == [(1, "grep -q good %s: exit 1")] * 2
    (prefix.root / "etc/a").write_text("good\n")
    prefix.later()
    assert tasks.run_due(prefix.db) == 0 and prefix.out("x") == "x\n" and prefix.rows() == []


def test_what_is_no_file_is_not_checked_but_its_commands_run(prefix: Prefix) -> None:
    prefix.syncr("[/etc/*]\ncheck = false %s\nrun = sh: echo x >> OUT/x\n[/gone/a]\ncheck = false %s\nrun = true\n")
    (prefix.root / "etc/link").symlink_to("/etc/passwd")
    (prefix.root / "etc/directory").mkdir()
    prefix.owe("/etc/link", "/etc/directory", "/etc/removed", "/gone/a")
    assert tasks.run_due(prefix.db) == 0 and prefix.out("x") == "x\n"


def test_a_section_that_is_no_longer_there_is_dropped_with_a_word(prefix: Prefix) -> None:
    prefix.syncr("[/etc/a]\nrun = sh: echo a >> OUT/x\n[/etc/*]\nrun = sh: echo b >> OUT/x\n")
    prefix.owe("/etc/a", "/etc/b")
    prefix.syncr("[/etc/*]\nrun = sh: echo c >> OUT/x\n")
    assert tasks.run_due(prefix.db) == 0
    assert prefix.out("x") == "c\n" and prefix.rows() == []
    [line] = prefix.log()
    assert line.endswith("[/etc/a]: no longer configured: its commands are not run for 1 changed paths")


def test_a_broken_syncr_ini_drops_nothing(prefix: Prefix) -> None:
    prefix.syncr("[/etc/a]\nrun = true\n")
    prefix.owe("/etc/a")
    (prefix.root / "etc/hotpair/syncr.ini").write_text("[/etc/b]\nruns = true\n")
    with pytest.raises(tasks.config.ConfigFail):
        tasks.run_due(prefix.db)
    assert len(prefix.rows()) == 1


def test_a_set_name_chooses_the_sections_that_owe_something_there(prefix: Prefix) -> None:
    prefix.syncr("[/etc/*]\nrun = sh: cat >> OUT/x\n[/b]\nrun = sh: cat >> OUT/b\n")
    tasks.owe(Archive(prefix.db, "beta", "y"), sections.for_path(sections.load(), "/b", True), "/b")
    prefix.owe("/etc/a")
    tasks.owe(Archive(prefix.db, "beta", "y"), sections.for_path(sections.load(), "/etc/y", True), "/etc/y")
    assert tasks.run_due(prefix.db, "x") == 0
    # one run for the section, whichever set its files are of: nobody else would take what came while it was locked
    assert prefix.out("x") == "/etc/a\0/etc/y\0" and prefix.out("b") == ""
    assert tasks.run_due(prefix.db, "y") == 0 and prefix.out("b") == "/b\0"


def test_status_sees_what_waits_and_what_was_given_up(prefix: Prefix) -> None:
    prefix.syncr("[/etc/*]\nrun = sh: exit 3\n[/b]\nrun = true\n")
    prefix.owe("/etc/old")
    prefix.db.execute("UPDATE owed SET since = 100, attempts = 5, due = 9e999, failure = 'gone'")
    prefix.owe("/etc/a", "/etc/b")
    tasks.run_due(prefix.db)
    prefix.owe("/b")
    prefix.db.execute("UPDATE owed SET since = 200 WHERE since > 100 AND section != '/b'")
    given_up, tried, fresh = tasks.waiting(prefix.db)
    assert given_up == ("/etc/*", "x", 1, 100.0, 5, "gone", True)
    assert tried == ("/etc/*", "x", 2, 200.0, 1, "sh: exit 3: exit 3", False)
    assert (fresh.section, fresh.changed, fresh.attempts, fresh.failure, fresh.final) == ("/b", 1, 0, "", False)

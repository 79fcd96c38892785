"""Storm mode and the watchdog, on real files under a prefix: the table goes away, comes back, and nothing is lost."""

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hotpair import config, locks, marks, paths, quiet, storm, watch, watchdog
from hotpair.cmd import syncr
from hotpair.config import Config
from hotpair.filesset import FilesSet

FILES = FilesSet("etc", ("/etc/app/x.conf",), 6, "store", 0.0, "newest")
WANTED = Config(config.Node("alpha", "ssh:beta", "root", 22, "/k", "/h", 5.0, 60.0, 32768, 16 << 20), {"etc": FILES})


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A prefix with the set `etc` and its table; the set is quiet. No incrond reads that table."""
    monkeypatch.setenv("HOTPAIR_ROOT", str(tmp_path))
    monkeypatch.setattr(storm, "ARMED", 0.02)
    monkeypatch.setattr("sys.argv", ["/usr/local/sbin/psync"])
    (tmp_path / "etc/app").mkdir(parents=True)
    (tmp_path / "etc/app/x.conf").write_text("x")
    (tmp_path / "etc/hotpair").mkdir()
    watch.write(WANTED)
    be_agreed()
    return tmp_path


def be_agreed() -> None:
    signatures = {path: quiet.signature(paths.under(path)) for path in FILES.paths}
    quiet.write("etc", quiet.configuration(), FILES.paths, signatures)


def in_place() -> bool:
    return os.path.exists(paths.incron_table("etc"))


@contextlib.contextmanager
def writer(root: Path, seconds: float) -> Iterator[None]:
    """Make a new file in the watched directory again and again."""

    def write() -> None:
        until, number = time.monotonic() + seconds, 0
        while time.monotonic() < until:
            (root / f"etc/app/{(number := number + 1)}.tmp").write_text("")
            time.sleep(0.01)

    thread = threading.Thread(target=write)
    thread.start()
    yield
    thread.join()


def test_many_events_in_a_second_put_the_table_away(root: Path) -> None:
    for _ in range(storm.BURST - 1):
        storm.event("etc")
    assert in_place()
    storm.event("etc")
    assert not in_place()
    assert storm.away("etc")


def test_as_many_events_over_a_longer_time_do_not(root: Path) -> None:
    for _ in range(storm.BURST):
        storm.event("etc")
        began = time.time() - 1.1  # the second is over
        os.utime(paths.set_state("etc", "pulse"), (began, began))
    assert in_place()


def test_many_siblings_put_the_table_away_at_the_first_event(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storm, "_siblings", lambda: storm.BURST)
    storm.event("etc")
    assert storm.away("etc")


def test_switch_off_needs_a_table_and_is_done_once(root: Path) -> None:
    assert storm.switch_off("etc")
    assert not storm.switch_off("etc")
    assert not storm.switch_off("none")


def test_switch_on_restores_the_table_and_leaves_a_mark(root: Path) -> None:
    before = Path(paths.incron_table("etc")).read_bytes(), os.stat(paths.incron_table("etc")).st_mtime
    storm.switch_off("etc")
    assert not marks.waiting("etc")
    storm.switch_on("etc")
    assert before == (Path(paths.incron_table("etc")).read_bytes(), os.stat(paths.incron_table("etc")).st_mtime)
    assert not storm.away("etc")
    assert marks.waiting("etc")


def test_switch_on_keeps_a_table_that_was_written_meanwhile(root: Path) -> None:
    storm.switch_off("etc")
    Path(paths.incron_table("etc")).write_text("newer\n")
    storm.switch_on("etc")
    assert Path(paths.incron_table("etc")).read_text() == "newer\n"
    assert not storm.away("etc")


def test_a_storm_lasts_as_long_as_its_directory_changes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storm, "AGAIN", 0.0)
    storm.switch_off("etc")
    began = time.monotonic()
    with writer(root, 1.0):
        storm.end("etc")
        assert 1.0 <= time.monotonic() - began < 3.0
    assert in_place()


def test_a_storm_ends_at_the_latest_after_its_limit(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storm, "MOST", 0.5)
    storm.switch_off("etc")
    with writer(root, 1.5):
        began = time.monotonic()
        storm.end("etc")
        assert time.monotonic() - began < 1.2


def test_a_directory_dated_in_the_future_holds_up_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storm, "AGAIN", 0.0)
    storm.switch_off("etc")
    os.utime(root / "etc/app", (time.time() + 9999, time.time() + 9999))
    began = time.monotonic()
    storm.end("etc")
    assert time.monotonic() - began < 2


def test_a_storm_that_begins_again_at_once_lasts_longer(root: Path) -> None:
    storm.switch_off("etc")  # the table was written just now
    assert os.stat(storm.shelf("etc")).st_atime - time.time() > storm.SHORT + 1


def test_a_storm_found_after_its_mark_was_claimed_is_ended_all_the_same(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(name: str) -> None:
        marks.take(name)  # a run claims the mark, finds all quiet, and ends
        marks.done(name)
        storm.switch_off(name)

    monkeypatch.setattr(storm, "event", late)
    assert syncr.main(["etc", "0"]) == os.EX_OK
    assert in_place()


def test_over_costs_nothing_without_a_storm(root: Path) -> None:
    began = time.monotonic()
    assert storm.over("etc", 100.0)
    assert time.monotonic() - began < 0.01


def test_sitting_out_ends_when_the_set_has_changed(root: Path) -> None:
    storm.switch_off("etc")
    (root / "etc/app/x.conf").write_text("changed")
    assert not storm.sit_out("etc")
    assert storm.away("etc")  # the run goes on without the watch


def test_armed_is_true_when_the_trigger_answers(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """incrond is stood in for by a thread that starts the trigger for every touch, as its table says."""
    seen: set[int] = set()
    stop = threading.Event()

    def incrond() -> None:
        while not stop.is_set():
            touched = os.stat(marks.canary("etc")).st_mtime_ns
            if touched not in seen and touched:
                seen.add(touched)
                syncr.main(["etc", marks.CANARY])
            time.sleep(0.002)

    thread = threading.Thread(target=incrond)
    thread.start()
    try:
        assert storm.armed("etc", 2.0)
    finally:
        stop.set()
        thread.join()
    assert not marks.waiting("etc")  # the canary is no mark


def test_armed_is_false_when_nobody_answers(root: Path) -> None:
    began = time.monotonic()
    assert not storm.armed("etc", 0.2)
    assert 0.2 <= time.monotonic() - began < 1


def test_the_minute_job_puts_back_what_a_crash_left_away(root: Path) -> None:
    storm.switch_off("etc")
    watchdog.minute(WANTED)
    assert in_place()
    assert marks.waiting("etc")
    assert "incrond watches again" in (root / "var/log/hotpair.log").read_text()


def test_the_minute_job_leaves_a_storm_to_its_run(root: Path) -> None:
    storm.switch_off("etc")
    lock = locks.try_run("etc")
    assert lock is not None
    try:
        watchdog.minute(WANTED)
        assert storm.away("etc")
    finally:
        os.close(lock)


def test_canaries_tell_delay_death_and_absence(root: Path) -> None:
    assert watchdog.canaries(WANTED) == [watchdog.Canary("etc", True, None, None)]
    storm.touch("etc")
    assert watchdog.unanswered("etc")
    marks.answer("etc")
    assert not watchdog.unanswered("etc")
    delay = watchdog.canaries(WANTED)[0].delay
    assert delay is not None
    assert 0 <= delay < 1
    os.unlink(paths.incron_table("etc"))
    assert not watchdog.canaries(WANTED)[0].installed


def test_an_answer_to_an_earlier_touch_is_none(root: Path) -> None:
    storm.touch("etc")
    marks.answer("etc")
    time.sleep(0.02)
    storm.touch("etc")
    assert watchdog.unanswered("etc")


def test_a_touch_from_before_the_machine_was_off_tells_nothing(root: Path) -> None:
    storm.touch("etc")
    old = time.time() - 2 * watchdog.STALE
    os.utime(marks.canary("etc"), (old, old))
    assert not watchdog.unanswered("etc")


def test_an_answer_without_a_canary_is_no_error(root: Path) -> None:
    os.unlink(marks.canary("etc"))
    assert syncr.main(["etc", marks.CANARY]) == 0


def test_the_watchdog_goes_from_the_table_to_a_restart_and_says_each_once(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    restarts: list[int | None] = []

    def restart(pid: int | None) -> str:
        restarts.append(pid)
        return "it is not there"

    monkeypatch.setattr(watchdog, "_restart", restart)
    monkeypatch.setattr(watchdog, "watched_inodes", lambda _: set())
    inode = os.stat(paths.incron_table("etc")).st_ino

    def minutes(count: int) -> None:
        for _ in range(count):
            storm.touch("etc")
            watchdog._attend([FILES], 1)

    minutes(1)
    assert os.stat(paths.incron_table("etc")).st_ino != inode  # read again
    assert restarts == []
    minutes(8)
    assert restarts == [1, 1, 1]  # in minutes 2, 4 and 8
    assert watchdog.canaries(WANTED)[0].dead_since is not None
    marks.answer("etc")
    watchdog._attend([FILES], 1)
    assert watchdog.canaries(WANTED)[0].dead_since is None
    log = (root / "var/log/hotpair.log").read_text().splitlines()
    assert [line.split(": ", 1)[1][:40] for line in log] == [
        "etc: no event arrived for a minute: has ",
        "incrond does not answer and cannot be re",
        "etc: events arrive again",
    ]


def test_a_directory_that_incrond_lost_is_nudged_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = storm.places(Path(paths.incron_table("etc")).read_text())
    seen = {os.stat(place).st_ino for place in places}
    monkeypatch.setattr(watchdog, "watched_inodes", lambda _: seen)

    def table() -> int:
        watchdog._see("etc", 1)
        return os.stat(paths.incron_table("etc")).st_ino

    before = table()
    assert table() == before
    seen.discard(os.stat(root / "etc/app").st_ino)
    after = table()
    assert after != before
    assert table() == after  # where stat and inotify differ, for ever: no second time
    seen.add(os.stat(root / "etc/app").st_ino)
    table()
    seen.discard(os.stat(root / "etc/app").st_ino)
    assert table() != after  # but a new loss is a new one


def test_an_outage_file_that_makes_no_sense_is_a_new_outage(root: Path) -> None:
    path = paths.set_state("etc", "canary-dead")
    Path(path).write_text("what?\n")
    assert watchdog.Outage(path).lasts() == 1
    assert watchdog.Outage(path).lasts() == 2


@pytest.mark.parametrize(("minutes", "again"), [(1, True), (2, True), (3, False), (4, True), (6, False), (64, True)])
def test_attempts_grow_rarer(minutes: int, again: bool) -> None:
    assert watchdog.doubled(minutes) is again


def test_this_process_is_no_incrond() -> None:
    assert not watchdog._is_incrond(str(os.getpid()))


def test_watches_of_a_process_are_seen() -> None:
    assert watchdog.watched_inodes(os.getpid()) == set()
    assert watchdog.watched_inodes(2**22 + 1) == set()

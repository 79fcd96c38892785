"""Retention: which generations are past the limits, and that none goes whose path is not agreed on."""

import os
import time
from pathlib import Path

import pytest

from hotpair import archive, keep, paths, retention, scan
from hotpair.archive import Archive, Row
from hotpair.filesset import FilesSet
from hotpair.retention import DAY, Kept

FILES = FilesSet("demo", ("/srv/*",), 6, "store", 0.0, "newest", 0, 1)
CASES = [  # days, bytes, which of four generations of 10 bytes, 40, 30, 20 and 0 days old, are past that
    pytest.param(0, 0, [], id="no limit"),
    pytest.param(25, 0, [4, 3], id="by age"),
    pytest.param(0, 30, [4], id="by size"),
    pytest.param(25, 10, [4, 3, 2], id="by both"),
    pytest.param(0, 1, [4, 3, 2, 1], id="even the newest, which is larger than all may be"),
    pytest.param(90, 40, [], id="within both"),
]


@pytest.mark.parametrize("age, size, expected", CASES)
def test_past_the_limits_are(age: int, size: int, expected: list[int]) -> None:
    now = time.time_ns()
    oldest = [Kept("/srv/f", n, n, now - days * DAY * 10**9, 10) for n, days in ((4, 40), (3, 30), (2, 20), (1, 0))]
    assert [one.number for one in retention._past(oldest, 40, age, size)] == expected


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Archive:
    monkeypatch.setenv("HOTPAIR_ROOT", str(tmp_path))
    for number in (1, 2):
        copy = Path(paths.under(keep.slot(FILES, "/srv/f", number)))
        copy.parent.mkdir(parents=True)
        copy.write_text("content")
    return Archive(archive.connect(), "peer", "demo")


def state(size: int) -> scan.State:
    return scan.State("file", size, 0o644, 0, 0, 0, "0" * 64, ())


def left() -> list[int]:
    return [number for number in (1, 2) if os.path.exists(paths.under(keep.slot(FILES, "/srv/f", number)))]


@pytest.mark.parametrize("seen, expected", [(state(1), []), (state(2), [1, 2])], ids=["agreed", "changed since"])
def test_generations_go_of_a_path_that_is(rows: Archive, seen: scan.State, expected: list[int]) -> None:
    rows.put("/srv/f", Row(state(1), seen))
    for one in sorted(retention._of_list(FILES, rows), key=Kept.order):
        retention._remove(FILES, rows, one)
    assert left() == expected


def test_generation_that_has_moved_on_since_it_was_counted_stays(rows: Archive) -> None:
    rows.put("/srv/f", Row(state(1), state(1)))
    counted = [one for one in retention._of_list(FILES, rows) if one.number == 2]
    Path(paths.under(keep.slot(FILES, "/srv/f", 1))).rename(paths.under(keep.slot(FILES, "/srv/f", 2)))
    retention._remove(FILES, rows, counted[0])
    assert left() == [2]

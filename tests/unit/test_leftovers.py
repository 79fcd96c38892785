"""Leftovers: what stays in an inbox after rsync has filled it."""

from pathlib import Path

import pytest

from hotpair import leftovers, payload
from hotpair.scan import State

LARGE, OTHER = (State("file", 9, 0o644, 0, 0, 0, digit * 64, ()) for digit in "12")
WANTED = payload.stage_name("/large", LARGE)


@pytest.fixture
def inbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOTPAIR_ROOT", str(tmp_path))
    (tmp_path / "inbox/.partial").mkdir(parents=True)
    return tmp_path / "inbox"


def left(inbox: Path) -> list[str]:
    leftovers.discard_others("/inbox", {WANTED})
    return sorted(str(path.relative_to(inbox)) for path in inbox.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    "name, stays",
    [
        pytest.param(WANTED, True, id="what is wanted"),
        pytest.param("swap-of-our-own", True, id="another program's"),
        pytest.param(payload.stage_name("/large", OTHER), False, id="another content"),
        pytest.param(f".partial/{WANTED}", True, id="the half of what is wanted"),
        pytest.param(f".partial/{payload.stage_name('/large', OTHER)}", False, id="the half of what was edited since"),
        pytest.param(f".partial/{payload.stage_name('/later', OTHER)}", True, id="the half of another batch's"),
    ],
)
def test_what_rsync_goes_on_from_stays_and_nothing_else_of_it(inbox: Path, name: str, stays: bool) -> None:
    (inbox / name).touch()
    assert left(inbox) == [name] * stays


def test_half_that_nobody_came_back_to_for_a_week_goes(inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    half = f".partial/{payload.stage_name('/gone', OTHER)}"
    (inbox / half).touch()
    monkeypatch.setattr(leftovers, "PARTIAL_LASTS", -1)
    assert left(inbox) == []


def test_inbox_without_halves_is_looked_at(inbox: Path) -> None:
    (inbox / ".partial").rmdir()
    (inbox / WANTED).touch()
    assert left(inbox) == [WANTED]

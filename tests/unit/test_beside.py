"""Conflict copies: what they are called, and that a crash in mid-exchange costs none."""

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotpair import apply, beside, paths, plausible, rules, scan
from hotpair.archive import Row
from hotpair.treeset import OPTIONS, TreeSet

WRITTEN = 1764033082 * 10**9
LIVE = "/srv/d/f.txt"
COPY = "/srv/d/f.sync-conflict-20251125-011122-beta.txt"
CASES = [
    pytest.param("f.txt", "f.sync-conflict-20251125-011122-beta.txt", id="the extension stays"),
    pytest.param("a.tar.gz", "a.tar.sync-conflict-20251125-011122-beta.gz", id="the last of two extensions stays"),
    pytest.param(".profile", ".profile.sync-conflict-20251125-011122-beta", id="a leading dot begins no extension"),
    pytest.param("\udcff", "\udcff.sync-conflict-20251125-011122-beta", id="any bytes"),
    pytest.param("x" * 255, "x" * 220 + ".sync-conflict-20251125-011122-beta", id="cut to what a name may have"),
    pytest.param("x" + "é" * 127, "x" + "é" * 109 + ".sync-conflict-20251125-011122-beta", id="between characters"),
]


def tree(conflict: str = "beside") -> TreeSet:
    own = {key: option for key, option in OPTIONS.items() if key not in ("root", "filter", "tempfiles")}
    values: dict[str, Any] = {key.replace("-", "_"): option.parse(option.default) for key, option in own.items()}
    values |= {"conflict": conflict, "source": values.pop("mode")}
    return TreeSet("data", "/srv/d", (), rules.Rules([], []), **values)


@pytest.mark.parametrize("original, expected", CASES)
def test_copy_is_called_as(original: str, expected: str) -> None:
    name = beside.name(original, WRITTEN, "beta")
    assert name == expected
    assert len(os.fsencode(name)) <= 255


@given(st.binary(min_size=1, max_size=255), st.integers(-plausible.NS_MAX, plausible.NS_MAX))
def test_copy_has_a_possible_name_by_which_it_is_found(original: bytes, written: int) -> None:
    original = original.replace(b"/", b"_").replace(b"\0", b"_")
    name = beside.name(os.fsdecode(original), written, "node-1.example")
    assert plausible.path("/" + name)
    assert beside._is_copy(os.fsdecode(original), name)


def test_nodes_name_that_leaves_no_room_makes_no_copy() -> None:
    assert beside.name("f", WRITTEN, "n" * 240) == ""


def test_name_that_is_no_copys_is_not_taken_for_one() -> None:
    for other in ("g.sync-conflict-20251125-011122-beta.txt", "f.sync-conflict-beta.txt", "f.txt", "sync-conflict-"):
        assert not beside._is_copy("f.txt", other)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOTPAIR_ROOT", str(tmp_path))
    (tmp_path / "srv/d/.hotpair/data").mkdir(parents=True)
    for directory in ("srv/d/.hotpair", "srv/d/.hotpair/data"):
        (tmp_path / directory).chmod(0o700)
    return tmp_path


def lost(root: Path, files: TreeSet) -> beside.Loser | None:
    """Have a loser be exchanged out, and the machine die before it went anywhere."""
    out = root / "srv/d/.hotpair/data" / apply._swap_name(LIVE)
    out.write_text("lost")
    os.utime(out, ns=(WRITTEN, WRITTEN))
    state = scan.look(f"/srv/d/.hotpair/data/{out.name}")[0]
    Path(paths.under(LIVE)).write_text("won")
    return beside.loser(files, LIVE, Row(None, state), "beta")


def test_loser_that_a_crash_left_in_mid_exchange_stands_beside_the_winner(root: Path) -> None:
    loser = lost(root, tree())
    apply.recover(tree(), LIVE, loser)
    assert Path(paths.under(COPY)).read_text() == "lost"


def test_same_loser_twice_makes_one_copy(root: Path) -> None:
    for _ in range(2):
        apply.recover(tree(), LIVE, lost(root, tree()))
    assert sorted(os.listdir(root / "srv/d")) == [".hotpair", Path(COPY).name, "f.txt"]
    assert os.listdir(root / "srv/d/.hotpair") == ["data"]


def test_what_both_had_agreed_on_is_no_loser() -> None:
    state = scan.State("file", 1, 0o644, 0, 0, WRITTEN, "0" * 64, ())
    assert beside.loser(tree(), LIVE, Row(state, state._replace(mode=0o600)), "beta") is None
    assert beside.loser(tree(conflict="generations"), LIVE, Row(None, state), "beta") is None
    assert beside.loser(tree(), LIVE, Row(None, state), "beta") == beside.Loser(state, COPY)

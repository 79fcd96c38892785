"""Generations: what a directory of copies holds before a call, and what it holds after."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hotpair import keep, paths, scan
from hotpair.filesset import FilesSet
from hotpair.scan import State

LIVE = "/srv/f"


def files_set(count: int = 6, generations: str = "store") -> FilesSet:
    return FilesSet("demo", ("/srv/*",), count, generations, 0.0, "newest")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOTPAIR_ROOT", str(tmp_path))
    (tmp_path / "srv").mkdir()
    return tmp_path


def store(root: Path) -> Path:
    return root / keep.STORE.lstrip("/")


def fill(root: Path, files: FilesSet, live: str, before: dict[int, str]) -> None:
    for number, text in before.items():
        copy = Path(paths.under(keep.slot(files, live, number)))
        copy.parent.mkdir(parents=True, exist_ok=True)
        write(copy, text)


def write(path: Path, text: str) -> None:
    """Write a file, or make the link that `-> VALUE` stands for."""
    if path.is_symlink() or path.exists():
        path.unlink()
    if text.startswith("-> "):
        path.symlink_to(text[3:])
    else:
        path.write_text(text)


def kept(files: FilesSet, live: str = LIVE) -> dict[int, str]:
    """Return every generation there is, 0 included, also those past a gap."""
    found = {}
    for number in range(20):
        copy = paths.under(keep.slot(files, live, number))
        if os.path.islink(copy):
            found[number] = f"-> {os.readlink(copy)}"
        elif os.path.exists(copy):
            found[number] = Path(copy).read_text()
    return found


def look(live: str = LIVE) -> State | None:
    return scan.look(live)[0]


def present(files: FilesSet, live: str = LIVE) -> None:
    keep.present(files, live, look(live), live)


@pytest.mark.parametrize("generations", ["store", "beside"])
@pytest.mark.parametrize(
    "before, text, after",
    [
        pytest.param({}, "new", {0: "new"}, id="the first copy"),
        pytest.param({0: "a"}, "new", {0: "new", 1: "a"}, id="the second"),
        pytest.param({0: "a", 1: "b", 2: "c"}, "new", {0: "new", 1: "a", 2: "b", 3: "c"}, id="all age"),
        pytest.param({0: "a", 2: "c"}, "new", {0: "new", 1: "a", 2: "c"}, id="a gap is filled, what is past it stays"),
        pytest.param({1: "b", 2: "c"}, "new", {0: "new", 1: "b", 2: "c"}, id="a rotation cut short goes on"),
        pytest.param({0: "new", 1: "b"}, "new", {0: "new", 1: "b"}, id="the same content again"),
        pytest.param({0: "a", 1: "new"}, "new", {0: "new", 1: "a", 2: "new"}, id="a content that was there before"),
        pytest.param({0: "a"}, None, {1: "a"}, id="a delete"),
        pytest.param({}, None, {}, id="a delete of nothing"),
        pytest.param({1: "a"}, None, {1: "a"}, id="a delete again"),
        pytest.param({0: "a"}, "-> to", {0: "-> to", 1: "a"}, id="a link"),
        pytest.param({0: "-> to"}, "-> to", {0: "-> to"}, id="the same link again"),
        pytest.param({0: "-> to"}, "-> on", {0: "-> on", 1: "-> to"}, id="another link"),
        pytest.param({0: "-> to"}, "to", {0: "to", 1: "-> to"}, id="a file that holds a link's value"),
        pytest.param({0: "a"}, "", {0: "", 1: "a"}, id="an empty file"),
    ],
)
def test_present(root: Path, generations: str, before: dict[int, str], text: str | None, after: dict[int, str]) -> None:
    files = files_set(generations=generations)
    fill(root, files, LIVE, before)
    if text is not None:
        write(root / "srv/f", text)
    for _ in range(2):  # doing it twice changes nothing
        present(files)
        assert kept(files) == after
        assert os.listdir(store(root) / "tmp") == [] if (store(root) / "tmp").exists() else True


@pytest.mark.parametrize("generations", ["store", "beside"])
@pytest.mark.parametrize(
    "count, before, after",
    [
        pytest.param(2, {0: "a", 1: "b", 2: "c"}, {0: "a", 1: "b", 2: "c"}, id="as many as wanted"),
        pytest.param(2, {0: "a", 1: "b", 2: "c", 3: "d"}, {0: "a", 1: "b", 2: "c"}, id="one too many"),
        pytest.param(1, {0: "a", 1: "b", 2: "c", 3: "d"}, {0: "a", 1: "b"}, id="many too many"),
        pytest.param(1, {0: "a", 1: "b", 2: "-> to"}, {0: "a", 1: "b"}, id="a link too many"),
        pytest.param(0, {0: "a", 1: "b"}, {0: "a"}, id="none wanted, and the copy of the present stays"),
        pytest.param(2, {}, {}, id="nothing there"),
    ],
)
def test_trim(root: Path, generations: str, count: int, before: dict[int, str], after: dict[int, str]) -> None:
    files = files_set(count, generations)
    fill(root, files, LIVE, before)
    for _ in range(2):
        keep.trim(files, LIVE)
        assert kept(files) == after


def test_nothing_is_dropped_before_both_agreed(root: Path) -> None:
    """P1: while the peer is away, every content counts as one without a newer agreed successor."""
    files = files_set(count=2)
    for number in range(12):
        write(root / "srv/f", f"content {number}")
        present(files)
    assert kept(files) == {number: f"content {11 - number}" for number in range(12)}
    assert [g.number for g in keep.generations(files, LIVE)] == list(range(1, 12))


@pytest.mark.parametrize(
    "before, numbers",
    [
        pytest.param({}, [], id="none"),
        pytest.param({0: "a"}, [], id="the present is no generation"),
        pytest.param({0: "a", 1: "b", 2: "c"}, [1, 2], id="two"),
        pytest.param({0: "a", 1: "b", 3: "d"}, [1, 3], id="a gap that a crash left"),
        pytest.param({2: "c", 3: "d"}, [2, 3], id="the newest is under way"),
    ],
)
def test_generations_are_listed_newest_first(root: Path, before: dict[int, str], numbers: list[int]) -> None:
    fill(root, files_set(), LIVE, before)
    assert [generation.number for generation in keep.generations(files_set(), LIVE)] == numbers


def test_a_copy_has_the_metadata_of_its_content(root: Path) -> None:
    live = root / "srv/f"
    live.write_text("text")
    live.chmod(0o4751)
    os.utime(live, ns=(1, 123456789))
    os.setxattr(live, "user.note", b"hello")
    state = look()
    present(files_set())
    assert look(keep.slot(files_set(), LIVE, 0)) == state

    live.chmod(0o600)  # metadata alone makes no generation
    present(files_set())
    assert kept(files_set()) == {0: "text"}
    assert look(keep.slot(files_set(), LIVE, 0)) == look()


def test_beside_numbers_the_copies_next_to_the_file(root: Path) -> None:
    for text in ("one", "two", "three"):
        write(root / "srv/f", text)
        present(files_set(generations="beside"))
    beside = {path.name: path.read_text() for path in (root / "srv").iterdir() if path.is_file()}
    assert beside == {"f": "three", "f.1": "two", "f.2": "one"}


@pytest.mark.parametrize("generations", ["store", "beside"])
@pytest.mark.parametrize("name", [b"n" * 255, b"n" * 254, b"n" * 253, b"n" * 252, b"\xff\xfe", b"new\nline", b"-rf"])
def test_any_name_is_kept(root: Path, generations: str, name: bytes) -> None:
    live, files = f"/srv/{os.fsdecode(name)}", files_set(generations=generations)
    texts = [f"content {number}" for number in range(12)]
    for text in texts:
        write(Path(paths.under(live)), text)
        present(files, live)
    assert kept(files, live) == dict(enumerate(reversed(texts)))
    assert len(keep.generations(files, live)) == 11
    keep.trim(files, live)
    assert kept(files, live) == dict(enumerate(reversed(texts[-7:])))


def test_two_names_that_differ_in_a_number_keep_apart(root: Path) -> None:
    for live in ("/srv/f", "/srv/f.1"):
        write(Path(paths.under(live)), f"the present {live}")
        fill(root, files_set(), live, {0: f"older {live}"})
        present(files_set(), live)
    assert kept(files_set(), "/srv/f") == {0: "the present /srv/f", 1: "older /srv/f"}
    assert kept(files_set(), "/srv/f.1") == {0: "the present /srv/f.1", 1: "older /srv/f.1"}


def test_a_content_that_is_no_longer_there_changes_nothing(root: Path) -> None:
    fill(root, files_set(), LIVE, {0: "a", 1: "b"})
    write(root / "srv/f", "seen")
    state = look()
    write(root / "srv/f", "newer")
    with pytest.raises(scan.Unsettled):
        keep.present(files_set(), LIVE, state, LIVE)
    assert kept(files_set()) == {0: "a", 1: "b"}
    assert os.listdir(store(root) / "tmp") == []


@pytest.mark.parametrize("dies_at", range(12))
def test_a_rotation_that_is_cut_short_loses_nothing(root: Path, monkeypatch: pytest.MonkeyPatch, dies_at: int) -> None:
    files = files_set()
    fill(root, files, LIVE, {0: "a", 1: "b", 2: "c"})
    write(root / "srv/f", "new")
    calls = 0
    real = keep.beneath.rename

    class Killed(BaseException):
        pass

    def rename(*arguments: object) -> None:
        nonlocal calls
        if calls == dies_at // 2 and dies_at % 2 == 0:
            raise Killed
        real(*arguments)  # type: ignore[arg-type]
        if calls == dies_at // 2:
            raise Killed
        calls += 1

    monkeypatch.setattr(keep.beneath, "rename", rename)
    try:
        present(files)
    except Killed:
        assert {"a", "b", "c"} <= set(kept(files).values())
    monkeypatch.setattr(keep.beneath, "rename", real)
    present(files)
    assert list(kept(files).values()) == ["new", "a", "b", "c"]
    assert kept(files)[0] == "new"
    assert [g.state.size for g in keep.generations(files, LIVE)] == [1, 1, 1]


@pytest.fixture
def small_disk(root: Path) -> Iterator[Path]:
    """A disk of 1 MB for the generations."""
    if os.geteuid():
        pytest.skip("needs root, to mount a small disk")
    disk = root / "var/lib/hotpair"
    disk.mkdir(parents=True)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "hotpair-test", disk], capture_output=True).returncode:
        pytest.skip("cannot mount here")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_full_disk_costs_the_new_generation_and_none_of_the_old(root: Path, small_disk: Path) -> None:
    fill(root, files_set(), LIVE, {0: "a", 1: "b"})
    write(root / "srv/f", "x" * (2 << 20))
    for _ in range(3):
        with pytest.raises(OSError, match="No space left"):
            present(files_set())
        assert kept(files_set()) == {0: "a", 1: "b"}


def test_what_a_full_disk_could_not_hold_does_not_stay_on_it(root: Path, small_disk: Path) -> None:
    """Otherwise the disk stays full of halves, and never clears by itself."""
    fill(root, files_set(), LIVE, {0: "a", 1: "b"})
    write(root / "srv/f", "x" * (2 << 20))
    with pytest.raises(OSError, match="No space left"):
        present(files_set())
    assert os.listdir(small_disk / "generations/tmp") == []
    write(root / "srv/f", "small")
    present(files_set())
    assert kept(files_set()) == {0: "small", 1: "a", 2: "b"}


def test_a_directory_with_the_name_of_a_copy_is_stepped_over(root: Path) -> None:
    files = files_set(count=2, generations="beside")
    (root / "srv/f.2/its own").mkdir(parents=True)
    for text in ("one", "two", "three", "four"):
        write(root / "srv/f", text)
        present(files)
        keep.trim(files, LIVE)
    assert kept(files) == {0: "four", 1: "three", 2: "two"}
    assert (root / "srv/f.2/its own").is_dir() and (root / "srv/f.1").read_text() == "three"


def test_copies_beside_are_made_across_file_systems(root: Path, small_disk: Path) -> None:
    files = files_set(generations="beside")
    for text in ("one", "-> to", "three"):
        write(root / "srv/f", text)
        present(files)
    assert kept(files) == {0: "three", 1: "-> to", 2: "one"}
    assert sorted(path.name for path in (root / "srv").iterdir() if path.name != ".hotpair") == ["f", "f.1", "f.2"]
    assert os.listdir(root / "srv/.hotpair") == []

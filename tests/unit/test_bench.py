"""What the benchmark calls identical: a judge that cannot say no is none."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.bench import page, rivals, trees, turns
from tests.bench.figures import Carried, Report, Row


def rewritten(tree: Path) -> None:
    found = (tree / "a/f").stat()
    (tree / "a/f").write_bytes(trees.content(7))
    os.utime(tree / "a/f", ns=(found.st_atime_ns, found.st_mtime_ns))


def later(nanoseconds: int) -> Callable[[Path], None]:
    def do(tree: Path) -> None:
        then = (tree / "a/f").stat().st_mtime_ns + nanoseconds
        os.utime(tree / "a/f", ns=(then, then))

    return do


CHANGES: dict[str, tuple[Callable[[Path], object], bool]] = {
    "nothing": (lambda tree: None, True),
    "hotpair's inbox, at the root": (lambda tree: (tree / ".hotpair").mkdir(), True),
    "the same name further down": (lambda tree: (tree / "a/.hotpair").mkdir(), False),
    "a content of equal size and time": (rewritten, False),
    "a mode": (lambda tree: (tree / "a/f").chmod(0o604), False),
    "a directory's mode": (lambda tree: (tree / "a").chmod(0o705), False),
    "an empty directory more": (lambda tree: (tree / "b").mkdir(), False),
    "a file less": (lambda tree: (tree / "a/g").unlink(), False),
    "a file's temporary name": (lambda tree: (tree / "a/f").rename(tree / "a/.f.XyZ123"), False),
    "a time rounded to a microsecond": (later(-999), True),
    "a time rounded to a millisecond": (later(-999_999), False),
}


@pytest.mark.parametrize("change, alike", CHANGES.values(), ids=CHANGES.keys())
def test_trees_are_identical_only_if_users_cannot_tell_them_apart(tmp_path: Path, change, alike: bool):
    roots = [tmp_path / "one", tmp_path / "other"]
    trees.plant(map(str, roots), ["a/f", "a/g"])
    change(roots[1])
    assert trees.compare(*map(str, roots)).alike == alike


@pytest.mark.parametrize("work", trees.works(10), ids=lambda work: work.name)
def test_a_work_does_what_its_list_says(tmp_path: Path, work: trees.Work):
    root = tmp_path / "tree"
    trees.plant([str(root)], work.before)
    before = trees.names(str(root))
    work.do(str(root))
    came = {name for name in trees.names(str(root)) - before if (root / name).is_file()}
    # a bare rsync is told this list: what is not on it would count as never carried
    assert came == set(work.new) or not work.new
    assert trees.names(str(root)) != before
    assert len({(root / name).read_bytes() for name in work.new}) == len(work.new)


def test_those_that_no_goal_is_about_take_part_in_a_few_rounds_only(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    def turn(contest: turns.Contest, rival: rivals.Rival, work: trees.Work) -> turns.Cell:
        tried.append(rival.name)
        return turns.Cell(1.0, 1.0, 1, True, 0, "")

    monkeypatch.setattr(turns.Contest, "turn", turn)
    contest = turns.Contest(None, Report(), turns.FEW + 4)  # type: ignore[arg-type]
    contest.rounds(trees.burst(1, "S1"), [rivals.Unison(None), rivals.Bare(None)])  # type: ignore[arg-type]
    assert (tried.count("unison, one-shot"), tried.count("bare rsync")) == (turns.FEW, turns.FEW + 4)
    assert len(contest.report.trees["burst of 1 files"][0].cpu.samples) == turns.FEW


@pytest.fixture
def machine(monkeypatch):
    monkeypatch.setattr(page, "machine", lambda: [["machine", "any"]])  # who asks it twice gets two dates


def report_of(program: str) -> Report:
    report = Report()
    report.trees["a work"] = [Carried(program, "", Row("", "", ()), (), (1.0,), (1.0,), "yes", (1.0,))]
    report.steps = [Row("a step", "", (1.0,))]
    return report


def test_the_section_on_trees_is_rewritten_alone(machine):
    old = page.page(report_of("former"))
    new = page.with_trees(old, report_of("newer"))
    assert "former" not in new
    assert new.count("newer") == old.count("former") == 1
    assert page.with_trees(new, report_of("former")) == page.page(report_of("former"))


def test_the_section_on_session_tables_is_rewritten_alone_and_spares_the_trees(machine):
    report = report_of("trees'")
    without = page.page(report)
    report.rows = [Row("dump", "bare", (1.0,), "T1", 1.5)]
    whole = page.page(report)
    assert page.with_sessions(without, report) == whole
    assert page.with_sessions(whole, report) == whole
    assert page.with_trees(whole, report_of("newer")) == whole.replace("trees'", "newer")


def test_a_section_on_trees_finds_its_place_in_a_page_without_one(machine):
    report = report_of("newer")
    without = report_of("former")
    without.trees = {}
    assert page.with_trees(page.page(without), report) == page.page(report)

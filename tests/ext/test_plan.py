"""What a sweep would do, and what differs, asked for while a run is at work on it."""

from collections.abc import Callable

import pytest

from hotpair import compare, config, plan, run, verify
from tests.ext.trees import Trees, fill


def planned(trees: Trees, monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], object]) -> list[str]:
    """Make a plan on alpha, where something happens whenever alpha has looked."""
    look = plan.peek

    def peek(scope: run.Scope) -> dict[str, plan.Seen]:
        found = look(scope)
        meanwhile()
        return found

    monkeypatch.setenv("HOTPAIR_ROOT", str(trees.alpha.root))
    monkeypatch.setattr(plan, "peek", peek)
    return plan.plan(run.scope(config.load(), "data"))


def test_a_plan_does_not_list_what_a_run_did_meanwhile(trees: Trees, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(trees.alpha, "a", "b")
    left = [trees.sync]
    assert planned(trees, monkeypatch, lambda: left and left.pop()()) == []
    assert not left


def test_a_plan_beside_a_run_that_does_not_end_says_so(trees: Trees, monkeypatch: pytest.MonkeyPatch) -> None:
    left = [str(number) for number in range(plan.LOOKS)]

    def another() -> None:
        fill(trees.alpha, left.pop())
        trees.sync()

    fill(trees.alpha, "first")
    assert planned(trees, monkeypatch, another)[0].startswith("later: a run is at work")
    assert not left


def test_what_crosses_after_one_node_has_looked_and_before_the_other_does_is_no_divergence(
    trees: Trees, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(trees.beta, "a")
    trees.sync()
    look, request = plan.peek, compare.request
    monkeypatch.setenv("HOTPAIR_ROOT", str(trees.alpha.root))
    scope = run.scope(config.load(), "data")

    def late(*words: object) -> dict[str, object]:
        """Alpha has looked by now; beta does when it is told to."""
        found = look(scope)
        monkeypatch.setattr(plan, "peek", lambda _: found)
        trees.beta.live("/srv/data/a").write_text("newer")
        trees.sync()
        return request(*words)  # type: ignore[arg-type]

    monkeypatch.setattr(compare, "request", late)
    report = verify.verify(scope, lite=False)
    assert [(one.path, one.under_way) for one in report.differences] == [("/srv/data/a", True)]
    assert report.code == verify.UNDER_WAY

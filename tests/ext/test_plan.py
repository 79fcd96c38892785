"""What a sweep would do, asked for while a run is at work on it."""

from collections.abc import Callable

import pytest

from hotpair import config, plan, run
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

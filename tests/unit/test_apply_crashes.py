"""Apply ended at each of its steps: one whole content is live, none is lost, and doing it again ends well."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from hotpair import apply
from tests.unit.applying import CHANGES, FILES, FOLDER, NOTHING, STEPS, Thing, decided, inbox, kept, race, see


class Killed(BaseException):
    """Stands for kill -9: nothing of ours runs after it, so it must not be caught, and `finally` only closes files."""


@pytest.mark.parametrize("what", CHANGES)
def test_a_crash_at_any_step_leaves_one_whole_content_and_loses_none(live: Path, what: str) -> None:
    old, new = CHANGES[what]
    crash_at_any_step(live, old, new, (old, new))


@pytest.mark.parametrize("what", CHANGES)
def test_a_crash_at_any_step_loses_no_content_without_exchange(live: Path, no_flags: None, what: str) -> None:
    old, new = CHANGES[what]
    absent = (NOTHING,) if FOLDER in (old, new) else ()  # a directory cannot take a file's place in one step
    crash_at_any_step(live, old, new, (old, new, *absent))


def crash_at_any_step(live: Path, old: Thing, new: Thing, leaves: tuple[Thing, ...]) -> None:
    steps, _ = race(live, old, new, [])
    for at in range(steps):
        race(live, NOTHING, NOTHING, [])  # a clean start
        old.make(live)
        change = decided(new)

        with pytest.MonkeyPatch.context() as patch:
            killer = Killer(patch, at)
            with suppress(Killed):
                apply.apply(FILES, change)
            assert killer.steps
        assert see(live) in leaves, f"step {at}: {see(live)}"
        apply.apply(FILES, decided(new))
        assert see(live) == new, f"step {at}"
        wanted = {thing for thing in (old, new) if thing.kind in ("file", "link")}
        assert wanted <= kept(), f"step {at}"
        assert [name for name in inbox(live) if name != "staged"] == []


class Killer:
    """Ends the program before its n-th step and lets nothing of it run on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
        self.at, self.steps = at, 0
        for module, name in STEPS:
            monkeypatch.setattr(module, name, self._step(getattr(module, name)))

    def _step(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **named: Any) -> Any:
            if self.steps >= self.at:
                self.steps += 1
                raise Killed
            self.steps += 1
            return real(*arguments, **named)

        return step

"""How long to wait before the next attempt."""

import pytest

from hotpair.pauses import growing


@pytest.mark.parametrize(
    "attempts, pause",
    [(0, 0), (1, 60), (2, 120), (3, 240), (4, 480), (5, 960), (6, 1920), (7, 3600), (8, 3600), (10**9, 3600)],
)
def test_each_failure_doubles_the_pause_up_to_the_most(attempts: int, pause: float) -> None:
    assert growing(attempts, first=60, most=3600) == pause


def test_a_first_pause_above_the_most_is_cut() -> None:
    assert growing(1, first=10, most=5) == 5

"""When everything is read again: once in each hour that is named."""

import time

from hotpair import verify

NIGHT = time.mktime((2026, 11, 25, 2, 20, 0, 0, 0, -1))


def test_everything_is_read_once_in_an_hour_that_is_named() -> None:
    assert verify.due((2, 14), 0.0, NIGHT)
    assert not verify.due((2, 14), NIGHT, NIGHT + 900)
    assert verify.due((2, 14), NIGHT, NIGHT + 24 * 3600)
    assert verify.due((2, 14), NIGHT, NIGHT + 12 * 3600)


def test_in_no_other_hour_is_everything_read() -> None:
    assert not verify.due((2, 14), 0.0, NIGHT + 3600)
    assert not verify.due((), 0.0, NIGHT)

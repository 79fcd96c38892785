"""Random histories of two nodes: the promises P1 to P8 and P11 after every step. More with `make campaign`."""

import random

import pytest

from tests.model import campaign

JOBS = 4  # histories at once: each waits half of its time


@pytest.mark.parametrize(("machine", "histories", "steps"), [("files", 60, 25), ("trees", 150, 12)])
def test_promises_hold_whatever_users_and_machines_do(machine, histories, steps):
    first = random.SystemRandom().randrange(1 << 30)
    for seed, _, failure in campaign.play(campaign.chunks(first, [machine], histories, steps), JOBS):
        assert not failure, f"{failure}\nthe seed of these {campaign.CHUNK} histories is {seed}"

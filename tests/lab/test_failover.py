"""The failover drill, step by step: real databases, stunnel, rsync, and a client who reads on."""

import os
import tempfile
from collections.abc import Iterator

import pytest

from tests.lab import drill_story
from tests.lab.drill_world import Shop, why_not
from tests.lab.pairlab import Lab


def living(keepalived: bool) -> Iterator[Shop]:
    if reason := why_not():
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="hotpair-drill.", ignore_cleanup_errors=True) as folder:
        lab = Lab(os.path.join(folder, "lab"))
        try:
            lab.up()
            built = Shop(lab, keepalived)
            built.build()
            yield built
        finally:
            lab.down()


@pytest.fixture(scope="module")
def shop() -> Iterator[Shop]:
    yield from living(keepalived=False)


@pytest.fixture
def shop_with_keepalived() -> Iterator[Shop]:
    yield from living(keepalived=True)


def test_a_client_reads_on_after_the_master_died_and_after_it_came_back(shop: Shop) -> None:
    drill_story.play(shop, print)


def test_two_masters_never_push_onto_each_other_and_both_say_so(shop: Shop) -> None:
    drill_story.both_alive(shop, print)


def test_a_client_reads_on_where_keepalived_decides(shop_with_keepalived: Shop) -> None:
    drill_story.keepalived_decides(shop_with_keepalived, print)

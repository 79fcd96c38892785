"""Random histories of two nodes: the promises P1 to P8 and P11 after every step. More with `make campaign`."""

from hypothesis import HealthCheck, settings

from tests.model.machine import Pair

TestPair = Pair.TestCase
TestPair.settings = settings(
    max_examples=100,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)

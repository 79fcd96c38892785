"""Random histories of a tree on two nodes: P1 to P8 and P11 looked at after every step. More with `make campaign`."""

from hypothesis import HealthCheck, settings

from tests.model.tree_machine import Trees

TestTrees = Trees.TestCase
TestTrees.settings = settings(
    max_examples=150,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)

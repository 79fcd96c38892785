"""Fence: make sure that the old master does nothing any more, by a command that the administrator names."""

from hotpair import child, hooks, sections
from hotpair.config import Config


def fence(configuration: Config) -> str:
    """Run the command of [failover] fence. Returns "" when it said that the peer is off, or how it failed."""
    argv = sections.words(configuration.failover.fence)
    facts = {"HOTPAIR_NODE": configuration.node.name, "HOTPAIR_PEER": configuration.node.peer}
    return hooks.untrusted(argv) or child.run(argv, child.environment(**facts), configuration.failover.hook_timeout)

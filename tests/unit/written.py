"""A hotpair.ini that a test writes, and what is said about it."""

from collections.abc import Callable
from pathlib import Path

from hotpair import config

SHIPPED = Path(__file__).parents[2] / "etc/hotpair/hotpair.ini"
KINDS = "write [node], [files NAME], [tree NAME], [hotsync], [failover] or [sessions]"
NODE = "[node]\nname = alpha\npeer = ssh:beta\n"  # the text under test begins at line 4
MAPPED = "[tree a]\nroot = /srv/a\nowner-map =\n"  # its first rule is on line 7
Write = Callable[[str], Path]


def said(write: Write, text: str) -> list[str]:
    """Return what is wrong with a configuration, without the file's name in front."""
    file = write(text)
    return [str(problem).removeprefix(f"{file}:") for problem in config.examine()[1]]


def only(write: Write, text: str) -> str:
    found = said(write, text)
    assert len(found) == 1, found
    return found[0]

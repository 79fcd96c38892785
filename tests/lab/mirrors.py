"""A pair whose session tables follow, for those who test them."""

import shutil

import pytest

from tests.lab.conftest import Node, Pair

SECTION = "\n[hotsync]\nrole = {role}\n\n[sessions]\nevery = 1\n"


def needs(*programs: str) -> None:
    for program in programs:
        if not shutil.which(program):
            pytest.skip(f"needs {program}")


def give_roles(pair: Pair) -> None:
    """Make alpha master and beta its standby, with session tables that follow."""
    for node, role in ((pair.alpha, "master"), (pair.beta, "standby")):
        does(node, "cat >> /etc/hotpair/hotpair.ini", SECTION.format(role=role))


def does(node: Node, command: str, stdin: str = "", seconds: float = 90) -> str:
    done = node(command, stdin, seconds)
    assert done.code == 0, f"{command}: {done.err}"
    return done.out

"""The fixtures of this folder: `pair`, two nodes with real daemons, and `two`, which share a tree besides."""

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.lab import pairlab, spaces
from tests.lab.demo_world import LabNode
from tests.lab.trees import ROOT, Two


class Done(NamedTuple):
    """What a command in a node left: exit code, output, complaints."""

    code: int
    out: str
    err: str


class Node:
    """One node; calling it runs a command there."""

    def __init__(self, lab: pairlab.Lab, name: str) -> None:
        self.lab = lab
        self.name = name

    def __call__(self, command: str | list[str], stdin: str = "", seconds: float = 60) -> Done:
        """Run argv (a list) or a line of shell (a string). The whole of it is killed when the time is over."""
        argv = ["sh", "-c", command] if isinstance(command, str) else command
        argv, environment = self.lab.entry(self.name, argv)
        process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            encoding="utf-8",
            errors="surrogateescape",
            start_new_session=True,
        )
        try:
            out, err = process.communicate(stdin, seconds)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)  # nsenter alone would leave its child in the node
            process.communicate()
            raise
        return Done(process.returncode, out, err)


class Pair:
    """Two nodes with incrond and sshd. Their cron daemons are off, so that nothing repairs what a test looks at."""

    def __init__(self, lab: pairlab.Lab) -> None:
        self.lab = lab
        self.alpha = Node(lab, "alpha")
        self.beta = Node(lab, "beta")
        self.cut = lab.cut
        self.heal = lab.heal
        self.wait_until = spaces.wait_until


@pytest.fixture(scope="session")
def may_build() -> None:
    if reason := spaces.may_build(tempfile.gettempdir()):
        pytest.skip(reason)


def living(may_build: None) -> Iterator[Pair]:
    """Build a pair, and leave no trace of it whatever the tests do."""
    with tempfile.TemporaryDirectory(prefix="hotpair-lab.", ignore_cleanup_errors=True) as folder:
        lab = pairlab.Lab(os.path.join(folder, "lab"))
        try:
            lab.up()
            yield Pair(lab)
        finally:
            lab.down()


pair = pytest.fixture(scope="session")(living)
own_pair = pytest.fixture(living, name="own_pair")  # for a test that breaks its pair
pair_of_module = pytest.fixture(scope="module")(living)  # a large tree, and what it does to incrond, is nobody else's


@pytest.fixture(scope="module")
def two(pair_of_module: Pair) -> Two:
    nodes = [LabNode(pair_of_module.lab, name) for name in ("alpha", "beta")]
    for node in nodes:
        section = f"\\n[tree data]\\nroot = {ROOT}\\nmax-delete = 100%%\\n"
        line = f"mkdir -p {ROOT}; printf '{section}' >>/etc/hotpair/hotpair.ini; hotpair tables >/dev/null"
        assert node.run(line) == (0, "")
    nodes[0].run(f"echo stays >{ROOT}/.stays")  # a tree that somebody emptied would wait for a person
    assert nodes[0].run("psync data")[0] == 0
    return Two(*nodes)

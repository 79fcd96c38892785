"""A tree's modes, owners and attributes: given in part before a crash, or changed by somebody while they are given."""

import os
import subprocess

import pytest

from tests.ext.trees import SETS, Trees, fill
from tests.ext.twonodes import Node

LIVE = "/srv/data/f"
GIVE = f"""
import os
from hotpair import apply, config, run
from hotpair.stage import Decided
scope = run.scope(config.load(), "data")
row = scope.archive.row({LIVE!r})

def killed_after(real):
    return lambda *words, **named: (real(*words, **named), os.kill(os.getpid(), 9))

def give(**new):
    apply.apply(scope.files, Decided({LIVE!r}, row.seen, row.seen._replace(**new), "", row.signature))
"""


def killed(node: Node, code: str) -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        node.python(GIVE + code)
    assert caught.value.returncode == -9


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give a file to another")
@pytest.mark.parametrize("prefer", ["newest", "beta"])
@pytest.mark.parametrize("first", ["alpha", "beta"])
def test_owner_without_the_mode_that_a_crash_left_is_not_taken_for_a_change_of_the_node_s_own(tmp_path, prefer, first):
    pair = Trees(tmp_path, f"{SETS}prefer = {prefer}\n")
    fill(pair.alpha, "f")
    pair.sync()
    os.chown(pair.alpha.live(LIVE), 1234, 1234)
    pair.alpha.live(LIVE).chmod(0o620)
    killed(pair.beta, "os.chown = killed_after(os.chown); give(mode=0o620, uid=1234, gid=1234)")
    half = pair.beta.live(LIVE).stat()
    pair.sync(getattr(pair, first))
    for node in pair.nodes:
        seen = node.live(LIVE).stat()
        assert (oct(seen.st_mode & 0o7777), seen.st_uid) == ("0o620", 1234), node.root.name
    assert half.st_mode & 0o7777 != 0o620
    assert [one["path"] for one in pair.beta.json("conflicts")] == [LIVE]

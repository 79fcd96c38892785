"""A tree's modes, owners and attributes: given in part before a crash, or changed by somebody while they are given."""

import hashlib
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


RECEIVE = (
    GIVE
    + """
import subprocess
from hotpair import archive, scan, settle

reads = []
real = scan.digest_of
scan.digest_of = lambda fd, *more: (reads.append(fd), real(fd, *more))[1]

def stage(name, content):
    place = apply.stage_directory(scope.files, name) + "/staged-" + name.rpartition("/")[2]
    os.close(apply.open_inbox(scope.files))
    with open(os.environ["HOTPAIR_ROOT"] + place, "wb") as out:
        out.write(content)
    return place

def receive(changes, between):
    with archive.transaction(scope.archive.db):
        settlement = settle.Settlement(scope, "alpha", False)
        for change in changes:
            verdict = settlement.settle(change, {"action": "take"})
            assert verdict["action"] == "applied", verdict
        reads.clear()
        between()
        settlement.record()
        print(len(reads))
"""
)
MEANWHILE = {
    "mode": "os.chmod(live, 0o600)",
    "owner": "os.chown(live, 7, 7)",
    "ACL that leaves the mode": "subprocess.run(['setfacl', '-m', 'u:1234:r', live], check=True)",
    "attribute": "os.setxattr(live, 'user.of', b'beta')",
    "content of the same size, its time given back": (
        f"scan.tick(os.stat(live).st_ctime_ns); open(live, 'w').write('F'); os.utime(live, ns=({10**18}, {10**18}))"
    ),
}


def received(node: Node, changes: str, between: str = "pass") -> int:
    """Have a node put what a peer sends, and something done before it is recorded; return how many files were read."""
    return int(
        node.python(f"""{RECEIVE}
live = {str(node.live(LIVE))!r}
def between():
    {between}
state = scan.State("file", 1, 0o644, 0, 0, {10**18}, {hashlib.blake2b(b"f", digest_size=32).hexdigest()!r}, ())
receive([{changes}], between)
""")
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give a file to another")
@pytest.mark.parametrize("what", MEANWHILE)
def test_what_another_program_changes_between_exchange_and_record_is_seen(tmp_path, what):
    pair = Trees(tmp_path)
    pair.sync()
    fill(pair.alpha, "f")
    os.utime(pair.alpha.live(LIVE), ns=(10**18, 10**18))
    received(pair.beta, f"Decided({LIVE!r}, None, state, stage({LIVE!r}, b'f'))", MEANWHILE[what])
    pair.sync(pair.beta)


def test_what_was_put_and_left_alone_is_not_read_again_hard_links_neither(tmp_path):
    pair = Trees(tmp_path)
    pair.sync()
    links = ", ".join(f"Decided('{LIVE}{n}', None, state, '', twin={LIVE!r})" for n in range(3))
    assert received(pair.beta, f"Decided({LIVE!r}, None, state, stage({LIVE!r}, b'f')), {links}") == 0
    assert pair.beta.live(LIVE).stat().st_nlink == 4

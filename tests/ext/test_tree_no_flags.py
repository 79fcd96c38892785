"""A tree on a file system whose renameat2(2) takes no flags, as NFS and many of FUSE: nothing is lost there either."""

import os
import subprocess
from itertools import count

import pytest

from tests.ext.trees import LIVE, SETS, Trees, kept, received, tree_of

NO_FLAGS = """
from hotpair import beneath
renames = []
real_rename = beneath.rename
def rename(source, target, flags=0):
    if flags:
        raise OSError(22, os.strerror(22), source.name)
    renames.append(target.name)
    if len(renames) == dies_at:
        os.kill(os.getpid(), 9)
    real_rename(source, target)
beneath.rename = rename
dies_at = 0
"""
NO_LINKS = """
def link(*_, **__):
    raise OSError(1, os.strerror(1))
os.link = link
"""
NEW_FILE = f"Decided({LIVE!r}, row.seen, state, stage({LIVE!r}, b'f'), row.signature)"


def agreed(pair: Trees) -> None:
    pair.alpha.live(LIVE).write_text("old")
    pair.sync()


def test_content_that_is_replaced_becomes_a_generation(tmp_path):
    pair = Trees(tmp_path)
    agreed(pair)
    assert received(pair.beta, NEW_FILE, first=NO_FLAGS).split() == ["applied", "0", "read"]
    assert pair.beta.text(LIVE) == "f"
    assert kept(pair.beta) == {"old"}
    assert os.listdir(pair.beta.live("/srv/data/.hotpair/data")) == []


@pytest.mark.parametrize("kind", ["file", "link", "directory"])
def test_what_is_new_arrives_and_is_moved_and_removed(tmp_path, kind):
    pair = Trees(tmp_path)
    pair.sync()
    new = {
        "file": f"state, stage({LIVE!r}, b'f')",
        "link": "scan.State('link', 0, 0, 0, 0, 10**18, 'to', ()), ''",
        "directory": "scan.State('directory', 0, 0o755, 0, 0, 0, '', ()), ''",
    }[kind]
    assert received(pair.beta, f"Decided({LIVE!r}, None, {new})", first=NO_FLAGS).startswith("applied")
    there = tree_of(pair.beta.live("/srv/data"))
    source = f"scope.archive.row({LIVE!r}).seen"
    moved = f"Decided('{LIVE}2', None, {source}, '', source={LIVE!r})"
    assert received(pair.beta, moved, first=NO_FLAGS).startswith("applied")
    assert tree_of(pair.beta.live("/srv/data")) == {"f2": there["f"]}
    removed = f"Decided('{LIVE}2', scope.archive.row('{LIVE}2').seen, None, '')"
    assert received(pair.beta, removed, first=NO_FLAGS).startswith("applied")
    assert tree_of(pair.beta.live("/srv/data")) == {}


@pytest.mark.parametrize("kind", ["a file for a directory", "a directory for a file"])
def test_another_kind_takes_the_place(tmp_path, kind):
    pair = Trees(tmp_path)
    if kind == "a directory for a file":
        agreed(pair)
        new = "scan.State('directory', 0, 0o755, 0, 0, 0, '', ()), ''"
    else:
        pair.alpha.live(LIVE).mkdir()
        pair.sync()
        new = f"state, stage({LIVE!r}, b'f')"
    assert received(pair.beta, f"Decided({LIVE!r}, row.seen, {new})", first=NO_FLAGS).startswith("applied")
    assert pair.beta.live(LIVE).is_dir() == (kind == "a directory for a file")
    assert kept(pair.beta) == ({"old"} if kind == "a directory for a file" else set())


def test_without_hard_links_a_content_stays_and_the_reason_is_told(tmp_path):
    pair = Trees(tmp_path)
    agreed(pair)
    new = f"Decided('{LIVE}2', None, state, stage('{LIVE}2', b'f'))"
    said = received(pair.beta, f"{NEW_FILE}, {new}", first=NO_FLAGS + NO_LINKS).splitlines()
    assert [line.split()[0] for line in said] == ["failed", "failed", "0"]
    assert all("no hard link, and no RENAME_NOREPLACE or RENAME_EXCHANGE" in line for line in said[:2])
    assert pair.beta.text(LIVE) == "old"
    assert tree_of(pair.beta.live("/srv/data")).keys() == {"f"}


def test_kill_before_any_rename_loses_no_content_and_leaves_no_copy_that_is_the_live_file(tmp_path):
    pair = Trees(tmp_path, f"{SETS}conflict = beside\n")
    look = "from hotpair import beside, detect\nrow = detect.current(scope, live, row)\n".replace("live", repr(LIVE))
    loser = f"beside.loser(scope.files, {LIVE!r}, row, 'beta')"
    for dies_at in count(1):
        pair.alpha.write(LIVE, f"old {dies_at}")
        pair.sync()
        pair.beta.write(LIVE, f"of beta {dies_at}")
        change = f"Decided({LIVE!r}, row.seen, state, stage({LIVE!r}, b'f'), row.signature, loser={loser})"
        try:
            said = received(pair.beta, change, first=f"{NO_FLAGS}\ndies_at = {dies_at}\n{look}")
        except subprocess.CalledProcessError as caught:
            assert caught.returncode == -9, caught.stderr
        else:
            assert said.startswith("applied")
            assert dies_at > 3
            return
        pair.alpha.write(LIVE, f"newer {dies_at}")
        pair.sync()
        found = list(pair.beta.live("/srv/data").glob("f*"))
        assert f"of beta {dies_at}" in {path.read_text() for path in found} | kept(pair.beta)
        assert {path.stat().st_nlink for path in found} == {1}

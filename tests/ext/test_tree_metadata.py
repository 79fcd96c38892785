"""A tree's modes, owners and attributes: given in part before a crash, or changed by somebody while they are given."""

import os

import pytest

from tests.ext.trees import LIVE, SETS, Trees, fill, killed, received


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


MEANWHILE = {
    "mode": "os.chmod(live, 0o600)",
    "owner": "os.chown(live, 7, 7)",
    "ACL that leaves the mode": "subprocess.run(['setfacl', '-m', 'u:1234:r', live], check=True)",
    "attribute": "os.setxattr(live, 'user.of', b'beta')",
    "content of the same size, its time given back": (
        f"scan.tick(os.stat(live).st_ctime_ns); open(live, 'w').write('F'); os.utime(live, ns=({10**18}, {10**18}))"
    ),
}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give a file to another")
@pytest.mark.parametrize("what", MEANWHILE)
def test_what_another_program_changes_between_exchange_and_record_is_seen(tmp_path, what):
    pair = Trees(tmp_path)
    pair.sync()
    fill(pair.alpha, "f")
    os.utime(pair.alpha.live(LIVE), ns=(10**18, 10**18))
    said = received(pair.beta, f"Decided({LIVE!r}, None, state, stage({LIVE!r}, b'f'))", MEANWHILE[what])
    assert said.startswith("applied")
    pair.sync(pair.beta)


def test_what_was_put_and_left_alone_is_not_read_again_hard_links_neither(tmp_path):
    pair = Trees(tmp_path)
    pair.sync()
    links = ", ".join(f"Decided('{LIVE}{n}', None, state, '', twin={LIVE!r})" for n in range(3))
    said = received(pair.beta, f"Decided({LIVE!r}, None, state, stage({LIVE!r}, b'f')), {links}")
    assert said.split() == ["applied"] * 4 + ["0", "read"]
    assert pair.beta.live(LIVE).stat().st_nlink == 4


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give a file to another")
@pytest.mark.parametrize("what", ["mode", "owner", "ACL that leaves the mode", "attribute"])
def test_what_another_program_changes_between_decision_and_exchange_is_not_written_over(tmp_path, what):
    pair = Trees(tmp_path)
    fill(pair.alpha, "f")
    pair.sync()
    decided = f"row = scope.archive.row({LIVE!r}); {MEANWHILE[what]}"
    change = f"Decided({LIVE!r}, row.seen, state, stage({LIVE!r}, b'f'), row.signature)"
    assert received(pair.beta, change, first=f"state = state._replace(mtime_ns={2 * 10**18}); {decided}").startswith(
        "busy"
    )
    assert pair.beta.text(LIVE) == "f"
    pair.sync(pair.beta)

"""The peer's end of a conversation when it is to run rsync's server: our words alone, one inbox, and an end."""

import os
import re
import subprocess
import time
from pathlib import Path

import pytest

from hotpair.payload import stage_name
from hotpair.scan import from_json
from tests.ext.receptions import (
    DEADLINE,
    NEW,
    OURS,
    STATE,
    Reception,
    assert_refused,
    files_of_inbox,
    one_line,
    snapshot,
    wanting,
)
from tests.ext.twonodes import BIN, Node

pytestmark = pytest.mark.usefixtures("untouched")

WORDS = {
    "a daemon": "rsync --server --daemon .",
    "a sender": OURS.replace("--server", "--server --sender"),
    "another path to rsync": OURS.replace("--timeout=20", "--timeout=20 --rsync-path=/bin/sh"),
    "another destination": OURS.replace("INBOX", "/etc"),
    "another basis": OURS.replace("BASIS", "/root"),
    "another partial directory": OURS.replace(".partial", "/etc"),
    "a log file": OURS.replace("--timeout=20", "--timeout=20 --log-file=/etc/x"),
    "deleting": OURS.replace("--timeout=20", "--timeout=20 --delete"),
    "links": OURS.replace("-rIS", "-rlIS"),
    "devices": OURS.replace("-rIS", "-rDIS"),
    "another program": OURS.replace("rsync", "/bin/sh", 1),
    "a second command": OURS + "; id",
    "a second line": OURS + "\nid",
    "two more words": OURS + " / /",
    "nothing": "",
}


@pytest.mark.parametrize("what", WORDS)
def test_rsync_with_other_words_is_refused(node: Node, what: str) -> None:
    reception = wanting(node)
    reception.wire.send(rsync=["/srv/new.txt"])
    reception.wire.send(run=WORDS[what])
    assert_refused(reception)


def test_rsync_with_our_words_is_run(node: Node, tmp_path: Path) -> None:
    node.may_write = True  # type: ignore[attr-defined]
    tree = tmp_path / "tree"
    tree.mkdir()
    reception = wanting(node)
    (tree / stage_name("/srv/new.txt", from_json(STATE))).write_bytes(NEW)  # type: ignore[arg-type]
    reception.wire.send(rsync=["/srv/new.txt"])
    assert re.sub(r"e\.\w+", "e.", client(reception, tree)) == re.sub(r"e\.\w+", "e.", OURS)  # what it can do varies
    reception.wire.send(apply=True)
    assert reception.wire.expect("verdicts")[0]["action"] == "applied"
    reception.wire.send(bye=True)
    assert reception.end()[0] == os.EX_OK
    assert node.live("/srv/new.txt").read_bytes() == NEW
    assert files_of_inbox(node) == []


def test_rsync_leaves_alone_what_is_staged_besides(node: Node, tmp_path: Path) -> None:
    node.may_write = True  # type: ignore[attr-defined]
    tree = tmp_path / "tree"
    tree.mkdir()
    reception = Reception(node).greet()
    reception.propose(["/srv/new.txt", None, STATE], ["/srv/other.txt", None, STATE])
    reception.wire.send(bytes="/srv/other.txt")
    reception.raw(b"%d\n" % len(NEW) + NEW + b"0\n")
    (tree / stage_name("/srv/new.txt", from_json(STATE))).write_bytes(NEW)  # type: ignore[arg-type]
    reception.wire.send(rsync=["/srv/new.txt"])
    client(reception, tree)
    reception.wire.send(apply=True)
    assert [verdict["action"] for verdict in reception.wire.expect("verdicts")] == ["applied", "applied"]
    reception.wire.send(bye=True)
    assert reception.end()[0] == os.EX_OK


def test_rsync_for_two_inboxes_at_once_is_refused(node: Node) -> None:
    node.may_write = True  # type: ignore[attr-defined]
    node.live("/srv/sub/one").mkdir(parents=True)
    reception = Reception(node).greet()
    reception.propose(["/srv/new.txt", None, STATE], ["/srv/sub/one/x.conf", None, STATE])
    reception.wire.send(rsync=["/srv/new.txt", "/srv/sub/one/x.conf"])
    assert_refused(reception)


def test_an_rsync_that_talks_nonsense_ends_and_leaves_nothing(node: Node) -> None:
    reception = wanting(node)
    reception.wire.send(rsync=["/srv/new.txt"])
    reception.wire.send(run=OURS)
    reception.raw(b"64\n" + b"\xff" * 64 + b"0\n")
    code, _, err = reception.end()
    assert code in (os.EX_TEMPFAIL, os.EX_PROTOCOL)
    one_line(node, err)
    assert [path for path in files_of_inbox(node) if ".partial" not in path.parts] == []


def test_the_end_of_the_peers_rsync_is_passed_on_to_ours(node: Node) -> None:
    """Otherwise a client that died is waited for until the time-out, here of 20 s."""
    reception = wanting(node)
    reception.wire.send(rsync=["/srv/new.txt"])
    reception.wire.send(run=OURS)
    reception.raw(b"0\n")
    began = time.monotonic()
    while reception.wire.receive_bytes():
        pass
    assert reception.wire.expect("rsync") != 0
    assert time.monotonic() - began < 10
    reception.wire.send(bye=True)
    assert reception.end()[0] == os.EX_OK


def test_a_tree_sent_by_rsync_instead_of_files_is_not_left_in_the_inbox(node: Node, tmp_path: Path) -> None:
    node.may_write = True  # type: ignore[attr-defined]
    tree = tmp_path / "tree"
    (tree / "sub" / "deep").mkdir(parents=True)
    (tree / "sub" / "deep" / "file").write_bytes(NEW)
    (tree / "link").symlink_to("/etc")
    (tree / "extra").write_bytes(NEW)
    before = snapshot(tmp_path)
    reception = wanting(node)
    reception.wire.send(rsync=["/srv/new.txt"])
    client(reception, tree)
    code, _, err = reception.end()
    assert code in (os.EX_TEMPFAIL, os.EX_PROTOCOL)
    one_line(node, err)
    assert [path for path in files_of_inbox(node) if ".partial" not in path.parts] == []
    assert snapshot(tmp_path) == before


def client(reception: Reception, tree: Path) -> str:
    """Run rsync's client over the wire as send_large does, with a tree of the peer's choice; return its words."""
    stub = Path(BIN).parent / "lib/hotpair/rsh"
    to_rsync, from_wire = os.pipe()
    from_rsync, to_wire = os.pipe()
    command = [
        "rsync",
        "-r",
        "--ignore-times",
        "--timeout=20",
        "--partial-dir=.partial",
        "--copy-dest=BASIS",
        "--sparse",
    ]
    process = subprocess.Popen(
        [*command, "-e", f"{stub} {to_rsync} {to_wire}", f"{tree}/", "peer:INBOX"],
        pass_fds=(to_rsync, to_wire),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(to_rsync)
    os.close(to_wire)
    words = b""
    while not words.endswith(b"\n"):
        words += os.read(from_rsync, 1)
    reception.wire.send(run=words.decode().rstrip("\n"))
    reception.wire.pump(from_rsync, from_wire)
    os.close(from_rsync)
    process.wait(DEADLINE)
    assert "rsync" in reception.wire.receive()
    return words.decode().rstrip("\n")

"""The peer's end of a conversation that falls silent, and what the peer's key can start."""

import os
import select
import time
from contextlib import suppress

import pytest

from tests.ext.receptions import DEADLINE, OURS, SETS, Reception, files_of_inbox, log_lines, one_line, wanting
from tests.ext.twonodes import Node

pytestmark = pytest.mark.usefixtures("untouched")


@pytest.mark.parametrize("when", ["before the greeting", "after the greeting", "within a content", "within rsync"])
def test_silence_ends_the_conversation(node: Node, when: str) -> None:
    node.configure(SETS, "io-timeout = 1\n")
    node.may_write = True  # type: ignore[attr-defined]
    if when == "before the greeting":
        reception = Reception(node)
    elif when == "after the greeting":
        reception = Reception(node).greet()
    else:
        reception = wanting(node)
        if when == "within a content":
            reception.wire.send(bytes="/srv/new.txt")
            reception.raw(b"5\nabc")
        else:
            reception.wire.send(rsync=["/srv/new.txt"])
            reception.wire.send(run=OURS.replace("=20", "=1"))
    assert reception.process.wait(DEADLINE) == os.EX_TEMPFAIL
    assert "said nothing for 1 s" in one_line(node, reception.end()[2])
    assert files_of_inbox(node) == []


def test_a_peer_that_reads_nothing_is_given_up(node: Node) -> None:
    node.configure(SETS, "io-timeout = 1\n")
    node.may_write = True  # type: ignore[attr-defined]
    reception = Reception(node).greet()
    fd = reception.process.stdin.fileno()  # type: ignore[union-attr]
    os.set_blocking(fd, False)
    deadline = time.monotonic() + 15
    while reception.process.poll() is None and time.monotonic() < deadline:
        if select.select([], [fd], [], 0.05)[1]:
            with suppress(BlockingIOError, BrokenPipeError):
                os.write(fd, b'{"peek":true}\n' * 100)
    ended = reception.process.poll()
    if ended is None:
        reception.process.kill()
    reception.end()
    assert ended is not None, "it waits for ever to be read"
    assert ended == os.EX_TEMPFAIL


GATES = {
    "a shell": "syncr-receive demo; id",
    "a second word": "syncr-receive demo other",
    "a second line": "syncr-receive demo\nid",
    "a newline at the end": "syncr-receive demo\n",
    "a substitution": "syncr-receive $(id)",
    "a path": "/usr/local/sbin/syncr-receive demo",
    "another program": "psync demo",
    "rsync": "rsync --server -logDtpre.iLsfxCIvu . /etc",
    "scp": "scp -t /etc/passwd",
    "sftp": "/usr/lib/openssh/sftp-server",
    "capitals": "syncr-receive DEMO",
    "a path as a set": "syncr-receive ../demo",
    "100 kB": "syncr-receive " + "x" * 100_000 + "!",
    "nothing": "",
}


@pytest.mark.parametrize("what", GATES)
def test_the_key_starts_nothing_else(node: Node, what: str) -> None:
    ssh = {"SSH_CONNECTION": "192.0.2.1 1 192.0.2.2 22", "SSH_ORIGINAL_COMMAND": GATES[what]}
    code, messages, err = Reception(node, env=ssh).end()
    assert code == os.EX_PROTOCOL
    assert messages == []
    one_line(node, err)


def test_the_key_starts_no_login(node: Node) -> None:
    code, messages, err = Reception(node, env={"SSH_CONNECTION": "192.0.2.1 1 192.0.2.2 22"}).end()
    assert (code, messages) == (os.EX_PROTOCOL, [])
    one_line(node, err)


def test_the_key_starts_the_conversation(node: Node) -> None:
    ssh = {"SSH_CONNECTION": "192.0.2.1 1 192.0.2.2 22", "SSH_ORIGINAL_COMMAND": "syncr-receive demo"}
    reception = Reception(node, env=ssh).greet()
    reception.wire.send(bye=True)
    assert reception.end()[0] == os.EX_OK
    assert log_lines(node) == []

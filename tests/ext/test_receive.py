"""syncr-receive fed by a hostile peer: refused with one line, and nothing written where it must not be."""

import hashlib
import json
import os
import re
import select
import stat
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from hotpair.exits import Later
from hotpair.filesset import FilesSet
from hotpair.payload import stage_name
from hotpair.scan import from_json
from hotpair.treeset import MOST_ENTRIES
from hotpair.wire import Wire
from tests.ext.twonodes import BIN, Node
from tests.lab.spaces import wait_until

PATTERNS = ("/srv/a.conf", "/srv/*.txt", "/srv/sub/*/x.conf")
SETTINGS = FilesSet("demo", PATTERNS, 6, "store", 0.0, "newest").settings()
SETS = "[files demo]\npaths =\n    " + "\n    ".join(PATTERNS) + "\n[files other]\npaths = /srv/other.conf\n"
OWN = ("var/lib/hotpair", "run/hotpair", "var/log")  # below a prefix: what a reception may write, besides inboxes
DEADLINE = 30.0  # seconds: nothing here takes one, on any machine
LINE_MOST = 1000  # characters of a log line that a peer can cause

NEW = b"what the peer wrote\n"
DIGEST = hashlib.blake2b(NEW, digest_size=32).hexdigest()
STATE = ["file", len(NEW), 0o644, os.getuid(), os.getgid(), 10**18, DIGEST, []]
A = "/srv/a.conf"


class Reception:
    """One syncr-receive, and the peer's end of its pipes in our hands."""

    def __init__(self, node: Node, set_name: str = "demo", env: dict[str, str] | None = None) -> None:
        words = [] if env and "SSH_CONNECTION" in env else [set_name]
        self.node = node
        self.process = subprocess.Popen(
            [sys.executable, "-IS", str(BIN / "syncr-receive"), *words],
            env={"PATH": os.environ["PATH"], "HOTPAIR_ROOT": str(node.root), **(env or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
        )
        assert self.process.stdin and self.process.stdout
        self.wire = Wire(self.process.stdout.fileno(), self.process.stdin.fileno(), DEADLINE)
        self.nonce = ""

    def hello(self, **other: Any) -> dict[str, Any]:
        good = {"hotpair": 1, "node": "alpha", "boot": "b", "role": "peer", "epoch": 0, "set": "demo"}
        return {**good, "settings": SETTINGS, **other}

    def greet(self) -> "Reception":
        self.wire.send(**self.hello())
        self.nonce = self.wire.expect("nonce")
        return self

    def propose(self, *items: Any) -> list[dict[str, Any]]:
        self.wire.send(propose=[[*item, ""] for item in items], nonce=self.nonce)
        return self.wire.expect("answers")

    def raw(self, data: bytes) -> None:
        """Send bytes; that the other end has had enough is no fault of ours."""
        with suppress(Later):
            self.wire._write(data)

    def end(self) -> tuple[int, list[dict[str, Any]], str]:
        """Say nothing more; return the exit code, the messages still to come and standard error."""
        try:
            out, err = self.process.communicate(timeout=DEADLINE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            raise
        lines = (bytes(self.wire._buffer) + out).split(b"\n")
        return self.process.returncode, [json.loads(line) for line in lines if line[:2] == b'{"'], err.decode()


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """beta, with a file of the set, one of another set, and a canary outside of every set."""
    tmp_path.chmod(0o755)
    beta = Node(tmp_path / "beta", tmp_path / "alpha")
    beta.configure(SETS, "io-timeout = 20\n")
    for name in ("a.conf", "b.txt", "other.conf", "canary"):
        beta.live(f"/srv/{name}").write_text(f"the live {name}\n")
    (tmp_path / "outside").write_text("outside\n")
    return beta


@pytest.fixture(autouse=True)
def untouched(node: Node) -> Iterator[None]:
    """Nothing but inboxes, state, locks and the log is written, whatever the peer says; see `may_write`."""
    before = snapshot(node.root.parent)
    yield
    after = snapshot(node.root.parent)
    if before != after and not getattr(node, "may_write", False):
        changed = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
        pytest.fail(f"touched: {sorted(changed)}")


def snapshot(top: Path) -> dict[str, tuple[Any, ...]]:
    """Return everything below a directory that a reception must not touch."""
    found: dict[str, tuple[Any, ...]] = {}
    for folder, directories, files in os.walk(top):
        inside = os.path.relpath(folder, top).partition("/")[2]
        directories[:] = [d for d in directories if d != ".hotpair" and f"{inside}/{d}".lstrip("/") not in OWN]
        for name in [*directories, *files]:
            path = f"{folder}/{name}"
            one = os.lstat(path)
            content = Path(path).read_bytes() if stat.S_ISREG(one.st_mode) else b""
            when = () if stat.S_ISDIR(one.st_mode) else (one.st_mtime_ns, one.st_ino, one.st_size)
            found[os.path.relpath(path, top)] = (one.st_mode, one.st_uid, one.st_gid, *when, content)
    # made by whoever logs or locks first
    return {path: one for path, one in found.items() if path.partition("/")[2] not in ("var", "var/lib", "run")}


def log_lines(node: Node) -> list[str]:
    log = node.root / "var/log/hotpair.log"
    return log.read_text().splitlines() if log.exists() else []


def one_line(node: Node, err: str) -> str:
    """Return the one line of the log; what a peer says must neither flood it nor be taken for a bug of ours."""
    lines = log_lines(node)
    assert len(lines) == 1, lines
    assert err == ""
    assert "internal error" not in lines[0], lines[0]
    assert "Traceback" not in lines[0]
    assert len(lines[0]) < LINE_MOST, f"a peer can make log lines of {len(lines[0])} characters"
    return lines[0]


def assert_refused(reception: Reception) -> str:
    code, messages, err = reception.end()
    line = one_line(reception.node, err)
    assert code == os.EX_PROTOCOL, line
    assert messages, "the peer was told nothing"
    assert "refused" in messages[-1], messages[-1]
    return line


def files_of_inbox(node: Node) -> list[Path]:
    return [path for path in (node.root / "srv").rglob(".hotpair/**/*") if not path.is_dir()]


# The greeting


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


GREETINGS: dict[str, Callable[[Reception], bytes]] = {
    "garbage bytes": lambda r: bytes(range(256)) + b"\n",
    "an empty line": lambda r: b"\n",
    "not JSON": lambda r: b"hello there\n",
    "half a message": lambda r: b'{"hotpair": 1\n',
    "a number": lambda r: b"1\n",
    "a list": lambda r: b"[]\n",
    "a string": lambda r: b'"hello"\n',
    "an infinite number": lambda r: b'{"hotpair": 1e999}\n',
    "a number of 5000 digits": lambda r: b'{"hotpair": ' + b"1" * 5000 + b"}\n",
    "a key of 100 kB": lambda r: json.dumps({"k" * 100_000: 1}).encode() + b"\n",
    "a line of 10 MB": lambda r: b"x" * 10_000_000 + b"\n",
    "a message of 10 MB": lambda r: json.dumps(r.hello(node="n" * 10_000_000)).encode() + b"\n",
    "100000 nested lists": lambda r: nested(100_000) + b"\n",
    **{
        f"{depth} nested lists where a word belongs": (
            lambda r, depth=depth: b'{"hotpair": ' + nested(depth) + b"}\n"  # type: ignore[misc]
        )
        for depth in (500, 900, 950, 960, 970, 975, 980, 985, 990)
    },
    "an unknown protocol": lambda r: json.dumps(r.hello(hotpair=2)).encode() + b"\n",
    "a protocol that is text": lambda r: json.dumps(r.hello(hotpair="1")).encode() + b"\n",
    "a protocol of 900 kB": lambda r: json.dumps(r.hello(hotpair="p" * 900_000)).encode() + b"\n",
    "no protocol": lambda r: b"{}\n",
    "goodbye first": lambda r: b'{"bye": true}\n',
    "the wrong set": lambda r: json.dumps(r.hello(set="other")).encode() + b"\n",
    "a set of 900 kB": lambda r: json.dumps(r.hello(set="s" * 900_000)).encode() + b"\n",
    "a set that is a list": lambda r: json.dumps(r.hello(set=["demo"])).encode() + b"\n",
    "other settings": lambda r: json.dumps(r.hello(settings="0" * 16)).encode() + b"\n",
    "our own name": lambda r: json.dumps(r.hello(node="beta")).encode() + b"\n",
    "no name": lambda r: json.dumps({k: v for k, v in r.hello().items() if k != "node"}).encode() + b"\n",
    "a name that is a list": lambda r: json.dumps(r.hello(node=["alpha"])).encode() + b"\n",
    "a name with a newline": lambda r: json.dumps(r.hello(node="al\npha")).encode() + b"\n",
    "a name of half a character": lambda r: json.dumps(r.hello(node="\ud800")).encode() + b"\n",
    "a name of 100 kB": lambda r: json.dumps(r.hello(node="n" * 100_000)).encode() + b"\n",
}


@pytest.mark.parametrize("what", GREETINGS)
def test_a_greeting_that_is_none_is_refused(node: Node, what: str) -> None:
    reception = Reception(node)
    reception.raw(GREETINGS[what](reception))
    assert_refused(reception)


def test_a_peer_that_hangs_up_at_once_is_logged_as_gone(node: Node) -> None:
    code, messages, err = Reception(node).end()
    assert (code, messages) == (os.EX_TEMPFAIL, [])
    assert "ended the conversation" in one_line(node, err)


def test_a_set_that_is_not_configured_here_is_refused(node: Node) -> None:
    reception = Reception(node, "nosuch")
    code, messages, err = reception.end()
    assert code == os.EX_NOINPUT
    assert "refused" in messages[0]
    one_line(node, err)


# Requests


def altered(index: int, value: Any) -> list[Any]:
    return [*STATE[:index], value, *STATE[index + 1 :]]


LINK = ["link", 0, 0, 0, 0, 10**18, "target", []]
FOLDER = ["directory", 0, 0o755, 0, 0, 0, "", []]
VALUE = b64encode(b"v").decode()

PATHS = {
    "dot dot": "/srv/../srv/a.conf",
    "dot dot as the name": "/srv/..",
    "dot dot first": "../srv/a.conf",
    "dot dot with the right ending": "/srv/../x.txt",
    "a relative path": "srv/a.conf",
    "an absolute path outside": "/etc/passwd",
    "our own configuration": "/etc/hotpair/hotpair.ini",
    "our own archive": "/var/lib/hotpair/archive.db",
    "two slashes": "/srv//a.conf",
    "two slashes first": "//srv/a.conf",
    "a slash at the end": "/srv/a.conf/",
    "one dot": "/srv/./a.conf",
    "NUL": "/srv/a\0.txt",
    "NUL after the right name": "/srv/a.conf\0",
    "a name of 256 bytes": "/srv/" + "n" * 252 + ".txt",
    "a name of 128 characters and 256 bytes": "/srv/" + "é" * 126 + ".txt",
    "a path of 5 kB": "/srv/" + "n/" * 2500 + "x.txt",
    "a name of 900 kB": "/srv/" + "n" * 900_000 + ".txt",
    "the inbox": "/srv/.hotpair/demo/x.txt",
    "the inbox as a name": "/srv/.hotpair",
    "the inbox under a glob": "/srv/sub/.hotpair/x.conf",
    "a hidden file that the glob leaves alone": "/srv/.x.txt",
    "a path of another set": "/srv/other.conf",
    "the root": "/",
    "an empty path": "",
    "half a character": "/srv/\ud800.txt",
    "a number": 7,
    "a list": ["/srv/a.conf"],
    "nothing": None,
}
STATES = {
    "another kind": altered(0, "other"),
    "an unknown kind": altered(0, "socket"),
    "a FIFO, which this set does not share": ["fifo", 0, *FOLDER[2:]],
    "a device, which this set does not share": ["device", 0, *FOLDER[2:6], "c:1:3", []],
    "a digest with slashes": altered(6, "../" * 21 + "x"),
    "a short digest": altered(6, "ab"),
    "a digest in capitals": altered(6, DIGEST.upper()[:-1] + "A"),
    "a digest with a newline": altered(6, DIGEST + "\n"),
    "no digest": altered(6, ""),
    "a negative size": altered(1, -1),
    "a size that is text": altered(1, "3"),
    "a size that is true": altered(1, True),
    "a size with a fraction": altered(1, 1.5),
    "a size beyond 64 bits": altered(1, 2**64),
    "a mode with the type of file in it": altered(2, 0o100000),
    "a negative mode": altered(2, -1),
    "an owner beyond 32 bits": altered(3, 2**32),
    "the owner -1": altered(3, -1),
    "the group -1": altered(4, 2**32 - 1),
    "a time beyond 64 bits": altered(5, 2**70),
    "an xattr outside the list": altered(7, [["security.selinux", VALUE]]),
    "an xattr with NUL in its name": altered(7, [["user.a\0b", VALUE]]),
    "an xattr with half a character in its name": altered(7, [["user.\ud800", VALUE]]),
    "an xattr name of 300 bytes": altered(7, [["user." + "n" * 300, VALUE]]),
    "an xattr twice": altered(7, [["user.a", VALUE], ["user.a", VALUE]]),
    "xattrs out of order": altered(7, [["user.b", VALUE], ["user.a", VALUE]]),
    "an xattr that is not base64": altered(7, [["user.a", "?!"]]),
    "an xattr of 100 kB": altered(7, [["user.a", b64encode(b"v" * 100_000).decode()]]),
    "xattrs that are text": altered(7, "user.a"),
    "an xattr of three": altered(7, [["user.a", VALUE, VALUE]]),
    "a link to NUL": [*LINK[:6], "tar\0get", []],
    "a link to nothing": [*LINK[:6], "", []],
    "a link to 5 kB": [*LINK[:6], "t" * 5000, []],
    "a link to half a character": [*LINK[:6], "\ud800", []],
    "a link with a mode": ["link", 0, 0o777, *LINK[3:]],
    "a link with a size": ["link", 6, *LINK[2:]],
    "a link with xattrs": [*LINK[:7], [["user.a", VALUE]]],
    "a directory with a digest": [*FOLDER[:6], DIGEST, []],
    "a directory with a size": ["directory", 1, *FOLDER[2:]],
    "a directory with a time": [*FOLDER[:5], 10**18, "", []],
    "seven fields": STATE[:7],
    "nine fields": [*STATE, 0],
    "text": "file",
    "true": True,
    "an object": {"kind": "file"},
}


@pytest.mark.parametrize("what", PATHS)
def test_a_path_that_is_not_in_the_set_is_refused(node: Node, what: str) -> None:
    reception = Reception(node).greet()
    reception.wire.send(propose=[[PATHS[what], None, STATE, ""]], nonce=reception.nonce)
    assert_refused(reception)


@pytest.mark.parametrize("source", [A, "/etc/passwd", "/srv/../etc/passwd", 7, None, ["/srv/a.conf"], "\0"])
def test_a_move_within_a_files_set_is_refused(node: Node, source: Any) -> None:
    reception = Reception(node).greet()
    reception.wire.send(propose=[["/srv/new.txt", None, STATE, source]], nonce=reception.nonce)
    assert_refused(reception)


@pytest.mark.parametrize("what", STATES)
@pytest.mark.parametrize("place", ["new", "base"])
def test_an_impossible_state_is_refused(node: Node, what: str, place: str) -> None:
    reception = Reception(node).greet()
    item = [A, None, STATES[what]] if place == "new" else [A, STATES[what], STATE]
    reception.wire.send(propose=[[*item, ""]], nonce=reception.nonce)
    assert_refused(reception)


REQUESTS: dict[str, Callable[[str], Any]] = {
    "a proposal without a nonce": lambda nonce: {"propose": [[A, None, STATE, ""]]},
    "a proposal with no nonce at all": lambda nonce: {"propose": [[A, None, STATE, ""]], "nonce": None},
    "proposals that are text": lambda nonce: {"propose": A, "nonce": nonce},
    "no proposals": lambda nonce: {"propose": [], "nonce": nonce},
    "too many proposals": lambda nonce: {
        "propose": [[f"/srv/{n}.txt", None, STATE, ""] for n in range(MOST_ENTRIES + 1)],
        "nonce": nonce,
    },
    "a proposal of two": lambda nonce: {"propose": [[A, None]], "nonce": nonce},
    "a proposal that is text": lambda nonce: {"propose": [A], "nonce": nonce},
    "a path twice": lambda nonce: {"propose": [[A, None, STATE, ""], [A, None, STATE, ""]], "nonce": nonce},
    **{
        f"{depth} nested lists for a proposal": (
            lambda nonce, depth=depth: b'{"propose": [' + nested(depth) + b'], "nonce": "%b"}' % nonce.encode()  # type: ignore[misc]
        )
        for depth in (500, 900, 950, 960, 965, 970, 975, 980, 985)
    },
    **{
        f"{depth} nested lists for a path to send": (
            lambda nonce, depth=depth: b'{"bytes": ' + nested(depth) + b"}"  # type: ignore[misc]
        )
        for depth in (950, 960, 970, 975, 980, 985)
    },
    "a name of 10 MB": lambda nonce: {"propose": [["/srv/" + "n" * 10_000_000, None, STATE, ""]], "nonce": nonce},
    "bytes not asked for": lambda nonce: {"bytes": A},
    "bytes for a path outside": lambda nonce: {"bytes": "/etc/passwd"},
    "bytes for a list": lambda nonce: {"bytes": [A]},
    "rsync not asked for": lambda nonce: {"rsync": [A]},
    "rsync of nothing": lambda nonce: {"rsync": []},
    "rsync of text": lambda nonce: {"rsync": A},
    "an unknown request": lambda nonce: {"run": "id"},
    "an empty request": lambda nonce: {},
    "a second greeting": lambda nonce: {"hotpair": 1, "node": "alpha"},
    "states that are text": lambda nonce: {"compare": "abc"},
    "states that are a number": lambda nonce: {"compare": 3},
    "states that are none": lambda nonce: {"compare": [[A, ["file"]]]},
    "a conflict of a path outside": lambda nonce: {"resolved": "/etc/passwd"},
    "a conflict of a number": lambda nonce: {"resolved": 5},
    "a conflict of half a character": lambda nonce: {"resolved": "/srv/\ud800.txt"},
}


@pytest.mark.parametrize("what", REQUESTS)
def test_a_request_that_the_protocol_forbids_is_refused(node: Node, what: str) -> None:
    reception = Reception(node).greet()
    request = REQUESTS[what](reception.nonce)
    reception.raw((request if isinstance(request, bytes) else json.dumps(request).encode()) + b"\n")
    assert_refused(reception)


def test_a_replayed_batch_is_refused(node: Node) -> None:
    first = Reception(node).greet()
    first.wire.send(bye=True)
    assert first.end()[0] == os.EX_OK
    assert log_lines(node) == []

    second = Reception(node).greet()
    second.wire.send(propose=[[A, None, STATE, ""]], nonce=first.nonce)
    assert_refused(second)


def test_a_path_of_255_bytes_and_a_name_that_is_not_utf8_are_taken(node: Node) -> None:
    """So that what is refused above is refused for its reason."""
    node.may_write = True  # type: ignore[attr-defined]
    reception = Reception(node).greet()
    names = ["/srv/" + "n" * 251 + ".txt", os.fsdecode(b"/srv/\xff\xfe.txt"), A]
    answers = reception.propose(*([name, None, ["link", 0, 0, 0, 0, 10**18, "to", []]] for name in names))
    assert [answer["action"] for answer in answers[:2]] == ["take", "take"]
    reception.wire.send(apply=True)
    assert [verdict["action"] for verdict in reception.wire.expect("verdicts")[:2]] == ["applied", "applied"]
    reception.wire.send(bye=True)
    assert reception.end()[0] == os.EX_OK
    assert os.readlink(node.live(names[1])) == "to"


def test_a_link_whose_value_is_not_utf8_is_taken(node: Node) -> None:
    node.may_write = True  # type: ignore[attr-defined]
    reception = Reception(node).greet()
    name, value = os.fsdecode(b"/srv/\xff.txt"), os.fsdecode(b"\xff\xfe")
    assert reception.propose([name, None, [*LINK[:6], value, []]])[0]["action"] == "take"
    reception.wire.send(apply=True)
    assert reception.wire.expect("verdicts")[0]["action"] == "applied"
    assert reception.propose([name, None, [*LINK[:6], value + "x", []]])[0]["action"] == "take"
    reception.wire.send(apply=True)
    assert reception.wire.expect("verdicts")[0]["action"] == "applied"
    reception.wire.send(bye=True)
    assert reception.end()[0] == os.EX_OK
    assert os.readlink(node.live(name)) == value + "x"


# Contents


def wanting(node: Node) -> Reception:
    """A reception that has asked for the content of a new file."""
    reception = Reception(node).greet()
    assert reception.propose(["/srv/new.txt", None, STATE])[0]["action"] == "want"
    return reception


CHUNKS = {
    "more bytes than were announced": b"%d\n" % (len(NEW) + 1) + NEW + b"!",
    "more bytes in a second chunk": b"%d\n" % len(NEW) + NEW + b"1\n!",
    "a header of letters": b"zz\n",
    "a negative header": b"-1\n",
    "a header with a sign": b"+5\n",
    "a header with a space": b" 5\n",
    "an empty header": b"\n",
    "a header in other digits": "٣\n".encode(),
    "a header beyond the bound": b"65537\n",
    "a header that does not end": b"1" * 100,
    "a header of many digits": b"0" * 100 + b"5\n",
    "a message where a chunk belongs": b'{"apply": true}\n',
}


@pytest.mark.parametrize("what", CHUNKS)
def test_a_content_that_is_not_as_announced_is_refused(node: Node, what: str) -> None:
    reception = wanting(node)
    reception.wire.send(bytes="/srv/new.txt")
    reception.raw(CHUNKS[what])
    assert_refused(reception)
    assert files_of_inbox(node) == []


@pytest.mark.parametrize("content", [NEW[::-1], NEW[:-1], b""], ids=["other bytes", "too few bytes", "no bytes"])
def test_a_content_of_another_digest_is_refused(node: Node, content: bytes) -> None:
    reception = wanting(node)
    reception.wire.send(bytes="/srv/new.txt")
    reception.raw(b"%d\n" % len(content) + content + (b"0\n" if content else b""))
    reception.wire.send(apply=True)
    code, messages, err = reception.end()
    assert not any(v.get("action") == "applied" for m in messages for v in m.get("verdicts", [])), messages
    assert files_of_inbox(node) == []
    one_line(node, err)
    assert code != os.EX_OK


def test_a_content_that_was_never_sent_is_not_applied(node: Node) -> None:
    reception = wanting(node)
    reception.wire.send(apply=True)
    assert reception.wire.expect("verdicts")[0]["action"] != "applied"
    reception.wire.send(bye=True)
    assert reception.end()[0] == os.EX_OK
    assert files_of_inbox(node) == []


def test_a_peer_that_dies_within_a_content_leaves_nothing_staged(node: Node) -> None:
    reception = wanting(node)
    reception.wire.send(bytes="/srv/new.txt")
    reception.raw(b"%d\n" % len(NEW) + NEW[:5])
    code, _, err = reception.end()
    assert code == os.EX_TEMPFAIL
    one_line(node, err)
    assert files_of_inbox(node) == []


def test_a_content_is_sent_for_a_path_that_was_not_wanted_and_refused(node: Node) -> None:
    reception = wanting(node)
    reception.wire.send(bytes=A)
    assert_refused(reception)


def test_an_applied_batch_is_not_applied_again(node: Node) -> None:
    node.may_write = True  # type: ignore[attr-defined]
    reception = wanting(node)
    reception.wire.send(bytes="/srv/new.txt")
    reception.raw(b"%d\n" % len(NEW) + NEW + b"0\n")
    reception.wire.send(apply=True)
    assert reception.wire.expect("verdicts")[0]["action"] == "applied"
    assert node.live("/srv/new.txt").read_bytes() == NEW
    node.live("/srv/new.txt").write_text("a user was here\n")

    reception.wire.send(apply=True)
    reception.wire.send(bytes="/srv/new.txt")
    assert_refused(reception)
    assert node.text("/srv/new.txt") == "a user was here\n"
    assert files_of_inbox(node) == []


def test_a_failed_check_leaves_no_staged_content_behind(node: Node) -> None:
    node.may_write = True  # type: ignore[attr-defined]
    node.write_ini("syncr.ini", "[/srv/*.txt]\ncheck = false %s\n")
    reception = wanting(node)
    reception.wire.send(bytes="/srv/new.txt")
    reception.raw(b"%d\n" % len(NEW) + NEW + b"0\n")
    reception.wire.send(apply=True)
    assert reception.wire.expect("verdicts")[0]["action"] == "failed"
    assert not node.live("/srv/new.txt").exists()
    reception.wire.send(bye=True)
    assert reception.end()[0] == os.EX_OK
    assert files_of_inbox(node) == []


def test_a_second_batch_leaves_nothing_staged_of_the_first(node: Node) -> None:
    reception = wanting(node)
    reception.wire.send(bytes="/srv/new.txt")
    reception.raw(b"%d\n" % len(NEW) + NEW + b"0\n")
    reception.propose([A, None, None])
    reception.wire.send(bye=True)
    assert reception.end()[0] == os.EX_OK
    assert files_of_inbox(node) == []


@pytest.mark.parametrize("hurdle", ["file", "link"])
def test_a_parent_that_is_no_directory_is_reported_and_not_followed(node: Node, hurdle: str) -> None:
    node.may_write = True  # type: ignore[attr-defined]
    one = node.live("/srv/sub/one")
    one.parent.mkdir()
    if hurdle == "file":
        one.write_text("no directory")
    else:
        (node.root.parent / "canary").mkdir()
        one.symlink_to(node.root.parent / "canary")
    before = snapshot(node.root.parent)
    reception = Reception(node).greet()
    assert reception.propose(["/srv/sub/one/x.conf", None, STATE])[0]["action"] in ("failed", "busy")
    code, _, err = reception.end()  # the peer dies before it says apply
    assert code == os.EX_TEMPFAIL
    one_line(node, err)
    assert snapshot(node.root.parent) == before


def test_two_conversations_about_one_content_never_show_half_of_it(node: Node, tmp_path: Path) -> None:
    """The sender of the first has died while the check ran; the next run's sender is sending the same again."""
    node.may_write = True  # type: ignore[attr-defined]
    started, go = tmp_path / "started", tmp_path / "go"
    script = tmp_path / "check"
    script.write_text(f'#!/bin/sh\ntouch "{started}"\nwhile [ ! -e "{go}" ]; do sleep 0.02; done\n')
    script.chmod(0o755)
    node.write_ini("syncr.ini", f"[/srv/*.txt]\ncheck = {script} %s\ntimeout = 30\n")
    first = wanting(node)
    first.wire.send(bytes="/srv/new.txt")
    first.raw(b"%d\n" % len(NEW) + NEW + b"0\n")
    first.wire.send(apply=True)
    assert wait_until(started.exists, DEADLINE)
    second = Reception(node).greet()
    try:
        if second.propose(["/srv/new.txt", None, STATE])[0]["action"] == "want":
            second.wire.send(bytes="/srv/new.txt")
            second.raw(b"5\n" + NEW[:5])
            time.sleep(0.2)  # nothing tells that it has written; without this the test could only pass by chance
    except Exception:
        pass  # turned away: as good
    finally:
        go.touch()
    first.wire.receive()
    content = node.live("/srv/new.txt").read_bytes() if node.live("/srv/new.txt").exists() else None
    second.end()
    first.end()
    assert content in (None, NEW)
    assert not node.live("/srv/new.txt").exists() or node.live("/srv/new.txt").read_bytes() == NEW


# rsync's own words, which `test_rsync_with_our_words_is_run` shows to be the ones that are let through

OURS = "rsync --server -rISe.LsfxCIvu --timeout=20 --partial-dir .partial --copy-dest BASIS . INBOX"
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


# Silence


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


# The gate

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

"""The peer's end of a conversation against a peer that says what it may not: greetings, paths, states, requests."""

import json
import os
from base64 import b64encode
from collections.abc import Callable
from typing import Any

import pytest

from hotpair.treeset import MOST_ENTRIES
from tests.ext.receptions import DIGEST, STATE, A, Reception, assert_refused, log_lines, one_line
from tests.ext.twonodes import Node

pytestmark = pytest.mark.usefixtures("untouched")


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

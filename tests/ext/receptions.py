"""One `syncr-receive` and the peer's end of its pipes in the hands of a test."""

import hashlib
import json
import os
import stat
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from hotpair.exits import Later
from hotpair.filesset import FilesSet
from hotpair.wire import Wire
from tests.ext.twonodes import BIN, Node

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
# rsync's own words: `test_rsync_with_our_words_is_run` shows that they are let through
OURS = "rsync --server -rISe.LsfxCIvu --timeout=20 --partial-dir .partial --copy-dest BASIS . INBOX"


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


def wanting(node: Node) -> Reception:
    """A reception that has asked for the content of a new file."""
    reception = Reception(node).greet()
    assert reception.propose(["/srv/new.txt", None, STATE])[0]["action"] == "want"
    return reception

"""What a node asks for when the other one proposes contents of a tree: none that it could not put in its place."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hotpair import config
from tests.ext.receptions import Reception
from tests.ext.trees import SETS, Trees

CONTENT = b"what alpha has"
DIGEST = hashlib.blake2b(CONTENT, digest_size=32).hexdigest()
FILE = ["file", len(CONTENT), 0o644, os.getuid(), os.getgid(), 10**18, DIGEST, []]
DIRECTORY = ["directory", 0, 0o755, os.getuid(), os.getgid(), 0, "", []]


class OfTree(Reception):
    """alpha's end of a conversation with beta about the tree."""

    def hello(self, **other: Any) -> dict[str, Any]:
        settings = config.load().named("data").settings()
        return {**super().hello(), "set": "data", "settings": settings, **other}

    def ask(self, *items: Any, aside: bool = False) -> list[str]:
        """Propose, and return what is answered."""
        self.wire.send(propose=[[*item, ""] for item in items], nonce=self.nonce, aside=aside)
        return [answer["action"] for answer in self.wire.expect("answers")]


@pytest.fixture
def beta(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OfTree]:
    pair = Trees(tmp_path, SETS)
    (pair.alpha.live("/srv/data/d")).mkdir()
    pair.sync()
    monkeypatch.setenv("HOTPAIR_ROOT", str(pair.beta.root))
    talk = OfTree(pair.beta, "data")
    talk.greet()
    yield talk
    talk.process.kill()
    talk.process.communicate()


def test_no_content_is_asked_for_below_what_is_a_file_here(beta: OfTree) -> None:
    (beta.node.live("/srv/data/d")).rmdir()
    (beta.node.live("/srv/data/d")).write_text("beta made a file of it")
    assert beta.ask(["/d/f", None, FILE], ["/d/deep/f", None, FILE]) == ["lost", "lost"]
    assert beta.ask(["/f", None, FILE], ["/new/deep/f", None, FILE]) == ["want", "want"]


def test_contents_are_asked_for_below_a_directory_that_comes_with_them(beta: OfTree) -> None:
    (beta.node.live("/srv/data/e")).write_text("a file of both")
    Path(beta.node.live("/srv/data/e")).chmod(0o644)
    seen = os.lstat(beta.node.live("/srv/data/e"))
    digest = hashlib.blake2b(b"a file of both", digest_size=32).hexdigest()
    both = ["file", seen.st_size, 0o644, seen.st_uid, seen.st_gid, seen.st_mtime_ns, digest, []]
    assert beta.ask(["/e", both, DIRECTORY], ["/e/f", None, FILE]) == ["take", "want"]


def test_no_large_content_is_asked_for_in_place_of_a_directory_that_holds_something(beta: OfTree) -> None:
    seen = os.lstat(beta.node.live("/srv/data/d"))
    both = ["directory", 0, seen.st_mode & 0o7777, seen.st_uid, seen.st_gid, 0, "", []]
    assert beta.ask(["/d", both, FILE], aside=True) == ["want"]
    (beta.node.live("/srv/data/d/mine")).write_text("beta's")
    assert beta.ask(["/d", both, FILE], aside=True) == ["lost"]

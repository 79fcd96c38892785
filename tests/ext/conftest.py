"""Fixtures: two nodes that share files, or a tree, empty or filled and in sync, or that have a role; one to talk to."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ext.commanded import Prefix
from tests.ext.failovers import Both, backup_of_alpha
from tests.ext.receptions import SETS, snapshot
from tests.ext.trees import SOURCE, Trees, fill
from tests.ext.twonodes import Node, Pair


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair(tmp_path)


@pytest.fixture
def holding(tmp_path: Path) -> Pair:
    """Return two nodes whose conflicts wait for a person."""
    return Pair(tmp_path, "[files demo]\npaths = /srv/a.conf\nprefer = hold\n")


@pytest.fixture
def trees(tmp_path: Path) -> Trees:
    pair = Trees(tmp_path)
    pair.sync()
    return pair


@pytest.fixture
def filled(trees):
    fill(trees.alpha, *SOURCE)
    (trees.alpha.live("/srv/data/l")).symlink_to("target")
    trees.sync()
    return trees


@pytest.fixture(scope="session")
def backed_up(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, str]:
    return backup_of_alpha(tmp_path_factory.mktemp("backup"))


@pytest.fixture
def both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backed_up: tuple[bytes, str]) -> Both:
    return Both(tmp_path, monkeypatch, backed_up)


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


@pytest.fixture
def untouched(node: Node) -> Iterator[None]:
    """Nothing but inboxes, state, locks and the log is written, whatever the peer says; see `may_write`."""
    before = snapshot(node.root.parent)
    yield
    after = snapshot(node.root.parent)
    if before != after and not getattr(node, "may_write", False):
        changed = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
        pytest.fail(f"touched: {sorted(changed)}")


@pytest.fixture
def prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Prefix]:
    monkeypatch.setenv("HOTPAIR_ROOT", str(tmp_path))
    made = Prefix(tmp_path)
    yield made
    made.db.close()

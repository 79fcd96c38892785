"""Fixtures for trees: a pair with one empty tree, and one that is filled and in sync."""

from pathlib import Path

import pytest

from tests.ext.trees import SOURCE, Trees, fill


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

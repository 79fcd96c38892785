"""A private directory of a tree that is gone where something in it is put back: it comes back as private."""

import os
import shutil

import pytest

from tests.ext.trees import Trees, fill

USER = 1234


def owner_and_mode(node, name="private"):
    seen = node.live(f"/srv/data/{name}").stat()
    return seen.st_uid, oct(seen.st_mode & 0o7777)


@pytest.fixture
def pair(tmp_path):
    pair = Trees(tmp_path)
    fill(pair.alpha, "private/f", "private/deep/er", "x")
    for name, mode in (("private", 0o700), ("private/deep", 0o2750)):
        os.chown(pair.alpha.live(f"/srv/data/{name}"), USER, USER)
        pair.alpha.live(f"/srv/data/{name}").chmod(mode)
    pair.sync()
    return pair


@pytest.mark.parametrize("first", ["alpha", "beta"])
def test_directory_that_one_removed_while_the_other_edited_in_it(pair, first):
    shutil.rmtree(pair.beta.live("/srv/data/private"))
    pair.alpha.live("/srv/data/private/deep/er").write_text("edited meanwhile")
    for _ in range(2):
        getattr(pair, first).run("psync")
    for node in pair.nodes:
        assert node.text("/srv/data/private/deep/er") == "edited meanwhile"
        assert owner_and_mode(node) == (USER, "0o700")
        assert owner_and_mode(node, "private/deep") == (USER, "0o2750")


def test_directory_above_what_is_restored(pair):
    pair.alpha.live("/srv/data/private/f").write_text("newer")
    pair.sync()
    shutil.rmtree(pair.beta.live("/srv/data/private"))
    said = pair.beta.hotpair("restore", "/srv/data/private/f", "1")
    assert said.code == 0, said
    for node in pair.nodes:
        assert node.text("/srv/data/private/f") == "private/f"
        assert owner_and_mode(node) == (USER, "0o700")


def test_directory_that_both_have_forgotten_is_roots_alone(pair):
    shutil.rmtree(pair.beta.live("/srv/data/private"))
    pair.sync(pair.beta)
    said = pair.alpha.hotpair("restore", "/srv/data/private/f", "1")
    assert said.code == 0, said
    for node in pair.nodes:
        assert node.text("/srv/data/private/f") == "private/f"
        assert owner_and_mode(node) == (0, "0o700")

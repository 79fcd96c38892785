"""A tree on two nodes: whatever users do below its root on either crosses, and costs no more than it must."""

# mypy: disable-error-code="func-returns-value"
# a change is a tuple of steps, whatever each returns

import errno
import os
import shutil
import signal

import pytest

from hotpair import config, detect, marks, run, survey
from tests.ext.trees import Trees, fill, tree_of


def test_what_stands_on_either_node_at_first_is_on_both_then(tmp_path):
    pair = Trees(tmp_path)
    fill(pair.alpha, "a", "d/b", "d/e/c", "same")
    fill(pair.beta, "z", "d/y", "f/x", "same")
    for node in pair.nodes:
        os.utime(node.live("/srv/data/same"), (1e9, 1e9))
    pair.sync()
    assert set(tree_of(pair.alpha.root / "srv/data")) == {*"adz", "d/b", "d/e", "d/e/c", "same", "d/y", "f", "f/x"}


def test_event_in_a_folder_sends_what_changed_there(trees):
    pair = trees
    fill(pair.alpha, "d/e/f")
    pair.sync()
    fill(pair.alpha, "d/e/g")
    assert pair.alpha.run("syncr", "data", "0").code == 0
    assert pair.equal()
    (pair.beta.live("/srv/data/d/e/g")).write_text("back")
    assert pair.beta.run("syncr", "data", "0").code == 0
    assert pair.equal()


CHANGES = {
    "edit in place": lambda top: (top / "d/f").write_text("edited"),
    "replace": lambda top: ((top / "new").write_text("replaced"), (top / "new").rename(top / "d/f")),
    "same size and mtime": lambda top: (
        (top / "d/f").write_text("D/F"),
        os.utime(top / "d/f", ns=(1, (top / "e/g").stat().st_mtime_ns)),
    ),
    "empty": lambda top: (top / "d/f").write_text(""),
    "create deep": lambda top: ((top / "n/e/w").mkdir(parents=True), (top / "n/e/w/f").write_text("x")),
    "mkdir": lambda top: (top / "empty").mkdir(),
    "delete": lambda top: (top / "d/f").unlink(),
    "delete a tree": lambda top: shutil.rmtree(top / "d"),
    "chmod": lambda top: (top / "d/f").chmod(0o2640),
    "chown": lambda top: os.chown(top / "d/f", 1234, 4321),
    "chmod a directory": lambda top: (top / "d").chmod(0o2750),
    "xattr": lambda top: os.setxattr(top / "d/f", "user.origin", b"elsewhere"),
    "xattr of a directory": lambda top: os.setxattr(top / "d", "user.origin", b"elsewhere"),
    "mtime": lambda top: os.utime(top / "d/f", ns=(1, 123456789123456789)),
    "link": lambda top: (top / "link").symlink_to("/nowhere"),
    "other link": lambda top: ((top / "l").unlink(), (top / "l").symlink_to("other")),
    "file becomes link": lambda top: ((top / "d/f").unlink(), (top / "d/f").symlink_to("x")),
    "file becomes directory": lambda top: ((top / "d/f").unlink(), (top / "d/f").mkdir(), (top / "d/f/g").touch()),
    "directory becomes file": lambda top: (shutil.rmtree(top / "d"), (top / "d").write_text("x")),
    "directory becomes link": lambda top: (shutil.rmtree(top / "d"), (top / "d").symlink_to("e")),
    "link becomes directory": lambda top: ((top / "l").unlink(), (top / "l").mkdir()),
    "rename": lambda top: (top / "d/f").rename(top / "e/moved"),
    "rename over": lambda top: (top / "d/f").rename(top / "e/g"),
    "rename a directory": lambda top: (top / "d").rename(top / "moved"),
    "rename a directory into a new one": lambda top: ((top / "n").mkdir(), (top / "d").rename(top / "n/d")),
    "rename a directory and a file in it": lambda top: (
        (top / "d").rename(top / "moved"),
        (top / "moved/f").rename(top / "moved/h"),
    ),
    "exchange two files": lambda top: (
        (top / "d/f").rename(top / "t"),
        (top / "e/g").rename(top / "d/f"),
        (top / "t").rename(top / "e/g"),
    ),
    "exchange two directories": lambda top: (
        (top / "d").rename(top / "t"),
        (top / "e").rename(top / "d"),
        (top / "t").rename(top / "e"),
    ),
    "rename a directory and make it anew": lambda top: (
        (top / "d").rename(top / "old"),
        (top / "d").mkdir(),
        (top / "d/f").write_text("another"),
    ),
    "large": lambda top: (top / "d/f").write_bytes(os.urandom(200_000)),
}


@pytest.mark.parametrize("way", ["event", "sweep of the other"])
@pytest.mark.parametrize("what", CHANGES)
def test_change_crosses(filled, what, way):
    if what == "chown" and os.geteuid():
        pytest.skip("only root gives files away")
    alpha, beta = filled.nodes
    CHANGES[what](alpha.live("/srv/data"))
    assert not filled.equal()
    if way == "event":
        assert alpha.run("syncr", "data", "0") == (0, "", "")
    else:
        said = beta.run("psync")
        assert said.code == 0, said
    assert tree_of(alpha.live("/srv/data")) == tree_of(beta.live("/srv/data"))
    filled.sync()


def test_of_many_troubles_a_person_is_told_of_some_and_how_many_more(trees):
    for node in trees.nodes:
        for number in range(30):
            node.write(f"/srv/data/{number}", f"{node.root.name} {number}")
    trees.sync()
    said = trees.alpha.hotpair("status").out
    assert said.count("conflict since") == 10 and "conflict: 20 more of these" in said
    assert len(trees.alpha.json("status")["problems"]) >= 30


# an editor moves the old file away first, so an absence has to last; each look in between costs all of the tree
def test_a_sweep_looks_again_at_what_is_missing_when_that_can_be_believed(filled, monkeypatch):
    monkeypatch.setenv("HOTPAIR_ROOT", str(filled.alpha.root))
    looks, real = [], survey.survey
    monkeypatch.setattr(survey, "survey", lambda *words: looks.append(1) or real(*words))
    filled.alpha.live("/srv/data/stays").unlink()
    assert run.sweep(run.scope(config.load(), "data")).code == 0
    assert filled.equal()
    assert len(looks) <= 3  # it is gone; it is still gone; all is as agreed


def test_a_run_ends_that_cannot_look_at_a_new_directory_and_proposes_nothing_of_it(filled, monkeypatch):
    """As on a full disk, where no copy can be kept of the file that it replaced."""
    monkeypatch.setenv("HOTPAIR_ROOT", str(filled.alpha.root))
    stays, real = filled.alpha.live("/srv/data/stays"), detect.current

    def current(scope, path, *words):
        if path == "/srv/data/stays":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(scope, path, *words)

    def too_long(*_):
        raise TimeoutError("the run does not end")

    monkeypatch.setattr(detect, "current", current)
    assert filled.alpha.hotpair("tables").code == 0  # a run has new directories watched, and looks again then
    stays.unlink()
    stays.mkdir()
    fill(filled.alpha, "other")
    marks.add("data", "0")
    signal.signal(signal.SIGALRM, too_long)
    signal.alarm(30)
    try:
        assert run.run(run.scope(config.load(), "data")) == 0
    finally:
        signal.alarm(0)
    assert filled.beta.text("/srv/data/stays") == "stays" and filled.beta.text("/srv/data/other") == "other"

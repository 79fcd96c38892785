"""What a user who owns the root of a tree makes of the directory that is ours in it: nothing is done there."""

import os
from pathlib import Path

import pytest

from tests.ext.trees import Trees, fill, kept

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make another's directory")

USER = 1234
RSYNC = "x" * 100_000  # a content that rsync carries


@pytest.fixture
def pair(tmp_path):
    pair = Trees(tmp_path)
    fill(pair.alpha, "d/f")
    pair.alpha.live("/srv/data/large").write_text(RSYNC)
    pair.sync()
    return pair


def directory_of_a_user(node, links: dict[str, Path]) -> Path:
    """Give the root of a tree to a user, who puts links of his own where our directory was."""
    root = node.live("/srv/data")
    marker = root / ".hotpair"
    marker.rename(root / "old")
    marker.mkdir()
    for name, value in links.items():
        (marker / name).symlink_to(value)
    for path in (root, marker, *marker.iterdir()):
        os.chown(path, USER, USER, follow_symlinks=False)
    return marker


@pytest.fixture
def outside(tmp_path):
    path = tmp_path / "outside"
    path.mkdir()
    (path / "passwd").write_text("of the system\n")
    return path


LINKS = ["data", "data.kept", "data.basis", "data.large"]


# P10
@pytest.mark.parametrize("name", LINKS)
def test_links_lead_nowhere(pair, outside, name):
    directory_of_a_user(pair.beta, {name: outside})
    pair.alpha.live("/srv/data/large").write_text(RSYNC + "y")
    pair.alpha.live("/srv/data/d/f").write_text("newer")
    for node in pair.nodes:
        assert node.run("psync").code == 75
        node.run("syncr", "data", "0")
    pair.beta.hotpair("history", "/srv/data/d/f")
    pair.beta.hotpair("restore", "/srv/data/d/f", "1")
    assert {path.name: path.read_text() for path in outside.iterdir()} == {"passwd": "of the system\n"}
    assert pair.beta.text("/srv/data/d/f") == "d/f"


def another(marker):
    os.chown(marker, USER, USER)


def open_to_others(marker):
    marker.chmod(0o777)


def a_link(marker):
    marker.rename(marker.parent.parent / "away")
    marker.symlink_to("../away")


def a_file(marker):
    marker.rename(marker.parent.parent / "away")
    marker.touch()


NOT_OURS = "/srv/data/.hotpair: not our own directory: put that back; if it is lost, mkdir that anew"
OPEN = "/srv/data/.hotpair: others can write to it: see who did, then chmod go-w that"
FOREIGN = {another: NOT_OURS, open_to_others: OPEN, a_link: NOT_OURS, a_file: NOT_OURS}


@pytest.mark.parametrize("asked", [False, True], ids=["seen here", "asked by the peer"])
@pytest.mark.parametrize("how", FOREIGN, ids=lambda how: how.__name__)
def test_directory_that_is_not_ours_alone_stops_the_set_and_says_why(pair, how, asked):
    how(pair.beta.live("/srv/data/.hotpair"))
    pair.alpha.live("/srv/data/d/f").write_text("newer")
    said = (pair.alpha if asked else pair.beta).run("psync")
    assert said.code == 75
    assert FOREIGN[how] in said.err
    status = pair.beta.hotpair("status")
    assert status.code == 2
    assert "data: unmounted" in status.out and FOREIGN[how] in status.out
    assert pair.beta.text("/srv/data/d/f") == "d/f"


@pytest.mark.parametrize("how", FOREIGN, ids=lambda how: how.__name__)
@pytest.mark.parametrize("word", ["history", "restore"])
def test_person_is_told_why_generations_cannot_be_read(pair, how, word):
    how(pair.beta.live("/srv/data/.hotpair"))
    said = pair.beta.hotpair(word, "/srv/data/d/f")
    assert (said.code, said.err) == (75, f"hotpair: {FOREIGN[how]}\n")


@pytest.mark.parametrize("how", FOREIGN, ids=lambda how: how.__name__)
def test_first_run_does_not_take_it_for_its_own(tmp_path, how):
    pair = Trees(tmp_path)
    pair.beta.live("/srv/data/.hotpair").mkdir()
    how(pair.beta.live("/srv/data/.hotpair"))
    fill(pair.alpha, "f")
    assert pair.alpha.run("psync").code == 75
    assert not pair.beta.live("/srv/data/f").exists()


def test_directory_that_a_person_made_anew_will_do(pair):
    marker = pair.beta.live("/srv/data/.hotpair")
    marker.rename(marker.parent.parent / "lost")
    marker.mkdir(mode=0o755)
    pair.alpha.live("/srv/data/d/f").write_text("newer")
    pair.alpha.live("/srv/data/large").write_text(RSYNC + "y")
    pair.sync()
    assert kept(pair.beta) == {"d/f", RSYNC}


# a user may be faster than the look at it
AMID = """
import os
import pathlib
from hotpair import apply, basis, beneath, config, keep, run
scope = run.scope(config.load(), "data")
files, live = scope.files, scope.files.live("/d/f")
root = pathlib.Path(os.environ["HOTPAIR_ROOT"] + files.root)
(root / ".hotpair").rename(root / "old")
for end in ("", ".kept", ".basis"):
    (root / f".hotpair/data{end}").mkdir(parents=True)
os.chown(root / ".hotpair", 1234, 1234)
type(files).check_marker = lambda _: None
def replaced():
    with beneath.place(live) as at:
        keep.replaced(files, live, at)
def linked():
    with basis.linked(files, [], False):
        pass
def unsent():
    keep.aside(files, live, scope.archive.row(live).seen)
for step in replaced, linked, unsent, lambda: keep.generations(files, live), lambda: apply.open_inbox(files):
    try:
        step()
        print("done")
    except PermissionError as error:
        print(error.strerror)
"""


def test_directory_that_is_exchanged_amid_a_run_is_not_entered(pair):
    assert set(pair.beta.python(AMID).splitlines()) == {"somebody else's, or open to others"}
    assert pair.beta.text("/srv/data/d/f") == "d/f"

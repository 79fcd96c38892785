"""What a sweep leaves of the generations of a set with `keep-size`, on both nodes."""

from pathlib import Path

import pytest

from tests.ext.trees import Trees
from tests.ext.twonodes import Node, Pair

ROOM = "keep-size = 22\n"


def kept(node: Node, store: str) -> dict[str, str]:
    top = node.live(store)
    return {str(path.relative_to(top)): path.read_text() for path in top.rglob("*") if path.is_file()}


def test_generations_of_a_tree_go_first_of_the_path_that_rested_longest(tmp_path: Path) -> None:
    pair = Trees(tmp_path, "[tree data]\nroot = /srv/data\nkeep-size = 14\n")
    for name in ("a", "d/b"):
        pair.alpha.live("/srv/data/d").mkdir(exist_ok=True)
        for number in range(2):
            pair.alpha.write(f"/srv/data/{name}", f"{name[-1]} is {number}.")
            pair.sync()
    pair.alpha.live("/srv/data/a").unlink()
    for _ in range(2):  # the second time, beta looks
        pair.sync(pair.beta)
    assert kept(pair.beta, "/srv/data/.hotpair/data.kept") == {f"{n}/1/a": f"a is {2 - n}." for n in (1, 2)}


@pytest.mark.parametrize("generations", ["store", "beside"])
def test_generations_of_a_files_set_go_and_the_present_copy_stays(tmp_path: Path, generations: str) -> None:
    pair = Pair(tmp_path, f"[files demo]\npaths = /srv/a.conf\ngenerations = {generations}\n{ROOM}")
    for number in range(4):
        pair.agree("/srv/a.conf", f"content {number}")
    pair.alpha.sweep()
    found = {**kept(pair.alpha, "/var/lib/hotpair/generations"), **kept(pair.alpha, "/srv")}
    assert set(found.values()) == {"content 3", "content 2", "content 1"}


def test_what_the_peer_does_not_have_stays_however_little_room_there_is(tmp_path: Path) -> None:
    pair = Trees(tmp_path, "[tree data]\nroot = /srv/data\nkeep-size = 1\n")
    pair.sync()
    pair.cut()
    for number in range(3):
        pair.alpha.write("/srv/data/a", f"unsent {number}")
        pair.alpha.sweep()
    assert sorted(kept(pair.alpha, "/srv/data/.hotpair/data.kept").values()) == [f"unsent {n}" for n in range(3)]

"""A tree on which both nodes worked: who wins is the same on both, nothing is lost, and both come to rest."""

import os
import shutil
from pathlib import Path

import pytest

from hotpair import apply
from tests.ext.trees import Trees, fill, kept


@pytest.fixture
def pair(tmp_path: Path) -> Trees:
    pair = Trees(tmp_path)
    pair.sync()
    return pair


def conflicts(pair: Trees) -> list[str]:
    """Return the paths that either node lists."""
    return [problem["path"] for node in pair.nodes for problem in node.json("conflicts")]


def test_new_directory_with_another_mode_than_usual_is_no_conflict(pair):
    fill(pair.alpha, "d/f")
    pair.alpha.live("/srv/data/d").chmod(0o700)
    pair.sync()
    assert conflicts(pair) == []


@pytest.mark.parametrize("prefer", ["newest", "alpha", "beta"])
@pytest.mark.parametrize("first", [0, 1])
def test_directory_that_is_not_empty_stands_where_the_peer_made_a_file(tmp_path, prefer, first):
    pair = Trees(tmp_path, f"[tree data]\nroot = /srv/data\nprefer = {prefer}\n")
    pair.sync()
    fill(pair.alpha, "p")
    fill(pair.beta, "p/q")
    pair.sync(pair.nodes[first])
    assert pair.alpha.text("/srv/data/p/q") == "p/q"
    assert (pair.alpha.root / "srv/data/.hotpair/data.kept/1/1/p").read_text() == "p"
    assert set(conflicts(pair)) == {"/srv/data/p"}


@pytest.mark.parametrize("first", [0, 1])
def test_directory_stands_that_the_peer_made_a_file_of_while_a_file_was_new_in_it(pair, first):
    fill(pair.alpha, "d/f")
    pair.sync()
    (pair.alpha.live("/srv/data/d/f")).unlink()
    pair.alpha.live("/srv/data/d").rmdir()
    fill(pair.alpha, "d")
    fill(pair.beta, "d/new")
    pair.sync(pair.nodes[first])
    assert pair.beta.text("/srv/data/d/new") == "d/new"
    assert not pair.beta.live("/srv/data/d/f").exists()
    assert (pair.alpha.root / "srv/data/.hotpair/data.kept/1/1/d").read_text() == "d"


@pytest.mark.parametrize("first", [0, 1])
def test_both_made_another_kind_of_thing_of_a_directory(pair, first):
    fill(pair.alpha, "d/f", "d/e/g")
    pair.sync()
    for node in pair.nodes:
        shutil.rmtree(node.live("/srv/data/d"))
    fill(pair.alpha, "d")
    pair.beta.live("/srv/data/d").symlink_to("nowhere")
    pair.sync(pair.nodes[first])


@pytest.mark.parametrize("first", [0, 1])
def test_edit_crosses_that_was_made_where_the_peer_put_a_link_to_the_moved_directory(pair, first):
    fill(pair.alpha, "d/f")
    pair.sync()
    pair.alpha.write("/srv/data/d/f", "edited")
    pair.beta.live("/srv/data/d").rename(pair.beta.live("/srv/data/e"))
    pair.beta.live("/srv/data/d").symlink_to("e")
    pair.sync(pair.nodes[first])
    assert "edited" in {pair.beta.live(f"/srv/data/{name}/f").read_text() for name in "de"}


@pytest.mark.parametrize("first", [0, 1])
def test_chmod_of_a_directory_crosses_from_where_the_peers_change_in_it_was_applied(pair, first):
    fill(pair.alpha, "d/f")
    pair.sync()
    pair.alpha.live("/srv/data/d/f").unlink()
    pair.beta.live("/srv/data/d").chmod(0o700)
    pair.sync(pair.nodes[first])
    assert pair.alpha.live("/srv/data/d").stat().st_mode & 0o777 == 0o700


def test_what_was_below_a_directory_is_not_waited_for_once_a_file_of_the_peer_stands_there(pair):
    fill(pair.alpha, "f")
    pair.sync()
    pair.beta.live("/srv/data/f").unlink()
    fill(pair.beta, "f/g")
    away = pair.alpha.root / "etc/hotpair/hotpair.ini"
    away.rename(f"{away}.away")
    assert pair.beta.run("syncr", "data", "0").code == 75
    Path(f"{away}.away").rename(away)
    pair.beta.live("/srv/data/f").rename(pair.beta.live("/srv/data/d"))
    pair.alpha.write("/srv/data/f", "edited")
    pair.sync()
    assert pair.beta.text("/srv/data/f") == "edited"
    assert pair.alpha.text("/srv/data/d/g") == "f/g"


def test_directory_that_the_peer_removed_takes_nothing_along_that_came_and_went_in_it(pair):
    fill(pair.alpha, "d/f", "stays")
    pair.sync()
    fill(pair.beta, "d/g")
    away = pair.alpha.root / "etc/hotpair/hotpair.ini"
    away.rename(f"{away}.away")
    assert pair.beta.run("syncr", "data", "0").code == 75
    Path(f"{away}.away").rename(away)
    pair.beta.live("/srv/data/d/g").unlink()
    shutil.rmtree(pair.alpha.live("/srv/data/d"))
    pair.sync()
    assert not pair.beta.live("/srv/data/d").exists()


@pytest.mark.parametrize("source, target", [("x", "a/x"), ("a/x", "x"), ("a/x", "b/x"), ("b/x", "a/x")])
def test_directory_that_was_moved_is_one_rename_wherever_it_went(pair, source, target):
    fill(pair.alpha, "a/f", "b/f", f"{source}/f")
    pair.sync()
    before = pair.beta.live(f"/srv/data/{source}").stat().st_ino
    pair.alpha.live(f"/srv/data/{source}").rename(pair.alpha.live(f"/srv/data/{target}"))
    pair.sync()
    assert pair.beta.live(f"/srv/data/{target}").stat().st_ino == before


def test_edit_below_a_directory_that_was_moved_while_the_peer_is_away_is_kept(pair):
    fill(pair.alpha, "d/s/f", "d/g", "stays")
    pair.sync()
    away = pair.beta.root / "etc/hotpair/hotpair.ini"
    away.rename(f"{away}.away")
    pair.alpha.live("/srv/data/d").rename(pair.alpha.live("/srv/data/e"))
    pair.alpha.write("/srv/data/e/s/f", "edited")
    assert pair.alpha.run("syncr", "data", "0").code == 75
    pair.alpha.write("/srv/data/e/s/f", "edited again")
    Path(f"{away}.away").rename(away)
    pair.sync()
    kept = pair.alpha.root / "srv/data/.hotpair/data.kept"
    assert [path.read_text() for path in kept.rglob("*") if path.is_file()] == ["edited"]


# --- conflict = beside


@pytest.fixture
def beside(tmp_path: Path) -> Trees:
    pair = Trees(tmp_path, "[tree data]\nroot = /srv/data\nconflict = beside\nfilter = - *.sync-conflict-*.secret\n")
    pair.sync()
    return pair


def clash(pair: Trees, name: str = "f.txt", first: int = 0) -> None:
    """Have both nodes edit one file, beta last, and compare."""
    fill(pair.alpha, name)
    pair.sync()
    for node in pair.nodes:
        node.write(f"/srv/data/{name}", f"{node.root.name} wrote")
    pair.sync(pair.nodes[first])


def copies(pair: Trees) -> list[Path]:
    return sorted(pair.alpha.live("/srv/data").glob("*.sync-conflict-*"))


@pytest.mark.parametrize("first", [0, 1])
def test_loser_of_a_conflict_stands_beside_the_winner_on_both_nodes_with_all_that_it_had(beside, first):
    fill(beside.alpha, "f.txt")
    beside.sync()
    beside.alpha.write("/srv/data/f.txt", "alpha wrote")
    lost = beside.alpha.live("/srv/data/f.txt")
    lost.chmod(0o640)
    os.setxattr(lost, "user.who", b"alpha")
    os.utime(lost, (1764033082, 1764033082))
    beside.beta.write("/srv/data/f.txt", "beta wrote")
    beside.sync(beside.nodes[first])
    (copy,) = copies(beside)
    assert copy.name == "f.sync-conflict-20251125-011122-alpha.txt"
    assert (copy.read_text(), copy.stat().st_mode & 0o7777) == ("alpha wrote", 0o640)
    assert os.getxattr(copy, "user.who") == b"alpha"
    assert beside.beta.text("/srv/data/f.txt") == "beta wrote"


@pytest.mark.parametrize("name", ["x" * 255, "\udcff\n$(touch pwned)"])
def test_copy_has_a_name_whatever_the_file_is_called(beside, name):
    clash(beside, name)
    (copy,) = copies(beside)
    assert copy.read_text() == "alpha wrote"


def test_link_that_lost_stands_beside_the_file_that_won(beside):
    beside.alpha.live("/srv/data/l").symlink_to("nowhere")
    beside.beta.write("/srv/data/l", "beta wrote")
    beside.sync()
    (copy,) = copies(beside)
    assert copy.readlink() == Path("nowhere")


def test_loser_that_the_filter_would_leave_out_is_a_generation(beside):
    clash(beside, "f.secret")
    assert copies(beside) == []
    assert (beside.alpha.root / "srv/data/.hotpair/data.kept/1/1/f.secret").read_text() == "alpha wrote"


def test_copy_takes_no_other_files_place(beside):
    fill(beside.alpha, "f.txt")
    beside.sync()
    for node in beside.nodes:
        node.write("/srv/data/f.txt", f"{node.root.name} wrote")
    lost = beside.alpha.live("/srv/data/f.txt")
    os.utime(lost, (1764033082, 1764033082))
    beside.alpha.write("/srv/data/f.sync-conflict-20251125-011122-alpha.txt", "a user's")
    beside.sync()
    assert [copy.read_text() for copy in copies(beside)] == ["a user's"]
    assert (beside.alpha.root / "srv/data/.hotpair/data.kept/1/1/f.txt").read_text() == "alpha wrote"


def test_change_of_mode_that_lost_against_an_edit_makes_no_copy(beside):
    fill(beside.alpha, "f.txt")
    beside.sync()
    beside.alpha.live("/srv/data/f.txt").chmod(0o600)
    beside.beta.write("/srv/data/f.txt", "beta wrote")
    beside.sync()
    assert copies(beside) == []


def test_conflicts_names_the_copy_on_both_nodes(beside):
    clash(beside)
    (copy,) = copies(beside)
    for node in beside.nodes:
        (listed,) = node.json("conflicts")
        assert listed["copies"] == [f"/srv/data/{copy.name}"]
        assert f"beside it: {copy.name}" in node.hotpair("conflicts").out


@pytest.mark.parametrize("first, way", [(0, "send"), (1, "receive")])
def test_plan_tells_of_the_copy(beside, first, way):
    fill(beside.alpha, "f.txt")
    beside.sync()
    for node in beside.nodes:
        node.write("/srv/data/f.txt", f"{node.root.name} wrote")
    said = beside.nodes[first].run("psync", "--dry-run").out
    beside.sync()
    (copy,) = copies(beside)
    assert f"data: {way} put /srv/data/{copy.name} (11 bytes)\n" in said


@pytest.mark.parametrize("on, take", [("alpha", "here"), ("alpha", "peer"), ("beta", "here")])
def test_resolve_leaves_what_was_taken_and_no_copy_and_a_generation_of_the_other(beside, on, take):
    clash(beside)
    assert len(copies(beside)) == 1
    said = getattr(beside, on).hotpair("resolve", "/srv/data/f.txt", "--take", take)
    assert said.code == 0, said
    for node in beside.nodes:
        beside.sync(node)
    taken = "alpha" if (on, take) == ("alpha", "here") else "beta"
    assert beside.beta.text("/srv/data/f.txt") == f"{taken} wrote"
    assert copies(beside) == []
    assert conflicts(beside) == []
    kept = {path.read_text() for node in beside.nodes for path in (node.root / "srv/data/.hotpair").rglob("*.txt")}
    assert {"alpha wrote", "beta wrote"} - {f"{taken} wrote"} <= kept


def test_resolve_leaves_a_copy_that_a_user_went_on_with(beside):
    clash(beside)
    (copy,) = copies(beside)
    copy.write_text("edited since")
    assert beside.alpha.hotpair("resolve", "/srv/data/f.txt", "--take", "peer").code == 0
    beside.sync()
    assert [copy.read_text() for copy in copies(beside)] == ["edited since"]


# --- psync --force-directories


@pytest.fixture
def removed(tmp_path: Path) -> Trees:
    """alpha removed a directory in which beta made and edited files meanwhile."""
    pair = Trees(tmp_path, "[tree data]\nroot = /srv/data\nfilter = - *.o\n")
    fill(pair.alpha, "d/f", "d/g", "stays")
    pair.sync()
    shutil.rmtree(pair.alpha.live("/srv/data/d"))
    fill(pair.beta, "d/new", "d/e/deep")
    pair.beta.live("/srv/data/d/e/l").symlink_to("nowhere")
    pair.beta.write("/srv/data/d/g", "edited")
    return pair


def test_directory_comes_back_with_what_the_peer_made_in_it(removed):
    removed.sync()
    assert removed.alpha.text("/srv/data/d/new") == "d/new"


@pytest.mark.parametrize("what", ["data", "/srv/data"])
def test_directory_goes_by_force_with_what_the_peer_made_in_it_which_is_kept(removed, what):
    said = removed.alpha.run("psync", "--force-directories", what)
    assert said.code == 0, said
    assert not removed.beta.live("/srv/data/d").exists()
    assert not removed.alpha.live("/srv/data/d").exists()
    kept = removed.beta.root / "srv/data/.hotpair/data.kept/1"
    found = {str(path.relative_to(kept)): path.read_text() for path in kept.rglob("*") if path.is_file()}
    assert found == {"2/d/f": "d/f", "2/d/g": "edited", "2/d/new": "d/new", "3/d/e/deep": "d/e/deep"}
    assert (kept / "3/d/e/l").readlink() == Path("nowhere")
    for node in removed.nodes:
        removed.sync(node)
    assert not removed.beta.live("/srv/data/d").exists()


def test_directory_stays_by_force_where_the_filter_leaves_something_out_and_is_listed(removed):
    fill(removed.beta, "d/e/x.o")
    assert removed.alpha.run("psync", "--force-directories", "data").code == 0
    assert [path.name for path in removed.beta.live("/srv/data/d").rglob("*")] == ["e", "x.o"]
    assert "/srv/data/d" in conflicts(removed)


@pytest.mark.parametrize("words", [[], ["--cron", "data"], ["--retry", "data"], ["-n", "data"]])
def test_force_on_directories_is_a_persons_word_about_a_set(removed, words):
    assert removed.alpha.run("psync", "--force-directories", *words).code == os.EX_USAGE
    assert removed.beta.text("/srv/data/d/new") == "d/new"


def test_nothing_goes_by_force_where_nothing_is_kept(removed):
    removed.beta.configure("[tree data]\nroot = /srv/data\nfilter = - *.o\nkeep = 0\n")
    removed.alpha.run("psync", "--force-directories", "data")
    assert removed.beta.text("/srv/data/d/new") == "d/new"


@pytest.mark.parametrize("then", ["a file", "nothing"])
def test_what_a_crash_left_in_mid_exchange_is_kept_though_its_directory_is_gone(pair, then):
    fill(pair.alpha, "d/f", *map(str, range(9)))
    pair.sync()
    swap = pair.alpha.live("/srv/data/.hotpair/data/" + apply._swap_name("/srv/data/d/f"))
    swap.parent.mkdir(mode=0o700, exist_ok=True)
    swap.write_text("what the peer's content came in for")
    shutil.rmtree(pair.alpha.live("/srv/data/d"))
    if then == "a file":
        fill(pair.alpha, "d")
    pair.sync()
    assert "what the peer's content came in for" in kept(pair.alpha, "f")

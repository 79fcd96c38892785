"""A tree whose ACLs, or other extended attributes, are each node's own."""

import os
import subprocess
from pathlib import Path

from hotpair import acl
from tests.ext.trees import Trees, fill
from tests.ext.twonodes import Node

NAMED = b"user.note"


def give_acl(path: Path, *entries: str) -> None:
    subprocess.run(["setfacl", *(word for entry in entries for word in ("-m", entry)), str(path)], check=True)


def acl_of(path: Path) -> set[str]:
    said = subprocess.run(["getfacl", "-cpn", str(path)], check=True, capture_output=True, text=True).stdout
    return {line.split("\t")[0] for line in said.splitlines() if line}


def trees(directory: Path, *options: str) -> Trees:
    pair = Trees(directory, "\n".join(["[tree data]", "root = /srv/data", *options, ""]))
    fill(pair.alpha, "f", "d/g", "stays")
    pair.sync()
    return pair


def synced(node: Node) -> None:
    said = node.run("psync")
    assert said.code == 0, said
    assert said.out.startswith("data: in sync"), said


def test_acls_stay_each_node_s_own_while_contents_and_modes_cross(tmp_path):
    pair = trees(tmp_path, "acl = no")
    here, there = pair.alpha.live("/srv/data/f"), pair.beta.live("/srv/data/f")
    give_acl(here, "u:1234:rwx")
    give_acl(there, "u:4321:rw-")
    pair.alpha.write("/srv/data/f", "edited")
    here.chmod(0o4770)  # the mask, which is no business of beta's group
    synced(pair.alpha)
    assert there.read_text() == "edited"
    assert acl_of(there) == {"user::rwx", "user:4321:rw-", "group::r--", "mask::rw-", "other::---"}
    assert there.stat().st_mode & 0o7000 == 0o4000
    assert "user:1234:rwx" in acl_of(here)
    assert pair.alpha.json("conflicts") == pair.beta.json("conflicts") == []


def test_acl_of_one_node_is_no_change_and_opens_nothing_to_the_group_on_the_other(tmp_path):
    pair = trees(tmp_path, "acl = no")
    for name in ("f", "d"):
        give_acl(pair.alpha.live(f"/srv/data/{name}"), "u:1234:rwx")
    assert pair.alpha.run("psync", "--dry-run").out == "data: nothing to do\n"
    synced(pair.alpha)
    assert pair.beta.live("/srv/data/f").stat().st_mode & 0o777 == 0o644
    assert pair.beta.live("/srv/data/d").stat().st_mode & 0o777 == 0o755
    # a folder that holds a directory with a mask is indexed as any other: the next look ends there
    assert pair.alpha.run("syncr", "data", "0").code == 0
    pair.alpha.live("/srv/data/d").chmod(0o701)
    synced(pair.beta)
    assert pair.beta.live("/srv/data/d").stat().st_mode & 0o777 == 0o751


def test_new_file_takes_no_default_acl_of_the_inbox(tmp_path):
    pair = trees(tmp_path, "acl = no")
    give_acl(pair.beta.live("/srv/data/.hotpair/data"), "d:u:1234:rwx")
    fill(pair.alpha, "new", "e/new")
    synced(pair.alpha)
    assert "user:1234:rwx" not in acl_of(pair.beta.live("/srv/data/new"))
    assert "user:1234:rwx" not in acl_of(pair.beta.live("/srv/data/e"))


def test_other_attributes_stay_each_node_s_own_while_acls_cross(tmp_path):
    pair = trees(tmp_path, "xattr = no")
    here, there = pair.alpha.live("/srv/data/f"), pair.beta.live("/srv/data/f")
    os.setxattr(here, NAMED, b"of alpha")
    os.setxattr(there, NAMED, b"of beta")
    give_acl(here, "u:1234:rwx")
    pair.alpha.write("/srv/data/f", "edited")
    synced(pair.alpha)
    assert there.read_text() == "edited"
    assert os.getxattr(there, NAMED) == b"of beta"
    assert acl_of(there) == acl_of(here)


def test_acls_that_were_shared_stay_when_they_no_longer_are_and_are_compared_when_they_are_again(tmp_path):
    pair = trees(tmp_path)
    give_acl(pair.alpha.live("/srv/data/f"), "u:1234:rwx")
    pair.sync()
    for node in pair.nodes:
        node.configure("[tree data]\nroot = /srv/data\nacl = no\n")
    synced(pair.alpha)
    assert "user:1234:rwx" in acl_of(pair.beta.live("/srv/data/f"))
    give_acl(pair.beta.live("/srv/data/f"), "u:1234:---")
    synced(pair.beta)
    assert "user:1234:rwx" in acl_of(pair.alpha.live("/srv/data/f"))
    for node in pair.nodes:
        node.configure("[tree data]\nroot = /srv/data\n")
    pair.sync()


def test_nodes_that_do_not_share_the_same_attributes_share_nothing(tmp_path):
    pair = trees(tmp_path)
    pair.alpha.configure("[tree data]\nroot = /srv/data\nacl = no\n")
    assert pair.alpha.run("psync").code == 75


def test_mode_of_an_acl_is_what_it_would_be_without(tmp_path):
    file = tmp_path / "f"
    file.touch(0o640)
    give_acl(file, "u:1234:rwx")
    raw = os.getxattr(file, acl.ACCESS)
    assert acl.mode_without(raw, file.stat().st_mode & 0o7777) == 0o640
    os.setxattr(file, acl.ACCESS, acl.with_mode(raw, 0o604))
    assert acl_of(file) == {"user::rw-", "user:1234:rwx", "group::---", "mask::rwx", "other::r--"}

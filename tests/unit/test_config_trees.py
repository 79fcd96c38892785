"""What [tree NAME] in hotpair.ini means, and what is said about its mistakes."""

import pytest

from hotpair import config, rsync_options, treeset
from hotpair.owners import SAME, Owners
from hotpair.treeset import BigFile, Share, TreeSet
from tests.unit.written import MAPPED, NODE, Write, only, said


def test_what_is_not_written_of_a_tree_has_its_default(write: Write) -> None:
    write(NODE + "[tree home]\nroot = /srv/home\n")
    found = config.load().sets["home"]
    assert isinstance(found, TreeSet)
    assert found[:3] == ("home", "/srv/home", ((), ()))
    never, half = BigFile(float("inf"), 0.0), Share(50.0, True)
    assert found[4:8] == (6, 0.0, never, "")
    states = "newest", "generations", True, True, False, SAME
    assert found[8:20] == (*states, half, Share(100.0, True), False, "", "", 8000)
    assert found[20:] == ("", (), (), 0, 0.0, 100, 64 << 20, (), (), 0, 0)


def test_every_option_of_a_tree_is_taken_as_written(write: Write) -> None:
    text = "[tree h]\nroot = /h\nfilter =\n  - a\n  + b/\ntempfiles = *~\nkeep = 0\nsettle = 2\nbigfile = 1M 60\n"
    text += "mode = push beta\nacl = no\nxattr = no\nspecials = yes\n"
    text += "owner-map =\n  user 7 = 8\n  group 1 = 2\n  group 2 = 1\n"
    text += "prefer = hold\nconflict = beside\nkeep-age = 30\nkeep-size = 2K\n"
    text += "max-delete = 30\none-file-system = yes\nstandby-file = /s\nbanned = x y\nwatches = 5\n"
    text += "max-change = 40%\nlabel = all homes\nbefore = /a b\nafter =\n  /c\n  sh: d | e\nretries = 3\ntimeout = 9\n"
    text += "batch-entries = 1000\nbatch-bytes = 1M\nrsync-options = -z\n  --bwlimit=5m -W\nfullsync = 2 14\n"
    write(NODE + text)
    found = config.load().sets["h"]
    assert isinstance(found, TreeSet)
    assert found[:3] == ("h", "/h", (("- a", "+ b/"), ("*~",)))
    owners = Owners({8: 7, 7: 8}, {2: 1, 1: 2})
    states, shares = ("beta", "hold", "beside", False, False, True, owners), (Share(30.0, False), Share(40.0, True))
    assert found[4:20] == (0, 2.0, BigFile(1 << 20, 60.0), *states, *shares, True, "/s", "x y", 5)
    assert found[20:25] == ("all homes", ("/a b",), ("/c", "sh: d | e"), 3, 9.0)
    assert found[25:] == (1000, 1 << 20, ("-z", "--bwlimit=5m", "-W"), (2, 14), 30, 2048)
    judged = {path: found.covers("/h/" + path) for path in ("a", "b", "d/a", "a/b", "x~")}
    assert judged == {"a": False, "b": True, "d/a": False, "a/b": False, "x~": False}


@pytest.mark.parametrize(
    "text, expected",
    [
        pytest.param(
            "[tree a]\nroot = /srv/a\nfilter =\n    - *.o\n    exclude b\n",
            "8: 'exclude b' is no rule that hotpair knows: write `- PATTERN` to leave out, `+ PATTERN` to share",
            id="no rule",
        ),
        pytest.param(
            "[tree a]\nroot = /srv/a\nfilter =\n    -p *.o\n",
            "7: '-p *.o' has no space after its sign, and modifiers are not known: write `- PATTERN`",
            id="a modifier of rsync",
        ),
        pytest.param(
            "[tree a]\nroot = /srv/a\nfilter = - re:(\n",
            "6: '(' is no regular expression of Python: missing ), unterminated subpattern at position 0",
            id="regular expression",
        ),
        pytest.param(
            "[tree a]\nroot = /srv/a\nfilter = - a/../b\n",
            "6: 'a/../b' can match no path: write it without //, . and ..; / at its start is the root",
            id="pattern that matches nothing",
        ),
        pytest.param(
            "[tree a]\nroot = /srv/a\ntempfiles =\n    *.tmp\n    - x\n",
            "8: '- x' has a sign: write x",
            id="tempfile with a sign",
        ),
        pytest.param(
            "[tree a]\nroot = /srv/a\ntempfiles = d/x\n",
            "6: 'd/x' is more than a name: write a rule of filter, `- d/x`",
            id="tempfile with a slash",
        ),
        pytest.param("[tree a]\nroot = /srv/*\n", "5: '/srv/*' is a glob: name one directory", id="glob"),
        pytest.param("[tree a]\nroot = srv\n", "5: 'srv' is a relative path: write /srv", id="relative"),
        pytest.param(
            "[tree a]\nroot = /\n",
            "5: '/' is not a plain path: write it without //, . and .. and no / at its end",
            id="the root of all",
        ),
        pytest.param(
            "[tree a]\nroot = /srv/a\n[tree b]\nroot = /srv/a/b\n",
            "7: '/srv/a/b' overlaps set 'a': leave it in one set",
            id="a tree in a tree",
        ),
        pytest.param(
            "[tree a]\nroot = /srv/a/b\n[tree b]\nroot = /srv/a\n",
            "7: '/srv/a' overlaps set 'a': leave it in one set",
            id="a tree around a tree",
        ),
        pytest.param(
            "[tree a]\nroot = /srv/a\n[tree b]\nroot = /srv/a\n",
            "7: '/srv/a' overlaps set 'a': leave it in one set",
            id="one tree twice",
        ),
        pytest.param(
            "[tree a]\nroot = /srv/a\n[files b]\npaths =\n /srv/b\n /srv/a/d/f\n",
            "9: '/srv/a/d/f' is already in set 'a': leave it out",
            id="a file in a tree",
        ),
        pytest.param(
            "[files b]\npaths = /srv/a/*.conf\n[tree a]\nroot = /srv/a\n",
            "5: '/srv/a/*.conf' is already in set 'a': leave it out",
            id="a glob in a tree",
        ),
        pytest.param(
            "[files a]\npaths = /etc/a\n[tree a]\nroot = /srv/a\n",
            "6: set 'a' is there twice: give each set its own name",
            id="one name for two kinds",
        ),
        pytest.param(
            "[tree a]\nroot = /var\n",
            "5: '/var' holds /var/lib/hotpair, of this node alone: name a directory below",
            id="our state is below",
        ),
        pytest.param(
            "[tree a]\nroot = /etc/hotpair\n",
            "5: '/etc/hotpair' holds /etc/hotpair/hotpair.ini, of this node alone: name a directory below",
            id="our configuration is below",
        ),
        pytest.param(
            "[tree a]\nroot = /var/lib/hotpair/x\n",
            "5: '/var/lib/hotpair/x' is hotpair's own, of this node alone: leave it out",
            id="in our state",
        ),
        pytest.param(
            "[tree a]\nroot = /srv/a\nbigfile = 1G\n",
            "6: bigfile cannot be '1G': write SIZE DELAY, such as 1G 300",
            id="bigfile without a delay",
        ),
        pytest.param(
            "[tree a]\nroot = /srv/a\nmax-delete = half\n",
            "6: max-delete cannot be 'half': write a number, or a percentage such as 50%",
            id="max-delete",
        ),
        pytest.param(
            "[tree a]\nroot = /srv/a\nmode = push\n",
            "6: mode cannot be 'push': write two-way, or push and the name of the node that is the source",
            id="push without a source",
        ),
        pytest.param(
            "[tree a]\nroot = /srv/a\none-file-system = 1\n",
            "6: one-file-system cannot be '1': write yes or no",
            id="one-file-system",
        ),
        pytest.param(
            "[tree a]\nroot = /srv/a\nstandby-file = run/x\n",
            "6: standby-file cannot be 'run/x': write an absolute path",
            id="standby-file",
        ),
        pytest.param(
            "[tree a]\nroot = /srv/a\nbatch-entries = 1001\n",
            "6: batch-entries cannot be '1001': write a number from 1 to 1000",
            id="batch-entries",
        ),
        pytest.param(
            "[tree a]\nroot = /srv/a\nbatch-bytes = 1K\n",
            "6: batch-bytes cannot be '1K': write a size from 64K to 16G",
            id="batch-bytes",
        ),
        pytest.param(
            "[tree a]\nroot = /srv/a\nfullsync = 2 24\n",
            "6: fullsync cannot be '2 24': write hours of the day from 0 to 23, such as 2 14",
            id="fullsync",
        ),
        pytest.param(
            MAPPED + "  owner 1 = 2\n",
            "7: 'owner 1 = 2' is no rule for owners: "
            "write `user NUMBER-THERE = NAME-OR-NUMBER-HERE`, or the same with group",
            id="no rule for owners",
        ),
        pytest.param(
            MAPPED + "  user 1 = 2\n  group anna = 2\n",
            "8: 'anna' is not a number, and only the peer knows names of its own: "
            "write the number that the group has there",
            id="name of the peer's",
        ),
        pytest.param(
            MAPPED + "  user 1 = no-such-user\n",
            "7: there is no user 'no-such-user' here: make that user, or write its number",
            id="unknown user",
        ),
        pytest.param(
            MAPPED + "  user 1000 = root\n",
            "7: 'user 1000 = root' maps root, or what is no number of a user: leave it out",
            id="root among the owners",
        ),
        pytest.param(
            MAPPED + "  group 4294967295 = 1\n",
            "7: 'group 4294967295 = 1' maps root, or what is no number of a group: leave it out",
            id="number that owns nothing",
        ),
        pytest.param(
            MAPPED + "  user 1 = 2\n  user 3 = 2\n",
            "8: 'user 3 = 2' maps a user that another rule maps: leave one of them",
            id="two users made one",
        ),
        pytest.param(
            MAPPED + "  user 1 = 2\n  user 1 = 3\n",
            "8: 'user 1 = 3' maps a user that another rule maps: leave one of them",
            id="one user made two",
        ),
        pytest.param(
            MAPPED + "  user 2 = 3\n  user 1 = 2\n",
            "8: 'user 1 = 2' leaves user 1 here without a number there: write `user 3 = 1` too",
            id="owner left over",
        ),
        pytest.param(
            "[tree a]\nroot = /srv/a\nlabel = a\n  b\n",
            "6: label cannot be 'a\\nb': write a text of one line, 100 characters at most",
            id="label",
        ),
        pytest.param(
            "[tree a]\nroot = /srv/a\nafter = /x\n  bin/y\n",
            "7: 'bin/y' is a relative path: write the whole path, or the name alone",
            id="hook",
        ),
        pytest.param(
            "[tree a]\nroot = /srv/a\nrsync-options = -z\n  -aH\n",
            "7: '-aH' is not for rsync-options, because owner, mode, times, ACLs and attributes are hotpair's own "
            "business: write some of " + ", ".join(rsync_options.ALLOWED),
            id="attributes of rsync",
        ),
        pytest.param(
            "[tree a]\nroot = /srv/a\nrsync-options = --delete\n",
            "6: '--delete' is not for rsync-options, because hotpair decides itself what is sent and what is deleted: "
            "write some of " + ", ".join(rsync_options.ALLOWED),
            id="deletes of rsync",
        ),
        pytest.param(
            "[tree a]\nroot = /srv/a\nrsync-options = --rsync-path=x\n",
            "6: '--rsync-path=x' is not for rsync-options, because it has no meaning for a content that goes alone, "
            "or is not safe: write some of " + ", ".join(rsync_options.ALLOWED),
            id="other option of rsync",
        ),
        pytest.param(
            "[tree a]\nroot = /srv/a\ngenerations = beside\n",
            "6: unknown key 'generations': write one of " + ", ".join(sorted(treeset.OPTIONS)),
            id="key of a files set",
        ),
    ],
)
def test_a_mistake_in_a_tree_is_said_with_its_line(write: Write, text: str, expected: str) -> None:
    assert only(write, NODE + text) == expected


def test_a_tree_without_a_root_is_said_with_its_line(write: Write) -> None:
    expected = "4: root is missing: write `root =` and an absolute path"
    assert said(write, NODE + "[tree a]\nkeep = 3\n")[0] == expected


def test_a_root_beside_what_is_not_shared_is_sound(write: Write) -> None:
    text = "[tree a]\nroot = /srv/a\n[tree b]\nroot = /srv/ab\n[tree c]\nroot = /var/lib/hotpairs\n"
    assert said(write, NODE + text + "[files d]\npaths = /srv/a.conf\n") == []

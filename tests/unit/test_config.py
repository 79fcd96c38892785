"""What hotpair.ini means, and what is said about its mistakes: file, line, what is wrong, what to write."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from iniconfig import IniConfig

from hotpair import config, filesset, globs, paths, rsync_options, treeset
from hotpair.exits import ConfigFail
from hotpair.failover import settings as failover
from hotpair.filesset import FilesSet
from hotpair.hotsync import settings as hotsync
from hotpair.options import Option
from hotpair.owners import SAME, Owners
from hotpair.sessions import settings as sessions
from hotpair.treeset import BigFile, Share, TreeSet

SHIPPED = Path(__file__).parents[2] / "etc/hotpair/hotpair.ini"
KINDS = "write [node], [files NAME], [tree NAME], [hotsync], [failover] or [sessions]"
NODE = "[node]\nname = alpha\npeer = ssh:beta\n"  # the text under test begins at line 4
MAPPED = "[tree a]\nroot = /srv/a\nowner-map =\n"  # its first rule is on line 7
Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Return a function that makes the configuration of a prefix and returns its file."""
    monkeypatch.setenv("HOTPAIR_ROOT", str(tmp_path))
    tmp_path.chmod(0o755)
    for directory in ("etc", "etc/hotpair"):
        (tmp_path / directory).mkdir(mode=0o755)

    def write(text: str) -> Path:
        file = tmp_path / "etc/hotpair/hotpair.ini"
        file.write_text(text)
        file.chmod(0o644)
        return file

    return write


def said(write: Write, text: str) -> list[str]:
    """Return what is wrong with a configuration, without the file's name in front."""
    file = write(text)
    return [str(problem).removeprefix(f"{file}:") for problem in config.examine()[1]]


def only(write: Write, text: str) -> str:
    found = said(write, text)
    assert len(found) == 1, found
    return found[0]


def test_what_is_not_written_has_its_default(write: Write) -> None:
    write(NODE + "[files etc]\npaths = /etc/aliases\n")
    found = config.load()
    assert found.node == config.Node(
        "alpha",
        "ssh:beta",
        "root",
        22,
        "/etc/hotpair/id_ed25519",
        "/etc/hotpair/known_hosts",
        5.0,
        60.0,
        32768,
        16 << 20,
    )
    assert found.sets == {"etc": FilesSet("etc", ("/etc/aliases",), 6, "store", 0.0, "newest")}


def test_every_option_is_taken_as_written(write: Write) -> None:
    node = "ssh-user = sync\nssh-port = 2222\nssh-key = /k\nssh-known-hosts = /h\nconnect-timeout = 1.5\n"
    node += "io-timeout = 9\nrsync-above = 1M\nlarge = 1G\n"
    write(NODE + node + "[files a-1]\npaths =\n /a\n /b\nkeep = 0\ngenerations = beside\nsettle = 2\nprefer = beta\n")
    found = config.load()
    assert found.node[2:] == ("sync", 2222, "/k", "/h", 1.5, 9.0, 1 << 20, 1 << 30)
    assert found.sets["a-1"] == FilesSet("a-1", ("/a", "/b"), 0, "beside", 2.0, "beta")


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
            "[files etc]\npaths = /a\nkep = 3\n",
            "6: unknown key 'kep': write one of generations, keep, keep-age, keep-size, paths, prefer, settle",
            id="unknown key",
        ),
        pytest.param("[Files etc]\npaths = /a\n", "4: unknown section [Files etc]: " + KINDS, id="kind"),
        pytest.param("[files]\npaths = /a\n", "4: unknown section [files]: " + KINDS, id="no name"),
        pytest.param(
            "[files a]\npaths = /a\n[files a]\npaths = /b\n",
            "6: duplicate section 'files a': write it once",
            id="twice",
        ),
        pytest.param(
            "[files a]\npaths = /a\n[files  a]\npaths = /b\n",
            "6: set 'a' is there twice: give each set its own name",
            id="twice, differently spaced",
        ),
        pytest.param(
            "[files a]\nkeep = 1\nkeep = 2\npaths = /a\n", "6: duplicate name 'keep': write it once", id="key twice"
        ),
        pytest.param(
            "[files Etc]\npaths = /a\n",
            "4: 'Etc' cannot name a set: write small letters, digits and dashes",
            id="capital",
        ),
        pytest.param(
            "[files a_b]\npaths = /a\n",
            "4: 'a_b' cannot name a set: write small letters, digits and dashes",
            id="underscore",
        ),
        pytest.param(
            "[files ../x]\npaths = /a\n",
            "4: '../x' cannot name a set: write small letters, digits and dashes",
            id="dots",
        ),
        pytest.param(
            "[files a]\nkeep = 3\n",
            "4: paths is missing: write `paths =` and absolute paths, one a line, globs allowed",
            id="no paths",
        ),
        pytest.param("[files a]\npaths =\n /a\n b/c\n", "7: 'b/c' is a relative path: write /b/c", id="relative"),
        pytest.param(
            "[files a]\npaths =\n /a\n /b/../c\n",
            "7: '/b/../c' is not a plain path: write it without //, . and .. and no / at its end",
            id="dot dot",
        ),
        pytest.param(
            "[files a]\npaths = /b//c\n",
            "5: '/b//c' is not a plain path: write it without //, . and .. and no / at its end",
            id="two slashes",
        ),
        pytest.param(
            "[files a]\npaths = /b/\n",
            "5: '/b/' is not a plain path: write it without //, . and .. and no / at its end",
            id="slash at the end",
        ),
        pytest.param(
            "[files a]\npaths = /\n",
            "5: '/' is not a plain path: write it without //, . and .. and no / at its end",
            id="the root",
        ),
        pytest.param(
            "[files a]\npaths = /srv/.hotpair/x\n",
            "5: '/srv/.hotpair/x' is hotpair's own, of this node alone: leave it out",
            id="inbox",
        ),
        pytest.param(
            "[files a]\npaths = /var/lib/*/archive.db\n",
            "5: '/var/lib/*/archive.db' is hotpair's own, of this node alone: leave it out",
            id="our state, by a glob",
        ),
        pytest.param(
            "[files a]\npaths = /etc/hotpair/*.ini\n",
            "5: '/etc/hotpair/*.ini' is hotpair's own, of this node alone: leave it out",
            id="our configuration",
        ),
        *(
            pytest.param(f"[files a]\npaths =\n /a\n {path}\n", f"7: '{path}' {why}: write one path a line", id=path)
            for path, why in {
                "/etc/motd  # of the day": "has a comment behind it, which needs a line of its own",
                "/etc/motd ; of the day": "has a comment behind it, which needs a line of its own",
                "/etc/motd, /etc/hosts": "is several paths",
                "/etc/{a,b}.conf": "has braces, which are for a shell",
                "/etc/**/x": "has **, which matches no more than one directory here",
                "/etc/[x": "has a [ that does not end",
            }.items()
        ),
        pytest.param("[files a]\npaths = /a\nkeep = -1\n", "6: keep cannot be '-1': write a whole number", id="keep"),
        pytest.param("[files a]\npaths = /a\nkeep =\n", "6: keep cannot be '': write a whole number", id="keep empty"),
        pytest.param(
            "[files a]\npaths = /a\ngenerations = here\n",
            "6: generations cannot be 'here': write store or beside",
            id="generations",
        ),
        pytest.param("[files a]\npaths = /a\nsettle = nan\n", "6: settle cannot be 'nan': write seconds", id="settle"),
        pytest.param(
            "[files a]\npaths = /a\nprefer = a b\n",
            "6: prefer cannot be 'a b': write newest, hold or a node's name",
            id="prefer",
        ),
        pytest.param(
            "[files a]\npaths =\n /x\n /x\n", "6: '/x' is already in set 'a': leave it in one set", id="same path twice"
        ),
        pytest.param(
            "[files a]\npaths = /x\n[files b]\npaths =\n /y\n /x\n",
            "9: '/x' is already in set 'a': leave it in one set",
            id="two sets",
        ),
        pytest.param(
            "[files a]\npaths = /d/*.conf\n[files b]\npaths = /d/x.conf\n",
            "7: '/d/x.conf' is already in set 'a': leave it in one set",
            id="a glob of another set",
        ),
        pytest.param(
            "[files a]\npaths = /d/a*\n[files b]\npaths = /d/*b\n",
            "7: '/d/*b' is already in set 'a': leave it in one set",
            id="two globs that a name can match",
        ),
        pytest.param(
            "[files a]\npaths = /d/*\ngenerations = beside\n",
            "5: '/d/*' would take the numbered copies of '/d/*' for files: write generations = store",
            id="its own copies",
        ),
        pytest.param(
            "[files a]\npaths =\n /d/x\n /d/x.?\ngenerations = beside\n",
            "6: '/d/x.?' would take the numbered copies of '/d/x' for files: write generations = store",
            id="the copies of another path",
        ),
        pytest.param(
            "[files a]\npaths = /d/x\ngenerations = beside\n[files b]\npaths = /d/x.[0-9]\n",
            "5: '/d/x.[0-9]' would take the numbered copies of '/d/x' for files: write generations = store",
            id="the copies of another set",
        ),
    ],
)
def test_a_mistake_in_a_set_is_said_with_its_line(write: Write, text: str, expected: str) -> None:
    assert only(write, NODE + text) == expected


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


@pytest.mark.parametrize(
    "text, expected",
    [
        pytest.param("peer = ssh:b\n", "1: name is missing", id="no name"),
        pytest.param("name = a\n", "1: peer is missing", id="no peer"),
        pytest.param("name = a b\npeer = ssh:b\n", "2: name cannot be 'a b'", id="name"),
        pytest.param("name = a\npeer = beta\n", "3: peer cannot be 'beta': write ssh:HOST or local:/PREFIX", id="peer"),
        pytest.param("name = a\npeer = ssh:-oProxyCommand=x\n", "3: peer cannot be", id="an option for ssh"),
        pytest.param("name = a\npeer = local:x\n", "3: peer cannot be 'local:x'", id="relative prefix"),
        pytest.param("name = a\npeer = ssh:b\nssh-port = 0\n", "4: ssh-port cannot be '0'", id="port"),
        pytest.param(
            "name = a\npeer = ssh:b\nssh-port = 65536\n", "4: ssh-port cannot be '65536'", id="port too large"
        ),
        pytest.param("name = a\npeer = ssh:b\nio-timeout = 0\n", "4: io-timeout cannot be '0'", id="no time at all"),
        pytest.param("name = a\npeer = ssh:b\nssh-key = id\n", "4: ssh-key cannot be 'id'", id="relative key"),
        pytest.param("name = a\npeer = ssh:b\nrsync-above = 3X\n", "4: rsync-above cannot be '3X'", id="size"),
        pytest.param(
            "name = a\npeer = ssh:b\nfoo = 1\n", "4: unknown key 'foo': write one of connect-timeout,", id="key"
        ),
    ],
)
def test_a_mistake_about_the_node_is_said_with_its_line(write: Write, text: str, expected: str) -> None:
    assert only(write, "[node]\n" + text).startswith(expected)


def test_a_configuration_without_a_node_is_said_of_the_file(write: Write) -> None:
    assert only(write, "[files a]\npaths = /a\n") == " no section [node]: write one with name and peer"


def test_all_mistakes_are_said_at_once_in_any_order(write: Write) -> None:
    text = "[node]\nname = a\npeer = nowhere\n[files A]\npaths = rel\nkep = 1\n[files b]\npaths = /x\n[files b]\nq\n"
    found = said(write, text)
    assert {line.split(":")[0] for line in found} == {"3", "4", "5", "6", "9", "10"}
    with pytest.raises(ConfigFail, match=rf"\(and {len(found) - 1} more: run `hotpair check`\)"):
        config.load()


def test_a_path_through_a_link_is_refused_and_where_it_leads_is_said(write: Write, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "srv").symlink_to(tmp_path / "data")
    expected = "5: '/srv/x' goes through a symbolic link: write /data/x"
    assert only(write, NODE + "[files a]\npaths = /srv/x\n") == expected


def test_a_path_through_a_link_out_of_the_prefix_is_refused_without_naming_a_path_that_is_none(
    write: Write, tmp_path: Path
) -> None:
    (tmp_path / "srv").symlink_to("/usr/share")
    expected = "5: '/srv/x' goes through a symbolic link: name a path that needs none"
    assert only(write, NODE + "[files a]\npaths = /srv/x\n") == expected


def test_a_path_through_a_link_that_leads_nowhere_is_refused(write: Write, tmp_path: Path) -> None:
    (tmp_path / "srv").symlink_to(tmp_path / "data")
    assert "goes through a symbolic link" in only(write, NODE + "[files a]\npaths = /srv/d/x\n")


@pytest.mark.parametrize("path", ["/etc/a#b", "/etc/a,b", "/etc/{a}", "/etc/[]x]", "/etc/[#a]", "/etc/a b"])
def test_a_path_may_hold_what_means_nothing_in_it(write: Write, path: str) -> None:
    assert said(write, NODE + f"[files a]\npaths = {path}\n") == []


@pytest.mark.parametrize(
    "line",
    ["192.0.2.256/24 dev eth0", "192.0.2.10/33 dev eth0", "999.1.1.1/24 dev a", "dead.beef/24 dev a", "::g/64 dev a"],
)
def test_an_address_that_cannot_be_is_said_before_a_promotion_needs_it(write: Write, line: str) -> None:
    expected = f"6: address cannot be '{line}': write ADDRESS/LENGTH dev INTERFACE"
    assert said(write, NODE + f"[failover]\naddress =\n {line}\n") == [expected]


def test_the_door_and_the_daemon_behind_it_have_ports_of_their_own(write: Write) -> None:
    expected = ["6: port and rsyncd-port are both 8730: give each its own"]
    assert said(write, NODE + "[hotsync]\nrole = master\nrsyncd-port = 8730\n") == expected


def test_a_link_at_the_end_of_a_path_is_a_file_of_the_set(write: Write, tmp_path: Path) -> None:
    (tmp_path / "srv").mkdir()
    (tmp_path / "srv/x").symlink_to("/nowhere")
    assert said(write, NODE + "[files a]\npaths = /srv/x\n") == []


@pytest.mark.parametrize(
    "pattern, path, yes",
    [
        ("/a/*.conf", "/a/x.conf", True),
        ("/a/*.conf", "/a/.x.conf", False),
        ("/a/.*", "/a/.x", True),
        ("/a/*", "/a/b/c", False),
        ("/*/x", "/a/x", True),
        ("/a/*", "/a/" + paths.INBOX, False),
        ("/a/x", "/a/y", False),
        ("/a/*", "/a/x\ny", True),
    ],
)
def test_a_glob_matches_as_in_a_shell(pattern: str, path: str, yes: bool) -> None:
    assert globs.matches(path, pattern) is yes


@pytest.mark.parametrize(
    "one, other, yes",
    [
        ("/a/*", "/a/x", True),
        ("/a/*", "/b/x", False),
        ("/a/x*", "/a/*y", True),
        ("/a/*x", "/a/*y", False),
        ("/a/?", "/a/xy", False),
        ("/a/*", "/a/.x", False),
        ("/a/[ab]*", "/a/[bc]?", True),
        ("/a/[ab]", "/a/[cd]", False),
        ("/a/[!a]", "/a/a", False),
        ("/a*/x", "/*b/x", True),
        ("/a/**", "/a/*x*y*", True),
    ],
)
def test_two_globs_meet_where_a_path_can_match_both(one: str, other: str, yes: bool) -> None:
    assert globs.meet(one, other) is globs.meet(other, one) is yes


def _uncommented() -> str:
    """The shipped file with every option switched on: `#` without a space begins one."""
    return re.sub(r"^#(?! |$)|^#(?=    \S)", "", SHIPPED.read_text(), flags=re.MULTILINE)


every_kind = pytest.mark.parametrize(
    "section, page, options, required",
    [
        pytest.param("node", "[node]", config.NODE, {"name", "peer"}, id="node"),
        pytest.param("files etc", "[files NAME]", filesset.OPTIONS, {"paths"}, id="files"),
        pytest.param("tree home", "[tree NAME]", treeset.OPTIONS, {"root"}, id="tree"),
        pytest.param("hotsync", "[hotsync]", hotsync.OPTIONS, {"role"}, id="hotsync"),
        pytest.param("failover", "[failover]", failover.OPTIONS, set(), id="failover"),
        pytest.param("sessions", "[sessions]", sessions.OPTIONS, set(), id="sessions"),
    ],
)


def test_the_shipped_file_is_sound_with_every_option_switched_on(write: Write) -> None:
    write(_uncommented())
    assert config.examine()[1] == []


def test_the_shipped_file_has_a_section_of_each_kind() -> None:
    kinds = ["node", "files etc", "tree home", "hotsync", "failover", "sessions"]
    assert list(IniConfig(str(SHIPPED), _uncommented()).sections) == kinds


@every_kind
def test_the_shipped_file_has_every_option_with_its_default(
    section: str, page: str, options: dict[str, Option], required: set[str]
) -> None:
    written = IniConfig(str(SHIPPED), _uncommented()).sections[section]
    assert list(written) == list(options)
    for key, option in options.items():
        assert written[key] == option.default or not option.default, key


def test_the_shipped_file_asks_for_what_has_no_default(write: Write) -> None:
    found = said(write, SHIPPED.read_text())
    line = SHIPPED.read_text().split("\n").index("[node]") + 1
    assert [text.split(":")[0] for text in found] == [str(line)] * 2
    assert "name is missing" in found[0] and "peer is missing" in found[1]


def test_every_option_of_the_shipped_file_is_explained() -> None:
    # the rule: an option stands under a comment, alone or right below another option of the same paragraph
    for paragraph in SHIPPED.read_text().split("\n\n"):
        if re.search(r"^#[a-z]", paragraph, re.MULTILINE):
            assert paragraph.startswith("# ") or paragraph.startswith("[node]"), paragraph


EVERY = (config.NODE, filesset.OPTIONS, treeset.OPTIONS, hotsync.OPTIONS, failover.OPTIONS, sessions.OPTIONS)


def test_the_shipped_file_says_of_every_option_without_a_default_what_nothing_means() -> None:
    for paragraph in SHIPPED.read_text().split("\n\n"):
        for key in re.findall(r"^#([a-z-]+) =", paragraph, re.MULTILINE):
            if any(key in kind and not kind[key].default for kind in EVERY):
                assert "efault" in paragraph, key


@every_kind
def test_the_man_page_has_every_option_with_its_default(
    section: str, page: str, options: dict[str, Option], required: set[str]
) -> None:
    text = (Path(__file__).parents[2] / "docs/man/hotpair.ini.5").read_text()
    about = re.split(r"^\.S[sh] ", text.partition(f"\n.Ss {page}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    found = re.split(r"^\.It Cm ", about, flags=re.MULTILINE)[1:]
    assert [entry.split("\n")[0] for entry in found] == list(options)
    for entry, (key, option) in zip(found, options.items(), strict=True):
        default = " ".join(option.default.split())
        said = f"\nThe default is\n.Li {default} .\n", f"\nThe default is\n.Pa {default} .\n"
        none = "Must be given" if key in required else "By default there is none."
        assert none in entry if not option.default else any(text in entry for text in said), entry

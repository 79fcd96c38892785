"""What hotpair.ini means, and what is said about its mistakes: file, line, what is wrong, what to write."""

from pathlib import Path

import pytest

from hotpair import config, globs, paths
from hotpair.exits import ConfigFail
from hotpair.filesset import FilesSet
from tests.unit.written import KINDS, NODE, Write, only, said


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

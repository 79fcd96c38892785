"""The program `hotpair` over two prefixes: check, tables, import, and what it says of wrong words."""

import os
import re
from pathlib import Path

import pytest

from hotpair.cmd import hotpair as program
from tests.ext.twonodes import BIN, Pair

MAN = Path(__file__).parents[2] / "docs/man"


def fake(directory: Path, name: str, text: str) -> None:
    file = directory / name
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)


def rsync(directory: Path, version: str, proof: str, package: str = "") -> dict[str, str]:
    """Make an rsync that says it is of some version, first on PATH."""
    directory.mkdir()
    text = f'case $1 in --version) echo "rsync  version {version}  protocol version 32";; --help) echo "{proof}";; esac'
    fake(directory, "rsync", text)
    fake(directory, "dpkg-query", f'echo "{package}"' if package else "exit 1")
    return {"PATH": f"{directory}:{os.environ['PATH']}"}


def test_a_sound_configuration_is_said_to_be_sound(pair: Pair, tmp_path: Path) -> None:
    said = pair.alpha.hotpair("check", env=rsync(tmp_path / "bin", "3.5.1", "--confine-root"))
    assert said == (0, "configuration is sound: 1 set\n", "")


def test_check_says_every_mistake_of_both_files_at_once(pair: Pair) -> None:
    pair.alpha.configure("[files Demo]\npaths =\n    /srv/x\n    srv/y\nkep = 3\n[files other]\npaths = /srv/x\n")
    pair.alpha.write_ini("syncr.ini", "[/srv/x]\nrun = true\nchek = true\n")
    said = pair.alpha.hotpair("check")
    assert said.code == os.EX_CONFIG
    ini, tasks = (f"{pair.alpha.root}/etc/hotpair/{name}" for name in ("hotpair.ini", "syncr.ini"))
    lines = [line for line in said.out.splitlines() if not line.startswith("warning: ")]
    assert [line.split(": ")[0] for line in lines] == [f"{ini}:{n}" for n in (4, 7, 8, 10)] + [f"{tasks}:3"]
    assert all(len(line.split(": ")) >= 3 for line in lines)


def test_check_warns_of_commands_that_never_run(pair: Pair, tmp_path: Path) -> None:
    pair.alpha.configure("[files demo]\npaths = /srv/*.conf\n[tree home]\nroot = /home\n")
    pair.alpha.write_ini("syncr.ini", "".join(f"[{p}]\nrun = true\n" for p in ("/srv/a.conf", "/home/*/x", "/hom/x")))
    said = pair.alpha.hotpair("check", env=rsync(tmp_path / "bin", "3.5.1", "--confine-root"))
    ini = f"{pair.alpha.root}/etc/hotpair/syncr.ini"
    assert said.out == (
        f"warning: {ini}: [/hom/x] is in no set: its commands never run\nconfiguration is sound: 2 sets\n"
    )


def test_check_says_that_a_fence_is_not_there(pair: Pair) -> None:
    pair.alpha.configure("[failover]\nfence = /usr/local/sbin/fense now\n")
    said = pair.alpha.hotpair("check")
    assert said.code == os.EX_CONFIG and "[failover] '/usr/local/sbin/fense now' is not run: " in said.out


def test_a_conflict_that_a_node_is_to_win_which_there_is_not_is_refused(pair: Pair) -> None:
    for node in pair.nodes:
        node.configure("[files demo]\npaths = /srv/*.conf\nprefer = gamma\n")
    said = pair.alpha.run("psync")
    assert said.code == os.EX_TEMPFAIL and "prefer = gamma: neither node is called so" in said.err


@pytest.mark.parametrize(
    "words", [("--check", "-n"), ("--cron", "--retry"), ("--once", "--until-quiet"), ("--check", "--retry")]
)
def test_modes_that_contradict_each_other_are_refused(pair: Pair, words: tuple[str, ...]) -> None:
    said = pair.alpha.run("psync", *words)
    assert said.code == os.EX_USAGE and "not allowed with" in said.err


@pytest.mark.parametrize(
    "words",
    [
        ("hotpair", "check"),
        ("psync",),
        ("psync", "--cron"),
        ("syncr", "demo", "0"),
        ("syncr-receive", "demo"),
        ("hotpair", "tables"),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("wrong", ["mode", "mistake"])
def test_with_a_configuration_that_is_wrong_nothing_is_done(pair: Pair, words: tuple[str, ...], wrong: str) -> None:
    pair.alpha.write("/srv/a.conf", "new")
    if wrong == "mode":
        (pair.alpha.root / "etc/hotpair/hotpair.ini").chmod(0o666)
    else:
        pair.alpha.configure("[files demo]\npaths = /srv/a.conf\nkep = 3\n")
    before = {str(p) for node in pair.nodes for p in node.root.rglob("*")}
    assert pair.alpha.run(*words).code == os.EX_CONFIG
    after = {str(p) for node in pair.nodes for p in node.root.rglob("*")}
    assert after - before <= {
        f"{pair.alpha.root}/var",
        f"{pair.alpha.root}/var/log",
        f"{pair.alpha.root}/var/log/hotpair.log",
    }


def test_a_table_that_would_paste_names_is_refused(pair: Pair) -> None:
    assert pair.alpha.hotpair("tables").code == 0
    table = pair.alpha.live("/etc/incron.d/hotpair-demo")
    table.write_text(table.read_text() + "/srv IN_CLOSE_WRITE syncr demo $@\n")
    said = pair.alpha.hotpair("check")
    assert said.code == os.EX_CONFIG
    assert f"{table}:{len(table.read_text().splitlines())}: a `$`" in said.out


@pytest.mark.parametrize(
    "version, proof, package, warned",
    [
        pytest.param("3.5.1", "--confine-root", "", False, id="upstream's floor"),
        pytest.param("3.6.0", "--confine-root", "", False, id="newer"),
        pytest.param("3.5.0", "--confine-root", "", True, id="3.5.0 without a package"),
        pytest.param("3.5.0", "--confine-root", "3.5.0+ds1-0+deb12u1", False, id="Debian's floor"),
        pytest.param("3.5.0", "--confine-root", "3.5.0+ds1-0", True, id="Debian's before it"),
        pytest.param("3.4.1", "", "", True, id="old"),
        pytest.param("3.9.9", "", "", True, id="a number without the proof"),
    ],
)
def test_rsync_below_the_security_floor_is_a_warning(
    pair: Pair, tmp_path: Path, version: str, proof: str, package: str, warned: bool
) -> None:
    said = pair.alpha.hotpair("check", env=rsync(tmp_path / "bin", version, proof, package))
    assert said.code == 0
    assert said.out.startswith("warning: rsync") is warned
    assert said.out.endswith("configuration is sound: 1 set\n")


def test_a_missing_rsync_is_a_warning(pair: Pair, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    said = pair.alpha.hotpair("check", env={"PATH": str(tmp_path / "empty")})
    assert (said.code, said.out.splitlines()[0]) == (
        0,
        "warning: rsync is not there, and larger files need it: apt install rsync",
    )


def test_tables_are_written_once_and_a_dry_run_only_shows_them(pair: Pair) -> None:
    table, cron = pair.alpha.live("/etc/incron.d/hotpair-demo"), pair.alpha.live("/etc/cron.d/hotpair")
    said = pair.alpha.hotpair("tables", "--dry-run")
    assert (said.code, f"+++ {table}" in said.out, table.exists()) == (0, True, False)
    assert pair.alpha.hotpair("tables").out == f"wrote {table}\nwrote {cron}\n"
    assert f"{pair.alpha.live('/srv')} IN_CLOSE_WRITE" in table.read_text()
    assert pair.alpha.hotpair("tables") == (0, "", "")


def test_the_table_of_a_set_that_is_gone_is_removed(pair: Pair) -> None:
    pair.alpha.hotpair("tables")
    pair.alpha.configure("[files other]\npaths = /srv/a.conf\n")
    said = pair.alpha.hotpair("tables")
    assert f"removed {pair.alpha.live('/etc/incron.d/hotpair-demo')}" in said.out
    assert not pair.alpha.live("/etc/incron.d/hotpair-demo").exists()


def test_for_a_peer_over_ssh_the_line_that_lets_us_in_is_shown(pair: Pair) -> None:
    text = (pair.alpha.root / "etc/hotpair/hotpair.ini").read_text()
    pair.alpha.write_ini("hotpair.ini", re.sub("peer = .*", "peer = ssh:beta", text))
    pair.alpha.write_ini("id_ed25519.pub", "ssh-ed25519 AAAAC3 root@alpha\n")
    said = pair.alpha.hotpair("tables")
    assert said.out.splitlines()[-1] == f'restrict,command="{BIN}/syncr-receive" ssh-ed25519 AAAAC3 root@alpha'


def test_an_imported_file_is_converted_and_a_written_one_is_sound(pair: Pair, tmp_path: Path) -> None:
    old = tmp_path / "old.ini"
    old.write_text("[/etc/rsyslog.conf]\nsystemctl stop rsyslog\nsleep 5\nsystemctl start rsyslog\n")
    new = pair.alpha.root / "etc/hotpair/syncr.ini"
    said = pair.alpha.hotpair("import", "syncr.ini", str(old))
    assert (said.code, "[/etc/rsyslog.conf]" in said.out, "systemctl stop rsyslog" in said.out) == (0, True, True)
    assert pair.alpha.hotpair("import", "syncr.ini", str(old), "-o", str(new)) == (0, "", "")
    assert new.read_text() == said.out
    new.chmod(0o644)
    assert pair.alpha.hotpair("check").code == 0


def test_an_imported_rules_file_of_clsync_is_converted_whatever_its_bytes(pair: Pair, tmp_path: Path) -> None:
    old, new = tmp_path / "rules", tmp_path / "filter"
    old.write_bytes(b"-d^cache$\n-f\xff$\n")
    assert pair.alpha.hotpair("import", "clsync-rules", str(old), "-o", str(new)) == (0, "", "")
    assert new.read_bytes() == b"filter =\n    - re:^/cache/$\n    - re:\\U0000dcff$\n"
    said = pair.alpha.hotpair("import", "clsync-rules", str(old))
    assert (said.code, os.fsencode(said.out)) == (0, new.read_bytes())
    old.write_text("-f(\n")
    said = pair.alpha.hotpair("import", "clsync-rules", str(old))
    assert (said.code, "line 1: '(' is no regular expression" in said.err) == (os.EX_DATAERR, True)


def test_an_import_overwrites_nothing_and_leaves_nothing_beside(pair: Pair, tmp_path: Path) -> None:
    (tmp_path / "old.ini").write_text("[/etc/a]\ntrue\n")
    (tmp_path / "new.ini").write_text("mine")
    said = pair.alpha.hotpair("import", "syncr.ini", str(tmp_path / "old.ini"), "-o", str(tmp_path / "new.ini"))
    assert (said.code, "is there already" in said.err) == (os.EX_CANTCREAT, True)
    assert (tmp_path / "new.ini").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alpha", "beta", "new.ini", "old.ini"]


def test_an_import_of_what_is_not_there_is_refused(pair: Pair, tmp_path: Path) -> None:
    said = pair.alpha.hotpair("import", "syncr.ini", str(tmp_path / "none"))
    assert (said.code, f"{tmp_path}/none: No such file" in said.err) == (os.EX_NOINPUT, True)


@pytest.mark.parametrize(
    "words", [(), ("nope",), ("resolve", "/x"), ("restore", "/x", "-1"), ("status", "--jsn")], ids=" ".join
)
def test_wrong_words_are_a_usage_error(pair: Pair, words: tuple[str, ...]) -> None:
    said = pair.alpha.hotpair(*words)
    assert (said.code, said.out, "usage: hotpair" in said.err) == (os.EX_USAGE, "", True)


def test_help_has_examples_and_exit_codes_and_every_command(pair: Pair) -> None:
    said = pair.alpha.hotpair("--help")
    assert said.code == 0
    for word in ("examples:", "exit:", *program.COMMANDS):
        assert word in said.out


def test_the_man_page_has_every_command_and_option() -> None:
    text = (MAN / "hotpair.8").read_text()
    for name, command in program.COMMANDS.items():
        assert re.search(rf"^\.It Cm {name}\b", text, re.MULTILINE), name
        for argument in command.arguments:
            for word in argument.names:
                if word.startswith("--"):
                    assert re.search(rf"^\.(It|Fl) .*-{word[2:]}\b", text, re.MULTILINE), (name, word)

"""What is sent and what is taken: [hotsync], lists and plugins of hotsync.d, on two prefixes; rsync carries it."""

import json
import os
import re
import signal
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hotpair import config
from hotpair.exits import ConfigFail
from hotpair.hotsync import lists
from hotpair.hotsync.lists import OUT, Lists
from hotpair.hotsync.settings import Hotsync
from tests.ext.standbys import has_open
from tests.lab.spaces import wait_until

SHIPPED = Path(__file__).parents[2] / "etc/hotpair/hotsync.d"
HOSTILE = ["two words", "$(touch pwned)", "-rf", "a'b\"c", "[ab]*", "é", "\udcff", "x" * 255, " edge "]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: files of another user")


class Node:
    """A prefix with [hotsync] and an empty hotsync.d."""

    def __init__(self, root: Path) -> None:
        self.root, self.plugins = root, root / "etc/hotpair/hotsync.d"
        self.plugins.mkdir(parents=True)
        for directory in (root, root / "etc", root / "etc/hotpair", self.plugins):
            directory.chmod(0o755)
        self.configure("")

    def configure(self, keys: str) -> None:
        text = f"[node]\nname = {self.root.name}\npeer = ssh:x\n[hotsync]\nrole = master\n{keys}"
        self.write("etc/hotpair/hotpair.ini", text)

    @property
    def settings(self) -> Hotsync:
        found = config.load().hotsync
        assert found
        return found

    def write(self, path: str, text: str = "", mode: int = 0o644) -> None:
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)

    def plugin(self, name: str, text: str) -> None:
        self.write(f"etc/hotpair/hotsync.d/{name}", f"#!/bin/sh\n{text}\n", 0o700)

    def listing(self, name: str, text: str) -> None:
        self.write(f"etc/hotpair/hotsync.d/{name}", text)

    def collect(self, dry_run: bool = False) -> Lists:
        return lists.collect(self.settings, "alpha", dry_run)

    def sent(self, dry_run: bool = False) -> list[str]:
        """Return what is sent besides what always is."""
        found = self.collect(dry_run)
        assert found.failures == (), found
        return [path for path in found.include if path != OUT]

    def files(self) -> dict[str, tuple[int, int]]:
        return {str(path): (path.lstat().st_mtime_ns, path.lstat().st_mode) for path in self.root.rglob("*")}


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    monkeypatch.setenv("HOTPAIR_ROOT", str(tmp_path / "alpha"))
    return Node(tmp_path / "alpha")


# what is named


def test_the_section_the_lists_and_the_plugins_add_up_and_what_is_made_for_the_standby_is_always_sent(
    node: Node,
) -> None:
    for path in ("/srv/a", "/srv/b", "/srv/c", "/srv/d/e"):
        node.write(path)
    node.configure("include =\n    /srv/a\nexclude =\n    *.iso\n")
    node.listing("10.include", "# why\n\n  /srv/b  \n")
    node.listing("10.exclude", "/srv/b/cache/\n")
    node.plugin("20", 'echo /srv/c >>"$1"; echo //srv/./d/ >>"$1"; echo "# nothing" >>"$1"; echo "*.tmp" >>"$2"')
    node.write("etc/hotpair/hotsync.d/README", "/srv/x\n")
    node.write("etc/hotpair/hotsync.d/not-executable", "#!/bin/sh\nexit 1\n")
    for name in (".hidden", "old~", "20.new"):
        node.plugin(name, "exit 1")
    assert node.collect() == Lists(
        ("/srv/a", "/srv/b", "/srv/c", "/srv/d", OUT), ("*.iso", "/srv/b/cache/", "*.tmp"), (), ()
    )


def test_globs_of_lists_are_expanded_dots_included_and_what_is_not_there_is_counted(node: Node) -> None:
    for path in ("/srv/a.txt", "/srv/.b.txt", "/srv/c"):
        node.write(path)
    node.configure("include =\n    /srv/*.txt\n    /srv/none*\n    /srv/gone\n")
    found = node.collect()
    assert found.include == ("/srv/.b.txt", "/srv/a.txt", OUT)
    assert found.missing == ("/srv/none*", "/srv/gone")


def test_what_a_plugin_names_is_no_glob(node: Node) -> None:
    node.write("/srv/a")
    node.plugin("p", "echo '/srv/*' >>\"$1\"")
    assert node.collect()[:3] == ((OUT,), (), ("/srv/*",))


def test_a_path_named_twice_or_below_another_one_is_sent_once(node: Node) -> None:
    for path in ("/srv/a/b/c", "/srv/a-b", "/srv/a/d"):
        node.write(path)
    node.listing("x.include", "/srv/a/b/c\n/srv/a/b\n/srv/a-b\n/srv/a\n/srv/a/\n/srv/a/gone\n")
    assert node.sent() == ["/srv/a", "/srv/a-b"]


@pytest.mark.parametrize(
    "line, why", [("srv", "no absolute path"), ("/srv/../etc", "leads upwards"), ("//", "is the whole disk")]
)
def test_a_path_that_cannot_be_one_fails_its_list_its_plugin_and_the_configuration(
    node: Node, line: str, why: str
) -> None:
    node.write("/srv/a")
    node.listing("10.include", f"/srv/a\n{line}\n")
    node.plugin("20", f'echo /srv/a >>"$1"; echo {line} >>"$1"')
    found = node.collect()
    assert found.include == (OUT,)
    assert [failure.split(": ")[0] for failure in found.failures] == ["10.include", "20"]
    assert "line 2: " in found.failures[0] and all(why in failure for failure in found.failures)
    node.configure(f"include =\n    {line}\n")
    with pytest.raises(ConfigFail, match=f"hotpair.ini:7: .*{why}"):
        config.load()


@pytest.mark.parametrize("rule", ["!", "+ /srv", "- /srv"])
def test_a_rule_of_rsync_is_no_pattern(node: Node, rule: str) -> None:
    """`!` would make rsync forget every other exclude."""
    node.plugin("p", f"echo '{rule}' >>\"$2\"")
    node.listing("x.exclude", f"*.iso\n{rule}\n")
    assert len(node.collect().failures) == 2
    node.configure(f"exclude =\n    {rule}\n")
    with pytest.raises(ConfigFail, match="is a rule of rsync"):
        config.load()


# how a plugin is run


def test_a_plugin_finds_the_facts_and_nothing_else(node: Node) -> None:
    node.configure("databases = disabled\n")
    node.plugin("p", f'env -0 >{node.root}/env; cat >{node.root}/in; printf "%s\\n" "$#" "$1" "$2" >{node.root}/words')
    node.collect()
    found = dict(entry.split("=", 1) for entry in (node.root / "env").read_text().split("\0")[:-1])
    found.pop("PWD")  # dash sets it
    assert found == {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
        "HOME": "/root",
        "HOTPAIR_ROOT": str(node.root),
        "HOTPAIR_NODE": "alpha",
        "HOTPAIR_DUMPS": f"{node.root}{OUT}/dumps",
        "HOTPAIR_DATABASES": "disabled",
    }
    assert (node.root / "in").read_text() == ""
    count, *files = (node.root / "words").read_text().split("\n")[:-1]
    assert count == "2" and all(file.startswith(f"/proc/{os.getpid()}/fd/") for file in files)
    assert stat.S_IMODE(os.stat(f"{node.root}{OUT}/dumps").st_mode) == 0o700


def test_each_plugin_begins_with_empty_files_in_the_order_of_names(node: Node) -> None:
    node.write("/srv/a")
    for name in ("b", "a"):
        node.plugin(name, f'cat "$1" "$2" >>{node.root}/seen; echo {name} >>{node.root}/seen; echo /srv/a >"$1"')
    assert node.sent() == ["/srv/a"]
    assert (node.root / "seen").read_text() == "a\nb\n"


def test_a_dry_run_tells_plugins_so_names_the_dumps_and_writes_nothing(node: Node) -> None:
    node.plugin(
        "p", 'echo "$HOTPAIR_DUMPS/x.sql" >>"$1"; [ "${HOTSYNC_DRY_RUN:-}" = 1 ] || echo x >"$HOTPAIR_DUMPS/x.sql"'
    )
    node.collect()
    (node.root / OUT[1:] / "dumps/x.sql").unlink()
    before = node.files()
    assert node.sent(dry_run=True) == [f"{OUT}/dumps/x.sql"]
    assert node.files() == before
    assert node.sent() == [f"{OUT}/dumps/x.sql"] and (node.root / OUT[1:] / "dumps/x.sql").exists()


def test_a_dry_run_before_the_first_run_leaves_no_trace(node: Node) -> None:
    node.plugin("p", "true")
    before = node.files()
    assert node.sent(dry_run=True) == [] and node.files() == before


# what fails


FAILURES: dict[str, tuple[Callable[[Path], object], str]] = {
    "exit": (lambda file: file.write_text("#!/bin/sh\necho /srv/new >>$1; echo no good; exit 3\n"), "exit 3: no good"),
    "timeout": (lambda file: file.write_text("#!/bin/sh\nexec sleep 60\n"), "not done after 1 s"),
    "untrusted": (lambda file: file.chmod(0o777), "can be written by others"),
    "no program": (lambda file: file.write_text("#!/no/such/shell\n"), "exit 127"),
}


@pytest.mark.parametrize("how", FAILURES)
def test_what_a_failing_plugin_named_last_is_sent_again_and_the_next_one_runs(node: Node, how: str) -> None:
    for path in ("/srv/a", "/srv/new", "/srv/z"):
        node.write(path)
    node.configure("plugin-timeout = 1\n")
    node.plugin("p", 'echo /srv/a >>"$1"; echo "*.tmp" >>"$2"')
    node.plugin("q", 'echo /srv/z >>"$1"')
    good = node.collect()
    assert good.include == ("/srv/a", "/srv/z", OUT)
    spoil, says = FAILURES[how]
    spoil(node.plugins / "p")
    found = node.collect()
    assert found[:3] == good[:3]
    [failure] = found.failures
    assert failure.startswith("p: ") and says in failure and failure.endswith("the last good run count")


def test_a_failure_does_not_become_the_last_good_run(node: Node) -> None:
    node.write("/srv/a")
    node.plugin("p", f'echo /srv/a >>"$1"; ! [ -e {node.root}/bad ] || exit 1')
    assert node.sent() == ["/srv/a"]
    node.write("/bad")
    assert [node.collect().include for _ in range(2)] == [("/srv/a", OUT)] * 2


def test_a_failing_plugin_that_never_did_well_names_nothing(node: Node) -> None:
    node.write("/srv/a")
    node.plugin("p", 'echo /srv/a >>"$1"; exit 1')
    assert node.collect() == Lists((OUT,), (), (), ("p: exit 1: it names nothing",))


def test_a_list_that_others_can_write_counts_as_it_did_last(node: Node) -> None:
    node.write("/srv/a")
    node.write("/srv/b")
    node.listing("x.include", "/srv/a\n")
    node.collect()
    node.write("etc/hotpair/hotsync.d/x.include", "/srv/b\n", 0o666)
    found = node.collect()
    assert found.include == ("/srv/a", OUT) and "can be written by others" in found.failures[0]


def test_a_plugin_that_is_gone_drops_out(node: Node) -> None:
    node.write("/srv/a")
    node.plugin("p", 'echo /srv/a >>"$1"')
    assert node.sent() == ["/srv/a"]
    (node.plugins / "p").unlink()
    assert node.sent() == []


def test_without_the_directory_nothing_is_known(node: Node) -> None:
    node.plugins.rmdir()
    with pytest.raises(ConfigFail, match="hotsync.d: No such file"):
        node.collect()


def test_a_dry_run_is_no_good_run_and_a_real_one_is_written_for_root_alone(node: Node) -> None:
    node.write("/srv/a")
    node.plugin("p", 'echo /srv/a >>"$1"')
    file = node.root / "var/lib/hotpair/hotsync/lists.json"
    node.sent(dry_run=True)
    assert not file.exists()
    node.sent()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert json.loads(file.read_text()) == {"p": {"include": ["/srv/a"], "exclude": []}}
    node.plugin("p", 'echo /srv/b >>"$1"')
    node.sent(dry_run=True)
    assert "/srv/b" not in file.read_text()
    assert sorted(os.listdir(file.parent)) == ["lists.json", "out", "plugin.pid"]


def test_a_last_good_run_that_cannot_be_read_is_said_and_written_anew(node: Node) -> None:
    node.plugin("p", "true")
    node.collect()
    node.write("var/lib/hotpair/hotsync/lists.json", '{"p": ')
    assert "the last good run is not known" in node.collect().failures[0]
    assert node.collect().failures == ()


# links


def test_a_path_through_a_link_is_sent_as_what_it_is_and_a_link_to_a_directory_with_it(node: Node) -> None:
    node.write("/data/www/page")
    node.write("/data/other/file")
    (node.root / "srv").symlink_to("data")
    (node.root / "data/link").symlink_to("other")
    (node.root / "data/dead").symlink_to("nowhere")
    node.configure("include =\n    /srv/www\n    /srv/link\n    /srv/dead\nexclude = /srv/www/cache/\n")
    found = node.collect()
    assert found.include == ("/data/dead", "/data/link", "/data/other", "/data/www", OUT)
    assert found.exclude == ("/srv/www/cache/", "/data/www/cache/")
    taken = lists.accepted(node.settings)
    assert {"/srv/www", "/data/www", "/data/link", "/data/other"} < set(taken)


@as_root
def test_a_link_of_a_user_does_not_choose_what_root_sends_or_takes(node: Node) -> None:
    node.write("/secret/.getmail/key")
    node.write("/home/eve/x")
    for name, target in (("config", "../../secret"), (".getmail", "../../secret/.getmail")):
        link = node.root / "home/eve" / name
        link.symlink_to(target)
        os.lchown(link, 1234, 1234)
    node.configure("include =\n    /home/*/config/.getmail\n    /home/*/.getmail\n    /home/eve/.getmail\n")
    found = node.collect()
    assert found.include == ("/home/eve/.getmail", OUT)  # as a link
    assert found.missing == ("/home/*/config/.getmail",)
    assert not any(path.startswith("/secret") for path in lists.accepted(node.settings))


# the standby


def test_a_standby_takes_what_its_lists_name_and_runs_nothing(node: Node) -> None:
    node.configure("include = /srv/a\naccept = /srv/b/\n")
    node.listing("x.include", "/home/*/.getmail\n")
    node.listing("x.exclude", "*.iso\n")
    node.plugin("p", f"touch {node.root}/ran")
    assert lists.accepted(node.settings) == ("/srv/a", "/srv/b", "/home/*/.getmail", OUT)
    assert not (node.root / "ran").exists()


def test_a_standby_says_which_list_is_wrong(node: Node) -> None:
    node.listing("x.include", "srv\n")
    with pytest.raises(ConfigFail, match="x.include: line 1: 'srv' is no absolute path"):
        lists.accepted(node.settings)


def test_a_standby_without_the_directory_takes_what_its_section_says(node: Node) -> None:
    node.plugins.rmdir()
    node.configure("accept = /srv/b\n")
    assert lists.accepted(node.settings) == ("/srv/b", OUT)


# together with rsync


def test_rsync_carries_what_is_listed_whatever_its_name_and_nothing_else(node: Node, tmp_path: Path) -> None:
    beta = Node(tmp_path / "beta")
    for name in HOSTILE:
        node.write(f"/srv/{name}/in")
    for path in ("/srv/left/in", "/srv/kept/in", "/srv/kept/no.iso", "/srv/a/in"):
        node.write(path)
    beta.write("/srv/kept/old")
    beta.write("/srv/left/own")
    (node.root / "names").write_bytes(b"".join(os.fsencode(f"/srv/{name}\n") for name in HOSTILE))
    node.plugin("p", f'cat {node.root}/names >>"$1"')
    node.configure("include = /srv/kept\nexclude = *.iso\n")
    found = node.collect()
    (node.root / "in").write_bytes(b"".join(os.fsencode(path) + b"\0" for path in found.include))
    (node.root / "ex").write_bytes(b"".join(os.fsencode(path) + b"\0" for path in found.exclude))
    subprocess.run(
        ["rsync", "-ar", "--delete", "--no-implied-dirs", "--from0", f"--files-from={node.root}/in"]
        + [f"--exclude-from={node.root}/ex", f"{node.root}/", f"{beta.root}/"],
        check=True,
    )
    assert sorted(os.listdir(beta.root / "srv")) == sorted([*HOSTILE, "kept", "left"])
    assert os.listdir(beta.root / "srv/kept") == ["in"] and os.listdir(beta.root / "srv/left") == ["own"]
    assert os.path.isdir(f"{beta.root}{OUT}/dumps")


# what is shipped


def test_the_shipped_lists_are_sound(node: Node) -> None:
    for file in SHIPPED.iterdir():
        if file.suffix in (".include", ".exclude"):
            node.listing(file.name, file.read_text())
    node.write("/var/spool/asterisk/voicemail/x")
    node.write("/home/eve/.getmail/oldmail")
    found = node.collect()
    assert found.failures == () and found.include == ("/home/eve/.getmail", OUT, "/var/spool/asterisk")
    assert "/var/lib/samba" in found.missing and "/var/lib/samba" in lists.accepted(node.settings)


def test_crontabs_cross_in_an_archive_and_stay_below_the_prefix(node: Node, tmp_path: Path) -> None:
    node.plugin("crontabs", "")
    (node.plugins / "crontabs").write_bytes((SHIPPED / "crontabs").read_bytes())
    node.write("/var/spool/cron/crontabs/eve", "0 0 * * * true\n", 0o600)
    assert node.sent(dry_run=True) == node.sent() == [f"{OUT}/dumps/crontabs.tar"]
    beta = tmp_path / "beta"
    (beta / "var/spool/cron").mkdir(parents=True)  # Red Hat's
    subprocess.run(
        [SHIPPED.parent / "restore.d/crontabs", "load", f"{node.root}{OUT}/dumps"],
        env={"PATH": os.environ["PATH"], "HOTPAIR_ROOT": str(beta)},
        check=True,
        stdout=subprocess.DEVNULL,
    )
    assert (beta / "var/spool/cron/eve").read_text() == "0 0 * * * true\n"


def test_a_directory_of_nethservers_scripts_runs_unchanged_with_the_lines_that_readme_shows(
    node: Node, tmp_path: Path
) -> None:
    [text] = re.findall(
        r"^    #!/bin/sh\n    # nethserver.*\n(?:    .*\n)+", (SHIPPED / "README").read_text(), re.MULTILINE
    )
    scripts = tmp_path / "hotsync.d"
    scripts.mkdir()
    node.plugin("nethserver", re.sub("^    ", "", text, flags=re.MULTILINE).replace("/etc/hotsync.d", str(scripts)))
    for name, said in (
        ("10custom", 'echo "/srv/a" >> $1'),
        ("20custom", 'echo "/srv/b" >> "$1"\necho "/srv/b/x" >> $2'),
    ):
        (scripts / name).write_text(f"#!/bin/bash\n{said}\n")
        (scripts / name).chmod(0o755)
    (scripts / "README").write_text("")
    node.write("/srv/a")
    node.write("/srv/b/x")
    assert node.collect() == Lists(("/srv/a", "/srv/b", OUT), ("/srv/b/x",), (), ())
    (scripts / "20custom").write_text("#!/bin/bash\nfalse\n")
    assert f"{scripts}/20custom failed" in node.collect().failures[0]


def test_what_is_to_be_run_can_be_run_and_nothing_else() -> None:
    """`make install` keeps it so, for root alone."""
    for directory in (SHIPPED, SHIPPED.parent / "restore.d"):
        programs = {file.name for file in directory.iterdir() if os.access(file, os.X_OK)}
        shebangs = {file.name for file in directory.iterdir() if file.read_bytes().startswith(b"#!")}
        assert programs == shebangs == {"mariadb", "postgresql", "openldap", "crontabs"}


def collecting(node: Node) -> int:
    """Collect in a process of its own; return its pid."""
    pid = os.fork()
    if pid == 0:
        node.collect()
        os._exit(0)
    return pid


def test_a_plugin_that_a_killed_run_left_behind_is_waited_for(node: Node) -> None:
    trace, record = node.root / "trace", node.root / "var/lib/hotpair/hotsync/plugin.pid"
    node.plugin("p", f"cd {node.root}; echo begin >>trace; until [ -e go ]; do sleep 0.02; done; echo end >>trace")
    first = collecting(node)
    assert wait_until(trace.exists, 20)
    os.kill(first, signal.SIGKILL)
    os.waitpid(first, 0)
    second = collecting(node)
    assert wait_until(lambda: has_open(second, record), 20)
    time.sleep(0.5)  # time to start another one, if it did not wait
    (node.root / "go").touch()
    assert os.waitpid(second, 0)[1] == 0
    assert trace.read_text().split() == ["begin", "end", "begin", "end"]

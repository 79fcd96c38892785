"""The incron tables and the cron file: what is watched, how a line is written, and what is never written."""

import os
from pathlib import Path

import pytest

from hotpair import config, folder, ini, marks, paths, storm, watch, watched
from hotpair.config import Config
from hotpair.exits import ConfigFail
from hotpair.filesset import FilesSet
from hotpair.hotsync.settings import read

SBIN = "/usr/local/sbin"
SHIPPED = Path(__file__).parents[2]


def files(*listed: str, name: str = "etc") -> FilesSet:
    return FilesSet(name, listed, 6, "store", 0.0, "newest")


def configured(*sets: FilesSet) -> Config:
    node = config.Node("alpha", "ssh:beta", "root", 22, "/k", "/h", 5.0, 60.0, 32768, 16 << 20)
    return Config(node, {one.name: one for one in sets})


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A prefix with /etc/app, and the programs beside the one that runs."""
    (tmp_path / "etc/app").mkdir(parents=True)
    (tmp_path / "etc/incron.d").mkdir()
    for directory in (tmp_path, tmp_path / "etc", tmp_path / "etc/incron.d"):
        directory.chmod(0o755)
    sbin = tmp_path / "sbin"
    sbin.mkdir()
    (sbin / "syncr").write_text("")
    (sbin / "syncr").chmod(0o755)
    monkeypatch.setenv("HOTPAIR_ROOT", str(tmp_path))
    monkeypatch.setattr("sys.argv", [str(sbin / "hotpair")])
    return tmp_path


def entries(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.startswith("#")]


def test_parents_are_watched_once_each_and_sorted(root: Path) -> None:
    listed = files("/etc/app/b", "/etc/hosts", "/etc/app/*.conf", "/motd")
    assert watched.directories(listed) == ["/", "/etc", "/etc/app"]


def test_a_globbed_parent_is_every_directory_it_matches(root: Path) -> None:
    for name in ("one", "two"):
        (root / "etc/app" / name).mkdir()
    (root / "etc/app/file").write_text("")
    (root / "etc/app/link").symlink_to("one")
    found = files("/etc/app/*/x.conf")
    assert watched.directories(found) == ["/etc/app/one", "/etc/app/two"]
    assert watched.left_out(found) == []


def test_a_further_directory_renumbers_none(root: Path) -> None:
    before = watch.table(files("/etc/hosts"), SBIN)
    after = watch.table(files("/etc/hosts", "/etc/app/x"), SBIN)
    assert set(entries(before)) < set(entries(after))


def test_an_id_is_the_same_on_every_machine_and_a_word_of_syncr() -> None:
    assert folder.watch_id("/etc") == "059ffe07bbfb"
    assert folder.watch_id("/etc/\udcff").isalnum()


def test_the_shipped_example_is_what_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOTPAIR_ROOT", raising=False)
    example = (SHIPPED / "incron.d/hotpair-etc").read_text().replace("@SBINDIR@", SBIN)
    assert entries(example) == entries(watch.table(files("/etc/hosts"), SBIN))
    cron = (SHIPPED / "cron.d/hotpair").read_text().replace("@SBINDIR@", SBIN)
    assert cron.splitlines()[1:] == watch.cron(SBIN, copies=True, sessions=True).splitlines()[1:]


def test_cron_starts_hotsync_only_where_it_is_configured(root: Path) -> None:
    assert "/hotsync" not in (watch.plan(configured(), SBIN)[paths.cron_file()] or "")
    section = ini.Ini("x", "[hotsync]\nrole = master\n")
    copies = configured()._replace(hotsync=read(next(section.sections())))
    text = watch.plan(copies, SBIN)[paths.cron_file()] or ""
    assert f"\n* * * * * root {SBIN}/hotsync-slave doors\n" in text
    assert f"\n*/15 * * * * root {SBIN}/hotsync --cron\n" in text
    assert f" root {SBIN}/hotsync-slave rehearse --cron\n" in text


@pytest.mark.parametrize("text", [(SHIPPED / "incron.d/hotpair-etc").read_text(), None], ids=["shipped", "written"])
def test_a_comment_has_no_blank(root: Path, text: str | None) -> None:
    # incrond has no comments: three words are an entry whose path `#` makes its `find` search everything
    for line in (text or watch.table(files("/etc/hosts"), SBIN)).splitlines():
        assert not line.startswith("#") or len(line.split()) == 1


def test_a_line_is_constant(root: Path) -> None:
    table = watch.table(files("/etc/hosts"), SBIN)
    assert "$" not in table
    place, mask, command = entries(table)[0].split(" ", 2)
    assert place == f"{root}/etc"
    assert mask == "IN_CLOSE_WRITE,IN_MOVED_TO,IN_MOVED_FROM,IN_DELETE,IN_ATTRIB,recursive=false"
    guard = f"test -e {root}/etc/incron.d/hotpair-etc && "
    assert command == f"{guard}HOTPAIR_ROOT={root} exec nice -n -15 {SBIN}/syncr etc 059ffe07bbfb"


HOSTILE = " \t\n\x1b;'\"\\$()&|<>#!~{}`,^\udcff\u2028"


@pytest.mark.parametrize("character", HOSTILE, ids=ascii)
def test_a_directory_that_a_shell_or_incrond_would_misread_is_left_out(root: Path, character: str) -> None:
    name = f"a{character}b"
    (root / "etc/app" / name).mkdir()
    found = files("/etc/app/*/x.conf")
    assert watched.directories(found) == []
    assert [one.live for one in watched.left_out(found)] == [f"/etc/app/{name}"]
    assert len(entries(watch.table(found, SBIN))) == 1


@pytest.mark.parametrize("name", ["-rf", "a+b@c=d:e%f", "grün", ".dot", "UPPER_1"])
def test_plain_names_are_watched(root: Path, name: str) -> None:
    (root / "etc/app" / name).mkdir()
    assert watched.directories(files(f"/etc/app/{name}/x")) == [f"/etc/app/{name}"]


def test_what_cannot_be_watched_is_listed_with_why(root: Path) -> None:
    (root / "etc/app/file").write_text("")
    deep = "/etc/app" + "/x" * 400
    os.makedirs(f"{root}{deep}")
    found = watched.left_out(files("/etc/gone/x", "/etc/app/file/x", f"{deep}/x"))
    assert [(one.live, one.why) for one in found] == [
        ("/etc/app/file", "not a directory"),
        (deep, "its name is too long for a line of incrond"),
        ("/etc/gone", "not there"),
    ]


def test_no_line_is_as_long_as_the_buffer_of_incrond(root: Path) -> None:
    for depth in range(300, 420):
        os.makedirs(f"{root}/etc/app" + "/x" * depth, exist_ok=True)
        table = watch.table(files("/etc/app" + "/x" * depth + "/y"), "/" + "s" * 190)
        assert max(map(len, table.splitlines())) < 1000


def test_programs_are_those_beside_the_one_that_runs_links_kept(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "links").symlink_to(root / "sbin")
    monkeypatch.setattr("sys.argv", [str(root / "links/hotpair")])
    assert watch.programs() == f"{root}/links"


def test_programs_in_a_directory_that_a_shell_would_misread_are_refused(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = root / "s bin"
    odd.mkdir()
    (odd / "syncr").symlink_to(root / "sbin/syncr")
    monkeypatch.setattr("sys.argv", [str(odd / "hotpair")])
    with pytest.raises(ConfigFail):
        watch.programs()


def test_write_makes_everything_and_the_next_write_touches_nothing(root: Path) -> None:
    wanted = configured(files("/etc/hosts"), files("/etc/app/x", name="app"))
    assert any(line.startswith("+") for line in watch.write(wanted))
    table, cron = Path(paths.incron_table("etc")), Path(paths.cron_file())
    before = [(path, path.stat().st_ino, path.stat().st_mtime_ns) for path in (table, cron)]
    assert watch.write(wanted) == []
    assert before == [(path, path.stat().st_ino, path.stat().st_mtime_ns) for path in (table, cron)]
    assert table.stat().st_mode & 0o777 == 0o644
    assert sorted(os.listdir(root / "etc/incron.d")) == ["hotpair-app", "hotpair-etc"]
    marks.add("etc", "059ffe07bbfb")
    assert os.path.exists(marks.canary("app"))
    assert os.stat(root / "var/lib/hotpair").st_mode & 0o777 == 0o700


def test_a_dry_run_says_the_same_and_writes_nothing(root: Path) -> None:
    wanted = configured(files("/etc/hosts"))
    said = watch.write(wanted, dry_run=True)
    assert os.listdir(root / "etc/incron.d") == []
    assert not (root / "var").exists()
    assert watch.write(wanted) == said


def test_the_table_of_a_set_that_is_gone_is_removed_and_a_stranger_is_not(root: Path) -> None:
    watch.write(configured(files("/etc/hosts"), files("/etc/app/x", name="app")))
    stranger = root / "etc/incron.d/hotpair-mine"
    stranger.write_text("/srv IN_CREATE /bin/true\n")
    said = watch.write(configured(files("/etc/hosts")))
    assert sorted(os.listdir(root / "etc/incron.d")) == ["hotpair-etc", "hotpair-mine"]
    assert any(line.startswith("+++ /dev/null") for line in said)


def test_a_table_that_a_storm_put_away_is_changed_where_it_is(root: Path) -> None:
    watch.write(configured(files("/etc/hosts")))
    storm.switch_off("etc")
    assert watch.write(configured(files("/etc/hosts"))) == []
    assert watch.write(configured(files("/etc/hosts", "/etc/app/x")))
    assert not os.path.exists(paths.incron_table("etc"))
    assert f"{root}/etc/app " in Path(storm.shelf("etc")).read_text()


def test_a_table_that_cannot_be_written_is_said_with_its_remedy(root: Path) -> None:
    (root / "etc/cron.d").write_text("")
    with pytest.raises(ConfigFail, match=r"etc/cron.d.*run as root"):
        watch.write(configured(files("/etc/hosts")))


def test_refresh_follows_directories_that_come_and_go_and_keeps_the_programs(root: Path) -> None:
    found = files("/etc/hosts", "/etc/late/x")
    assert not watch.refresh(found)  # not installed
    watch.write(configured(found))
    assert not watch.refresh(found)
    (root / "etc/late").mkdir()
    (root / "sbin/syncr").rename(root / "sbin/gone")
    assert watch.refresh(found)
    table = Path(paths.incron_table("etc")).read_text()
    assert f"{root}/etc/late " in table
    assert f"{root}/sbin/syncr etc " in table
    assert not watch.refresh(found)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("/etc IN_CLOSE_WRITE,recursive=false /usr/local/sbin/syncr etc $@/$#", "a `$`"),
        ("/etc IN_CLOSE_WRITE,recursive=false /usr/local/sbin/syncr etc $%", "a `$`"),
        ("# what this is for", "a comment of three words"),
        ("/etc IN_CLOSE_WRITE /bin/true " + "x" * 1000, "splits a line"),
    ],
)
def test_a_table_edited_by_hand_is_a_problem_with_its_line(root: Path, line: str, said: str) -> None:
    wanted = configured(files("/etc/hosts"))
    watch.write(wanted)
    assert watch.problems(wanted) == []
    path = paths.incron_table("etc")
    with open(path, "a") as table:
        table.write(line + "\n")
    found = watch.problems(wanted)
    assert [(problem.file, problem.line) for problem in found] == [(path, 4)]
    assert said in found[0].what


def test_a_table_without_a_set_and_one_that_others_can_write_are_problems(root: Path) -> None:
    wanted = configured(files("/etc/hosts"))
    watch.write(wanted)
    os.chmod(paths.incron_table("etc"), 0o666)
    (root / "etc/incron.d/hotpair-old").write_text("")
    (root / "etc/incron.d/hotpair-old").chmod(0o644)
    said = [problem.what for problem in watch.problems(wanted)]
    assert said == [f"{paths.incron_table('etc')} can be written by others", "there is no set 'old'"]

"""The shipped plugins of hotsync.d and restore.d against real servers, a master's and a standby's."""

import os
import signal
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ext import spaces
from tests.ext.spaces import CLEAN, Space
from tests.lab.spaces import wait_until

CONFIG = spaces.TOP / "etc/hotpair"
POSTGRESQL = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), Path("/nowhere"))
AS_MYSQL, AS_POSTGRES, AS_LDAP = (
    ("setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups") for user in ("mysql", "postgres", "openldap")
)
LACKING = spaces.missing("mariadbd", "mariadb-install-db", "mariadb-dump", "psql", "slapadd", "setpriv")
pytestmark = pytest.mark.skipif(bool(LACKING), reason=LACKING)

DIRECTORY = """\
dn: cn=config
objectClass: olcGlobal
cn: config

dn: cn=module{0},cn=config
objectClass: olcModuleList
cn: module{0}
olcModulePath: /usr/lib/ldap
olcModuleLoad: back_mdb

dn: cn=schema,cn=config
objectClass: olcSchemaConfig
cn: schema

include: file:///etc/ldap/schema/core.ldif

dn: olcDatabase={1}mdb,cn=config
objectClass: olcDatabaseConfig
objectClass: olcMdbConfig
olcDatabase: {1}mdb
olcDbDirectory: /var/lib/ldap/one
olcSuffix: dc=one

dn: olcDatabase={2}mdb,cn=config
objectClass: olcDatabaseConfig
objectClass: olcMdbConfig
olcDatabase: {2}mdb
olcDbDirectory: /var/lib/ldap/two
olcSuffix: dc=two
"""


class Server:
    """A space, the dumps in it, and our programs."""

    def __init__(self, space: Space, dumps: Path) -> None:
        self.space, self.dumps = space, dumps

    def plugin(self, name: str, databases: str = "enabled", **facts: str) -> tuple[int, list[str], str]:
        """Run one as hotsync does; return how it ended, the paths that it named, and what it said."""
        named = self.dumps.parent / f"{self.dumps.name}.include"
        named.write_text("")
        facts = {"HOTPAIR_DUMPS": str(self.dumps), "HOTPAIR_DATABASES": databases, **facts}
        ran = self.space.run(CONFIG / "hotsync.d" / name, named, "/dev/null", **facts)
        return ran.returncode, named.read_text().split("\n")[:-1], ran.stdout + ran.stderr

    def dump(self, name: str, *files: str) -> None:
        """Have one make these files, which root alone can read, and nothing else."""
        assert self.plugin(name) == (0, [str(self.dumps / file) for file in files], "")
        assert sorted(os.listdir(self.dumps)) == sorted(files)
        assert {stat.S_IMODE((self.dumps / file).stat().st_mode) for file in files} == {0o600}

    def restore(self, name: str, word: str) -> tuple[int, str]:
        ran = self.space.run(CONFIG / "restore.d" / name, word, self.dumps)
        return ran.returncode, ran.stdout + ran.stderr

    def restored(self, name: str, word: str) -> None:
        code, said = self.restore(name, word)
        assert code == 0 and said.startswith(f"{name}: {word} took ") and said.endswith(" s\n"), said
        assert said.count("\n") == 1 and self.leftovers() == []

    def refuses(self, name: str, word: str, why: str) -> None:
        code, said = self.restore(name, word)
        assert code == 1 and why in said and said.count("\n") == 1, said
        assert self.leftovers() == []

    def leftovers(self) -> list[str]:
        """Return what a rehearsal left: files, and processes of this space."""
        ours = os.readlink(f"/proc/{self.space.keeper.pid}/ns/mnt")
        found = self.space.done("find", "/var/tmp", "-mindepth", "1").split("\n")[:-1]
        for process in Path("/proc").iterdir():
            try:
                if process.name.isdigit() and os.readlink(process / "ns/mnt") == ours:
                    command = (process / "cmdline").read_text(errors="replace")
                    found += [command] if "hotpair-rehearsal" in command else []
            except (FileNotFoundError, ProcessLookupError, PermissionError):  # gone, or of another container
                continue
        return found

    def maria(self, statements: str) -> str:
        return self.space.done("mariadb", "-N", stdin=statements)

    def postgres(self, statements: str, database: str = "postgres") -> str:
        words = ("psql", "-X", "-At", "-q", "-v", "ON_ERROR_STOP=1", "-d", database)
        return self.space.done(*AS_POSTGRES, *words, stdin=statements)


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return new data directories, to be copied: to make one takes longer than all the rest."""
    place = tmp_path_factory.mktemp("templates")
    for directory in (place, *list(place.parents)[:3]):  # where xdist has put it
        if directory != Path(tempfile.gettempdir()):
            directory.chmod(0o755)  # for the users of the servers
    found = {"mysql": place / "mysql", "postgres": place / "postgres"}
    for user, directory in found.items():
        directory.mkdir()
        subprocess.run(["chown", f"{user}:", directory], check=True)
    making = ["mariadb-install-db", "--no-defaults", "--user=mysql", "--skip-test-db", f"--datadir={found['mysql']}"]
    first = subprocess.Popen(making, env=CLEAN, stdout=subprocess.DEVNULL, umask=0o022)
    initdb = [str(POSTGRESQL / "initdb"), "-U", "postgres", "-A", "peer", "-E", "UTF8", "--no-sync"]
    subprocess.run(
        [*AS_POSTGRES, *initdb, "-D", found["postgres"]], env=CLEAN, check=True, stdout=subprocess.DEVNULL, cwd="/"
    )
    assert first.wait(60) == 0
    return found


def up(templates: dict[str, Path], dumps: Path) -> Iterator[Server]:
    space = Space()
    try:
        space.done("cp", "-aT", templates["mysql"], "/var/lib/mysql")
        space.done("cp", "-a", templates["postgres"], "/var/lib/postgresql/data")
        space.serve(*AS_MYSQL, "mariadbd", "--skip-networking", answers=("mariadb-admin", "ping"))
        daemon = (
            str(POSTGRESQL / "postgres"),
            "-D",
            "/var/lib/postgresql/data",
            "-k",
            "/run/postgresql",
            "-h",
            "",
            "-F",
        )
        space.serve(*AS_POSTGRES, *daemon, answers=(*AS_POSTGRES, "psql", "-X", "-c", "SELECT 1"))
        dumps.mkdir(mode=0o700, exist_ok=True)
        yield Server(space, dumps)
    finally:
        space.end()


@pytest.fixture(scope="module")
def dumps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hotsync") / "dumps"


@pytest.fixture(scope="module")
def _master(templates: dict[str, Path], dumps: Path) -> Iterator[Server]:
    yield from up(templates, dumps)


@pytest.fixture(scope="module")
def _standby(templates: dict[str, Path], dumps: Path) -> Iterator[Server]:
    yield from up(templates, dumps)


@pytest.fixture
def master(_master: Server) -> Iterator[Server]:
    yield _master
    for file in _master.dumps.iterdir():
        file.unlink()


@pytest.fixture
def standby(_standby: Server) -> Server:
    return _standby


def spoil(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def cut(file: Path) -> None:
    """Take the end off, at a line's end: what is left is valid."""
    lines = file.read_text().split("\n")
    file.write_text("\n".join(lines[: len(lines) * 3 // 4]) + "\n")


# MariaDB


def test_mariadb_is_dumped_as_of_one_moment_and_loaded_with_all_there_is(master: Server, standby: Server) -> None:
    master.maria(
        "CREATE DATABASE a; CREATE TABLE a.n (v INT); INSERT INTO a.n VALUES (0);"
        "CREATE DATABASE z; CREATE TABLE z.n (v INT); INSERT INTO z.n VALUES (0);"
        "CREATE VIEW z.view AS SELECT v + 1 AS w FROM z.n; CREATE USER shop@localhost IDENTIFIED BY 'geheim';"
        "CREATE EVENT z.event ON SCHEDULE EVERY 1 DAY DO DELETE FROM z.gone;"
        "\nDELIMITER //\nCREATE PROCEDURE a.move() BEGIN WHILE TRUE DO"
        " START TRANSACTION; UPDATE a.n SET v = v + 1; UPDATE z.n SET v = v - 1; COMMIT; END WHILE; END//\n"
        "CREATE TRIGGER a.after AFTER DELETE ON a.n FOR EACH ROW DELETE FROM z.n//\n"
    )
    mover = subprocess.Popen(master.space.inside("mariadb", "-e", "CALL a.move()"), env=CLEAN)
    try:
        assert wait_until(lambda: master.maria("SELECT v FROM a.n") != "0\n", 30)
        master.dump("mariadb", "mariadb.sql")
    finally:
        mover.kill()
        mover.wait()
    standby.maria("CREATE DATABASE a; CREATE TABLE a.dropped_on_the_master (v INT); CREATE DATABASE own")
    standby.restored("mariadb", "load")
    assert standby.maria("SELECT a.n.v > 0, a.n.v + z.n.v FROM a.n, z.n") == "1\t0\n"
    assert standby.maria("SHOW TABLES FROM a; SHOW DATABASES LIKE 'own'") == "n\nown\n"
    assert standby.maria("SELECT w - v FROM z.view, z.n") == "1\n"
    assert standby.maria("SELECT User FROM mysql.user WHERE User = 'shop'") == "shop\n"
    found = standby.maria(
        "SELECT name FROM mysql.event UNION SELECT routine_name FROM information_schema.routines"
        " WHERE routine_schema = 'a' UNION SELECT trigger_name FROM information_schema.triggers"
        " WHERE trigger_schema = 'a'"
    )
    assert found == "event\nmove\nafter\n"


def test_mariadb_is_rehearsed_apart_and_a_broken_dump_fails(master: Server, standby: Server) -> None:
    master.maria("CREATE DATABASE rehearsed; CREATE TABLE rehearsed.t (v INT); INSERT INTO rehearsed.t VALUES (1)")
    master.dump("mariadb", "mariadb.sql")
    before = standby.maria("SHOW DATABASES")
    standby.restored("mariadb", "rehearse")
    spoil(master.dumps / "mariadb.sql", "INSERT INTO `t` VALUES", "INSERT INTO `u` VALUES")
    standby.refuses("mariadb", "rehearse", "Table 'u' was not locked")
    cut(master.dumps / "mariadb.sql")
    for word in ("rehearse", "load"):
        standby.refuses("mariadb", word, "is not whole")
    assert standby.maria("SHOW DATABASES") == before and "rehearsed" not in before


def test_a_rehearsal_that_is_ended_leaves_nothing(master: Server, standby: Server) -> None:
    master.dump("mariadb", "mariadb.sql")
    argv = standby.space.inside(CONFIG / "restore.d/mariadb", "rehearse", master.dumps)
    running = subprocess.Popen(argv, env=CLEAN, start_new_session=True)
    assert wait_until(lambda: any("--skip-networking" in command for command in standby.leftovers()), 30)
    os.killpg(running.pid, signal.SIGTERM)
    assert running.wait(30) != 0
    assert wait_until(lambda: not standby.leftovers(), 30)


# PostgreSQL


def test_postgresql_is_dumped_rehearsed_and_loaded_over_what_is_there(master: Server, standby: Server) -> None:
    master.postgres(
        "CREATE ROLE shop LOGIN PASSWORD 'geheim'; CREATE DATABASE shop OWNER shop; CREATE TABLE here (v int);"
    )
    rows = ["CREATE ROLE postgres;", "DROP ROLE IF EXISTS postgres;", r"\connect x", "a"]
    for row in rows:
        master.postgres(f"CREATE TABLE IF NOT EXISTS t (v text); INSERT INTO t VALUES ('{row}')", "shop")
    master.dump("postgresql", "postgresql.sql")
    standby.restored("postgresql", "rehearse")
    assert "shop" not in standby.postgres("SELECT datname FROM pg_database UNION SELECT rolname FROM pg_roles")
    standby.postgres("CREATE DATABASE shop")
    standby.postgres("CREATE TABLE dropped_on_the_master (v int)", "shop")
    with subprocess.Popen(
        standby.space.inside(*AS_POSTGRES, "psql", "-X", "shop"),
        env=CLEAN,
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as user:  # who is connected must not keep it from being replaced
        assert wait_until(lambda: "shop" in standby.postgres("SELECT datname FROM pg_stat_activity"), 30)
        standby.restored("postgresql", "load")
        standby.restored("postgresql", "load")  # once more does no harm
        assert user.poll() is None and user.stdin
        user.stdin.close()
    assert standby.postgres("SELECT v FROM t", "shop").split("\n")[:-1] == rows
    assert standby.postgres("SELECT relname FROM pg_stat_user_tables", "shop") == "t\n"
    assert standby.postgres("SELECT rolcanlogin FROM pg_roles WHERE rolname = 'shop'") == "t\n"


def test_a_broken_dump_of_postgresql_fails(master: Server, standby: Server) -> None:
    master.postgres("CREATE TABLE broken (v int)")
    master.dump("postgresql", "postgresql.sql")
    spoil(master.dumps / "postgresql.sql", "ALTER TABLE public.broken", "ALTER TABLE public.nothing")
    standby.refuses("postgresql", "rehearse", 'relation "public.nothing" does not exist')
    cut(master.dumps / "postgresql.sql")
    for word in ("rehearse", "load"):
        standby.refuses("postgresql", word, "is not whole")


# OpenLDAP


def directory(server: Server, names: str) -> None:
    """Make a directory with two databases; the second has these entries."""
    for place in ("/var/lib/ldap/one", "/var/lib/ldap/two"):
        server.space.done("install", "-d", "-o", "openldap", place)
    server.space.done(*AS_LDAP, "slapadd", "-F", "/etc/ldap/slapd.d", "-n", "0", stdin=DIRECTORY)
    top = "dn: dc={0}\nobjectClass: dcObject\nobjectClass: organization\ndc: {0}\no: X\n"
    below = "\ndn: ou={0},dc=two\nobjectClass: organizationalUnit\nou: {0}\n"
    server.space.done(*AS_LDAP, "slapadd", "-n", "1", stdin=top.format("one"))
    entries = top.format("two") + "".join(below.format(name) for name in names)
    server.space.done(*AS_LDAP, "slapadd", "-n", "2", stdin=entries)


def units(server: Server) -> list[str]:
    lines = server.space.done(*AS_LDAP, "slapcat", "-b", "dc=two").split("\n")
    return [line[4:] for line in lines if line.startswith("ou: ")]


def test_openldap_is_dumped_rehearsed_and_loaded_with_all_its_databases(master: Server, standby: Server) -> None:
    directory(master, "ab")
    directory(standby, "c")
    master.dump("openldap", "openldap-config.ldif", "openldap-data.ldif")
    standby.restored("openldap", "rehearse")
    assert units(standby) == ["c"]
    for _ in range(2):
        standby.restored("openldap", "load")
        assert units(standby) == ["a", "b"]
        assert "dn: dc=one" in standby.space.done(*AS_LDAP, "slapcat", "-b", "dc=one")
    master.space.done("rm", "-rf", "/var/lib/ldap/two/data.mdb")
    spoil(master.dumps / "openldap-data.ldif", "objectClass: organizationalUnit", "objectClass: unheardOf")
    for word in ("rehearse", "load"):
        standby.refuses("openldap", word, "unheardOf")
    assert units(standby) == ["a", "b"]  # what was there came back
    killed = "mkdir .hotpair-old; mv data.mdb lock.mdb .hotpair-old; echo half >data.mdb"
    standby.space.done(*AS_LDAP, "/bin/sh", "-ec", f"cd /var/lib/ldap/two; {killed}")
    standby.refuses("openldap", "load", "unheardOf")
    assert units(standby) == ["a", "b"]  # what a load that was killed had put aside, too
    assert standby.space.done("find", "/etc/ldap/slapd.d", "/var/lib/ldap", "-name", "*hotpair*") == ""
    cut(master.dumps / "openldap-data.ldif")
    standby.refuses("openldap", "load", "is not whole")


# crontabs


def test_crontabs_come_in_an_archive_and_into_place_when_loaded(master: Server, standby: Server) -> None:
    for server, names in ((master, ("root", "daemon", "tmp.half")), (standby, ("root", "own"))):
        server.space.done("mkdir", "-p", "/var/spool/cron/crontabs")
        for name in names:
            server.space.done("tee", f"/var/spool/cron/crontabs/{name}", stdin=f"{name} of {server is master}\n")
            server.space.done("chmod", "600", f"/var/spool/cron/crontabs/{name}")
    master.space.done("chown", "daemon:", "/var/spool/cron/crontabs/daemon")
    master.dump("crontabs", "crontabs.tar")
    standby.restored("crontabs", "rehearse")
    listing = ("find", "/var/spool/cron/crontabs", "-type", "f", "-printf", "%f %u %m\n")
    assert "daemon" not in standby.space.done(*listing)
    standby.restored("crontabs", "load")
    assert sorted(standby.space.done(*listing).split("\n")[:-1]) == [
        "daemon daemon 600",
        "own root 600",
        "root root 600",
    ]
    assert standby.space.done("cat", "/var/spool/cron/crontabs/root") == "root of True\n"
    (master.dumps / "crontabs.tar").write_bytes(b"x" * 1024)
    code, _ = standby.restore("crontabs", "rehearse")
    assert code != 0


# where there is nothing to do, or nothing to be had

DUMPS = {
    "mariadb": ["mariadb.sql"],
    "postgresql": ["postgresql.sql"],
    "openldap": ["openldap-config.ldif", "openldap-data.ldif"],
    "crontabs": ["crontabs.tar"],
}
every = pytest.mark.parametrize("name", DUMPS)


def places(master: Server, name: str) -> list[str]:
    if name == "openldap" and not master.space.done("ls", "/etc/ldap/slapd.d"):
        directory(master, "")
    if name == "crontabs":
        master.space.done("mkdir", "-p", "/var/spool/cron/crontabs")
    return [str(master.dumps / file) for file in DUMPS[name]]


@every
def test_a_dry_run_names_the_dumps_and_writes_nothing(master: Server, name: str) -> None:
    wanted = places(master, name)
    for file in wanted:
        Path(file).write_text("old")
    assert master.plugin(name, HOTSYNC_DRY_RUN="1") == (0, wanted, "")
    assert master.plugin(name, "disabled", HOTSYNC_DRY_RUN="1")[0] == 0
    assert [Path(file).read_text() for file in wanted] == ["old"] * len(wanted)


@pytest.mark.parametrize("name", ["mariadb", "postgresql", "openldap"])
def test_with_databases_disabled_nothing_is_dumped_and_no_old_dump_is_left(master: Server, name: str) -> None:
    for file in places(master, name):
        Path(file).write_text("old")
    assert master.plugin(name, "disabled") == (0, [], "")
    assert os.listdir(master.dumps) == []


@every
def test_where_it_is_not_installed_a_plugin_is_quiet(master: Server, tmp_path: Path, name: str) -> None:
    for program in ("rm", "env"):
        (tmp_path / program).symlink_to(f"/bin/{program}")
    for file in places(master, name):
        Path(file).write_text("old")
    hide = 'for d in /usr/lib/postgresql /etc/ldap /var/spool; do mount -t tmpfs x $d; done; exec "$@"'
    facts = {"HOTPAIR_DUMPS": str(master.dumps), "HOTPAIR_DATABASES": "enabled"}
    words = ("env", f"PATH={tmp_path}", CONFIG / "hotsync.d" / name, "/dev/null", "/dev/null")
    apart = ("unshare", "--mount", "--propagation", "unchanged", "/bin/sh", "-ec", hide, "sh")
    ran = master.space.run(*apart, *words, **facts)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    assert os.listdir(master.dumps) == []


@pytest.mark.parametrize("name", ["mariadb", "postgresql"])
def test_a_server_that_does_not_answer_is_a_failure_and_the_last_dump_stays(master: Server, name: str) -> None:
    [file] = places(master, name)
    Path(file).write_text("good")
    hide = 'mount -t tmpfs x /run/mysqld; mount -t tmpfs x /run/postgresql; exec "$@"'
    facts = {"HOTPAIR_DUMPS": str(master.dumps), "HOTPAIR_DATABASES": "enabled"}
    words = (CONFIG / "hotsync.d" / name, "/dev/null", "/dev/null")
    apart = ("unshare", "--mount", "--propagation", "unchanged", "/bin/sh", "-ec", hide, "sh")
    ran = master.space.run(*apart, *words, **facts)
    assert ran.returncode != 0 and "connect" in ran.stderr
    assert os.listdir(master.dumps) == [Path(file).name] and Path(file).read_text() == "good"


@every
def test_without_a_dump_there_is_nothing_to_load_or_rehearse(master: Server, name: str) -> None:
    for word in ("load", "rehearse"):
        assert master.restore(name, word) == (0, "")

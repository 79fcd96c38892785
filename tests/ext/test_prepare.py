"""Preparing a standby and restoring on it: accounts, owners of what came, packages. The real tools, on prefixes."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType

import pytest

from hotpair import child
from hotpair.exits import Fail
from hotpair.failover import accounts, equip, logins, renumber
from hotpair.failover.accounts import Accounts
from hotpair.hotsync import backup, inventory
from hotpair.owners import Owners
from tests.ext.test_backup import SETTINGS
from tests.lab.spaces import PRIVATELY

LIB = Path(__file__).parents[2] / "lib"
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes users and gives files to others")
THEIRS = accounts.parse(
    "root:x:0:0:root:/root:/bin/sh\nann:x:1001:1001:Ann,,,:/home/ann:/bin/bash\nbob:x:1002:50:Bob:/home/bob:/bin/sh\n"
    "mysql:x:107:112:MySQL:/nonexistent:/bin/false\n",
    "root:x:0:\nstaff:x:50:\nann:x:1001:\nmysql:x:112:\nsudo:x:27:ann\n",
)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    tmp_path.chmod(0o755)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\neve:x:1002:1002::/home/eve:/bin/sh\n")
    (tmp_path / "etc/group").write_text("root:x:0:\neve:x:1002:\nother:x:112:\n")
    (tmp_path / "etc/shadow").write_text("root:ROOTS:1::::::\neve:!:1::::::\n")
    monkeypatch.setenv("HOTPAIR_ROOT", str(tmp_path))
    return tmp_path


# Accounts


def test_users_and_groups_that_are_missing_are_made_and_nobody_can_log_in(root: Path) -> None:
    said: list[str] = []
    assert logins.create_missing(THEIRS, said.append) == ()
    here = accounts.read()
    assert here.users["ann"] == accounts.User("ann", 1001, 1001, "Ann,,,", "/home/ann", logins.NOLOGIN)
    assert here.users["bob"].uid not in (1002, 0)
    assert here.group_of(here.users["bob"]) == "staff"
    assert here.groups["mysql"].gid not in (112, 0), "112 is taken here"
    assert here.groups["mysql"].gid < 1000, "a package's number stays among the packages'"
    assert here.users["mysql"].uid == 107
    assert "\nann:!:" in (root / "etc/shadow").read_text()
    assert len(said) == 7
    said.clear()
    assert logins.create_missing(THEIRS, said.append) == ()
    assert said == []


def test_a_user_that_cannot_be_made_is_named_and_the_others_are_made(root: Path) -> None:
    theirs = Accounts({"x" * 40: THEIRS.users["ann"]._replace(name="x" * 40), **THEIRS.users}, THEIRS.groups)
    failures = logins.create_missing(theirs, lambda line: None)
    assert [failure.split(":")[0] for failure in failures] == [f"user {'x' * 40}"]
    assert "ann" in accounts.read().users


def test_a_restore_lets_ordinary_users_in_as_on_the_master(root: Path) -> None:
    logins.create_missing(THEIRS, lambda line: None)
    hashes = "ann:$y$j9T$hers\nbob:!\nroot:EVIL\nmysql:EVIL\n"
    assert logins.restore(THEIRS, hashes, lambda line: None) == ()
    here, shadow = accounts.read(), (root / "etc/shadow").read_text()
    assert here.users["ann"].shell == "/bin/bash"
    assert here.groups["sudo"].members == ("ann",)
    assert here.users["mysql"].shell == logins.NOLOGIN
    assert "\nann:$y$j9T$hers:" in shadow
    assert "EVIL" not in shadow
    assert shadow.startswith("root:ROOTS:")
    said: list[str] = []
    assert logins.restore(THEIRS, hashes, said.append) == ()
    assert said == [], "a second time there is nothing to do"


# Owners: users 1001 and 1002 are each other here, group 1002 is 1003, and 1001 is 1002

SWAPPED = Owners({1001: 1002, 1002: 1001, 1004: 1005}, {1001: 1002, 1002: 1003})
WRITING = ("repair_owners", "_plan", "_give", "_give_open")


def owners_of(root: Path) -> dict[str, tuple[int, int, int]]:
    found = {}
    for path in sorted((root / "srv").rglob("*")):
        seen = path.lstat()
        found[path.name] = (seen.st_uid, seen.st_gid, seen.st_mode & 0o7777 if not path.is_symlink() else 0)
    return found


def fill(root: Path) -> None:
    for number, name in enumerate(("one", "two", "a\nb", "\udcff", "deep/er/three", "other", "setuid", "left/out")):
        file = root / "srv/data" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name.encode("utf-8", "surrogateescape").hex())
        os.chown(file, 1001 + number % 2, 1001 + number // 2 % 2)
    (root / "srv/data/link").symlink_to("/etc/passwd")
    os.mkfifo(root / "srv/data/fifo")
    for name in ("link", "fifo", "deep", "setuid"):
        os.chown(root / "srv/data" / name, 1001, 1001, follow_symlinks=False)
    (root / "srv/data/setuid").chmod(0o6755)
    os.link(root / "srv/data/one", root / "srv/data/hard")


def translated(before: dict[str, tuple[int, int, int]]) -> dict[str, tuple[int, int, int]]:
    return {name: (*SWAPPED.of(uid, gid), mode) for name, (uid, gid, mode) in before.items()}


def test_each_file_gets_its_owner_here_once_for_what_was_received(root: Path, tmp_path: Path) -> None:
    fill(root)
    subprocess.run(["setfacl", "-m", "u:1001:r,u:1002:rw", root / "srv/data/other"], check=True)
    (root / "else").mkdir()
    (root / "else/file").touch()
    os.chown(root / "else/file", 1001, 1001)
    (root / "srv/data/away").symlink_to(root / "else")
    before = owners_of(root)
    count, failures = renumber.repair_owners(["/srv/da*", "/nowhere", "/srv/data/away/file"], SWAPPED, "epoch 2")
    assert failures == ()
    assert owners_of(root) == translated(before)
    assert count == sum(translated(before)[name] != before[name] for name in before)
    assert (root / "else/file").stat().st_uid == 1001, "a link was followed"
    assert (root / "etc/passwd").stat().st_uid == 0
    acl = subprocess.run(["getfacl", "-n", root / "srv/data/other"], capture_output=True, text=True).stdout
    assert "user:1002:r--" in acl
    assert "user:1001:rw-" in acl
    assert renumber.repair_owners(["/srv/data"], SWAPPED, "epoch 2") == (0, ())
    assert owners_of(root) == translated(before), "a second time there is nothing to do"
    renumber.repair_owners(["/srv/data"], Owners(*({v: k for k, v in one.items()} for one in SWAPPED)), "epoch 3")
    assert owners_of(root) == before, "what is received anew is done anew"


def test_what_makes_a_node_itself_keeps_its_owner(root: Path) -> None:
    for live in ("etc/hotpair/key", "srv/data/.hotpair/data/staged"):
        file = root / live
        file.parent.mkdir(parents=True)
        file.touch()
        os.chown(file, 1001, 1001)
    assert renumber.repair_owners(["/etc", "/srv"], SWAPPED, "1") == (0, ())


def trace_to(stop: tuple[str, int], count: int) -> Callable[[FrameType, str, object], object]:
    """Return a trace function that kills this process when it comes to a line for the count-th time."""
    left = [count]

    def trace(frame: FrameType, event: str, _: object) -> object:
        if frame.f_code.co_filename == renumber.__file__ and (frame.f_code.co_name, frame.f_lineno) == stop:
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    return trace


def lines_of_repair(root: Path) -> list[tuple[str, int]]:
    seen = []

    def trace(frame: FrameType, event: str, _: object) -> object:
        name = frame.f_code.co_name
        if frame.f_code.co_filename == renumber.__file__ and event == "line" and name in WRITING:
            seen.append((name, frame.f_lineno))
        return trace

    sys.settrace(trace)  # type: ignore[arg-type]
    try:
        renumber.repair_owners(["/srv/data"], SWAPPED, "seen")
    finally:
        sys.settrace(None)
    return list(dict.fromkeys(seen))


def test_killed_at_any_line_the_next_run_ends_as_one_that_was_not(root: Path) -> None:
    fill(root)
    stops = lines_of_repair(root)
    assert len(stops) > 30
    for number, stop in enumerate(stops):
        shutil.rmtree(root / "srv")
        fill(root)
        before = owners_of(root)
        child = os.fork()
        if not child:
            sys.settrace(trace_to(stop, 1 + number % 3))  # type: ignore[arg-type]
            renumber.repair_owners(["/srv/data"], SWAPPED, str(number))
            os._exit(0)  # there is no second or third time for this line
        os.waitpid(child, 0)
        renumber.repair_owners(["/srv/data"], SWAPPED, str(number))
        assert owners_of(root) == translated(before), stop


def test_a_file_that_was_replaced_in_between_is_left_alone(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(root)

    def replaced(patterns: Iterable[str], owners: Owners, received: str) -> None:
        plan(patterns, owners, received)
        file = root / "srv/data/one"
        file.rename(root / "srv/one")
        file.touch()
        os.chown(file, 1001, 1001)

    plan = renumber._plan
    monkeypatch.setattr(renumber, "_plan", replaced)
    renumber.repair_owners(["/srv/data"], SWAPPED, "1")
    assert (root / "srv/data/one").stat().st_uid == 1001


# All of it, in its order


@pytest.fixture
def archive(root: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Have a backup of another node: its ann is our eve's number, and her file came with it."""
    other = root / "other"
    monkeypatch.setenv("HOTPAIR_ROOT", str(other))
    monkeypatch.setattr(inventory, "packages", lambda: "vim 9\n")
    (other / "etc").mkdir(parents=True)
    (other / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nann:x:1002:1002::/home/ann:/bin/bash\n")
    (other / "etc/group").write_text("root:x:0:\nann:x:1002:\n")
    (other / "etc/shadow").write_text("ann:$y$hers:1::::::\n")
    (other / "etc/motd").write_text("theirs")
    os.chown(other / "etc/motd", 1002, 1002)
    assert backup.make(SETTINGS) == ()
    made = backup.archive()
    monkeypatch.setenv("HOTPAIR_ROOT", str(root))
    (root / "etc/motd").write_text("ours")
    (root / "srv").mkdir()
    (root / "srv/hers").touch()
    os.chown(root / "srv/hers", 1002, 1002)
    return made


def test_preparing_makes_accounts_and_says_what_a_promotion_will_see_to(
    archive: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inventory, "installed", lambda: {"vim": "9"})
    said: list[str] = []
    assert equip.prepare(archive, said.append, 60) == ()
    assert accounts.read().users["ann"].uid not in (0, 1002)
    assert said[-1] == "2 users and groups have other numbers: a promotion sees to that"


def test_a_package_manager_that_fails_does_not_keep_accounts_from_being_made(
    archive: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inventory, "installed", lambda: {})
    assert equip.prepare(archive, lambda line: None, 60) == ("packages belong to the whole machine, not to a prefix",)
    assert "ann" in accounts.read().users


def test_a_restore_brings_accounts_owners_and_configuration_and_keeps_what_was_here(root: Path, archive: str) -> None:
    def state() -> tuple[object, ...]:
        return [path.read_text() for path in (root / "etc").iterdir() if path.is_file()], owners_of(root)

    assert equip.restore(archive, SETTINGS, ["/srv"], 2, lambda line: None, 60) == ()
    ann = accounts.read().users["ann"]
    assert ann.uid not in (0, 1002)
    assert (ann.shell, "\nann:$y$hers:" in (root / "etc/shadow").read_text()) == ("/bin/bash", True)
    assert (root / "srv/hers").stat().st_uid == (root / "etc/motd").stat().st_uid == ann.uid
    assert (root / "etc/motd").read_text() == "theirs"
    with tarfile.open(root / "var/lib/hotpair/hotsync/before-2" / backup.NAME) as tar:
        file = tar.extractfile("config/etc/motd")
        assert file
        assert file.read() == b"ours"
    before = state()
    assert equip.restore(archive, SETTINGS, ["/srv"], 2, lambda line: None, 60) == ()
    assert state() == before, "a second time there is nothing to do"


def test_selinux_gets_to_know_what_was_written(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def run(argv: list[str], environment: object, timeout: object, stdin: bytes) -> str:
        asked.append((argv[0], stdin))
        return ""

    monkeypatch.setattr(child, "run", run)
    assert equip._relabel(["/etc/motd"], 60) == ()
    assert asked == [], "a prefix has no labels of its own"
    monkeypatch.delenv("HOTPAIR_ROOT")
    monkeypatch.setattr(equip, "SELINUX", str(root / "none"))
    assert equip._relabel(["/etc/motd"], 60) == ()
    assert asked == [], "nor has a machine without SELinux"
    monkeypatch.setattr(equip, "SELINUX", "/proc")
    assert equip._relabel(["/etc/a\nb", "/etc/\udcff"], 60) == ()
    assert asked == [("restorecon", b"/etc/a\nb\0/etc/\xff\0")]


@pytest.mark.skipif(not shutil.which("dpkg-query"), reason="no dpkg here")
def test_what_is_installed_is_what_dpkg_says() -> None:
    said = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", "coreutils"], capture_output=True, text=True).stdout
    found = inventory.installed()
    assert found["coreutils"] == said
    assert "no-such-package" not in found


@pytest.mark.skipif(not shutil.which("apt-mark"), reason="no apt here")
def test_what_was_asked_for_is_what_apt_says() -> None:
    said = subprocess.run(["apt-mark", "showmanual"], capture_output=True, text=True).stdout.split()
    assert [line.split(" ")[0] for line in inventory.packages().splitlines()] == sorted(said)


def test_a_package_is_asked_for_unless_apt_calls_it_automatic() -> None:
    here = [("dpkg", "amd64", "1"), ("a", "all", "1"), ("b", "all", "1"), ("c", "amd64", "1"), ("c", "i386", "1")]
    states = (
        "Package: a\nArchitecture: amd64\nAuto-Installed: 1\n\nPackage: b\nArchitecture: amd64\nAuto-Installed: 0\n"
    )
    states += "\nPackage: c\nArchitecture: i386\nAuto-Installed: 1\n"
    assert inventory.manual(here, states) == ["dpkg", "b", "c"]
    assert inventory.manual(here[3:] + here[:1], "") == ["c", "c:i386", "dpkg"]


def test_a_program_that_fails_is_quoted_with_its_last_words() -> None:
    with pytest.raises(Fail, match="ls: ls: cannot access '/nowhere'"):
        inventory.says("ls", "/nowhere")
    with pytest.raises(Fail, match="no-such-program"):
        inventory.says("no-such-program")


# Packages: apt-get itself, on an overlay of this machine that is gone afterwards

INSTALL = """
import os
from hotpair.failover import software
from hotpair.hotsync import inventory
names = software.missing("hptest-one 1\\nhptest-two 1\\nhptest-none 1\\n")
print(*names)
for failure in software.install(names, print, 60):
    print("FAILED", failure)
print(software.missing("hptest-one 1\\nhptest-two 1\\n"), "missing")
print(os.path.exists("/repo/ran"), "ran")
print(os.path.exists(software.POLICY) and open(software.POLICY).read().split("\\n")[1], "policy")
print("hptest-one" in inventory.enabled().split(), "enabled", os.path.exists("/etc/rc2.d/K01hptest-one"), "disabled")
"""
SCRIPT = """\
#!/bin/sh
### BEGIN INIT INFO
# Provides: hptest
# Required-Start:
# Required-Stop:
# Default-Start: 2 3 4 5
# Default-Stop: 0 1 6
### END INIT INFO
echo ran >>/repo/ran
"""
IN_OVERLAY = """
set -e
mount -t tmpfs none "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay none -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
mount -t proc none "$1/root/proc"
mount --bind /dev "$1/root/dev"
rm -rf "$1/root/etc/apt/sources.list" "$1/root/etc/apt/sources.list.d"
mkdir "$1/root/repo"
cp "$2"/* "$1/root/repo"
echo 'deb [trusted=yes] file:/repo ./' >"$1/root/etc/apt/sources.list"
policy=$1/root/usr/sbin/policy-rc.d
rm -f "$policy"
[ -z "$3" ] || install -m 755 /dev/stdin "$policy" <<EOF
#!/bin/sh
$3
exit 101
EOF
shift 3
exec chroot "$ROOT/root" "$@"
"""


def package(directory: Path, name: str, after: str) -> str:
    """Build a package whose postinst runs a line of shell; return its lines of the list of packages."""
    control = f"Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: a <a@b>\nDescription: none\n"
    tree = directory / name
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "etc/init.d").mkdir(parents=True)
    (tree / "etc/init.d" / name).write_text(SCRIPT)
    (tree / "etc/init.d" / name).chmod(0o755)
    (tree / "DEBIAN/control").write_text(control)
    (tree / "DEBIAN/postinst").write_text(f"#!/bin/sh\n{after}\n")
    (tree / "DEBIAN/postinst").chmod(0o755)
    file = directory / f"{name}.deb"
    subprocess.run(["dpkg-deb", "-Znone", "--build", tree, file], check=True, capture_output=True)
    data = file.read_bytes()
    return f"{control}Filename: ./{file.name}\nSize: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\n\n"


@pytest.mark.skipif(not shutil.which("apt-get") or not shutil.which("unshare"), reason="no apt-get here")
@pytest.mark.parametrize(("policy", "after"), [("", "False"), ("# a container's own", "# a container's own")])
def test_packages_are_installed_what_cannot_be_had_is_named_and_no_service_starts(
    tmp_path: Path, policy: str, after: str
) -> None:
    start = "update-rc.d {0} defaults 2>/dev/null; invoke-rc.d {0} start || exit 1"
    index = package(tmp_path / "repo", "hptest-one", start.format("hptest-one"))
    index += package(tmp_path / "repo", "hptest-two", "test -x /usr/sbin/policy-rc.d")
    for name in ("hptest-one", "hptest-two"):
        shutil.rmtree(tmp_path / "repo" / name)
    (tmp_path / "repo/Packages").write_text(index)
    (tmp_path / "over").mkdir()
    argv: list[str | Path] = [
        *("unshare", "--mount", "--propagation", "unchanged"),
        *("/bin/sh", "-c", PRIVATELY, "sh", tmp_path / "over"),
        "/bin/sh",
        "-c",
        IN_OVERLAY,
        "sh",
        tmp_path / "over",
    ]
    argv += [tmp_path / "repo", policy, sys.executable, "-c", textwrap.dedent(INSTALL)]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(LIB), "ROOT": str(tmp_path / "over")}
    done = subprocess.run(argv, env=environment, capture_output=True, text=True)
    if "mount:" in done.stderr:
        pytest.skip(f"no overlay here: {done.stderr.strip()}")
    said = done.stdout.splitlines()
    assert done.returncode == 0, done
    assert said[0] == "hptest-none hptest-one hptest-two"
    assert [line for line in said if line.startswith("FAILED hptest-none: ")], said
    assert said[-4:] == ["[] missing", "False ran", f"{after} policy", "False enabled True disabled"], said

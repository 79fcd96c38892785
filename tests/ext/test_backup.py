"""The configuration backup: made on one node, unpacked on another, kept, and no way in for a hostile one."""

import hashlib
import io
import lzma
import os
import resource
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import pytest

from hotpair import paths
from hotpair.exits import Fail, Refused
from hotpair.hotsync import backup, inventory, settings
from tests.ext.trees import tree_of

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")
SETTINGS = settings.Hotsync(
    **{key.replace("-", "_"): option.parse(option.default or "master") for key, option in settings.OPTIONS.items()}
)._replace(config=("/etc", "/srv/*.conf", "/nowhere"), keep=3)
PASSWD = "root:x:0:0:root:/root:/bin/sh\nann:x:{}:{}:Ann,,,:/home/ann:/bin/sh\n"


class Node(NamedTuple):
    """A prefix."""

    root: Path
    enter: Callable[[], None]

    def write(self, live: str, text: str) -> Path:
        file = Path(f"{self.root}{live}")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def make(self) -> tuple[str, ...]:
        self.enter()
        return backup.make(SETTINGS)

    def archive(self) -> Path:
        self.enter()
        return Path(backup.archive())

    def kept(self) -> list[str]:
        """Return the texts of /etc/a in the kept backups, the last one first, each checked by sha256sum."""
        self.enter()
        home = Path(backup.kept(1)).parent
        found = []
        for name in sorted(filter(str.isdigit, os.listdir(home))) if home.exists() else ():
            subprocess.run(["sha256sum", "-c", "--quiet", f"{backup.NAME}.sha256"], cwd=home / name, check=True)
            found.append(member(home / name / backup.NAME, "config/etc/a"))
        return found


@pytest.fixture
def nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Node, Node]:
    def node(name: str, number: int) -> Node:
        made = Node(tmp_path / name, lambda: monkeypatch.setenv("HOTPAIR_ROOT", str(tmp_path / name)))
        made.write("/etc/passwd", PASSWD.format(number, number))
        made.write("/etc/group", f"root:x:0:\nann:x:{number}:\n")
        return made

    monkeypatch.setattr(inventory, "packages", lambda: "vim 9.0\n")
    return node("alpha", 1001), node("beta", 1005)


@pytest.fixture
def alpha(nodes: tuple[Node, Node]) -> Node:
    return nodes[0]


@pytest.fixture
def beta(nodes: tuple[Node, Node]) -> Node:
    return nodes[1]


def member(archive: Path, name: str) -> str:
    with tarfile.open(archive) as tar:
        file = tar.extractfile(name)
        assert file
        return file.read().decode()


def names(archive: Path) -> list[str]:
    with tarfile.open(archive) as tar:
        return tar.getnames()


def fill(node: Node) -> None:
    """Make one of each kind, with what is hard to keep."""
    for name in ("plain", "a\nb", "-rf", "\udcff\udcfe", "é", "x" * 255, " ", "%s", "\\"):
        node.write(f"/etc/names/{name}", name.encode("utf-8", "surrogateescape").hex())
    node.write("/etc/deep/er/file", "x" * 100_000).chmod(0o4751)
    node.write("/etc/empty", "").chmod(0o400)
    file = node.write("/etc/attributes", "a")
    os.setxattr(file, "user.bytes=%3D", bytes(range(256)))
    Path(f"{node.root}/etc/link").symlink_to("no\udcffwhere")
    Path(f"{node.root}/etc/into").symlink_to("/etc/deep")
    os.link(file, f"{node.root}/etc/second")
    folder = Path(f"{node.root}/etc/folder")
    folder.mkdir(mode=0o1700)
    folder.chmod(0o1703)
    os.utime(file, ns=(1, 1_234_567_890_123_456_789))
    os.utime(f"{node.root}/etc/empty", ns=(1, -1_500_000_001))
    os.utime(f"{node.root}/etc/link", ns=(1, 999_999_999), follow_symlinks=False)
    for path in (folder, Path(f"{node.root}/etc/deep/er"), Path(f"{node.root}/etc/deep")):
        os.utime(path, ns=(1, 1_000_000_000_000_000_007))
    node.write("/srv/one.conf", "1")
    node.write("/srv/two", "2")


def test_what_is_unpacked_elsewhere_is_what_was_packed(alpha: Node, beta: Node) -> None:
    fill(alpha)
    assert alpha.make() == ()
    beta.enter()
    done = backup.unpack(str(alpha.archive()), str(beta.root))
    assert done.left == ()
    assert tree_of(beta.root / "etc") == tree_of(alpha.root / "etc") | {
        name: tree_of(beta.root / "etc")[name] for name in ("passwd", "group")
    }
    for name in ("folder", "deep", "deep/er"):
        assert (beta.root / "etc" / name).stat().st_mtime_ns == 1_000_000_000_000_000_007
    assert (beta.root / "etc/attributes").samefile(beta.root / "etc/second")
    assert os.listdir(beta.root / "srv") == ["one.conf"]


def test_a_second_time_there_is_nothing_to_do(alpha: Node, beta: Node) -> None:
    fill(alpha)
    alpha.make()
    assert len(backup.unpack(str(alpha.archive()), str(beta.root)).written) > 10
    before = {path: path.lstat().st_ino for path in (beta.root / "etc").rglob("*")}
    assert backup.unpack(str(alpha.archive()), str(beta.root)) == ((), ())
    assert {path: path.lstat().st_ino for path in (beta.root / "etc").rglob("*")} == before


@as_root
def test_a_file_belongs_to_the_one_who_has_the_name_there(alpha: Node, beta: Node) -> None:
    with_acl = alpha.write("/etc/with-acl", "")
    os.chown(alpha.write("/etc/hers", ""), 1001, 1001)
    subprocess.run(["setfacl", "-m", "u:1001:r", with_acl], check=True)
    os.chown(alpha.write("/etc/numbered", ""), 4711, 4712)
    alpha.make()
    backup.unpack(str(alpha.archive()), str(beta.root))
    found = (beta.root / "etc/hers").stat()
    assert (found.st_uid, found.st_gid) == (1005, 1005)
    assert (beta.root / "etc/numbered").stat().st_gid == 4712
    said = subprocess.run(["getfacl", "-n", beta.root / "etc/with-acl"], capture_output=True, text=True)
    assert "user:1005:r--" in said.stdout
    assert "user:1001" not in said.stdout


@as_root
def test_a_file_of_somebody_unknown_becomes_roots_and_this_is_said(alpha: Node, beta: Node) -> None:
    file = alpha.write("/etc/hers", "")
    os.chown(file, 1001, 1001)
    file.chmod(0o4755)
    alpha.make()
    beta.write("/etc/passwd", PASSWD.replace("ann", "bob").format(1001, 1001))
    done = backup.unpack(str(alpha.archive()), str(beta.root))
    found = (beta.root / "etc/hers").stat()
    assert (found.st_uid, found.st_mode & 0o7777) == (0, 0o755)
    assert done.left == ("/etc/hers: no ann here: root has it",)


def test_what_makes_the_other_node_itself_stays_and_so_does_what_is_skipped(alpha: Node, beta: Node) -> None:
    for node in (alpha, beta):
        for live in ("/etc/hostname", "/etc/fstab", "/etc/network/interfaces", "/etc/skipped", "/etc/taken"):
            node.write(live, node.root.name)
    alpha.make()
    done = backup.unpack(str(alpha.archive()), str(beta.root), lambda live: live == "/etc/skipped")
    assert done.written == ("/etc/taken",)
    for name in ("hostname", "fstab", "network/interfaces", "skipped"):
        assert (beta.root / "etc" / name).read_text() == "beta"


def test_no_secret_of_the_node_is_in_it_and_what_is_in_it_is_for_root_alone(alpha: Node) -> None:
    for live in ("/etc/hotpair/id_ed25519", "/etc/ssh/ssh_host_rsa_key", "/etc/.hotpair/web/x", "/etc/gshadow-"):
        alpha.write(live, "SECRET")
    alpha.write("/etc/shadow", "root:SECRET:1::::::\nann:$y$hers:1::::::\n")
    alpha.make()
    text = lzma.decompress(alpha.archive().read_bytes())
    assert b"SECRET" not in text
    assert member(alpha.archive(), "logins") == "ann:$y$hers\n"
    for tail in ("", ".sha256"):
        assert Path(f"{alpha.archive()}{tail}").stat().st_mode & 0o777 == 0o600


def test_packages_units_users_and_groups_are_in_it(alpha: Node) -> None:
    links = Path(alpha.write("/etc/rc2.d/S01cron", "")).parent
    (links / "K01old").touch()
    alpha.make()
    assert member(alpha.archive(), "packages") == "vim 9.0\n"
    assert member(alpha.archive(), "users") == PASSWD.format(1001, 1001)
    assert member(alpha.archive(), "groups") == "root:x:0:\nann:x:1001:\n"
    if not inventory.systemd():
        assert member(alpha.archive(), "units") == "cron\n"


def test_sha256sum_agrees(alpha: Node) -> None:
    alpha.make()
    subprocess.run(["sha256sum", "-c", "--quiet", f"{backup.NAME}.sha256"], cwd=alpha.archive().parent, check=True)
    assert backup.verify(str(alpha.archive()))


def test_one_flipped_bit_is_noticed_before_anything_is_written(alpha: Node, beta: Node) -> None:
    alpha.write("/etc/a", "a")
    alpha.make()
    data = bytearray(alpha.archive().read_bytes())
    data[len(data) // 2] ^= 1
    alpha.archive().write_bytes(data)
    for act in (backup.verify, lambda archive: backup.unpack(archive, str(beta.root)), backup.read):
        with pytest.raises(Fail, match="digest"):
            act(str(alpha.archive()))
    assert not (beta.root / "etc/a").exists()


def test_former_ones_are_kept_three_deep_where_something_changed(alpha: Node) -> None:
    for text in "12345":
        alpha.write("/etc/a", text)
        alpha.make()
        first = alpha.archive().stat()
        alpha.make()
        second = alpha.archive().stat()
        assert second.st_mtime_ns > first.st_mtime_ns, "it is sent with each run, so it must look fresh"
    assert member(alpha.archive(), "config/etc/a") == "5"
    assert alpha.kept() == ["4", "3", "2"]


def test_a_link_on_the_way_to_a_listed_path_is_said_and_not_followed(alpha: Node) -> None:
    alpha.write("/else/where/x.conf", "x")
    Path(f"{alpha.root}/srv").symlink_to("else/where")
    alpha.enter()
    assert backup.make(SETTINGS._replace(config=("/srv/x.conf", "/etc"))) == (
        "/srv: a link is on the way: list where it leads",
    )
    assert "config/srv/x.conf" not in names(alpha.archive())


def test_what_the_disk_does_not_take_fails_the_run_and_leaves_the_former_one(alpha: Node) -> None:
    alpha.write("/etc/a", "former")
    alpha.make()
    for number in range(50):
        Path(f"{alpha.root}/etc/{number}").symlink_to(os.urandom(500).hex())
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            alpha.make()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert backup.verify(str(alpha.archive()))
    assert member(alpha.archive(), "config/etc/a") == "former"
    assert alpha.make() == ()


# Killed at any line


def lines_of_make(act: Callable[[], object]) -> list[tuple[str, int]]:
    """Return the lines of make and of the rotation that it goes through."""
    seen = []

    def trace(frame: FrameType, event: str, _: object) -> object:
        at = frame.f_code.co_name, frame.f_lineno
        if frame.f_code.co_filename == backup.__file__ and at[0] in ("make", "_keep_former") and event == "line":
            seen.append(at)
        return trace

    sys.settrace(trace)  # type: ignore[arg-type]
    try:
        act()
    finally:
        sys.settrace(None)
    return list(dict.fromkeys(seen))


def make_until(stop: tuple[str, int]) -> None:
    """Make a backup in a child that is killed before it comes to a line."""

    def trace(frame: FrameType, *_: object) -> object:
        if frame.f_code.co_filename == backup.__file__ and (frame.f_code.co_name, frame.f_lineno) == stop:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace

    child = os.fork()
    if not child:
        sys.settrace(trace)  # type: ignore[arg-type]
        backup.make(SETTINGS)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def test_killed_at_any_line_a_whole_former_one_is_there_and_the_next_run_ends_as_ever(alpha: Node) -> None:
    for text in "abcde":  # so that all is kept that can be
        alpha.write("/etc/a", text)
        stops = lines_of_make(alpha.make)
    assert len(stops) > 20
    for number, stop in enumerate(stops):
        before = member(alpha.archive(), "config/etc/a")
        alpha.write("/etc/a", str(number))
        make_until(stop)
        whole = alpha.kept()
        with suppress(Fail):
            backup.verify(str(alpha.archive()))
            whole.append(member(alpha.archive(), "config/etc/a"))
        assert before in whole, stop
        assert set(os.listdir(alpha.archive().parent)) == {backup.NAME, f"{backup.NAME}.sha256"}
        alpha.make()
        backup.verify(str(alpha.archive()))
        assert member(alpha.archive(), "config/etc/a") == str(number)
        assert (alpha.kept()[0], len(alpha.kept())) in ((before, 3), (str(number), 3)), stop


# Hostile archives


def hostile(node: Node, *infos: tarfile.TarInfo) -> str:
    """Write an archive with a right digest."""
    place = paths.make_private(str(node.root / "var/lib/hotpair/hotsync/out")) + "/" + backup.NAME
    with lzma.open(place, "wb") as packed, tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info in infos:
            info.size = 4 if info.isreg() else 0
            tar.addfile(info, io.BytesIO(b"evil"))
    digest = hashlib.sha256(Path(place).read_bytes()).hexdigest()
    Path(place + ".sha256").write_text(f"{digest}  {backup.NAME}\n")
    return place


def info(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", **headers: str) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.pax_headers = kind, link, headers
    return made


@pytest.mark.parametrize(
    "bad",
    [
        info("/tmp/evil"),
        info("config//tmp/evil"),
        info("config/../evil"),
        info("config/etc/../../evil"),
        info("../evil"),
        info("config/etc/./evil"),
        info("other/evil"),
        info("config/etc/evil", tarfile.LNKTYPE, "../../etc/passwd"),
        info("config/etc/evil", tarfile.LNKTYPE, "/etc/passwd"),
        info("config/etc/evil", mtime="1e9"),
        info("config/etc/evil", mtime="9" * 30),
        info("config/etc/evil", uid="-1"),
        info("config/etc/evil", uid=str(1 << 40)),
    ],
    ids=lambda bad: f"{bad.name}{bad.linkname}{bad.pax_headers}",
)
def test_an_archive_with_a_member_that_make_does_not_write_is_refused_as_a_whole(
    beta: Node, bad: tarfile.TarInfo
) -> None:
    beta.enter()
    archive = hostile(beta, info("config/etc/good"), bad)
    before = tree_of(beta.root)
    with pytest.raises(Refused):
        backup.unpack(archive, str(beta.root))
    assert tree_of(beta.root) == before


@as_root
def test_no_link_is_followed_whether_it_came_along_or_was_here(beta: Node, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("untouched")
    beta.enter()
    Path(f"{beta.root}/etc/here").symlink_to(outside)
    Path(f"{beta.root}/etc/file").symlink_to(outside / "file")
    before = tree_of(outside)
    archive = hostile(
        beta,
        info("config/etc/came", tarfile.SYMTYPE, str(outside)),
        info("config/etc/came/file"),
        info("config/etc/came", tarfile.DIRTYPE),
        info("config/etc/here/file"),
        info("config/etc/here", tarfile.DIRTYPE),
        info("config/etc/file"),
        info("config/etc/hard", tarfile.LNKTYPE, "config/etc/came"),
        info("config/etc/self", tarfile.LNKTYPE, "config/etc/self"),
        info("config/etc/null", tarfile.CHRTYPE),
        info("config/etc/good"),
    )
    done = backup.unpack(archive, str(beta.root))
    assert tree_of(outside) == before
    assert (beta.root / "etc/file").read_text() == (beta.root / "etc/good").read_text() == "evil"
    assert not (beta.root / "etc/file").is_symlink()
    assert {line.split(":")[0] for line in done.left} >= {f"/etc/{name}" for name in ("here", "hard", "self", "null")}
    assert not list((beta.root / "etc").glob(".hotpair*"))

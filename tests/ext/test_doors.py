"""The standby's door: who gets in, what he may write there, and that it opens, closes and follows its configuration."""

import contextlib
import os
import socket
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ext.standbys import PASSWORD, Standby, certificate, contents, ended, expired, needed, openssl

GREETING = b"@RSYNCD: 31.0 sha512 sha256 md5\n#list\n"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standby]:
    needed()
    pair = Standby(tmp_path_factory.mktemp("doors"))
    try:
        said = pair.open()
        assert said.code == 0, (said, (pair.beta.root / "var/log/hotpair.log").read_text())
        yield pair
    finally:
        pair.close()


@pytest.fixture
def source(tmp_path: Path, pair: Standby) -> Path:
    """What somebody sends who knows the password."""
    (tmp_path / "source/srv/data").mkdir(parents=True)
    (tmp_path / "source/srv/data/file").write_text("sent\n")
    (tmp_path / "source/etc").mkdir()
    (tmp_path / "source/etc/passwd").write_text("mine\n")
    pair.beta.live("/etc/passwd").write_text("root:x:0:0::/root:/bin/sh\n")
    for path in pair.beta.live("/srv/data").iterdir():
        path.unlink()
    return tmp_path / "source"


def knock(pair: Standby, *words: str) -> str:
    """Return what comes out of the door for somebody who speaks TLS."""
    argv = ("openssl", "s_client", "-quiet", "-connect", f"127.0.0.1:{pair.port}", *words)
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdin and process.stdout
        try:
            process.stdin.write(GREETING)
            process.stdin.flush()
            return process.stdout.readline().decode()
        except BrokenPipeError:
            return ""
        finally:
            process.kill()


def of(directory: Path, name: str) -> tuple[str, ...]:
    return "-cert", str(directory / f"{name}.crt"), "-key", str(directory / f"{name}.key")


# who gets in


def test_the_pinned_certificate_gets_in(pair: Standby) -> None:
    assert knock(pair, *of(pair.alpha.root / "etc/hotpair", "hotsync")).startswith("@RSYNCD:")


def test_another_certificate_and_none_get_nothing(pair: Standby, tmp_path: Path) -> None:
    certificate(tmp_path, "evil")
    assert knock(pair, *of(tmp_path, "evil")) == ""
    assert knock(pair) == ""


def test_a_certificate_that_the_pinned_one_signed_gets_nothing(pair: Standby, tmp_path: Path) -> None:
    ours = pair.alpha.root / "etc/hotpair"
    certificate(tmp_path, "evil")
    openssl("req", "-new", "-key", f"{tmp_path}/evil.key", "-subj", "/CN=evil", "-out", f"{tmp_path}/evil.csr")
    signed = ("-CA", f"{ours}/hotsync.crt", "-CAkey", f"{ours}/hotsync.key", "-CAcreateserial", "-days", "9")
    openssl("x509", "-req", "-in", f"{tmp_path}/evil.csr", *signed, "-out", f"{tmp_path}/evil.crt")
    assert knock(pair, *of(tmp_path, "evil")) == ""


def test_tls_1_2_and_plain_tcp_get_nothing(pair: Standby) -> None:
    ours = of(pair.alpha.root / "etc/hotpair", "hotsync")
    assert knock(pair, "-tls1_2", *ours) == ""
    with socket.create_connection(("127.0.0.1", pair.port), timeout=10) as plain:
        plain.sendall(GREETING)
        with contextlib.suppress(ConnectionResetError):
            assert b"RSYNCD" not in plain.recv(1000)


def test_nobody_but_this_machine_reaches_the_daemon(pair: Standby) -> None:
    listening = ended("ss", "-Hltn", f"sport = :{pair.rsyncd_port}").out.split()
    assert listening[3] == f"127.0.0.1:{pair.rsyncd_port}"


def test_a_wrong_password_gets_nothing(pair: Standby, source: Path) -> None:
    said = pair.rsync("-a", f"{source}/", f"{pair.module}/", password="wrong-password")
    assert said.code == 5 and "auth failed" in said.err


def test_no_module_is_listed_and_no_other_is_there(pair: Standby, source: Path) -> None:
    assert pair.rsync("127.0.0.1::").out == ""
    said = pair.rsync("-a", f"{source}/", "hotpair@127.0.0.1::other/")
    assert said.code == 5 and "Unknown module" in said.err


def test_nothing_can_be_fetched(pair: Standby, tmp_path: Path) -> None:
    said = pair.rsync("-a", f"{pair.module}/etc/hotpair/", f"{tmp_path}/got/")
    assert said.code and not (tmp_path / "got").exists()


def test_the_sender_reads_why_the_gate_refuses_him(pair: Standby, source: Path) -> None:
    said = pair.rsync("-a", f"{source}/", f"{pair.module}/", hello='{"node": "alpha", "role": "standby", "epoch": 1}\n')
    assert said.code == 5 and "@ERROR: alpha is standby, no master" in said.err, said


# what may be written


def test_what_is_accepted_is_written(pair: Standby, source: Path) -> None:
    said = pair.rsync("-a", f"{source}/srv/data/", f"{pair.module}/srv/data/")
    assert said.code == 0, said
    assert pair.beta.text("/srv/data/file") == "sent\n"


def test_what_is_not_accepted_is_neither_written_nor_removed(pair: Standby, source: Path) -> None:
    (source / "srv/other").mkdir()
    (source / "srv/other/file").write_text("x")
    (source / "var/lib/hotpair/hotsync/sub").mkdir(parents=True)
    (source / "etc/hotpair").mkdir()
    (source / "etc/hotpair/hotpair.ini").write_text("x")
    (source / "etc/hotpair").chmod(0o777)
    before = contents(pair.beta, "/var", "/run", "/srv/data")
    for path in ("/", "/etc/", "/var/lib/hotpair/hotsync/"):
        said = pair.rsync("-a", "--delete-delay", f"{source}{path}", f"{pair.module}{path}")
        assert said.code or "daemon refused to receive" in said.err, said
    after = contents(pair.beta, "/var", "/run", "/srv/data")
    # rsync 3.2.7 makes a directory that it refuses, empty and root's alone, where there is none
    assert after.pop("/srv/other")[0] == stat.S_IFDIR | 0o700
    changing = ("/etc", "/srv")  # directories above what is accepted: their times
    assert {path: found for path, found in after.items() if path not in changing} == {
        path: found for path, found in before.items() if path not in changing
    }
    assert (pair.beta.root / "var/lib/hotpair/hotsync/rsyncd.conf").exists()


HOSTILE = (
    ("--backup-dir=/etc", "--backup"),
    ("--delete-excluded",),
    ("--partial-dir=/etc",),
    ("--temp-dir=/etc",),
    ("--keep-dirlinks",),
    ("--remote-option=--log-file=/etc/log",),
)


def test_an_option_that_hotsync_does_not_need_is_refused(pair: Standby, source: Path) -> None:
    for words in HOSTILE:
        said = pair.rsync("-a", *words, f"{source}/srv/data/", f"{pair.module}/srv/data/")
        option = words[0].removeprefix("--remote-option=").removesuffix("-dir=/etc")  # of two, it names the other
        assert said.code and f"refuse {option.partition('=')[0]}" in said.err, said
    assert os.listdir(pair.beta.live("/srv/data")) == []
    assert sorted(os.listdir(pair.beta.live("/etc"))) == ["hotpair", "passwd"]


@pytest.mark.parametrize("target", ["/etc", "../../etc"])
def test_a_link_in_an_accepted_directory_leads_nowhere(pair: Standby, source: Path, target: str) -> None:
    (source / "srv/data/link").symlink_to(target)
    assert pair.rsync("-a", f"{source}/srv/data/", f"{pair.module}/srv/data/").code == 0
    assert os.readlink(pair.beta.live("/srv/data/link")) == target
    before = contents(pair.beta, "/var", "/run", "/srv/data")
    # a master that has been taken over sends names that his disk does not have
    (source / "srv/data/link").unlink()
    (source / "srv/data/link").mkdir()
    (source / "srv/data/link/passwd").write_text("mine\n")
    (source / "srv/data/link/new").write_text("mine\n")
    names = (f"{source}/./srv/data/link/{name}" for name in ("passwd", "new"))
    said = pair.rsync("-aR", "--no-implied-dirs", *names, f"{pair.module}/")
    assert said.code, said
    assert contents(pair.beta, "/var", "/run", "/srv/data") == before


def test_a_disk_that_is_mounted_later_is_written_to_and_its_links_lead_nowhere(pair: Standby, source: Path) -> None:
    late = pair.beta.live("/srv/data/late")
    late.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "hotpair-test", str(late)], capture_output=True).returncode:
        pytest.skip("cannot mount here")
    try:
        (late / "link").symlink_to(pair.beta.live("/etc"))
        (source / "srv/data/late/link").mkdir(parents=True)
        for name in ("file", "link/new"):
            (source / "srv/data/late" / name).write_text("late\n")
        words = ("-aR", "--no-implied-dirs", f"{source}/./srv/data/late/file", f"{source}/./srv/data/late/link/new")
        said = pair.rsync(*words, f"{pair.module}/")
        if "a disk was mounted" in said.err:  # where mounts are not shared, the door must be opened anew
            assert os.listdir(late) == ["link"]
            assert pair.open().code == 0
            said = pair.rsync(*words, f"{pair.module}/")
        assert said.code == 23 and (late / "file").read_text() == "late\n", said
        assert not pair.beta.live("/etc/new").exists()
    finally:
        subprocess.run(["umount", "--lazy", str(late)], check=True)
    assert pair.open().code == 0
    late.rmdir()


# open, closed


def test_an_open_door_is_left_alone(pair: Standby) -> None:
    runtime = pair.beta.root / "run/hotpair"
    before = [file.read_text() for file in sorted(runtime.glob("hotsync-*.pid"))]
    assert pair.open().code == 0
    assert [file.read_text() for file in sorted(runtime.glob("hotsync-*.pid"))] == before


def test_what_died_is_started_again(pair: Standby) -> None:
    [record] = (pair.beta.root / "run/hotpair").glob("hotsync-stunnel.pid")
    os.kill(int(record.read_text().split()[0]), 9)
    assert pair.open().code == 0
    assert knock(pair, *of(pair.alpha.root / "etc/hotpair", "hotsync")).startswith("@RSYNCD:")


def test_an_expired_certificate_gets_nothing_though_it_is_the_pinned_one(pair: Standby, tmp_path: Path) -> None:
    pinned = pair.beta.root / "etc/hotpair/hotsync-peer.crt"
    good = pinned.read_text()
    expired(tmp_path, "old")
    try:
        pinned.write_text((tmp_path / "old.crt").read_text())
        assert pair.open().code == 0  # a new certificate is another configuration
        assert knock(pair, *of(tmp_path, "old")) == ""
        assert knock(pair, *of(pair.alpha.root / "etc/hotpair", "hotsync")) == ""
    finally:
        pinned.write_text(good)
        pair.open()
    assert knock(pair, *of(pair.alpha.root / "etc/hotpair", "hotsync")).startswith("@RSYNCD:")


def test_a_closed_door_lets_nobody_in_and_ends_the_push_under_way(pair: Standby, source: Path) -> None:
    with (source / "srv/data/large").open("wb") as file:
        file.truncate(1 << 30)
    secret = source / "secret"
    secret.write_text(PASSWORD + "\n")
    secret.chmod(0o600)
    hello = source / "hello"
    hello.write_text('{"node": "alpha", "role": "master", "epoch": 1, "boot": "b"}\n')
    words = (f"--port={pair.rsyncd_port}", f"--password-file={secret}", f"--early-input={hello}")
    argv = ("rsync", "-a", *words, f"{source}/srv/data/", f"{pair.module}/srv/data/")
    until = time.monotonic() + 20
    process = subprocess.Popen(argv, stderr=subprocess.DEVNULL)
    while not list(pair.beta.live("/srv/data").glob(".large.*")):
        if process.poll() is not None:  # the daemon, which takes one, had not let go of the last
            assert time.monotonic() < until
            process = subprocess.Popen(argv, stderr=subprocess.DEVNULL)
    pair.close()
    assert process.wait(10) != 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", pair.port), timeout=5)
    assert pair.open().code == 0


@pytest.mark.parametrize("name", ["hotsync.password", "hotsync.key"])
def test_a_secret_that_others_can_read_keeps_the_door_shut(pair: Standby, name: str) -> None:
    file = pair.beta.root / "etc/hotpair" / name
    file.chmod(0o644)
    try:
        assert pair.open().code == os.EX_CONFIG
        assert f"{name}: can be read by others" in (pair.beta.root / "var/log/hotpair.log").read_text()
    finally:
        file.chmod(0o600)


def test_a_port_that_is_taken_is_said(pair: Standby) -> None:
    pair.close()
    with socket.socket(socket.AF_INET) as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", pair.rsyncd_port))
        other.listen()
        assert pair.open().code == os.EX_TEMPFAIL
    log = (pair.beta.root / "var/log/hotpair.log").read_text()
    assert f"rsyncd does not listen on port {pair.rsyncd_port}" in log
    assert pair.open().code == 0


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Standby]:
    """A pair whose door is shut."""
    needed()
    shut = Standby(tmp_path)
    yield shut
    shut.close()


def test_check_says_what_the_door_lacks_and_which_program_would_not_be_run(own: Standby) -> None:
    assert own.beta.hotpair("check").code == 0
    (own.beta.root / "etc/hotpair/hotsync.password").chmod(0o644)
    (own.beta.root / "etc/hotpair/hotsync-peer.crt").unlink()
    plugin = own.beta.root / "etc/hotpair/hotsync.d/anybody"
    plugin.write_text("#!/bin/sh\n")
    plugin.chmod(0o777)
    said = own.beta.hotpair("check")
    assert said.code == os.EX_CONFIG
    assert "hotsync.password: can be read by others" in said.out
    assert "hotsync-peer.crt: No such file" in said.out
    assert "hotsync.d/anybody is not run" in said.out


def test_a_door_that_cannot_be_opened_is_told_of_once_and_through_ssh_needs_no_certificate(own: Standby) -> None:
    (own.beta.root / "etc/hotpair/hotsync.key").unlink()
    log = own.beta.root / "var/log/hotpair.log"
    for _ in range(2):
        assert own.open().code == os.EX_CONFIG
    assert log.read_text().count("hotsync.key") == 1
    own.say(own.beta, "standby", "transport = ssh\n")
    assert own.open().code == 0
    assert "all is well again" in log.read_text()

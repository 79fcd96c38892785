"""A master and its standby on this machine: two prefixes, the real door of the standby on free ports."""

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.ext.twonodes import Node, Pair, Said

PASSWORD = "0123456789abcdef"
SECTION = """
[hotsync]
role = {role}
include =
    /srv/data
    /srv/one
accept =
    /srv/taken
port = {port}
rsyncd-port = {rsyncd_port}
timeout = 10
"""


def needed() -> None:
    """Skip where the real door cannot be opened."""
    if os.geteuid():
        pytest.skip("needs root, for a daemon in a chroot")
    for program in ("rsync", "stunnel", "openssl"):
        if not shutil.which(program):
            pytest.skip(f"needs {program}")


def free_port() -> int:
    with socket.socket(socket.AF_INET6) as found:
        found.bind(("::", 0))
        return int(found.getsockname()[1])


def openssl(*words: str) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True, stdin=subprocess.DEVNULL)


def certificate(directory: Path, name: str) -> None:
    """Make NAME.key and NAME.crt, signed by itself."""
    key, crt = directory / f"{name}.key", directory / f"{name}.crt"
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl("req", "-x509", *curve, "-keyout", str(key), "-out", str(crt), "-subj", f"/CN={name}", "-days", "30")
    key.chmod(0o600)


CA = """
[ca]
default_ca = one
[one]
database = {directory}/index
new_certs_dir = {directory}
default_md = sha256
policy = any
rand_serial = yes
[any]
commonName = supplied
"""


def expired(directory: Path, name: str) -> None:
    """Make NAME.key and NAME.crt, signed by itself, whose time is over."""
    certificate(directory, name)
    (directory / "index").touch()
    (directory / "ca.conf").write_text(CA.format(directory=directory))
    key, csr = f"{directory}/{name}.key", f"{directory}/{name}.csr"
    openssl("req", "-new", "-key", key, "-subj", f"/CN={name}", "-out", csr)
    times = ("-startdate", "20200101000000Z", "-enddate", "20210101000000Z")
    words = ("-batch", "-notext", "-selfsign", "-config", f"{directory}/ca.conf", "-keyfile", key, "-in", csr)
    openssl("ca", *words, *times, "-out", f"{directory}/{name}.crt")


class Standby(Pair):
    """alpha, the master, and beta, whose door is open."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.port, self.rsyncd_port = free_port(), free_port()
        for node in self.nodes:
            certificate(node.root / "etc/hotpair", "hotsync")
            password = node.root / "etc/hotpair/hotsync.password"
            password.write_text(PASSWORD + "\n")
            password.chmod(0o600)
            (node.root / "var/log").mkdir(parents=True)
            (node.root / "usr/sbin").mkdir(parents=True)
            (node.root / "srv/data").mkdir()
            (node.root / "etc/hotpair/hotsync.d").mkdir()
        for node, other in (self.nodes, self.nodes[::-1]):
            shutil.copy(other.root / "etc/hotpair/hotsync.crt", node.root / "etc/hotpair/hotsync-peer.crt")
        self.say(self.alpha, "master")
        self.say(self.beta, "standby")

    def say(self, node: Node, role: str, extra: str = "") -> None:
        node.configure(SECTION.format(role=role, port=self.port, rsyncd_port=self.rsyncd_port) + extra)

    def open(self) -> Said:
        return self.beta.run("hotsync-slave", "doors")

    def close(self) -> None:
        self.beta.python("from hotpair import config; from hotpair.hotsync import doors; doors.close(config.load())")

    def hotsync(self, *words: str) -> Said:
        return self.alpha.run("hotsync", *words)

    def rsync(self, *words: str, password: str = PASSWORD, hello: str | None = None) -> Said:
        """Knock at the daemon of beta itself, as somebody who has got past stunnel."""
        secret = self.alpha.root.parent / "secret"
        secret.write_text(password + "\n")
        secret.chmod(0o600)
        word = self.alpha.root.parent / "hello"
        word.write_text(hello or '{"node": "alpha", "role": "master", "epoch": 1, "boot": "b"}\n')
        argv = ("rsync", f"--port={self.rsyncd_port}", f"--password-file={secret}", f"--early-input={word}", *words)
        until = time.monotonic() + 10
        while "max connections" in (said := ended(*argv)).err and time.monotonic() < until:
            time.sleep(0.05)  # the daemon is at the end of the connection before
        return said

    @property
    def module(self) -> str:
        return "hotpair@127.0.0.1::hotsync"


def ended(*words: str, stdin: bytes = b"", timeout: float = 60) -> Said:
    done = subprocess.run(words, input=stdin, capture_output=True, timeout=timeout)
    return Said(done.returncode, *(os.fsdecode(text) for text in (done.stdout, done.stderr)))


def contents(node: Node, *leave_out: str) -> dict[str, Any]:
    """Return everything below a node's root: kind, mode, owner, mtime and content of each path."""
    found: dict[str, Any] = {}
    for directory, names, files in os.walk(node.root):
        for name in (*names, *files):
            path = Path(directory) / name
            live = "/" + str(path.relative_to(node.root))
            if live.startswith(leave_out):
                continue
            stat = path.lstat()
            content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
            found[live] = (stat.st_mode, stat.st_uid, stat.st_mtime_ns, content)
    return found


def has_open(pid: int, file: Path) -> bool:
    """Say whether a process has a file open."""
    try:
        return str(file) in [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
    except FileNotFoundError:
        return False

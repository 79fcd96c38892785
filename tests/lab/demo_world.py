"""Where the demo takes place: two nodes of the lab with real daemons, or two directories when that cannot be had."""

import ctypes
import os
import shutil
import signal
import stat
import struct
import subprocess
import tempfile
from typing import Any, NamedTuple

from tests.lab.pairlab import NODES, ROOT, Lab, peer_of
from tests.lab.spaces import BASE_ENVIRONMENT

SET = "etc"  # the set of files that the lab's hotpair.ini has
PROGRAMS = ROOT + "/bin"
IN_CLOSE_WRITE = 8  # inotify(7)
PREFIX_INI = """\
[node]
name = {name}
peer = local:{peer}

[files etc]
paths =
    /etc/pair/*.conf
"""


class Seen(NamedTuple):
    """All that hotpair has to make equal of one path."""

    kind: int
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    content: bytes
    xattrs: tuple[tuple[str, bytes], ...]


def look(place: str) -> Seen | None:
    """Return what stands at a path of this machine's, None for nothing. Nothing is written, not even an atime."""
    try:
        found = os.lstat(place)
        kind = stat.S_IFMT(found.st_mode)
        times = 0 if kind == stat.S_IFDIR else found.st_mtime_ns
        content, mode = b"", stat.S_IMODE(found.st_mode)
        if kind == stat.S_IFLNK:
            content, mode = os.fsencode(os.readlink(place)), 0
        elif kind == stat.S_IFREG:
            with open(place, "rb") as file:
                content = file.read()
        names = sorted(os.listxattr(place, follow_symlinks=False))
        xattrs = tuple((name, os.getxattr(place, name, follow_symlinks=False)) for name in names)
        return Seen(kind, mode, found.st_uid, found.st_gid, times, content, xattrs)
    except FileNotFoundError:
        return None


class Contents:
    """Counts the contents that arrive in a node's inboxes. The kernel counts, hotpair is not asked."""

    def __init__(self, *inboxes: str) -> None:
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.fd = self.libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        for inbox in inboxes:
            if self.libc.inotify_add_watch(self.fd, os.fsencode(inbox), IN_CLOSE_WRITE) < 0:
                raise OSError(ctypes.get_errno(), f"cannot watch {inbox}")
        self.names: list[bytes] = []

    def arrived(self) -> int:
        """Return how many files were written there so far. What `hotpair restore` stages came from nowhere else."""
        try:
            while data := os.read(self.fd, 65536):
                while data:
                    length = struct.unpack_from("iIII", data)[3]
                    self.names.append(data[16 : 16 + length].rstrip(b"\0"))
                    data = data[16 + length :]
        except BlockingIOError:
            pass
        return sum(not name.startswith(b"restore-") for name in self.names)

    def close(self) -> None:
        os.close(self.fd)


class Node:
    """One node: run a line of shell there, look at its files from here."""

    def __init__(self, name: str, root: str) -> None:
        self.name, self.root = name, root

    def place(self, path: str) -> str:
        """Return where a path of the node is on this machine."""
        return self.root + path

    def look(self, path: str) -> Seen | None:
        return look(self.place(path))

    def start(self, line: str) -> subprocess.Popen[str]:
        """Start a line of shell on the node. `$R` before a path is where the node's files begin."""
        raise NotImplementedError

    def run(self, line: str, seconds: float = 60) -> tuple[int, str]:
        """Run a line of shell on the node; return its exit code and all it said."""
        process = self.start(line)
        try:
            said = process.communicate(timeout=seconds)[0]
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            said = process.communicate()[0] + f"\n(killed after {seconds:g} s)"
        return process.returncode, said

    def changed_at(self, path: str) -> float:
        """Return when the path was changed last, by the kernel's clock; of one that is gone, when it went."""
        try:
            return os.lstat(self.place(path)).st_ctime
        except FileNotFoundError:
            return os.lstat(self.place(os.path.dirname(path))).st_mtime

    def notice(self) -> None:
        """Make what incrond would: an event."""

    def write_ini(self, name: str, text: str) -> None:
        with open(self.place("/etc/hotpair/" + name), "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(text)


def popen(argv: list[str], environment: dict[str, str]) -> subprocess.Popen[str]:
    how: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen(argv, env=environment, text=True, errors="replace", start_new_session=True, **how)


class LabNode(Node):
    """A node of the lab: incrond notices what is done there."""

    def __init__(self, lab: Lab, name: str) -> None:
        super().__init__(name, f"/proc/{lab.running(name)}/root")
        self.lab = lab

    def start(self, line: str) -> subprocess.Popen[str]:
        return popen(*self.lab.entry(self.name, ["sh", "-c", line]))


class PrefixNode(Node):
    """A directory that stands for a server. Nobody watches it, so the demo makes the events itself."""

    def start(self, line: str) -> subprocess.Popen[str]:
        path = f"{PROGRAMS}:{BASE_ENVIRONMENT['PATH']}"
        return popen(["sh", "-c", line], {**BASE_ENVIRONMENT, "PATH": path, "HOTPAIR_ROOT": self.root, "R": self.root})

    def notice(self) -> None:
        self.run(f"syncr {SET} 0")


class LabWorld:
    """Two servers, as far as the kernel can make them."""

    title = "two nodes on this machine, each with its own incrond, sshd, disk and network address"

    def __init__(self) -> None:
        self.lab = Lab(f"/run/hotpair-demo-{os.getpid()}")

    def __enter__(self) -> list[Node]:
        forget_the_dead()
        try:
            self.lab.up()
            return [LabNode(self.lab, name) for name in NODES]
        except BaseException:
            self.lab.down()
            raise

    def __exit__(self, *_: object) -> None:
        self.lab.down()


def forget_the_dead() -> None:
    """Remove what a demo left that was killed with -9."""
    for name in os.listdir("/run"):
        if name.startswith("hotpair-demo-") and not os.path.exists(f"/proc/{name.rpartition('-')[2]}"):
            Lab(f"/run/{name}").down()


class PrefixWorld:
    """Two directories."""

    title = (
        "two directories on this machine, `peer = local:`.\n"
        "No daemon watches them, so after each change the demo calls `syncr` itself, as incrond would"
    )

    def __enter__(self) -> list[Node]:
        self.folder = tempfile.mkdtemp(prefix="hotpair-demo.")
        nodes: list[Node] = [PrefixNode(name, f"{self.folder}/{name}") for name in NODES]
        for node in nodes:
            for directory in ("/etc/hotpair", "/etc/pair", "/tmp", "/var/log"):
                os.makedirs(node.place(directory), 0o755)
            node.write_ini("hotpair.ini", PREFIX_INI.format(name=node.name, peer=f"{self.folder}/{peer_of(node.name)}"))
        return nodes

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.folder)

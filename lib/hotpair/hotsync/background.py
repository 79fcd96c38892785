"""Programs that run on behind us: each with a record in /run/hotpair of who it is and how it was configured."""

import contextlib
import glob
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from hotpair import child, paths
from hotpair.exits import Fail, Later

START = 5.0  # seconds until a program must listen
LOOK = 0.01  # seconds between two looks
SIGNATURE = 64  # where it begins in the record, behind who the process is
KEPT = ".pid"


class Piece(NamedTuple):
    """A program that is to listen."""

    name: str
    argv: Sequence[str]
    port: int
    signature: str  # of its configuration
    prepare: Callable[[], None] = lambda: None  # what the child does first


def _path(name: str) -> str:
    return paths.runtime(f"hotsync-{name}{KEPT}")


@contextmanager
def record(name: str) -> Iterator[int]:
    """Yield a descriptor of a program's record, which is made when there is none."""
    paths.make_private(paths.runtime())
    fd = os.open(_path(name), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        yield fd
    finally:
        os.close(fd)


def recorded() -> list[str]:
    """Return the names of all programs that were started and not ended by us."""
    found = sorted(glob.glob(glob.escape(_path("")[: -len(KEPT)]) + "*" + KEPT))
    return [path[len(_path("")) - len(KEPT) : -len(KEPT)] for path in found]


def running(name: str) -> int:
    """Return the process of a program, 0 when it does not run."""
    with contextlib.suppress(FileNotFoundError):
        fd = os.open(_path(name), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            return child.survivor(fd)
        finally:
            os.close(fd)
    return 0


def ensure(piece: Piece) -> bool:
    """Have a program run as it is configured now; say whether it had to be started. Raises Later when it does not."""
    with record(piece.name) as fd:
        pid = child.survivor(fd)
        if pid and os.pread(fd, 256, SIGNATURE).decode() == piece.signature and _listens(pid, piece.port):
            return False
    end(piece.name)
    _start(piece)
    return True


def end(name: str) -> bool:
    """End a program with all that it started; say whether it was running."""
    pid = running(name)
    if pid:
        child.end_group(pid, lambda: _living(pid))
    with contextlib.suppress(FileNotFoundError):
        os.unlink(_path(name))
    return bool(pid)


def _living(group: int) -> bool:
    """Say that some process of a group lives; raise ProcessLookupError when there are only corpses, if any."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(group, os.WNOHANG)
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError), open(f"/proc/{name}/stat", "rb") as file:
            state, _, of = file.read().rpartition(b")")[2].split()[:3]
            if int(of) == group and state not in b"ZX":
                return True
    raise ProcessLookupError


def _start(piece: Piece) -> None:
    """Start a program in a session of its own and wait until it listens."""
    with record(piece.name) as fd:
        try:
            process = subprocess.Popen(
                piece.argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=child.environment(),
                cwd="/",
                start_new_session=True,
                preexec_fn=lambda: _prepare(piece, fd),  # noqa: PLW1509 (no program of ours has threads here)
            )
        except OSError as error:
            raise Later(f"{piece.argv[0]} cannot be started: {error.strerror}", "install it") from error
        except subprocess.SubprocessError as error:
            raise Later(f"{piece.name}: {os.pread(fd, 500, SIGNATURE).decode()}") from error
    until = time.monotonic() + START
    while not _listens(process.pid, piece.port):
        if process.poll() is not None or time.monotonic() > until:
            end(piece.name)
            raise Later(
                f"{piece.name} does not listen on port {piece.port}",
                f"see its words in the system log, and who does: ss -ltnp sport = {piece.port}",
            )
        time.sleep(LOOK)
    process.returncode = 0  # it is to outlive us: no warning that it does


def _prepare(piece: Piece, fd: int) -> None:
    """Do what the child does before it becomes the program. Why it cannot is left in the record."""
    os.umask(0o022)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    child.sign(fd)
    os.pwrite(fd, piece.signature.encode(), SIGNATURE)
    try:
        piece.prepare()
    except Fail as fail:
        os.ftruncate(fd, SIGNATURE)
        os.pwrite(fd, str(fail).encode(), SIGNATURE)
        raise


def _listens(pid: int, port: int) -> bool:
    """Say whether a process, or one it started, listens on a port of TCP."""
    try:
        names = os.listdir(f"/proc/{pid}/fd")
        held = {os.readlink(f"/proc/{pid}/fd/{name}") for name in names}
    except OSError:  # gone, or a descriptor closed meanwhile: looked at again
        return False
    return any(f"socket:[{inode}]" in held for inode in _sockets(port))


def _sockets(port: int) -> Iterator[str]:
    """Yield the inodes of the sockets that listen on a port."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(FileNotFoundError), open(table, encoding="ascii") as file:
            for line in list(file)[1:]:
                fields = line.split()
                if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                    yield fields[9]

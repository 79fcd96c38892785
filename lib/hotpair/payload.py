"""Carry contents into the peer's inbox: small files inside the conversation, larger ones by rsync through it.

rsync's own two ends talk through the conversation's wire, so one ssh connection and one gate serve everything. Files
travel under the name of their content, never their own: no name of a user's meets rsync's command line or filters.
Of a files set both ends read generation 0, root's own copy, which nobody swaps or rewrites while it is read; of a tree
the live file, through a descriptor of it. What arrives is verified in either case.
"""

import errno
import hashlib
import os
import stat
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from hotpair import basis, beneath, descend, keep, leftovers, paths, rsync_options, scan
from hotpair.beneath import Place
from hotpair.config import AnySet
from hotpair.exits import Fail, Later, Refused, no_space
from hotpair.scan import State, Unsettled
from hotpair.wire import CHUNK, Wire

_NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
_STUB = os.path.join(os.path.dirname(__file__), "rsh")


class Unstaged(Fail):
    """A content cannot be written to the inbox. The conversation can go on: all that belongs to it has been read."""


def stage_name(shared: str, state: State) -> str:
    """Return the name under which the content for a path is staged, by what both nodes call it."""
    return f"{state.digest[:32]}-{hashlib.blake2b(os.fsencode(shared), digest_size=8).hexdigest()}"


def send_small(wire: Wire, files: AnySet, path: str, size: int) -> None:
    """Send one content as counted chunks, `size` bytes at most: what moves meanwhile is found out by its digest."""
    fd = _open(files, path)
    if fd is not None:
        try:
            while size and (data := os.read(fd, min(CHUNK, size))):
                wire.send_bytes(data)
                size -= len(data)
        finally:
            os.close(fd)
    wire.send_bytes(b"")


def _open(files: AnySet, path: str) -> int | None:
    """Return a descriptor of the content to be sent; None when a user was faster and it is gone, or no file."""
    try:
        with beneath.place(keep.source(files, path)) as at:
            fd = beneath.open_read(at)
        if stat.S_ISREG(os.fstat(fd).st_mode):
            return fd
        os.close(fd)
        return None
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise
        return None


def receive_small(wire: Wire, stage: str, size: int) -> None:
    """Write what `send_small` sends into the inbox. Raises Unstaged, or Refused when it is more than was announced."""
    chunks = _received(wire, size)
    try:
        _write(stage, chunks)
    except OSError as error:
        if no_space(error):
            raise
        for _ in chunks:  # the next message comes after them
            continue
        raise Unstaged(_unwritten(error)) from error


def _unwritten(error: OSError) -> str:
    return f"cannot be staged: {error.strerror}"


def _received(wire: Wire, size: int) -> Iterator[bytes]:
    while data := wire.receive_bytes():
        size -= len(data)
        if size < 0:
            raise Refused("more bytes than were announced")
        yield data


def _write(stage: str, chunks: Iterable[bytes]) -> None:
    """Write a content under its staged name.

    It gets that when it is whole: an older conversation that still lives may be about to apply the same content.
    """
    with beneath.place(stage) as at:
        part = Place(at.fd, f"{at.name}.{os.getpid()}")
        try:
            fd, received = os.open(part.name, _NEW, 0o600, dir_fd=at.fd), 0
            try:
                for data in chunks:
                    received += len(data)
                    scan.write_sparse(fd, data)
                os.ftruncate(fd, received)
            finally:
                os.close(fd)
            beneath.rename(part, at)
        except BaseException:
            leftovers.discard(part)
            raise


def empty(directory: str) -> None:
    """Remove what an earlier run left in one of our own flat directories, which no user can reach."""
    fd = os.open(paths.make_private(directory), descend.DIRECTORY)
    try:
        basis.empty(fd)
    finally:
        os.close(fd)


def send_large(
    wire: Wire, files: AnySet, wanted: list[tuple[str, State]], io_timeout: float, aside: bool = False
) -> None:
    """Run rsync's client end over the wire for contents that go into one inbox. Raises Later when it fails.

    aside: beside a run, which may be carrying contents of its own.
    """
    outbox = paths.state("outbox", paths.lane(files.name, aside))
    empty(outbox)
    descriptors = []
    for path, state in wanted:
        if (fd := _open(files, path)) is not None:
            descriptors.append(fd)
            # a link that leads to this very inode, whatever a user does to its name
            os.symlink(f"/proc/{os.getpid()}/fd/{fd}", f"{outbox}/{stage_name(files.shared(path), state)}")
    to_rsync, from_wire = os.pipe()
    from_rsync, to_wire = os.pipe()
    command = ["rsync", "-rL", "--ignore-times", "--sparse", f"--timeout={io_timeout:.0f}"]
    command += [f"--partial-dir={leftovers.PARTIAL}", "--copy-dest=BASIS", "-e", f"{_STUB} {to_rsync} {to_wire}"]
    process = _rsync(
        [*command, *files.rsync_options, outbox + "/", "peer:INBOX"],
        pass_fds=(to_rsync, to_wire),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    os.close(to_rsync)
    os.close(to_wire)
    try:
        wire.send(run=_line(from_rsync))
        wire.pump(from_rsync, from_wire)
    finally:
        for fd in (from_rsync, *descriptors):
            os.close(fd)
        said = _end(process, io_timeout).decode(errors="replace").strip().splitlines()
    code = wire.expect("rsync")
    empty(outbox)
    if not isinstance(code, str) and (process.returncode or code):  # else the verdicts say why nothing was staged
        raise Later(f"rsync ended with {process.returncode or code}: {said[0] if said else 'no word'}")


def _rsync(command: list[str], **how: Any) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(command, **how)
    except OSError as error:
        raise Later(f"cannot start rsync: {error.strerror}", "install rsync") from error


def _end(process: subprocess.Popen[bytes], timeout: float) -> bytes:
    """Wait for rsync's end and return what it said; kill it when it does not come. Raises Later then."""
    try:
        return process.communicate(timeout=timeout)[1] or b""
    except subprocess.TimeoutExpired as hung:
        process.kill()
        process.communicate()
        raise Later(f"rsync did not end within {timeout:g} s") from hung


def _line(fd: int) -> str:
    """Return the first line the stub writes: the arguments of the server end."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(fd, 1)
        if not byte:
            raise Later("rsync did not start")
        line += byte
    return line.decode().rstrip("\n")


def receive_large(wire: Wire, files: AnySet, inbox: str, old: list[tuple[str, str]], aside: bool = False) -> None:
    """Run rsync's server end into an inbox. `old` has (path, stage name) of what is replaced, for the delta.

    Raises Unstaged, having told the peer.
    """
    words = str(wire.expect("run"))
    if not rsync_options.SERVER.fullmatch(words):
        raise Refused(f"rsync with other words than ours: {words[:80]!r}")
    with ExitStack() as opened:
        try:
            fd = opened.enter_context(_writable(inbox))
            directory, kept = opened.enter_context(basis.linked(files, old, aside))
        except OSError as error:
            if no_space(error):
                raise
            with open(os.devnull, "rb") as nothing:  # the peer's rsync hears at once that ours has ended
                wire.pump(nothing.fileno(), os.open(os.devnull, os.O_WRONLY))
            wire.send(rsync=_unwritten(error))
            raise Unstaged(_unwritten(error)) from error
        code = _serve(wire, words, fd, directory, kept)
    wire.send(rsync=code)


@contextmanager
def _writable(inbox: str) -> Iterator[int]:
    """Yield a descriptor of an inbox in which something can be made: where nothing can, rsync does not say why."""
    fd = descend.open_directory(inbox)
    try:
        probe = f"probe-{os.getpid()}"
        os.mkdir(probe, 0o700, dir_fd=fd)
        os.rmdir(probe, dir_fd=fd)
        yield fd
    finally:
        os.close(fd)


def _serve(wire: Wire, words: str, fd: int, directory: str, kept: int) -> int:
    """Run rsync's server end in an open inbox; return its exit code. `kept` is the basis, `directory` where it lies."""
    command = [{"BASIS": f"/proc/self/fd/{kept}", "INBOX": "."}.get(word, word) for word in words.split(" ")]
    process = _rsync(
        [*command[:2], *_confined(directory), *command[2:]],
        cwd=f"/proc/self/fd/{fd}",
        pass_fds=(fd, kept),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdin and process.stdout
    sink = os.dup(process.stdin.fileno())
    process.stdin.close()  # so that the pump's end of it is the last, and rsync sees it
    try:
        wire.pump(process.stdout.fileno(), sink)
        return process.wait(wire.timeout)
    except subprocess.TimeoutExpired as hung:
        raise Later(f"rsync did not end within {wire.timeout:g} s") from hung
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _confined(directory: str) -> list[str]:
    """Return rsync 3.5's option that keeps its own paths in a directory, where this rsync has it."""
    known = subprocess.run(["rsync", "--help"], capture_output=True, check=False).stdout
    return [f"--confine-root={directory}"] if b"--confine-root" in known else []


def verify(stage: str, state: State) -> None:
    """Raise Unsettled unless the staged content is the one that was proposed."""
    with beneath.place(stage) as at:
        fd = beneath.open_read(at)
    try:
        if scan.digest_of(fd) != state.digest:
            raise Unsettled("what arrived is not what was proposed")
    finally:
        os.close(fd)

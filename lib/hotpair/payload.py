"""Carry contents into the peer's inbox: small files inside the conversation, larger ones by rsync through it.

rsync's own two ends talk through the conversation's wire, so one ssh connection and one gate serve everything. Files
travel under the name of their content, never their own: no name of a user's meets rsync's command line or filters.
Both ends read from generation 0, root's own copy, which nobody swaps or rewrites while it is read.
"""

import hashlib
import os
import re
import shutil
import subprocess
from typing import Any

from hotpair import beneath, keep, paths, scan
from hotpair.beneath import Place
from hotpair.config import FilesSet
from hotpair.exits import Later, Refused
from hotpair.scan import State, Unsettled
from hotpair.wire import CHUNK, Wire

OURS = ("swap-", "restore-", "moving")  # names that other programs of this node use in an inbox
PARTIAL = ".partial"  # where rsync keeps what a broken connection left, to go on from there
# What rsync's client end asks the server end to be run with; everything else is refused.
_SERVER = re.compile(
    r"rsync --server -rIS?e\.[A-Za-z]+ --timeout=\d+ --partial-dir \.partial --copy-dest BASIS \. INBOX"
)
_STUB = os.path.join(os.path.dirname(__file__), "rsh")


def stage_name(path: str, state: State) -> str:
    """Return the name under which the content for a path is staged."""
    return f"{state.digest[:32]}-{hashlib.blake2b(os.fsencode(path), digest_size=8).hexdigest()}"


def send_small(wire: Wire, files: FilesSet, path: str) -> None:
    """Send one content as counted chunks."""
    with beneath.place(keep.slot(files, path, 0)) as at:
        fd = beneath.open_read(at)
    try:
        while data := os.read(fd, CHUNK):
            wire.send_bytes(data)
    finally:
        os.close(fd)
    wire.send_bytes(b"")


def receive_small(wire: Wire, stage: str, size: int) -> None:
    """Write what `send_small` sends into the inbox. Raises Refused when it is more than was announced.

    It gets its name when it is whole: an older conversation that still lives may be about to apply the same content.
    """
    with beneath.place(stage) as at:
        part = Place(at.fd, f"{at.name}.{os.getpid()}")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            with os.fdopen(os.open(part.name, flags, 0o600, dir_fd=at.fd), "wb") as out:
                received = 0
                while data := wire.receive_bytes():
                    received += len(data)
                    if received > size:
                        raise Refused("more bytes than were announced")
                    out.write(data)
            beneath.rename(part, at)
        finally:
            discard(part)


def discard(at: Place) -> None:
    """Remove whatever a peer had staged under a name, a tree included, if it is there."""
    try:
        os.unlink(at.name, dir_fd=at.fd)
    except IsADirectoryError:
        shutil.rmtree(at.name, dir_fd=at.fd)
    except FileNotFoundError:
        return


def discard_others(inbox: str, names: set[str]) -> None:
    """Remove what a peer's rsync put into an inbox besides these names; what is our own there stays."""
    fd = beneath.open_directory(inbox)
    try:
        for name in os.listdir(fd):
            if name != PARTIAL and name not in names and not name.startswith(OURS):
                discard(Place(fd, name))
    finally:
        os.close(fd)


def _link(source: str, directory: str, name: str) -> None:
    """Give a generation 0 a second name in one of our own directories."""
    with beneath.place(source) as at:
        target = os.open(paths.make_private(directory), os.O_RDONLY | os.O_DIRECTORY)
        try:
            beneath_name = Place(target, name)
            if beneath.lstat(beneath_name) is not None:
                os.unlink(name, dir_fd=target)
            os.link(at.name, name, src_dir_fd=at.fd, dst_dir_fd=target, follow_symlinks=False)
        finally:
            os.close(target)


def empty(directory: str) -> None:
    """Remove what an earlier run left in one of our own flat directories."""
    for entry in os.scandir(paths.make_private(directory)):
        os.unlink(entry.path)


def send_large(wire: Wire, files: FilesSet, wanted: list[tuple[str, State]], io_timeout: float) -> None:
    """Run rsync's client end over the wire for contents that go into one inbox. Raises Later when it fails."""
    outbox = paths.state("outbox", files.name)
    empty(outbox)
    for path, state in wanted:
        _link(keep.slot(files, path, 0), outbox, stage_name(path, state))
    to_rsync, from_wire = os.pipe()
    from_rsync, to_wire = os.pipe()
    command = ["rsync", "-r", "--ignore-times", "--sparse", f"--timeout={io_timeout:.0f}"]
    command += [f"--partial-dir={PARTIAL}", "--copy-dest=BASIS", "-e", f"{_STUB} {to_rsync} {to_wire}"]
    process = _rsync(
        [*command, outbox + "/", "peer:INBOX"],
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
        os.close(from_rsync)
        said = _end(process, io_timeout).decode(errors="replace").strip().splitlines()
    code = wire.expect("rsync")
    empty(outbox)
    if process.returncode or code:
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


def receive_large(wire: Wire, files: FilesSet, inbox: str, basis: list[tuple[str, str]]) -> None:
    """Run rsync's server end into an inbox. `basis` has (path, stage name) of what is replaced, for the delta."""
    words = str(wire.expect("run"))
    if not _SERVER.fullmatch(words):
        raise Refused(f"rsync with other words than ours: {words[:80]!r}")
    directory = paths.state("basis", files.name)
    empty(directory)
    for path, name in basis:
        _link(keep.slot(files, path, 0), directory, name)
    command = [{"BASIS": directory, "INBOX": "."}.get(word, word) for word in words.split(" ")]
    fd = beneath.open_directory(inbox)
    try:
        process = _rsync(
            [*command[:2], *_confined(directory), *command[2:]],
            cwd=f"/proc/self/fd/{fd}",
            pass_fds=(fd,),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    finally:
        os.close(fd)
    assert process.stdin and process.stdout
    sink = os.dup(process.stdin.fileno())
    process.stdin.close()  # so that the pump's end of it is the last, and rsync sees it
    try:
        wire.pump(process.stdout.fileno(), sink)
        code = process.wait(wire.timeout)
    except subprocess.TimeoutExpired as hung:
        raise Later(f"rsync did not end within {wire.timeout:g} s") from hung
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        empty(directory)
    wire.send(rsync=code)


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

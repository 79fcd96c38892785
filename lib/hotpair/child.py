"""Run one outside command: argv without a shell, a clean environment, bounded time and bounded output.

The child has a session of its own, so that a timeout reaches whatever it started. What it prints goes through a pipe
of which the last few kilobytes are kept. A service that the command leaves behind may hold that pipe: we do not wait
for it, and `cat` reads on for it, so that it neither blocks nor dies of SIGPIPE at its next word.
"""

import os
import select
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from hotpair import paths

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
GRACE = 2.0  # seconds between SIGTERM and SIGKILL
TAIL = 4096  # bytes of output that are kept: the last line is all that is shown
SHOWN = 200  # characters of that line
PIPE = 1 << 16  # bytes a pipe holds
LONGEST = 2e6  # seconds that one poll(2) can last: its argument is an int of milliseconds


def environment(**facts: str) -> dict[str, str]:
    """Return everything a command finds in its environment: nothing of ours, and the facts given."""
    prefix = {"HOTPAIR_ROOT": paths.root()} if paths.root() else {}
    return {"PATH": PATH, "LANG": "C.UTF-8", "HOME": "/root", **prefix, **facts}


def run(
    argv: Sequence[str], environment: dict[str, str], timeout: float, stdin: bytes = b"", record: int | None = None
) -> str:
    """Run a command to its end and return "", or in one line how it failed.

    record: a descriptor to which the child writes who it is, for `survivor`.
    """
    import sh  # takes longer to import than most runs last

    output, write_end = os.pipe()
    # a Ctrl-C between the fork and our having its handle would leave the child behind: it waits until _attend
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        running = _start(argv, environment, readable(stdin), write_end, record)
        return _attend(running, output, timeout, mask)
    except sh.ForkException as failed:
        return f"not started: {str(failed).strip().splitlines()[-1].strip()}"[:SHOWN]
    finally:
        os.close(output)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _start(argv: Sequence[str], environment: dict[str, str], stdin: int, output: int, record: int | None) -> Any:
    """Start a command in a session of its own and return sh's handle on it. Closes both descriptors."""
    import sh

    try:
        # env(1) looks the name up, says when there is none, and leaves argv[0] as it was written
        start: Any = sh.Command("/usr/bin/env")  # its stubs know no bare descriptor
        return start(
            "--",
            # sh encodes strictly: one character for each byte brings every name through unchanged
            *(os.fsencode(word).decode("latin-1") for word in argv),
            _encoding="latin-1",
            _in=stdin,
            _out=output,
            _err_to_out=True,
            _tty_in=False,
            _tty_out=False,
            _bg=True,
            _bg_exc=False,
            _new_session=True,
            _cwd="/",
            _env=environment,
            _preexec_fn=_prepare(record),
        )
    finally:
        os.close(output)
        os.close(stdin)


def readable(data: bytes) -> int:
    """Return a descriptor that reads the data, which may be more than a pipe holds."""
    if not data:
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    fd = os.memfd_create("stdin", os.MFD_CLOEXEC)
    with open(fd, "wb", closefd=False) as file:
        file.write(data)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _prepare(record: int | None) -> Callable[[], None]:
    """Return what the child does before it becomes the command."""

    def prepare() -> None:
        os.umask(0o022)
        # what sh, Python, we or `hotpair &` ignore would stay ignored: a service could not be reloaded by SIGHUP
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        if record is not None:
            sign(record)

    return prepare


def _attend(running: Any, output: int, timeout: float, mask: set[Any]) -> str:
    """Keep the end of a child's output until it exits or its time is over, and return how it failed or "".

    mask: the signals to be blocked from here on, where an interruption ends the child.
    """
    tail = bytearray()
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        ended = _read_until_exit(running.pid, output, tail, time.monotonic() + timeout)
        if not ended:
            end_group(running.pid, running.is_alive)
        held = _read_rest(output, tail)
        code = running.process.wait()
        if held and ended:
            _read_on(output)
    except BaseException:
        end_group(running.pid, running.is_alive)
        raise
    if code == 0 and ended:
        return ""
    lines = [line for line in tail.decode(errors="replace").splitlines() if line.strip()]
    said = f": {lines[-1].strip()[:SHOWN]}" if lines else ""
    if not ended:
        return f"not done after {timeout:g} s{said}"
    return f"{f'exit {code}' if code > 0 else f'killed by signal {-code}'}{said}"


def _read_until_exit(pid: int, output: int, tail: bytearray, until: float) -> bool:
    """Read a child's output until it exits; False when its time was over first."""
    try:
        exit_ = os.pidfd_open(pid)
    except ProcessLookupError:  # so short a run that sh's thread has reaped it already
        return True
    poll = select.poll()
    poll.register(exit_, select.POLLIN)
    poll.register(output, select.POLLIN)
    try:
        while (left := until - time.monotonic()) > 0:
            ready = [fd for fd, _ in poll.poll(min(left, LONGEST) * 1000)]
            if exit_ in ready:
                return True
            if ready and not _read_some(output, tail):
                poll.unregister(output)  # closed by a child that runs on
        return False
    finally:
        os.close(exit_)


def _read_some(output: int, tail: bytearray) -> int:
    """Read what is there, keep the last TAIL bytes, and return how much it was; 0 at the end."""
    chunk = os.read(output, PIPE)
    tail += chunk
    del tail[:-TAIL]
    return len(chunk)


def _read_rest(output: int, tail: bytearray) -> bool:
    """Read what a child that has ended left in the pipe; return whether somebody else can still write to it."""
    poll = select.poll()
    poll.register(output, select.POLLIN)
    size = 0
    while poll.poll(0):
        got = _read_some(output, tail)
        size += got
        if not got:
            return False
        if size >= PIPE:  # more than the child can have left: this is somebody else's
            break
    return True


def _read_on(output: int) -> None:
    """Have the pipe read for as long as somebody may write to it."""
    import sh

    cat: Any = sh.Command("/bin/cat")
    with open(os.devnull, "wb") as nowhere:
        cat(_in=output, _out=nowhere, _err=nowhere, _bg=True, _bg_exc=False, _new_session=True, _cwd="/", _env={})


def end_group(pid: int, alive: Callable[[], bool]) -> None:
    """End a child and all it started: SIGTERM, and SIGKILL for what is left after GRACE. `alive` reaps the child."""
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGTERM)
        os.killpg(pid, signal.SIGCONT)  # one that is stopped would not see it
        until = time.monotonic() + GRACE
        while time.monotonic() < until:
            alive()
            os.killpg(pid, 0)
            time.sleep(0.02)
        os.killpg(pid, signal.SIGKILL)


def _born(pid: int) -> int:
    """Return when a process began, in ticks since boot; 0 when there is no such process, or only its corpse."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return 0 if fields[0] in b"ZX" else int(fields[19])


def sign(record: int) -> None:
    """Write who this process is, for `survivor`."""
    os.pwrite(record, f"{os.getpid()} {_born(os.getpid()):>20}\n".encode(), 0)


def survivor(record: int) -> int:
    """Return the process of a child that outlived the hotpair which started it, 0 when there is none."""
    fields = os.pread(record, 64, 0).partition(b"\n")[0].split()
    if len(fields) != 2:
        return 0
    pid, born = map(int, fields)
    return pid if born and _born(pid) == born else 0


def outlast(pid: int, timeout: float) -> None:
    """Wait for a process that is not our child to end; end it and its group when its time is over."""
    try:
        exit_ = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    poll = select.poll()
    poll.register(exit_, select.POLLIN)
    if not poll.poll(min(timeout, LONGEST) * 1000):
        end_group(pid, lambda: bool(_born(pid)))
    os.close(exit_)

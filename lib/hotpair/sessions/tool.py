"""Run the tool of a kernel's tables to its end: argv without a shell, what it reads and prints through pipes."""

import os
import select
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from hotpair import child
from hotpair.sessions.backend import TableError

TIMEOUT = 60.0  # seconds; a hundred thousand entries take a few
SHOWN = 200  # characters of what a tool says is wrong
SINGLY = 5  # entries with one and the same problem that are named
PIPE = 1 << 20  # bytes that a tool may be ahead of who reads; pipe(7), /proc/sys/fs/pipe-max-size

PACKAGES = {"nft": "nftables", "ip": "iproute2"}  # where a package is not called as its tool


class NotInstalled(TableError):
    """The tool is not here."""


class Said(NamedTuple):
    """How a tool ended."""

    code: int
    out: bytes
    err: str

    @property
    def why(self) -> str:
        """Return the first line of what it complained of."""
        lines = [line.strip() for line in self.err.splitlines() if line.strip()]
        return lines[0][:SHOWN] if lines else f"exit {self.code}"


def run(argv: Sequence[str], stdin: bytes = b"", timeout: float = TIMEOUT) -> Said:
    """Run a tool. Raises NotInstalled, and TableError when it cannot be run or does not end. timeout: seconds."""
    try:
        done = subprocess.run(
            argv,
            env=child.environment(LC_ALL="C.UTF-8"),
            input=stdin,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _too_long(argv[0], timeout) from None
    except OSError as error:
        raise _not_started(argv[0], error) from error
    return Said(done.returncode, done.stdout, done.stderr.decode(errors="replace"))


class Failed(TableError):
    """The tool has said why it cannot."""

    def __init__(self, tool: str, said: Said) -> None:
        super().__init__(f"{tool}: {said.why}")
        self.said = said


def printed(argv: Sequence[str], timeout: float = TIMEOUT) -> Iterator[str]:
    """Yield what a tool prints, in blocks of whole lines, while it goes on printing: two processors share the work.

    Raises what `run` does, and Failed in the end when the tool failed: what it had printed until then is worth nothing.
    """
    deadline = time.monotonic() + timeout
    with tempfile.TemporaryFile() as complaints:
        try:
            process = subprocess.Popen(
                argv,
                env=child.environment(LC_ALL="C.UTF-8"),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=complaints,
                pipesize=PIPE,
            )
        except OSError as error:
            raise _not_started(argv[0], error) from None
        with process:
            try:
                assert process.stdout
                yield from _lines(argv[0], process.stdout.fileno(), deadline, timeout)
                code = process.wait(max(deadline - time.monotonic(), 0))
            except subprocess.TimeoutExpired:
                raise _too_long(argv[0], timeout) from None
            finally:
                process.kill()
        complaints.seek(0)
        if code:
            raise Failed(argv[0], Said(code, b"", complaints.read().decode(errors="replace")))


def _lines(tool: str, output: int, deadline: float, timeout: float) -> Iterator[str]:
    rest = b""
    while True:
        if not select.select([output], [], [], max(deadline - time.monotonic(), 0))[0]:
            raise _too_long(tool, timeout)
        block = os.read(output, PIPE)
        whole, newline, end = block.rpartition(b"\n")
        if newline:
            yield (rest + whole + newline).decode(errors="replace")
            rest = end
        else:
            rest += block
        if not block:
            break
    if rest:
        yield rest.decode(errors="replace")


def _not_started(tool: str, error: OSError) -> TableError:
    if isinstance(error, FileNotFoundError):
        return NotInstalled(f"there is no {tool} here: install the package {PACKAGES.get(tool, tool)}")
    return TableError(f"{tool}: {error.strerror}")


def _too_long(tool: str, timeout: float) -> TableError:
    return TableError(f"{tool}: not done after {timeout:g} s")


def by_reason(failed: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the keys of entries that failed, by why they did."""
    keys: dict[str, list[str]] = {}
    for key, why in failed.items():
        keys.setdefault(why, []).append(key)
    return keys


def problems(refused: Mapping[str, str]) -> tuple[str, ...]:
    """Return lines on entries that were refused, from why by key: one each, or one for many with the same problem."""
    lines = []
    for why, some in by_reason(refused).items():
        if len(some) > SINGLY:
            lines.append(f"{len(some)} entries, {some[0][:SHOWN]!r} among them: {why}")
        else:
            lines += [f"{key[:SHOWN]!r}: {why}" for key in some]
    return tuple(lines)

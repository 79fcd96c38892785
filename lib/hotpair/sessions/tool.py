"""Run the tool of a kernel's tables to its end: argv without a shell, what it reads and prints through pipes."""

import subprocess
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from hotpair import child
from hotpair.sessions.backend import TableError

TIMEOUT = 60.0  # seconds; a hundred thousand entries take a few
SHOWN = 200  # characters of what a tool says is wrong
SINGLY = 5  # entries with one and the same problem that are named


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
    except FileNotFoundError:
        package = PACKAGES.get(argv[0], argv[0])
        raise NotInstalled(f"there is no {argv[0]} here: install the package {package}") from None
    except subprocess.TimeoutExpired:
        raise TableError(f"{argv[0]}: not done after {timeout:g} s") from None
    except OSError as error:
        raise TableError(f"{argv[0]}: {error.strerror}") from error
    return Said(done.returncode, done.stdout, done.stderr.decode(errors="replace"))


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

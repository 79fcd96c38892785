"""Run the tool of a kernel's tables to its end: argv without a shell, what it reads and prints through pipes."""

import subprocess
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from hotpair import child
from hotpair.sessions.backend import TableError

TIMEOUT = 60.0  # seconds; a hundred thousand entries take a few
SHOWN = 200  # characters of what a tool says is wrong
SINGLY = 5  # entries with one and the same problem that are named


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


def run(argv: Sequence[str], stdin: bytes = b"") -> Said:
    """Run a tool. Raises TableError when it is not here, or does not end."""
    try:
        done = subprocess.run(
            argv,
            env=child.environment(LC_ALL="C.UTF-8"),
            input=stdin,
            capture_output=True,
            timeout=TIMEOUT,
            check=False,
        )
    except FileNotFoundError:
        raise TableError(f"there is no {argv[0]} here: install its package") from None
    except subprocess.TimeoutExpired:
        raise TableError(f"{argv[0]}: not done after {TIMEOUT:g} s") from None
    return Said(done.returncode, done.stdout, done.stderr.decode(errors="replace"))


def problems(refused: Mapping[str, str]) -> tuple[str, ...]:
    """Return lines on entries that were refused, from why by key: one each, or one for many with the same problem."""
    keys: dict[str, list[str]] = {}
    for key, why in refused.items():
        keys.setdefault(why, []).append(key)
    lines = []
    for why, some in keys.items():
        if len(some) > SINGLY:
            lines.append(f"{len(some)} entries, {some[0][:SHOWN]!r} among them: {why}")
        else:
            lines += [f"{key[:SHOWN]!r}: {why}" for key in some]
    return tuple(lines)

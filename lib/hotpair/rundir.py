"""Run the executables of a configuration directory, in the order of their names, each on its own in clean air."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from hotpair import child, ini, paths


class Ran(NamedTuple):
    """One executable, and "" or how it failed."""

    name: str
    failure: str


def programs(directory: str) -> list[str]:
    """Return the names of the executables in /etc/hotpair/DIRECTORY, in their order; hidden and backup files are none.

    Raises FileNotFoundError without the directory.
    """
    place = paths.config_file(directory)
    names = sorted(name for name in os.listdir(place) if not name.startswith(".") and not name.endswith(("~", ".new")))
    return [name for name in names if os.path.isfile(f"{place}/{name}") and os.access(f"{place}/{name}", os.X_OK)]


def problems(directory: str) -> list[str]:
    """Return one line for each program of /etc/hotpair/DIRECTORY that would not be run."""
    try:
        found = [(name, ini.untrusted(f"{paths.config_file(directory)}/{name}")) for name in programs(directory)]
    except FileNotFoundError:
        return []
    return [f"{paths.config_file(directory)}/{name} is not run: {why}" for name, why in found if why]


def run(
    directory: str,
    names: Sequence[str],
    words: Sequence[str],
    facts: dict[str, str],
    timeout: float,
    record: int | None = None,
) -> Iterator[Ran]:
    """Run these programs of /etc/hotpair/DIRECTORY with the same words, one after the other, whatever became of it.

    facts: what their environment says besides PATH, LANG and HOME. timeout: seconds, for each.
    record: a descriptor for `child.survivor`. One that others could write is not run, and that is its failure.
    """
    for name in names:
        program = f"{paths.config_file(directory)}/{name}"
        why = ini.untrusted(program)
        environment = child.environment(**facts)
        failure = f"not run, because {why}" if why else child.run([program, *words], environment, timeout, b"", record)
        yield Ran(name, failure)


@contextmanager
def one_at_a_time(kind: str, timeout: float) -> Iterator[int]:
    """Yield a record for `run`, once what another run is at, or was killed at and left behind, has ended or been ended.

    kind: of programs; one kind may start the other, as a hook that pushes starts plugins.
    timeout: seconds until what is left is ended.
    """
    paths.make_private(paths.state("hotsync"))
    place = paths.state("hotsync", f"{kind}.pid")
    record = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        if left := child.survivor(record):
            child.outlast(left, timeout)
        yield record
    finally:
        os.close(record)

"""The filter rules of both ends, from lists of paths: what a standby lets in, what a master leaves out. Pure."""

from collections.abc import Iterable, Iterator

from hotpair import paths
from hotpair.hotsync.identity import NEVER, OUT


def daemon(accepted: Iterable[str]) -> Iterator[str]:
    """Yield the rules of rsync's daemon, the first that matches counts: accepted paths, and none of the node's own.

    rsync refuses what is below a directory that is refused, so those above an accepted path are let in as such.
    """
    accepted = [_plain(path) for path in accepted]
    yield from _above([OUT])
    yield from own()
    yield from _above(accepted)
    for path in accepted:
        yield f"+ {path}"
        yield f"+ {path}/**"
    yield "- *"


def sender(exclude: Iterable[str]) -> Iterator[str]:
    """Yield the rules of the sending end: what no standby takes, and what the master's lists leave out."""
    yield from _above([OUT])
    yield from own()
    yield from exclude


def own() -> Iterator[str]:
    """Yield the rules that keep a node what it is."""
    yield f"+ {OUT}"
    yield f"+ {OUT}/**"
    for pattern in (*NEVER, paths.INBOX):  # the last one has no slash before it: wherever it is
        yield f"- {pattern}"
        yield f"- {pattern}/**"


def _above(wanted: Iterable[str]) -> Iterator[str]:
    """Yield a rule for each directory above a path, and for nothing else in it."""
    seen: set[str] = set()
    for path in wanted:
        steps = path.split("/")[1:-1]
        for end in range(1, len(steps) + 1):
            directory = "".join(f"/{step}" for step in steps[:end])
            if directory not in seen:
                seen.add(directory)
                yield f"+ {directory}/"


def _plain(path: str) -> str:
    """Return a path without the slash at its end, which would make a rule one of directories alone."""
    return path.rstrip("/")

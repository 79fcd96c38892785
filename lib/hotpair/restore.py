"""History and restore: what a path held before, and one of its generations put in its place again."""

import os
import time
from contextlib import suppress
from typing import Any, NamedTuple

from hotpair import apply, beneath, detect, keep, locks, log, marks, run, scan, tasks
from hotpair.archive import transaction
from hotpair.config import Config
from hotpair.detect import Scope
from hotpair.exits import Later, NoInput
from hotpair.keep import Generation
from hotpair.scan import State
from hotpair.stage import Decided
from hotpair.treeset import TreeSet

WAIT = 10.0  # seconds for a run under way to end, before our change is left to it


class Entry(NamedTuple):
    """One content of a path; number 0 is what is live now."""

    number: int
    state: State | None
    node: str  # where it was first seen, "" when not recorded
    seen_at: float  # when it was first seen here, 0 when not recorded


def locate(configuration: Config, path: str) -> tuple[Scope, str]:
    """Return the set that a path belongs to, opened, and the live path.

    Raises NoInput when there is none, Unmounted for a tree that is not there.
    """
    live = os.path.abspath(path)
    files = configuration.of(live)
    if isinstance(files, TreeSet):
        files.check_marker()
    return run.scope(configuration, files.name), live


def history(scope: Scope, live: str) -> list[Entry]:
    """Return what is live now and every kept generation, newest first."""
    try:
        now = scan.look(live)[0]
    except scan.Unsettled:
        now = scope.archive.row(live).seen
    except NotADirectoryError:  # a file stands where a directory above it was
        now = None
    return [_entry(scope, live, 0, now), *(_entry(scope, live, g.number, g.state) for g in _kept(scope, live))]


def _kept(scope: Scope, live: str) -> list[Generation]:
    return keep.generations(scope.files, live)


def _entry(scope: Scope, live: str, number: int, state: State | None) -> Entry:
    return Entry(number, state, *(scope.archive.first_seen(live, state.digest) if state else ("", 0.0)))


def as_json(entries: list[Entry]) -> list[dict[str, Any]]:
    return [
        {
            "number": entry.number,
            "seen_at": entry.seen_at or None,
            "kind": entry.state.kind if entry.state else "absent",
            "size": entry.state.size if entry.state else None,
            "digest": entry.state.digest if entry.state and entry.state.kind != "link" else None,
            "link": entry.state.digest if entry.state and entry.state.kind == "link" else None,
            "node": entry.node or None,
        }
        for entry in entries
    ]


def as_lines(entries: list[Entry]) -> list[str]:
    lines = [f"{'N':>4}  {'FIRST SEEN':19}  {'SIZE':>10}  {'DIGEST':12}  NODE"]
    for entry in entries:
        number = str(entry.number) if entry.number else "now"
        seen = moment(entry.seen_at) if entry.seen_at else "-"
        size = str(entry.state.size) if entry.state else "-"
        lines.append(f"{number:>4}  {seen:19}  {size:>10}  {_content(entry.state):12}  {entry.node or '-'}")
    return [log.escape(line) for line in lines]


def moment(seconds: float) -> str:
    """Return a time of the clock as a person reads it."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _content(state: State | None) -> str:
    if state is None:
        return "absent"
    return {"file": state.digest[:12], "link": f"-> {state.digest}"}.get(state.kind, state.kind)


def restore(scope: Scope, live: str, number: int, dry_run: bool) -> int:
    """Make generation `number` the live content, send it, and say what became of it. Returns the exit code."""
    with locks.state(scope.files.name):
        generation = _generation(scope, live, number)
        what = f"{live}: generation {number} ({generation.state.size} bytes, {_content(generation.state)})"
        if dry_run:
            print(log.escape(f"{what} would be put in its place"))
            return os.EX_OK
        put(scope, live, generation)
    return crossed(scope, live, what)


def _generation(scope: Scope, live: str, number: int) -> Generation:
    kept = _kept(scope, live)
    for generation in kept:
        if generation.number == number:
            return generation
    there = "there are " + ", ".join(str(g.number) for g in kept) if kept else "nothing is kept of it yet"
    raise NoInput(f"{live} has no generation {number}", there)


def put(scope: Scope, live: str, generation: Generation) -> None:
    """Put a generation in the place of the live file, as a change of this moment. The caller holds the state lock."""
    new = generation.state._replace(mtime_ns=time.time_ns())
    stage = f"{apply.stage_directory(scope.files, live)}/restore-{os.getpid()}" if new.kind == "file" else ""
    try:
        os.close(apply.inbox_of(scope.files, live))
        apply.make_parents(scope.files, live, scope.archive.agreed)
        if stage:  # before the next step, which may move the generation on to the next number
            _stage(scope, live, generation, stage)
        with transaction(scope.archive.db):  # what is live must be kept before it is replaced
            here = detect.current(scope, live, scope.archive.row(live)).seen
        apply.apply(scope.files, Decided(live, here, new, stage))
    except OSError as error:
        raise Later(f"{live}: cannot be restored: {error.strerror}", "mend that; the live file is as it was") from error
    finally:
        if stage:
            _unstage(stage)


def _stage(scope: Scope, live: str, generation: Generation, stage: str) -> None:
    """Copy a generation into the inbox, from which it is renamed into place."""
    with beneath.place(generation.copy) as source, beneath.place(stage) as target:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd, copy = beneath.open_read(source), os.open(target.name, flags, 0o600, dir_fd=target.fd)
        try:
            if scan.digest_of(fd, copy) != generation.state.digest:
                raise Later(f"{live}: generation {generation.number} changed while it was read", "try again")
            os.fsync(copy)
        finally:
            os.close(fd)
            os.close(copy)


def _unstage(stage: str) -> None:
    with suppress(FileNotFoundError), beneath.place(stage) as at:  # gone when all went well
        os.unlink(at.name, dir_fd=at.fd)


def crossed(scope: Scope, live: str, what: str) -> int:
    """Run the set for a change just made here and print whether it reached the peer. Returns the exit code."""
    name = scope.files.name
    marks.create(name)
    marks.add(name, "restore")  # whatever happens to us, the next run looks
    with suppress(Later), run.alone(scope, WAIT):  # the run under way, if one stays, sees the mark
        run.run(scope, force=True)
    tasks.run_due(scope.archive.db, name)
    row = scope.archive.row(live)
    if row.agreed == row.seen == scan.look(live, carried=scope.files.carried)[0]:
        print(log.escape(f"{what} is live here and on {scope.node.peer}"))
        return os.EX_OK
    why = [p.detail for p in scope.archive.problems() if p.path in (live, "")] or ["a run is under way"]
    print(log.escape(f"{what} is live here, not yet on {scope.node.peer} ({why[-1]}): it is sent as soon as can be"))
    return os.EX_TEMPFAIL

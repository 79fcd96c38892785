"""What became of a run of hotsync: for the person, for JSON, for the state that status reads, and for the mail."""

import os
import time
from typing import Any, NamedTuple

from hotpair.failover import notes
from hotpair.hotsync.lists import Lists
from hotpair.hotsync.push import Run

COMPLETE, PARTIAL, FAILED = "complete", "partial", "failed"
LISTED = 50  # paths in a mail


class Result(NamedTuple):
    """One run."""

    result: str
    files: int = 0  # whose content or attributes were sent
    deletions: int = 0
    bytes: int = 0  # that went over
    seconds: float = 0.0
    partial: tuple[tuple[str, str], ...] = ()  # paths that are not on the standby as they are here, and why
    vanished: tuple[str, ...] = ()
    missing: int = 0  # paths that the lists name and nobody has
    failures: tuple[str, ...] = ()  # plugins that failed, and what the backup left out
    failure: str = ""  # why nothing was sent, or not all

    @property
    def code(self) -> int:
        return {COMPLETE: os.EX_OK, PARTIAL: os.EX_IOERR}.get(self.result, os.EX_TEMPFAIL)


def of(run: Run, lists: Lists, problems: tuple[str, ...], seconds: float) -> Result:
    """Return what a run that came to its end has done. Pure."""
    failures = (*lists.failures, *problems)
    partial = run.complaints.partial
    reasons = [f"paths that are not on the standby as they are here: {len(partial)}"] * bool(partial)
    reasons += [f"failed: {'; '.join(failures)}"] if failures else []
    return Result(
        PARTIAL if partial or failures else COMPLETE,
        len(run.of("send", "make", "change")),
        len(run.of("delete")),
        run.stats.get("Total bytes sent", 0),
        round(seconds, 1),
        partial,
        run.complaints.vanished,
        len(lists.missing),
        failures,
        "; ".join(reasons),
    )


def record(result: Result, begun: float) -> None:
    """Write the state: `last_complete` is the end of the last run that brought all."""
    known, now = notes.read(notes.SENT), time.time()
    complete = result.result == COMPLETE
    last = {"last_complete": now, "last_complete_start": begun} if complete else {}
    failing = {"failing_since": None if complete else known.get("failing_since") or now, "failure": result.failure}
    before = {key: known.get(key) for key in ("last_complete", "last_complete_start")}
    notes.write(notes.SENT, {**before, "last_run": now, "result": as_json(result), **failing, **last})


def as_json(result: Result) -> dict[str, Any]:
    return {**result._asdict(), "partial": [{"path": path, "why": why} for path, why in result.partial]}


def alert(result: Result) -> str:
    """Return what a mail says of a run: nothing when it was complete. Pure."""
    if result.result == COMPLETE:
        return ""
    details = [f"{path}: {why}" for path, why in result.partial[:LISTED]]
    if len(result.partial) > LISTED:
        details.append(f"and {len(result.partial) - LISTED} more paths")
    return "\n".join([f"{result.result}: {result.failure}", *details, *result.failures])


def sentence(result: Result) -> str:
    """Return the one line that a person reads. Pure."""
    said = f"{result.result}: {result.files} sent, {result.deletions} deleted, {result.bytes} bytes"
    said += f" in {result.seconds:g} s"
    extra = [f"listed and not here: {result.missing}"] * bool(result.missing)
    extra += [f"{len(result.vanished)} vanished meanwhile"] * bool(result.vanished)
    extra += [result.failure] * bool(result.failure)
    return "; ".join([said, *extra])

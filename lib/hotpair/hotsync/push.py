"""Push: rsync from this node's root to the standby's daemon, first to see what it would do, then to do it."""

import json
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, NamedTuple

from hotpair import child, log, paths
from hotpair.brake import lost_too_much
from hotpair.config import Config
from hotpair.exits import Later, Refused
from hotpair.failover import gate
from hotpair.failover.role import Role
from hotpair.hotsync import admit, doors, itemize, way
from hotpair.hotsync.itemize import Complaints, Item
from hotpair.hotsync.lists import Lists
from hotpair.hotsync.settings import Hotsync
from hotpair.hotsync.way import Way

# What rsync is asked for; the daemon takes no other option (doors.WANTED)
OPTIONS = (
    "-aHAX",
    "--numeric-ids",
    "--modify-window=-1",  # nanoseconds: what was changed twice within a second may have the same size
    "--delete-delay",  # at the end: a run that breaks off, for a full disk or otherwise, has removed nothing
    "-r",  # --files-from would switch it off
    "--no-implied-dirs",  # directories above what is listed are none of our business
    "--ignore-missing-args",
    "--from0",
    "--no-human-readable",
    "--stats",
    f"--out-format={itemize.FORMAT}",
)
SENT, PARTIAL, GONE, PROTOCOL = 0, 23, 24, 5  # rsync's exit codes
BUSY, PAUSE = 10.0, 0.05  # seconds
LINGER = 5.0  # seconds that stunnel may outlive rsync, and still complain
Report = Callable[[Item], None]


class Run(NamedTuple):
    """What one rsync did, or with -n would do."""

    code: int
    items: tuple[Item, ...]
    stats: dict[str, int]
    complaints: Complaints
    seconds: float

    def of(self, *acts: str) -> list[Item]:
        return [item for item in self.items if item.act in acts]


class Held(Later):
    """The brake: the run would remove too much."""


def plan(config: Config, lists: Lists, me: Role) -> Run:
    """Return what a push would do. Changes nothing on either node. Raises Fail when it cannot be told."""
    return _alone(config, lists, me, True, _silent)


def push(config: Config, lists: Lists, me: Role, report: Report) -> Run:
    """Do it. report: called with each item when it is done. Raises Fail for everything but success and part of it."""
    return _alone(config, lists, me, False, report)


def _alone(config: Config, lists: Lists, me: Role, dry: bool, report: Report) -> Run:
    """Run rsync; again in a moment when the daemon, which takes one, has not let go of the last."""
    until = time.monotonic() + BUSY
    while True:
        run = _rsync(config, lists, me, dry, report)
        if (
            run.code != PROTOCOL
            or "max connections" not in " ".join(run.complaints.reasons)
            or time.monotonic() > until
        ):
            return _judged(run)
        time.sleep(PAUSE)


def brake(planned: Run, settings: Hotsync) -> None:
    """Raise Held when a plan removes more from the standby than may go without a person's word."""
    lost = len(planned.of("delete"))
    made = sum(item.new for item in planned.items)
    there = planned.stats.get("Number of files", 0) - made + lost
    if lost_too_much(lost, there, settings.max_delete):
        raise Held(
            f"{lost} of {there} paths on the standby would be removed: nothing is sent",
            "see `hotsync --dry-run`; if that is right: hotsync --force",
        )


def _judged(run: Run) -> Run:
    """Return a run that rsync ended well, or with part of it. Raises what its end means otherwise."""
    found = run.complaints
    if run.code in (SENT, GONE) or (run.code == PARTIAL and found.partial):
        return run
    reason = "; ".join(found.reasons[:2]) or f"rsync ended with code {run.code}"
    if found.partial and not found.reasons:
        reason = f"{found.partial[-1][0]}: {found.partial[-1][1]}"
    if run.code == PROTOCOL:
        raise Refused(f"the standby refuses: {reason}", "see `hotsync-slave` on both nodes")
    raise Later(f"not sent: {reason} (rsync {run.code})", "it is tried again; see EXIT STATUS in hotsync(8)")


@contextmanager
def _lent(**data: bytes) -> Iterator[dict[str, str]]:
    """Yield files that root alone can read, gone afterwards. rsync 3.5 follows no link to one, as /proc/self/fd has."""
    with tempfile.TemporaryDirectory(prefix="hotsync-", dir=paths.make_private(paths.runtime())) as place:
        found = {name: f"{place}/{name}" for name in data}
        for name, text in data.items():
            with open(found[name], "xb") as file:
                file.write(text)
        yield found


def hello(config: Config, me: Role, dry: bool) -> bytes:
    """Return what the gate is told of this node: one line. A dry run writes nothing there either."""
    said = gate.hello(config.node.name, me)
    return json.dumps({**said, **({"dry": True} if dry else {})}).encode() + b"\n"


def _rsync(config: Config, lists: Lists, me: Role, dry: bool, report: Report) -> Run:
    """Run rsync. No name is in an argument, and nothing in /tmp."""
    settings = doors.settings_of(config)
    include, exclude = (_zeros(names) for names in (lists.include, admit.sender(lists.exclude)))
    with (
        way.there(config) as there,
        _lent(include=include, exclude=exclude, hello=hello(config, me, dry)) as read,
    ):
        argv = [
            doors.RSYNC,
            *OPTIONS,
            *(["-n"] if dry else []),
            f"--timeout={settings.timeout:.0f}",
            f"--files-from={read['include']}",
            f"--exclude-from={read['exclude']}",
            f"--early-input={read['hello']}",
            f"--password-file={way.password_file(settings)}",
            f"{paths.root()}/",
            f"{doors.USER}@{way.HOST}::hotsync/",
        ]
        begun = time.monotonic()
        code, items, lines, said = _attend(argv, there, report)
    complaints = itemize.complaints(said.decode(errors="surrogateescape"), paths.root())
    return Run(code, tuple(items), itemize.stats(lines), complaints, time.monotonic() - begun)


def _attend(argv: Sequence[str], there: Way, report: Report) -> tuple[int, list[Item], list[str], bytes]:
    """Start rsync, take what it prints as it comes, and return its exit code, the items, other lines, and complaints.

    Complaints come through a pipe: stunnel opens /dev/stderr anew, and would write over the head of a file.
    """
    process = _start(argv, there)
    assert process.stdout and process.stderr
    complaints = bytearray()
    reader = threading.Thread(target=_gather, args=(process.stderr, complaints), daemon=True)
    reader.start()
    items: list[Item] = []
    others: list[str] = []
    try:
        for line in process.stdout:
            text = line.decode(errors="surrogateescape").rstrip("\n")
            found = itemize.item(text)
            if found:
                items.append(found)
                report(found)
            else:
                others.append(text)
        code = process.wait()
        reader.join(LINGER)
        return code, items, others, bytes(complaints)
    except BaseException:
        child.end_group(process.pid, lambda: process.poll() is None)
        raise
    finally:
        process.stdout.close()
        process.wait()


def _start(argv: Sequence[str], there: Way) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=child.environment(RSYNC_CONNECT_PROG=there.command),
            cwd="/",
            pass_fds=there.descriptors,
            start_new_session=True,  # so that stunnel or ssh can be ended with it
        )
    except OSError as error:
        raise Later(f"{argv[0]} cannot be started: {error.strerror}", "install rsync") from error


def _gather(stream: IO[bytes], into: bytearray) -> None:
    while some := os.read(stream.fileno(), 65536):
        into += some


def _zeros(names: Iterator[str] | Sequence[str]) -> bytes:
    return b"".join(os.fsencode(name) + b"\0" for name in names)


def _silent(_: Item) -> None:
    return None


def bar(planned: Run, shown: Callable[[int, int, int, int], None]) -> Report:
    """Return what tells a progress bar of each item that is done, of those that were planned."""
    done = [0, 0]
    everything, size = len(planned.items), sum(item.size for item in planned.items)

    def report(item: Item) -> None:
        done[0] += 1
        done[1] += item.size
        shown(min(done[0], everything), everything, min(done[1], size), size)

    return report


def warn(run: Run) -> None:
    """Say of each path that it was not sent as it is, and of each that had vanished."""
    for path, why in run.complaints.partial:
        remedy = ": name it in include or accept there, or in exclude here" if path in run.complaints.refused else ""
        log.error(f"{path}: {why}{remedy}")
    for path in run.complaints.vanished:
        log.notice(f"{path}: vanished before it was read")

"""hotsync: copy to the standby what it needs to take over."""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

from hotpair import alerts, config, detect, locks, log
from hotpair.config import Config
from hotpair.exits import Fail, Later
from hotpair.failover import gate, role, standing
from hotpair.failover.role import MASTER, STANDBY, Role
from hotpair.hotsync import backup, doors, lists, outcome, preview, push
from hotpair.hotsync.outcome import Result

EPILOG = """examples:
  hotsync              send to the standby what differs, and say how much it was
  hotsync --dry-run    say what would be sent, deleted and left out; change nothing on either node
  hotsync --force      also when more than max-delete would be deleted on the standby

cron runs `hotsync --cron` every 15 minutes (see `hotpair tables`). On a standby it does nothing.

exit: 0 complete, 74 partial (each path is named), 75 not now (a run is under way, not the master, the standby is away,
      too many deletions), 76 the standby refuses, 77 not root, 78 configuration, 64 usage"""
SWITCHES = {
    ("-n", "--dry-run"): "print what would be done, itemised, and change nothing on either node",
    ("-f", "--force"): "delete on the standby what is gone here, however much it is",
    ("--json",): "print the result, or with --dry-run the plan, as JSON",
    ("--cron",): "be silent when all is well, report to syslog and by mail otherwise",
}


class NotMaster(Later):
    """This node is not to send; `standby`: as it should be."""

    def __init__(self, me: Role, message: str, remedy: str) -> None:
        super().__init__(message, remedy)
        self.standby = me.role == STANDBY and me.reason != gate.FENCED


def parser() -> argparse.ArgumentParser:
    words = argparse.ArgumentParser(
        prog="hotsync", description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for names, text in SWITCHES.items():
        words.add_argument(*names, action="store_true", help=text)
    return words


def main(argv: Sequence[str]) -> int:
    """Send, or say what would be sent. Returns an os.EX_* value."""
    options = parser().parse_args(argv)
    log.person = not options.cron
    configuration = config.load()
    doors.settings_of(configuration)
    if options.dry_run:
        return _dry_run(configuration, options.json)
    try:
        with _alone():
            result = _recorded(configuration, options)
    except NotMaster as fail:
        if options.cron and fail.standby:
            return os.EX_OK
        raise
    if options.json:
        print(json.dumps(outcome.as_json(result), indent=1))
    elif not options.cron:
        print(log.escape(outcome.sentence(result)))
    elif result.code:
        log.error(outcome.sentence(result))
    return result.code


@contextmanager
def _alone() -> Iterator[None]:
    """Hold the lock of a push. Raises Later when somebody else does."""
    from filelock import Timeout

    lock = locks.push()
    try:
        lock.acquire()
    except Timeout:
        raise Later("a run of hotsync is under way", "try again when it is done") from None
    try:
        yield
    finally:
        lock.release()


def _master(configuration: Config) -> Role:
    """Return the role of a node that may send. Raises NotMaster for any other."""
    _no_standby(configuration, role.begin(doors.settings_of(configuration).role))
    why = standing.may_push(configuration)
    me = role.current()
    if why:
        raise NotMaster(me, why, "see `hotpair status` on both nodes")
    return me


def _would_be_master(configuration: Config) -> Role:
    """Return the role of a node that would send, and write nothing."""
    me = role.foreseen(doors.settings_of(configuration).role)
    _no_standby(configuration, me)
    if why := standing.would_push(configuration, me):
        raise NotMaster(me, why, "see `hotpair status` on both nodes")
    return me


def _no_standby(configuration: Config, me: Role) -> None:
    if me.role != MASTER:
        what = f"this node is {me.role} of epoch {me.epoch}, and only the master sends"
        raise NotMaster(me, what, f"run hotsync on {configuration.node.peer}")


def _recorded(configuration: Config, options: argparse.Namespace) -> Result:
    """Send, and write down and mail what became of it, whatever that is; but not on a standby."""
    begun = time.time()
    try:
        result = _send(configuration, _master(configuration), options)
    except Fail as fail:
        if isinstance(fail, NotMaster) and fail.standby:
            raise
        result = Result(outcome.FAILED, failure=str(fail), seconds=round(time.time() - begun, 1))
        outcome.record(result, begun)
        alerts.report("hotsync", outcome.alert(result))
        raise
    outcome.record(result, begun)
    alerts.report("hotsync", outcome.alert(result))
    return result


def _send(configuration: Config, me: Role, options: argparse.Namespace) -> Result:
    from hotpair import progress

    settings, begun = doors.settings_of(configuration), time.monotonic()
    found = lists.collect(settings, configuration.node.name, dry_run=False)
    problems = tuple(backup.make(settings))
    planned = push.plan(configuration, found, me)
    if not options.force:
        push.brake(planned, settings)
    bar = sys.stderr.isatty() and not options.cron and not options.json
    with progress.shown("hotsync") if bar else nullcontext(detect.silent) as shown:
        run = push.push(configuration, found, me, push.bar(planned, shown))
    push.warn(run)
    return outcome.of(run, found, problems, time.monotonic() - begun)


def _dry_run(configuration: Config, as_json: bool) -> int:
    """Print what a run would do. Nothing is locked or written, here or on the standby."""
    me = _would_be_master(configuration)
    settings = doors.settings_of(configuration)
    found = lists.collect(settings, configuration.node.name, dry_run=True)
    planned = push.plan(configuration, found, me)
    would = preview.preview(planned, found, settings)
    if as_json:
        print(json.dumps(preview.as_json(would), indent=1))
    else:
        for line in preview.lines(would):
            print(log.escape(line))
    return os.EX_OK

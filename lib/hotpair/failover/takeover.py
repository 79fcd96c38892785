"""Promote this node: ordered steps, each noted on the disk when it is done: a run that was cut short goes on there."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from hotpair import locks, log
from hotpair.config import Config
from hotpair.exits import Fail, Later, UsageFail
from hotpair.failover import address, gate, notes, peer_role, role, services, steps
from hotpair.failover.role import MASTER, Role
from hotpair.failover.steps import LEAVABLE, STEPS, Step, Work

LOCK = "hotsync-slave"


class Order(NamedTuple):
    """Who wants this node promoted, and what is known of the old master."""

    by: str
    reason: str = ""
    dead: bool = False
    planned: bool = False
    without: tuple[str, ...] = ()  # names of steps


@contextmanager
def alone() -> Iterator[None]:
    """Be the only one that changes what this node is. Raises Later when somebody is at it."""
    fd = locks.try_run(LOCK)
    if fd is None:
        raise Later("another hotsync-slave is at work here", "wait for it")
    try:
        yield
    finally:
        os.close(fd)


def promote(
    configuration: Config,
    order: Order,
    table: Sequence[Step] = STEPS,
    tell: Callable[[str], None] = log.notice,
) -> dict[str, Any]:
    """Make this node the master and return what was done; one that is it already is left alone.

    tell: gets a line for each step. Raises Stopped at the step that cannot be done; the same call later goes on there.
    """
    _check(order)
    with alone():
        record, mine = notes.read(notes.PROMOTION), role.current()
        if not unfinished(record, mine):
            if _is_master(configuration, mine):
                return {"epoch": mine.epoch, "already": True}
            record = {"begun": time.time(), "by": order.by, "reason": order.reason, "done": {}, "said": {}}
        _forget_former_boot(record, mine)
        work = Work(configuration, record["by"], order.reason or record["reason"], order.dead, order.planned, record)
        for step in table:
            if step.name not in record["done"]:
                _do(step, work, order.without)
                tell(f"promote: {step.name}: {record['said'][step.name] or 'done'}")
        record["ended"] = time.time()
        notes.write(notes.PROMOTION, record)
        log.notice(f"promoted to master of epoch {record['epoch']} in {record['ended'] - record['begun']:.0f} s")
        return record


def _check(order: Order) -> None:
    if unknown := sorted(set(order.without) - set(LEAVABLE)):
        raise UsageFail(f"{', '.join(unknown)}: no step to be left out", f"one of {', '.join(LEAVABLE)}")


def _is_master(configuration: Config, mine: Role) -> bool:
    """Say whether this node is the master already.

    One that has rebooted asks the peer, and serves again; so does one that was about to be none.
    """
    if mine.role != MASTER:
        return False
    if mine.serving:
        if notes.read(notes.DEMOTION):
            serve_on(configuration, mine.epoch)
        return True
    mine, _ = peer_role.settle(configuration)
    if mine.serving:
        serve(configuration)
    return mine.serving


def unfinished(record: dict[str, Any], mine: Role) -> bool:
    """Say whether a promotion has made this node master and not come to its end."""
    return mine.role == MASTER and mine.epoch in record.get("epochs", ()) and "ended" not in record


def _forget_former_boot(record: dict[str, Any], mine: Role) -> None:
    """Have what a reboot undid done again: what runs, and the certainty of being the master."""
    if record.get("boot") != role.boot_id():
        gone = ["doors", "services", "address"]
        if not mine.serving:  # the old master may have come back meanwhile
            gone += ["preflight", "fence", "role"]
            record["reason"] = ""
        record["done"] = {name: seconds for name, seconds in record["done"].items() if name not in gone}
        record["boot"] = role.boot_id()


def _do(step: Step, work: Work, without: Sequence[str]) -> None:
    record, begun = work.record, time.monotonic()
    try:
        record["said"][step.name] = _said(step, work, without)
    except Fail as fail:
        record.update(failed=step.name, failure=str(fail))
        notes.write(notes.PROMOTION, record)
        again = "; `hotsync-slave promote` goes on there" if "role" in record["done"] else ""
        if not step.fixed:
            again += f", and without it by --skip {step.name}"
        raise steps.Stopped(f"{step.name}: {fail.message}", f"{fail.remedy or 'mend that'}{again}") from fail
    record["done"][step.name] = round(time.monotonic() - begun, 3)
    record.pop("failed", None)
    record.pop("failure", None)
    notes.write(notes.PROMOTION, record)


def _said(step: Step, work: Work, without: Sequence[str]) -> str:
    if step.name in without:
        return "left out"
    if step.data and work.record["own"]:
        return "not needed: this node's own data is the newest"
    return step.do(work)


def planned(configuration: Config, order: Order) -> list[str]:
    """Return what a promotion would do, step by step; nothing is changed."""
    _check(order)
    found = peer_role.ask(configuration.node)
    is_ = f"answers as {found.role} of epoch {found.epoch}" if found else "does not answer"
    own = steps.own_is_newest()
    lines = [f"the other node {is_}"]
    if found and found.role == MASTER and not order.dead:
        lines.append("a promotion would be REFUSED: see --master-is-dead, and `hotsync-slave failback`")
    for step in STEPS:
        out = step.name in order.without or (step.data and own)
        lines.append(f"{step.name}: {'left out' if out else step.what}{_details(step, configuration)}")
    return lines


def _details(step: Step, configuration: Config) -> str:
    settings = configuration.failover
    details = {
        "fence": (settings.fence or "no command: --master-is-dead is asked for",),
        "services": settings.services,
        "address": settings.address,
    }
    found = ", ".join(filter(None, details.get(step.name, ())))
    return f": {found}" if found else ""


def report(record: dict[str, Any]) -> list[str]:
    """Return what a promotion did, as lines for a person."""
    if record.get("already"):
        return [f"this node is the master of epoch {record['epoch']} already"]
    lines = [
        f"{name:14} {record['done'][name]:8.1f} s  {record['said'].get(name, '')}".rstrip() for name in record["done"]
    ]
    lines.append(f"master of epoch {record['epoch']} after {record['ended'] - record['begun']:.1f} s")
    if not record["own"]:
        data = record.get("data")
        lost = f"{record['begun'] - data:.0f} s" if data else "not known: no complete push came in"
        lines.append(f"age of the data when this began (what was written since is lost): {lost}")
    return lines


def minute(configuration: Config) -> None:
    """Cron's minute: hear the peer after a reboot, and have the addresses where the master is.

    A master that has booted starts its services once it is sure that it still is the master.
    """
    mine = role.begin(configuration.hotsync.role) if configuration.hotsync else role.current()
    if mine.role == MASTER and not mine.serving or mine.serving and notes.read(notes.SENT).get("failing_since"):
        mine, _ = peer_role.settle(configuration)
    lines = configuration.failover.address
    if mine.reason == gate.FENCED:
        _tell([address.drop(line) for line in lines])
    elif mine.serving and not unfinished(notes.read(notes.PROMOTION), mine) and _unlocked():
        if notes.read(notes.SERVED).get("boot") != role.boot_id():
            serve(configuration)
        _tell([address.announce(line) for line in lines if address.found(address.parse(line))])


def _unlocked() -> bool:
    """Say whether nobody is about to make something else of this node."""
    fd = locks.try_run(LOCK)
    if fd is not None:
        os.close(fd)
    return fd is not None


def serve(configuration: Config) -> None:
    """Start the services and take the addresses, as a promotion does. Raises Fail where that fails."""
    settings = configuration.failover
    failed = [services.start(unit, settings.hook_timeout) for unit in settings.services]
    failed += [address.take(line) for line in settings.address]
    _tell(failed)
    if not any(failed):
        notes.write(notes.SERVED, {"boot": role.boot_id()})


def serve_on(configuration: Config, epoch: int) -> None:
    """Undo what a demotion has done to a master that stays one."""
    serve(configuration)
    try:
        steps.hooks(configuration, "promote.d", (str(epoch),))
    except Fail as fail:
        log.error(str(fail))
    notes.forget(notes.DEMOTION)


def cut_short() -> float:
    """Return when a demotion of this node began that nobody goes on with; 0 when there is none."""
    begun = notes.read(notes.DEMOTION).get("begun", 0.0)
    return begun if begun and _unlocked() else 0.0


def _tell(failures: list[str]) -> None:
    for failure in filter(None, failures):
        log.error(failure)

"""The steps of a promotion, in their order. Each may run again after it was cut short, and ends in the same state."""

import os
import shutil
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from hotpair import locks, log, paths, rundir
from hotpair.config import Config
from hotpair.exits import ConfigFail, Fail
from hotpair.failover import address, fence, gate, notes, peer_role, role, services
from hotpair.failover.role import MASTER, STANDBY, Role


class Stopped(Fail):
    """A step could not be done. What was done stays done, and the next run goes on there."""

    code = os.EX_UNAVAILABLE


class Work(NamedTuple):
    """What the steps know of their promotion."""

    configuration: Config
    by: str  # program or person
    reason: str  # why the old master is known to be dead, "" when nobody said so
    dead: bool  # a person said so: it counts even while something there answers as master
    planned: bool  # the old master has handed over
    record: dict[str, Any]  # what is in promotion.json


class Step(NamedTuple):
    """One step."""

    name: str
    what: str  # for --dry-run
    do: Callable[[Work], str]  # returns what there is to say; raises Stopped
    data: bool = False  # brings the old master's data: not done where this node's own is newer
    fixed: bool = False  # cannot be left out


def preflight(work: Work) -> str:
    """See that this node may be promoted, and with what data. Nothing is changed."""
    mine, found = peer_role.settle(work.configuration)
    if mine.role not in (STANDBY, MASTER):
        raise ConfigFail("this node is neither master nor standby", "write [hotsync] with role on both nodes")
    if found and found.role == MASTER and not work.dead:
        raise Stopped(
            f"{found.node} answers as master of epoch {found.epoch}",
            "`hotsync-slave failback` changes places; --master-is-dead REASON if it must be ended",
        )
    seen = [one.epoch for one in role.history()] + [notes.read(notes.PEER).get("epoch", 0)]
    work.record["epoch"] = max(seen + ([found.epoch] if found else [])) + 1
    # more than one, where a reboot cut a promotion short
    work.record["epochs"] = [*work.record.get("epochs", ()), work.record["epoch"]]
    work.record["peer"] = found.role if found else ""
    work.record.setdefault("own", own_is_newest())  # a promotion cut short by a reboot knows better
    work.record.setdefault("inherited", f"inherited-{work.record['epoch']}")
    return "; ".join([_peer(found), _data(work)])


def _peer(found: peer_role.PeerRole | None) -> str:
    return f"{found.node} is {found.role} of epoch {found.epoch}" if found else "the other node does not answer"


def own_is_newest() -> bool:
    """Say whether this node was a master, and nothing has come from another one since."""
    history = role.history()
    last = max((number for number, one in enumerate(history) if one.role == MASTER), default=-1)
    if last < 0:
        return False
    until = history[last + 1].since if last + 1 < len(history) else time.time()
    return float(notes.read(notes.RECEIVED).get("begun", 0.0)) < until


def _data(work: Work) -> str:
    """Say how old the data is, and note when the last complete push began."""
    if work.record["own"]:
        return "this node's own data is the newest"
    received = notes.read(notes.RECEIVED)
    complete = received.get("complete", {}).get("begun", 0.0)
    work.record["data"] = complete
    if not complete:
        return "NO complete push has ever come in"
    torn = "; a later one was CUT SHORT" if received["begun"] > complete else ""
    return f"the last complete push began {time.time() - complete:.0f} s ago{torn}"


def end_master(work: Work) -> str:
    """Have the old master ended, unless it is known to be none."""
    if work.planned or work.record["peer"] not in ("", MASTER):
        return "not needed: the other node is no master"
    if work.configuration.failover.fence:
        failed = fence.fence(work.configuration)
        if failed and not work.dead:
            raise Stopped(f"fence: {failed}", "make sure that the master is off, then --master-is-dead REASON")
        return f"failed ({failed}); its end stands on: {work.reason}" if failed else "done"
    if not work.reason:
        raise Stopped("nobody says that the master is dead", "make sure that it is off, then --master-is-dead REASON")
    return f"its end stands on: {work.reason}"


def become_master(work: Work) -> str:
    """Save the new role and epoch, from when on no push comes in, before anything is served."""
    with locks.state(gate.LOCK):
        if not is_ours(role.current(), work.record):
            role.become(MASTER, work.record["epoch"], by=work.by, reason=work.reason)
    return f"master of epoch {work.record['epoch']}"


def is_ours(mine: Role, record: dict[str, Any]) -> bool:
    """Say whether the role is the one that a promotion has given this node, in this boot."""
    return mine.serving and mine.epoch == record.get("epoch")


def move_doors(work: Work) -> str:
    """End the pushes that are under way, and open the door again, whose gate refuses from now on.

    Then put what the master sent for us out of the way of this node's own `hotsync`, which would write over it.
    """
    from hotpair.hotsync import doors

    said = ""
    try:
        doors.close(work.configuration)
        doors.open(work.configuration)
    except Fail as fail:  # the gate refuses without a door as well
        said = f"the door is not open: {fail}"
    kept = inherited(work)
    if not work.record["own"] and not os.path.isdir(kept):
        for name in os.listdir(paths.state("hotsync")):
            if name.startswith("inherited-"):
                shutil.rmtree(paths.state("hotsync", name))
        if os.path.isdir(paths.state("hotsync", "out")):
            os.rename(paths.state("hotsync", "out"), kept)
    return said


def inherited(work: Work, *names: str) -> str:
    """Return a path of what the old master sent for a promotion."""
    return paths.state("hotsync", work.record["inherited"], *names)


def restore_configuration(work: Work) -> str:
    """Make this node's accounts and configuration the master's, but what makes this node itself."""
    from hotpair.failover import equip
    from hotpair.hotsync import backup, lists

    settings, said = work.configuration.hotsync, list[str]()
    assert settings
    archive, epoch = inherited(work, backup.NAME), work.record["epochs"][0]
    timeout = work.configuration.failover.hook_timeout
    left = equip.restore(archive, settings, lists.accepted(settings), epoch, said.append, timeout)
    for line in left:
        log.error(line)
    return "; ".join([*said, f"{len(left)} things are not as they were: see the log"] if left else said)


def start_services(work: Work) -> str:
    """Start [failover] services in their order."""
    for unit in work.configuration.failover.services:
        if failed := services.start(unit, work.configuration.failover.hook_timeout):
            raise Stopped(f"service {unit}: {failed}", "mend that")
    notes.write(notes.SERVED, {"boot": role.boot_id()})
    return ", ".join(work.configuration.failover.services)


def load_dumps(work: Work) -> str:
    """Have the programs of restore.d load the dumps that came with the last push."""
    return hooks(work.configuration, "restore.d", ("load", inherited(work, "dumps")))


def write_sessions(work: Work) -> str:
    """Put the session tables that the master sent into the kernel and the proxies; what fails ends nothing."""
    from hotpair.sessions import files
    from hotpair.sessions.backends import Backends

    if work.configuration.sessions is None:
        return "there is no [sessions]"
    result = files.load(files.stored(), Backends(work.configuration.sessions), lambda _: True)
    for line in result.problems:
        log.error(line)
    return "; ".join([*files.lines(result, "written"), *result.problems])


def run_hooks(work: Work) -> str:
    """Run the programs of promote.d with the epoch."""
    return hooks(work.configuration, "promote.d", (str(work.record["epoch"]),))


def hooks(configuration: Config, directory: str, words: tuple[str, ...]) -> str:
    """Run what is in a directory of ours; the first failure ends it. Returns their names."""
    try:
        names = rundir.programs(directory)
    except FileNotFoundError:
        return "there are none"
    facts, timeout = {"HOTPAIR_NODE": configuration.node.name}, configuration.failover.hook_timeout
    with rundir.one_at_a_time("hook", timeout) as record:
        for ran in rundir.run(directory, names, words, facts, timeout, record):
            if ran.failure:
                raise Stopped(f"{directory}/{ran.name}: {ran.failure}", "mend that")
    return ", ".join(names)


def take_addresses(work: Work) -> str:
    """Take the shared addresses and tell the neighbours."""
    for line in work.configuration.failover.address:
        if failed := address.take(line):
            raise Stopped(f"address {line}: {failed}", "mend that")
    return ", ".join(work.configuration.failover.address)


STEPS = (
    Step("preflight", "see that the other node does not answer as master", preflight, fixed=True),
    Step("fence", "end the old master", end_master, fixed=True),
    Step("role", "be master of the next epoch", become_master, fixed=True),
    Step("doors", "end every push that is under way", move_doors, fixed=True),
    Step("configuration", "restore the master's configuration", restore_configuration, data=True),
    Step("services", "start the services", start_services),
    Step("dumps", "load the dumps", load_dumps, data=True),
    Step("sessions", "write the session tables", write_sessions, data=True),
    Step("hooks", "run promote.d", run_hooks),
    Step("address", "take the addresses and tell the neighbours", take_addresses),
)
LEAVABLE = tuple(step.name for step in STEPS if not step.fixed)

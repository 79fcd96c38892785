"""Make this node a standby again: nothing is served any more, and what the other one has not seen is kept aside."""

import os
import time
from collections.abc import Iterator
from typing import Any

from hotpair import locks, log, paths, rundir
from hotpair.config import Config
from hotpair.failover import address, gate, notes, peer_role, role, services, steps, takeover, unseen
from hotpair.failover.role import MASTER, STANDBY, Role
from hotpair.failover.steps import Stopped
from hotpair.hotsync.settings import Hotsync

AGAIN = "mend that, then `hotsync-slave demote` again"


def demote(configuration: Config, by: str, reason: str = "") -> dict[str, Any]:
    """Stop serving, keep aside what was written since the last complete push, and be standby of the peer's epoch.

    Each step may run again after it was cut short. Raises Stopped at the one that cannot be done.
    """
    with takeover.alone():
        mine, found = peer_role.settle(configuration)
        if mine.role == STANDBY and mine.reason != gate.FENCED:
            _forget_mastership()  # where the last run was killed before it did
            return {"epoch": mine.epoch, "already": True}
        last = _last_mastership(mine)
        withdraw(configuration, last.epoch)
        _dump(configuration, last.epoch)
        stop_services(configuration)
        note = _keep(configuration, last)
        become_standby(max(mine.epoch, found.epoch if found else 0), by, reason)
        return note


def withdraw(configuration: Config, epoch: int) -> None:
    """Run demote.d, and give the addresses back: from now on nobody comes in through them."""
    notes.write(notes.DEMOTION, {"begun": time.time()})
    steps.hooks(configuration, "demote.d", (str(epoch),))
    for line in configuration.failover.address:
        if failed := address.drop(line):
            raise Stopped(f"address {line}: {failed}", AGAIN)


def stop_services(configuration: Config) -> None:
    """Stop [failover] services, the last one first."""
    for unit in reversed(configuration.failover.services):
        if failed := services.stop(unit, configuration.failover.hook_timeout):
            raise Stopped(f"service {unit}: {failed}", AGAIN)


def become_standby(epoch: int, by: str, reason: str) -> None:
    """Save the new role: from now on pushes of that epoch come in."""
    with locks.state(gate.LOCK):
        role.become(STANDBY, epoch, by=by, reason=reason)
    _forget_mastership()
    log.notice(f"standby of epoch {epoch}, by {by}")


def _forget_mastership() -> None:
    notes.forget(notes.SERVED)
    notes.forget(notes.DEMOTION)


def _dump(configuration: Config, epoch: int) -> None:
    """Have the plugins of hotsync.d dump their databases aside, and note what failed: a server may be gone.

    After a run that was killed later the servers are stopped already. What it dumped stays, for a plugin that fails
    leaves the last dump alone.
    """
    if configuration.hotsync is None:
        return
    known = unseen.known(epoch)
    dumped = dict(known.get("dumped", {}))
    dumps = []
    for name, failure in _dump_now(configuration, configuration.hotsync, epoch):
        if not failure:
            dumped[name] = time.time()
        elif name in dumped:
            when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(dumped[name]))
            log.error(f"hotsync.d/{name}: {failure}; its dump of {when} is kept")
        else:
            dumps.append(f"hotsync.d/{name}: {failure}")
    notes.write(notes.UNSEEN, {**known, "epoch": epoch, "dumped": dumped, "dumps": dumps})


def _dump_now(configuration: Config, settings: Hotsync, epoch: int) -> Iterator[rundir.Ran]:
    """Run the plugins, one at a time, and yield what became of each."""
    place = paths.make_private(paths.state("hotsync", "unseen", f"{epoch}-dumps"))
    lists = [f"{place}/.include", f"{place}/.exclude"]
    for path in lists:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    facts = {
        "HOTPAIR_NODE": configuration.node.name,
        "HOTPAIR_DUMPS": place,
        "HOTPAIR_DATABASES": settings.databases,
    }
    try:
        names = rundir.programs("hotsync.d")
    except FileNotFoundError:
        names = []
    with rundir.one_at_a_time("plugin", settings.plugin_timeout) as record:
        yield from rundir.run("hotsync.d", names, lists, facts, settings.plugin_timeout, record)
    for path in lists:
        os.unlink(path)


def _last_mastership(mine: Role) -> Role:
    """Return the role that ends: a master that heard of a later one is a standby already."""
    return next((one for one in reversed(role.history()) if one.role == MASTER), mine)


def _keep(configuration: Config, last: Role) -> dict[str, Any]:
    """Keep aside what was written since the last complete push, or since this node was made master when none was."""
    if configuration.hotsync is None:
        return {}
    from hotpair.hotsync import lists

    pushed = notes.read(notes.SENT).get("last_complete_start")
    moment = max(last.since, pushed) if isinstance(pushed, int | float) else last.since
    return unseen.keep(lists.accepted(configuration.hotsync), moment, last.epoch)


def report(note: dict[str, Any]) -> list[str]:
    """Return what a demotion kept aside, as lines for a person."""
    if note.get("already"):
        return [f"this node is a standby of epoch {note['epoch']} already"]
    lines = [log.escape(path) for path in note.get("files", ())]
    lines += [f"not dumped: {failure}" for failure in note.get("dumps", ())]
    where = f" in {note['directory']}" if note.get("files") else ""
    return [*lines, f"{len(note.get('files', ()))} files that the other node has not seen are kept{where}"]

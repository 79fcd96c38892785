"""How this node stands as master or standby: what `hotpair status` says of it, and whether it may push."""

import time
from collections.abc import Iterator

from hotpair.config import Config
from hotpair.failover import gate, notes, peer_role, role, takeover
from hotpair.failover.role import MASTER, STANDBY, Role
from hotpair.status import CRITICAL, OK, WARNING, Remark

LATE = 35 * 60.0  # seconds: two pushes of every 15 minutes, and time for the second to end


def may_push(configuration: Config) -> str:
    """Ask the peer what it is, draw the conclusion, and return "" when this node may push to it, else why not."""
    return _obstacle(*peer_role.settle(configuration))


def would_push(configuration: Config, mine: Role) -> str:
    """Say what `may_push` would of a node that is this, and write nothing."""
    found = peer_role.ask(configuration.node)
    if found and peer_role.confirmed(mine, found):
        mine = mine._replace(boot=role.boot_id())
    return _obstacle(mine, found)


def _obstacle(mine: Role, found: peer_role.PeerRole | None) -> str:
    if mine.role != MASTER:
        return f"this node is {mine.role} of epoch {mine.epoch}, no master"
    if takeover.unfinished(notes.read(notes.PROMOTION), mine):
        return "the promotion of this node has not come to its end"
    if found is None:
        return "the other node does not answer"
    if found.role != STANDBY:
        return f"the other node is {found.role} of epoch {found.epoch}, no standby"
    return "" if mine.serving else f"the other node knows of epoch {found.epoch}"


def remarks(configuration: Config, mine: Role) -> list[Remark]:
    """Return what is to be said of the node's role. Writes nothing, and asks nobody."""
    if configuration.hotsync is None:
        return []
    return [*_role(mine), *_promotion(mine), *(_sent(mine) if mine.role == MASTER else _received(mine))]


def _remark(level: int, kind: str, since: float, what: str, remedy: str) -> Remark:
    return Remark(level, "", "", kind, since, what, remedy)


def _role(mine: Role) -> Iterator[Remark]:
    peer = notes.read(notes.PEER)
    theirs, at = peer.get("epoch", 0), peer.get("at", 0.0)
    if mine.reason == gate.FENCED:
        what = f"{mine.by} was promoted to epoch {mine.epoch}: this node was master, and may serve still"
        remedy = "hotsync-slave demote, which keeps aside what it alone has"
        yield _remark(CRITICAL, "role", mine.since, what, remedy)
    elif mine.role == MASTER and peer.get("role") == MASTER:
        which = f"of epoch {theirs} too" if theirs == mine.epoch else f"of an older epoch: {theirs}"
        where = "on one of the nodes" if theirs == mine.epoch else "there"
        what = f"the other node calls itself master {which}"
        yield _remark(CRITICAL, "role", at, what, f"hotsync-slave demote {where}")
    elif mine.role == MASTER and (begun := takeover.cut_short()):
        what = "the demotion of this node was cut short: it is master, and serves nothing, or not all"
        yield _remark(
            CRITICAL, "role", begun, what, "hotsync-slave demote goes on, hotsync-slave promote takes it back"
        )
    elif mine.role == MASTER and not mine.serving:
        what = "master, but since it booted it has not heard that the other node is none"
        if theirs > mine.epoch:
            what = f"master of epoch {mine.epoch}, but the other node knows of epoch {theirs}"
        remedy = "wait for the other node, or hotsync-slave promote --master-is-dead REASON"
        yield _remark(CRITICAL, "role", mine.since, what, remedy)


def _promotion(mine: Role) -> Iterator[Remark]:
    record = notes.read(notes.PROMOTION)
    if takeover.unfinished(record, mine):
        where = f"stopped at {record['failed']}: {record['failure']}" if "failed" in record else "was cut short"
        what = f"the promotion of this node {where}"
        yield _remark(CRITICAL, "promotion", record["begun"], what, "hotsync-slave promote goes on there")
    note = notes.read(notes.UNSEEN)
    if note.get("files"):
        what = f"{len(note['files'])} files that the other node never saw are kept in {note['directory']}"
        yield _remark(OK, "unseen", note.get("ended", 0.0), what, "look through them, and remove them")


def _sent(mine: Role) -> Iterator[Remark]:
    known = notes.read(notes.SENT)
    last = known.get("last_complete") or 0.0
    if known.get("failing_since"):
        what = f"hotsync fails: {known.get('failure', '')}"
        yield _remark(CRITICAL, "hotsync", known["failing_since"], what, "mend that, then hotsync")
    elif time.time() - max(last, mine.since) > LATE:
        what = "the standby has had no complete push since then" if last else "the standby has had no complete push"
        yield _remark(WARNING, "hotsync", last, what, "hotsync, and see that cron runs")


def _received(mine: Role) -> Iterator[Remark]:
    known = notes.read(notes.RECEIVED)
    last = known.get("complete", {}).get("begun", 0.0)
    if mine.role == STANDBY and time.time() - max(last, mine.since) > LATE:
        what = "no complete push has come in since then" if last else "no complete push has come in"
        yield _remark(WARNING, "hotsync", last, what, "see to hotsync on the master")

"""Send: propose changes to the peer, carry the contents it wants, and record what it says became of them."""

import json
import math
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from hotpair import apply, detect, hardlinks, hooks, keep, lineage, locks, log, moves, payload, scan, survey
from hotpair.archive import Row, transaction
from hotpair.config import AnySet
from hotpair.detect import LARGE, Change, Scope
from hotpair.exits import Refused
from hotpair.pauses import LONGEST, growing
from hotpair.peer import Peer
from hotpair.treeset import TreeSet

LINE_BYTES = 400_000  # of proposals in one message, far below what the wire allows
APPLY = 3600.0  # seconds: checks may take long, and a dead peer is noticed by ssh itself
FAILED_PAUSE = 60.0, LONGEST  # seconds, first and longest, until a change that failed is tried again
DONE = "applied", "have"  # the verdicts that both nodes agree after
HELD_PAUSE = 900.0  # seconds until a change that a person must decide is asked about again


class Outcome(NamedTuple):
    """What became of what was sent."""

    agreed: int = 0
    payloads: int = 0
    again: bool = False  # something moved meanwhile: look again now
    turn: bool = False  # the peer's own state won, or differs: it has to send
    waiting: int = 0  # held, or failed and to be tried later

    def plus(self, other: "Outcome") -> "Outcome":
        return Outcome(
            self.agreed + other.agreed,
            self.payloads + other.payloads,
            self.again or other.again,
            self.turn or other.turn,
            self.waiting + other.waiting,
        )


def batches(files: AnySet, changes: list[Change]) -> Iterator[list[Change]]:
    """Yield the changes in bounded batches, small files before large ones."""
    batch: list[Change] = []
    entries = total = text = 0
    for change in sorted(changes, key=moves.in_order):
        size, line = (change.new.size if change.new else 0), len(json.dumps(change))
        full = entries >= files.batch_entries or total + size > files.batch_bytes or text + line > LINE_BYTES
        if batch and full:
            yield batch
            batch, entries, total, text = [], 0, 0, 0
        batch.append(change)
        entries, total, text = entries + 1, total + size, text + line
    if batch:
        yield batch


def is_large(scope: Scope, state: scan.State) -> bool:
    """Say whether a state's content is one that holds up no run."""
    return state.kind == "file" and state.size > scope.node.large


def send(scope: Scope, peer: Peer, changes: list[Change], aside: bool = False) -> Outcome:
    """Send changes batch by batch. Raises Later or Refused when the conversation breaks; what was recorded stays.

    aside: send what runs have left aside; without it the large contents that the peer wants are left aside.
    """
    outcome = Outcome()
    done, size, whole = 0, 0, _size(changes)
    for batch in batches(scope.files, changes):
        _prepare(scope, peer, batch, aside)
        outcome = outcome.plus(_send_batch(scope, peer, batch, aside))
        peer.wire.until = math.inf
        done, size = done + len(batch), size + _size(batch)
        scope.progress(done, len(changes), size, whole)
    if changes:  # once for all: the index of a files set has a line for each path
        with locks.state(scope.files.name):
            survey.index(scope, [change.path for change in changes])
    return outcome


def _size(changes: list[Change]) -> int:
    return sum(change.new.size for change in changes if change.new)


def _prepare(scope: Scope, peer: Peer, batch: list[Change], aside: bool) -> None:
    """Run what the tree wants to run before a batch, and let the batch's time begin. Raises Unready."""
    if not isinstance(scope.files, TreeSet):
        return
    if scope.files.before:
        hooks.before(scope.node, scope.files, [change.path for change in batch])
    scope.archive.solved("", hooks.Unready.kind)
    if scope.files.timeout and not aside:  # a large content may take as long as the line wants
        peer.wire.until = time.monotonic() + scope.files.timeout


def _send_batch(scope: Scope, peer: Peer, batch: list[Change], aside: bool) -> Outcome:
    shared = scope.files.shared
    if isinstance(scope.files, TreeSet):
        batch = hardlinks.find(scope, batch)
    proposals = [
        (shared(c.path), c.base, c.new, c.source and shared(c.source), *([shared(c.twin)] if c.twin else []))
        for c in batch
    ]
    peer.number = peer.number or lineage.begin(scope.archive)
    words = {"nonce": peer.nonce, "number": peer.number, "aside": aside, "emptying": scope.emptying}
    peer.wire.send(propose=proposals, **words)
    answers = _list(peer.wire.expect("answers"), len(batch))
    wanted = [change for change, answer in zip(batch, answers, strict=True) if answer.get("action") == "want"]
    left = [] if aside else [change for change in wanted if change.new and is_large(scope, change.new)]
    carried = [change for change in wanted if change not in left]
    _carry(scope, peer, carried, aside)
    peer.wire.send(apply=True)
    verdicts = _list(peer.wire.expect("verdicts", APPLY), len(batch))
    outcome = Outcome(payloads=len(carried))
    refused = {
        change.path
        for change, verdict in zip(batch, verdicts, strict=True)
        if change not in left and verdict.get("action") not in DONE
    }
    scope.unmovable.update(change.path for change in batch if change.twin in refused)
    with locks.state(scope.files.name), transaction(scope.archive.db):
        for change, verdict in zip(batch, verdicts, strict=True):
            if change in left:
                _leave_aside(scope, change)
            else:
                outcome = outcome.plus(record(scope, peer.name, change, verdict))
    return outcome


def _leave_aside(scope: Scope, change: Change) -> None:
    """Note that a content is to be carried when the run is over, also where only the peer's archive has lost it."""
    row = scope.archive.row(change.path)
    if change.base is None and row.agreed == change.new:
        scope.archive.put(change.path, row._replace(agreed=None, from_peer=False))
    scope.archive.problem(change.path, LARGE, change.subject, "is carried when the run is over")


def _list(value: Any, length: int) -> list[dict[str, Any]]:
    if not isinstance(value, list) or len(value) != length or not all(isinstance(item, dict) for item in value):
        raise Refused("the peer's answer does not fit what was proposed")
    return value


def _carry(scope: Scope, peer: Peer, wanted: list[Change], aside: bool) -> None:
    """Carry the wanted contents: one rsync for each inbox, small files without."""
    large: dict[str, list[tuple[str, scan.State]]] = {}
    with peer.wire.gathered():
        for change in wanted:
            assert change.new
            if change.new.size > scope.node.rsync_above:
                inbox = apply.stage_directory(scope.files, change.path)
                large.setdefault(inbox, []).append((change.path, change.new))
            else:
                peer.wire.send(bytes=scope.files.shared(change.path))
                payload.send_small(peer.wire, scope.files, change.path, change.new.size)
    for files in large.values():
        peer.wire.send(rsync=[scope.files.shared(path) for path, _ in files])
        payload.send_large(peer.wire, scope.files, files, scope.node.io_timeout, aside)


def record(scope: Scope, peer_name: str, change: Change, verdict: dict[str, Any]) -> Outcome:
    """Record one verdict: what both now agree on, or why not. The caller holds the state lock."""
    action, why = verdict.get("action"), str(verdict.get("why", ""))[:500]
    archive, path = scope.archive, change.path
    if verdict.get("conflict") and action != "held":
        note_conflict(scope, path, change.new, f"{peer_name}: {action}: {why}")
    if action in DONE:
        if change.source and action == "applied":
            _agree_on_move(scope, change)
        agree(scope, path, change.new)
        return Outcome(agreed=1, again=bool(change.source))
    if action == "unmoved":
        scope.unmovable.add(path)
        return Outcome(again=True)
    if action == "lost":
        return Outcome(turn=True)
    if action == "busy":
        return Outcome(again=True)
    if action == "held":
        archive.problem(path, "held", change.subject, why, time.time() + HELD_PAUSE)
        return Outcome(waiting=1)
    key = path, change.subject
    tried = sum(p.attempts for p in archive.problems("failed") if (p.path, p.subject) == key)
    final = isinstance(scope.files, TreeSet) and 0 < scope.files.retries <= tried + 1
    due = math.inf if final else time.time() + growing(tried + 1, *FAILED_PAUSE)
    given_up = f" (given up after {tried + 1} attempts)" if final else ""
    if archive.problem(path, "failed", change.subject, f"{peer_name}: {why}{given_up}", due) or final:
        log.error(f"{scope.files.title}: {path}: {peer_name} could not take it: {why}{given_up}")
    return Outcome(waiting=1)


def agree(scope: Scope, path: str, state: scan.State | None) -> None:
    """Record that both nodes had this state, and let go of generations past `keep`."""
    row = scope.archive.row(path)
    if state is None and row.seen is None and isinstance(scope.files, TreeSet):
        scope.archive.forget(path)
    else:
        scope.archive.put(path, row._replace(agreed=state, from_peer=False))
    scope.archive.solved(path, "failed", "held", LARGE)
    keep.trim(scope.files, path)


def _agree_on_move(scope: Scope, change: Change) -> None:
    """Record that what was moved, and all below it, has moved on both nodes."""
    if change.new is not None and change.new.kind == "directory":
        detect.move(scope, change.source, change.path)
        scope.archive.put(change.path, Row(change.new, change.new))
    else:
        agree(scope, change.source, None)


def note_conflict(scope: Scope, path: str, state: scan.State | None, detail: str) -> None:
    """List a conflict, and say it once."""
    if scope.archive.problem(path, "conflict", scan.subject(state), detail):
        log.notice(f"{scope.files.title}: conflict at {path}: {detail}")

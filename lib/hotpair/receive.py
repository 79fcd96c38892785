"""Receive: the peer's end of the conversation. It decides against its own live files, stages, applies, answers.

Nothing the other end says is trusted: this node's own configuration decides which paths may be written, a nonce
makes yesterday's lines worthless, and what arrives is staged in the inbox until its digest has been verified.
"""

import os
import secrets
import time
from contextlib import suppress
from typing import Any, NamedTuple

from hotpair import (
    apply,
    beneath,
    compare,
    decide,
    detect,
    locks,
    paths,
    payload,
    peer,
    plan,
    plausible,
    scan,
    sections,
    send,
    tasks,
)
from hotpair.apply import Decided
from hotpair.archive import Row, transaction
from hotpair.detect import Scope
from hotpair.exits import Fail, Refused
from hotpair.scan import State, Unsettled
from hotpair.wire import PROTOCOL, Wire

SPARE = 16 << 20  # bytes of disk that a content must leave free, for the archive and the logs


class Pending(NamedTuple):
    """A decided change on its way: the answer given, what is to be applied, and what both agreed on before."""

    answer: dict[str, Any]
    change: Decided


class Reception:
    """One conversation, from the greeting to the last word."""

    def __init__(self, wire: Wire, scope: Scope) -> None:
        self.wire, self.scope = wire, scope
        self.nonce = secrets.token_hex(16)
        self.peer = ""
        self.pending: dict[str, Pending] = {}
        self.landed: list[Decided] = []

    def serve(self) -> None:
        """Talk until the peer says goodbye. Raises Refused, having told the peer why."""
        try:
            self._greet()
            while not (message := self.wire.receive()).get("bye"):
                self._dispatch(message)
        except Refused as refused:
            self.wire.send(refused=str(refused))
            raise
        finally:
            self._empty_inboxes()

    def _greet(self) -> None:
        mine = peer.hello(self.scope.node, self.scope.files)
        theirs = self.wire.receive()
        if theirs.get("hotpair") != PROTOCOL:
            spoken = repr(theirs.get("hotpair"))[:20]
            raise Refused(f"protocol {spoken} is not {PROTOCOL}: install the same version on both nodes")
        if theirs.get("set") != mine["set"]:
            raise Refused(f"set {str(theirs.get('set'))[:20]!r} was announced as {mine['set']!r}")
        if theirs.get("settings") != mine["settings"]:
            raise Refused(f"[files {mine['set']}] differs: give both nodes the same paths and prefer")
        self.peer = str(theirs.get("node"))
        if not plausible.node(theirs.get("node")):
            raise Refused(f"a node called {self.peer[:20]!r}")
        if self.peer == mine["node"]:
            raise Refused(f"both nodes are called {self.peer!r}: give each its own name in [node]")
        self.wire.send(**mine, nonce=self.nonce)

    def _dispatch(self, message: dict[str, Any]) -> None:
        if "propose" in message:
            self._propose(message)
        elif "bytes" in message:
            change = self._wanted(message["bytes"])
            assert change.new
            payload.receive_small(self.wire, change.stage, change.new.size)
        elif "rsync" in message:
            self._rsync(message["rsync"])
        elif "apply" in message:
            self._apply()
        elif "compare" in message:
            compare.answer(self.scope, self.wire, message)
        elif "turn" in message:
            self.wire.send(done=compare.turn(self.scope))
        elif "peek" in message:
            plan.answer(self.scope, self.wire)
        elif "resolved" in message:
            self.wire.send(resolved=compare.acknowledge(self.scope, message["resolved"]))
        else:
            raise Refused(f"no such request: {sorted(message)[:3]!r}")

    def _propose(self, message: dict[str, Any]) -> None:
        if message.get("nonce") != self.nonce:
            raise Refused("a proposal from another conversation")
        proposals = [self._parse(item) for item in _items(message["propose"], send.BATCH_ENTRIES)]
        self._empty_inboxes()
        with locks.state(self.scope.files.name), transaction(self.scope.archive.db):
            for path, base, new in proposals:
                self.pending[path] = self._decide(path, base, new)
        if len(self.pending) != len(proposals):
            raise Refused("a path is proposed twice")
        self.wire.send(answers=[pending.answer for pending in self.pending.values()])

    def _parse(self, item: Any) -> tuple[str, State | None, State | None]:
        """Return a proposal that is safe to act on. Raises Refused for any that is not."""
        try:
            path, base, new = item
            base, new = scan.from_json(base), scan.from_json(new)
        except (TypeError, ValueError) as error:
            raise Refused(f"not a proposal: {str(item)[:80]!r}") from error
        if not plausible.path(path) or not self.scope.files.covers(path):
            raise Refused(f"path {str(path)[:80]!r} is not in [files {self.scope.files.name}] here")
        for state in (base, new):
            if state is not None and not plausible.state(state):
                raise Refused(f"impossible state for {path!r}")
        return path, base, new

    def _decide(self, path: str, base: State | None, new: State | None) -> Pending:
        scope, stage = self.scope, ""
        try:
            row = detect.current(scope, path, scope.archive.row(path))
        except (Unsettled, OSError) as error:
            return Pending({"action": "busy", "why": str(error)}, Decided(path, None, None, ""))
        nodes = (scope.node.name, self.peer)
        answer = decide.decide(base, new, row.seen, row.agreed, row.from_peer, scope.files.prefer, nodes)
        reply: dict[str, Any] = {"action": answer.action, "conflict": answer.conflict}
        known = row.seen is not None and new is not None and row.seen.content == new.content
        if answer.action == "take" and new is not None and new.kind == "file" and not known:
            stage = f"{apply.stage_directory(scope.files, path)}/{payload.stage_name(path, new)}"
            reply.update(self._room(path, new))
        if answer.action == "lost" and row.seen == row.agreed:
            # We changed nothing ourselves, yet the peer never had this: forget that it was agreed, so that we send it.
            scope.archive.put(path, row._replace(agreed=None, from_peer=False))
        if answer.conflict:
            reply["why"] = f"{scope.node.name} has {_describe(row.seen)}, {self.peer} has {_describe(new)}"
        return Pending(reply, Decided(path, row.seen, new, stage))

    def _room(self, path: str, new: State) -> dict[str, Any]:
        """Make the inbox and return "want", or "failed" when the content would not fit or has no place."""
        try:
            apply.make_parents(path)
            with beneath.place(path) as at:
                inbox = beneath.inbox(at, self.scope.files.name)
                disk = os.fstatvfs(inbox)
                os.close(inbox)
        except OSError as error:
            return {"action": "failed", "why": f"no inbox beside {path}: {error.strerror}"}
        if disk.f_bavail * disk.f_frsize < new.size + SPARE:
            return {"action": "failed", "why": f"disk full: {new.size} bytes do not fit beside {path}"}
        return {"action": "want"}

    def _wanted(self, path: Any) -> Decided:
        found = self.pending.get(path) if isinstance(path, str) else None
        if found is None or found.answer["action"] != "want":
            raise Refused(f"a content that was not asked for: {str(path)[:80]!r}")
        return found.change

    def _rsync(self, listed: Any) -> None:
        changes = [self._wanted(path) for path in _items(listed, send.BATCH_ENTRIES)]
        directories = {change.stage.rsplit("/", 1)[0] for change in changes}
        if len(directories) != 1:
            raise Refused("one rsync fills one inbox")
        basis = [(c.path, c.stage.rsplit("/", 1)[1]) for c in changes if c.here is not None and c.here.kind == "file"]
        inbox = directories.pop()
        payload.receive_large(self.wire, self.scope.files, inbox, basis)
        payload.discard_others(inbox, {change.stage.rsplit("/", 1)[1] for change in changes})

    def _apply(self) -> None:
        verdicts = []
        checked = {path: self._check(pending) for path, pending in self.pending.items()}
        with locks.state(self.scope.files.name):
            with transaction(self.scope.archive.db):
                for path, pending in self.pending.items():
                    verdicts.append(checked[path] or self._settle(pending))
                self._record_landed()
            if len(verdicts) < send.BATCH_ENTRIES:  # after a full batch more are coming
                detect.write_index(self.scope)
        self._empty_inboxes()
        self.wire.send(verdicts=verdicts)

    def _check(self, pending: Pending) -> dict[str, Any]:
        """Verify and check a staged content, without any lock; return the verdict when it fails, else {}."""
        change = pending.change
        if pending.answer["action"] != "want" or change.new is None:
            return {}
        try:
            payload.verify(change.stage, change.new)
        except (Unsettled, OSError) as error:
            return {"action": "busy", "why": str(error)}
        why = tasks.check(self.scope.sections, change.path, paths.under(change.stage))
        return {"action": "failed", "why": f"check failed, the old file stays: {why}"} if why else {}

    def _settle(self, pending: Pending) -> dict[str, Any]:
        """Apply one change, or record what was already so; return the verdict. Inside the transaction."""
        scope, change, answer = self.scope, pending.change, pending.answer
        action = answer["action"]
        if action in ("take", "want"):
            try:
                apply.make_parents(change.path)
                apply.apply(scope.files, change)
            except Unsettled as error:
                return {"action": "busy", "why": str(error)}
            except (Fail, OSError) as error:
                return {"action": "failed", "why": str(error)}
            self.landed.append(change)
            action = "applied"
        elif action == "have":
            self._have(change)
        if answer.get("conflict"):
            loser = change.new if action in ("lost", "held") else change.here
            kind = "held" if action == "held" else "conflict"
            detail = f"{answer.get('why')}; {self.peer if action == 'applied' else scope.node.name}'s is live"
            if kind == "held":
                scope.archive.problem(change.path, kind, scan.subject(loser), str(answer.get("why")))
            else:
                send.note_conflict(scope, change.path, loser, detail)
        return {"action": action, "conflict": bool(answer.get("conflict")), "why": answer.get("why", "")}

    def _record_landed(self) -> None:
        """Record what was applied and owe its commands: one transaction says both.

        A tick is waited for before the look that gives the signature: then that can be trusted, and the event of our
        own rename finds all quiet. What a user wrote since it was applied gets none, so that the next run sees it.
        """
        scan.tick(time.time_ns() if self.landed else 0)
        for change in self.landed:
            send.agree(self.scope, change.path, change.new)
            self.scope.archive.put(change.path, Row(change.new, change.new, apply.signature(change), from_peer=True))
            if change.new is not None:
                self.scope.archive.origin(change.path, change.new.digest, self.peer)
            self._owe(change.path, ("both", "peer"))
        self.landed = []

    def _have(self, change: Decided) -> None:
        """Both already have it; what a crash kept from being owed is owed now."""
        row = self.scope.archive.row(change.path)
        send.agree(self.scope, change.path, change.new)
        if row.agreed != change.new and self.scope.archive.fact("born"):
            self._owe(change.path, ("peer",))
        self.scope.archive.put(change.path, row._replace(agreed=change.new, from_peer=True))

    def _owe(self, path: str, where: tuple[str, ...]) -> None:
        wanted = [s for s in sections.for_path(self.scope.sections, path, here=False) if s.on in where]
        tasks.owe(self.scope.archive, wanted, path)

    def _empty_inboxes(self) -> None:
        """Remove what this conversation staged and did not apply; what rsync left half done stays for the next."""
        for pending in self.pending.values():
            if pending.change.stage:
                with suppress(OSError), beneath.place(pending.change.stage) as at:  # there may be no inbox at all
                    payload.discard(at)
        self.pending = {}


def _items(value: Any, most: int) -> list[Any]:
    if not isinstance(value, list) or not 0 < len(value) <= most:
        raise Refused("a list of the wrong length")
    return value


def _describe(state: State | None) -> str:
    return "nothing" if state is None else f"a {state.kind} of {state.size} bytes, {state.digest[:12] or state.mode}"

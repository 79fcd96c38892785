"""Receive: the peer's end of the conversation. It decides against its own live files, stages, applies, answers.

Nothing the other end says is trusted: this node's own configuration decides which paths may be written, a nonce
makes yesterday's lines worthless, and what arrives is staged in the inbox until its digest has been verified.
"""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from hotpair import (
    beneath,
    compare,
    judge,
    leftovers,
    lineage,
    locks,
    paths,
    payload,
    peer,
    plan,
    plausible,
    settle,
    survey,
    tasks,
    tree,
    treeset,
)
from hotpair.archive import transaction
from hotpair.detect import Scope
from hotpair.exits import Refused
from hotpair.judge import Judgement, Pending
from hotpair.scan import Unsettled
from hotpair.stage import Decided
from hotpair.treeset import TreeSet
from hotpair.wire import PROTOCOL, Wire


class Reception:
    """One conversation, from the greeting to the last word."""

    def __init__(self, wire: Wire, scope: Scope) -> None:
        self.wire, self.scope = wire, scope
        self.nonce = secrets.token_hex(16)
        self.peer = ""
        self.forgotten = False  # the peer's archive knows nothing of what it last proposed
        self.pending: dict[str, Pending] = {}
        self.aside = False  # what is proposed was left aside by runs: it has an inbox of its own
        self.emptying = False  # directories are to be removed with what they hold: a person's word there
        self.turned = False  # the peer asked for a run of ours, which may have left something aside
        self.new_folders = 0  # directories that came: they are to be watched

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
        mine = peer.hello(self.scope)
        theirs = self.wire.receive()
        if theirs.get("hotpair") != PROTOCOL:
            spoken = repr(theirs.get("hotpair"))[:20]
            raise Refused(f"protocol {spoken} is not {PROTOCOL}: install the same version on both nodes")
        if theirs.get("set") != mine["set"]:
            raise Refused(f"set {str(theirs.get('set'))[:20]!r} was announced as {mine['set']!r}")
        if theirs.get("settings") != mine["settings"]:
            alike = "paths or filter, mode, prefer, conflict, acl, xattr and specials"
            raise Refused(f"[{mine['set']}] differs: give both nodes the same {alike}")
        if theirs.get("owner-map") and mine["owner-map"]:
            raise Refused(f"[{mine['set']}] has an owner-map on both nodes: leave it to one")
        self.peer = str(theirs.get("node"))
        if not plausible.node(theirs.get("node")):
            raise Refused(f"a node called {self.peer[:20]!r}")
        if isinstance(self.scope.files, TreeSet):
            self._mounted(self.scope.files)
        if self.scope.files.source not in ("", mine["node"], self.peer):
            raise Refused(f"mode = push {self.scope.files.source}: neither node is called so")
        if self.scope.files.prefer not in ("newest", "hold", mine["node"], self.peer):
            raise Refused(f"prefer = {self.scope.files.prefer}: neither node is called so")
        if self.peer == mine["node"]:
            raise Refused(f"both nodes are called {self.peer!r}: give each its own name in [node]")
        self.forgotten = lineage.forgotten(self.scope.archive, theirs.get("proposals"))
        self.wire.send(**mine, nonce=self.nonce)

    def _mounted(self, files: TreeSet) -> None:
        try:
            tree.mounted(self.scope, files)
        except treeset.Unmounted as fail:
            self.scope.archive.problem("", "unmounted", "", str(fail))
            raise Refused(f"{self.scope.node.name}: {fail}") from fail

    def _dispatch(self, message: dict[str, Any]) -> None:
        if "propose" in message:
            self._propose(message)
        elif "bytes" in message:
            change = self._wanted(message["bytes"])
            assert change.new
            with self._staging([change]):
                payload.receive_small(self.wire, change.stage, change.new.size)
        elif "rsync" in message:
            self._rsync(message["rsync"])
        elif "apply" in message:
            self._apply()
        elif "compare" in message:
            compare.answer(self.scope, self.wire, message)
        elif "tree" in message and isinstance(self.scope.files, TreeSet):
            compare.answer_tree(self.scope, self.wire, message)
        elif "turn" in message:
            self.turned = True
            self.wire.send(done=compare.turn(compare.narrowed(self.scope, message), message["turn"] == "large"))
        elif "peek" in message:
            plan.answer(self.scope, self.wire, message, self.forgotten)
        elif "resolved" in message:
            self.wire.send(resolved=compare.acknowledge(self.scope, message["resolved"]))
        else:
            raise Refused(f"no such request: {sorted(message)[:3]!r}")

    def _propose(self, message: dict[str, Any]) -> None:
        if message.get("nonce") != self.nonce:
            raise Refused("a proposal from another conversation")
        proposals = [judge.parse(self.scope.files, item) for item in _items(message["propose"], treeset.MOST_ENTRIES)]
        self._empty_inboxes()
        self.aside, self.emptying = message.get("aside") is True, message.get("emptying") is True
        judgement = Judgement(self.scope, self.peer, self.aside, self.pending)
        with locks.state(self.scope.files.name), transaction(self.scope.archive.db):
            lineage.heard(self.scope, self.peer, self.forgotten, message.get("number"))
            for change in proposals:
                self.pending[change.path] = judgement.decide(change)
        self.forgotten = False
        if len(self.pending) != len(proposals):
            raise Refused("a path is proposed twice")
        self.wire.send(answers=[pending.answer for pending in self.pending.values()])

    def _wanted(self, shared: Any) -> Decided:
        found = self.pending.get(self.scope.files.live(shared)) if isinstance(shared, str) else None
        if found is None or found.answer["action"] != "want":
            raise Refused(f"a content that was not asked for: {str(shared)[:80]!r}")
        return found.change

    def _rsync(self, listed: Any) -> None:
        changes = [self._wanted(path) for path in _items(listed, treeset.MOST_ENTRIES)]
        directories = {change.stage.rsplit("/", 1)[0] for change in changes}
        if len(directories) != 1:
            raise Refused("one rsync fills one inbox")
        old = [(c.path, c.stage.rsplit("/", 1)[1]) for c in changes if c.here is not None and c.here.kind == "file"]
        inbox = directories.pop()
        with self._staging(changes):
            payload.receive_large(self.wire, self.scope.files, inbox, old, self.aside)
        staged = {pending.change.stage.rsplit("/", 1)[1] for pending in self.pending.values() if pending.change.stage}
        with suppress(OSError):  # what cannot be removed now can be after the next one
            leftovers.discard_others(inbox, staged)

    @contextmanager
    def _staging(self, changes: list[Decided]) -> Iterator[None]:
        """Have changes fail whose content cannot be staged, and those alone."""
        try:
            yield
        except payload.Unstaged as fail:
            for change in changes:
                self.pending[change.path] = Pending({"action": "failed", "why": str(fail)}, change)

    def _apply(self) -> None:
        verdicts = []
        checked = {path: self._check(pending) for path, pending in self.pending.items()}
        if isinstance(self.scope.files, TreeSet) and any(p.change.stage for p in self.pending.values()):
            beneath.flush(self.scope.files.root)  # contents before names
        with locks.state(self.scope.files.name):
            with transaction(self.scope.archive.db):
                settlement = settle.Settlement(self.scope, self.peer, self.emptying)
                for path, pending in self.pending.items():
                    verdicts.append(checked[path] or settlement.settle(pending.change, pending.answer))
                settlement.record()
                self.new_folders += settlement.new_folders
            if len(verdicts) < self.scope.files.batch_entries:  # after a full batch more are coming
                survey.index(self.scope, self.pending)
        for path, verdict in zip(list(self.pending), verdicts, strict=True):
            if verdict["action"] == "applied":
                del self.pending[path]  # what was staged for it is live now
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

    def _empty_inboxes(self) -> None:
        """Remove what this conversation staged and did not apply; what rsync left half done stays for the next."""
        for pending in self.pending.values():
            if pending.change.stage:
                with suppress(OSError), beneath.place(pending.change.stage) as at:  # there may be no inbox at all
                    leftovers.discard(at)
        self.pending = {}


def _items(value: Any, most: int) -> list[Any]:
    if not isinstance(value, list) or not 0 < len(value) <= most:
        raise Refused("a list of the wrong length")
    return value

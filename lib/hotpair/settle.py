"""Settle a batch that was decided: apply each change, record what both now agree on, owe its commands."""

import os
import time
from typing import Any

from hotpair import apply, beneath, detect, emptying, exchange, hooks, keep, scan, sections, send, tasks
from hotpair.archive import Row
from hotpair.detect import Scope, is_directory
from hotpair.exits import Fail
from hotpair.scan import Unsettled
from hotpair.stage import Decided
from hotpair.treeset import TreeSet


class Settlement:
    """One batch. The caller holds the state lock, and a transaction that says all of it or nothing."""

    def __init__(self, scope: Scope, peer: str, emptying: bool) -> None:
        self.scope, self.peer, self.emptying = scope, peer, emptying
        self.landed: list[tuple[Decided, os.stat_result | None]] = []  # with the stat of what was put there
        self.last: dict[tuple[int, int], os.stat_result] = {}  # of each inode: a further hard link moves its ctime
        self.new_folders = 0

    def settle(self, change: Decided, answer: dict[str, Any]) -> dict[str, Any]:
        """Apply one change, or record what was already so; return the verdict."""
        if change.new is None and any(change.path == landed.source for landed, _ in self.landed):
            return {"action": "have"}  # the move that it is a part of has just been done
        action, conflict = answer["action"], bool(answer.get("conflict"))
        if action in ("take", "want"):
            verdict = self._apply(change)
            if verdict["action"] != "applied":
                return verdict
            action = "applied"
        elif action == "have":
            self._have(change)
        if conflict:
            self._note_conflict(change, action, str(answer.get("why")))
        return {"action": action, "conflict": conflict, "why": answer.get("why", "")}

    def _apply(self, change: Decided) -> dict[str, Any]:
        try:
            apply.make_parents(self.scope.files, change.path, self.scope.archive.agreed)
            if self.emptying and change.new is None and is_directory(change.here):
                self._empty(change.path)
            put = apply.apply(self.scope.files, change)
        except Unsettled as error:
            return {"action": "busy", "why": str(error)}
        except exchange.Impossible as error:
            if isinstance(self.scope.files, TreeSet) and not self.scope.files.source:
                return self._stays(change, str(error))
            return {"action": "failed", "why": str(error)}
        except NotADirectoryError as error:
            if isinstance(self.scope.files, TreeSet):  # that is a change of ours, which the peer gets to know first
                return {"action": "lost", "why": f"{change.path}: a directory above it is none here"}
            return {"action": "failed", "why": str(error)}
        except (Fail, OSError) as error:
            return {"action": "failed", "why": str(error)}
        self.landed.append((change, put))
        if put:
            self.last[put.st_dev, put.st_ino] = put
        return {"action": "applied"}

    def _empty(self, directory: str) -> None:
        """Remove what a directory holds, as a person on the peer wishes, where it can be kept."""
        files = self.scope.files
        if not isinstance(files, TreeSet) or not files.keep:
            return
        for path in emptying.empty(files, directory):
            self.scope.archive.forget(path)
            self.scope.archive.solved(path, "failed", "held")
            self._owe(path, ("both", "peer"))

    def _stays(self, change: Decided, why: str) -> dict[str, Any]:
        """Keep a directory that the peer removed or replaced, for it holds what the peer never had: it goes back."""
        row = self.scope.archive.row(change.path)
        self.scope.archive.put(change.path, row._replace(agreed=None, from_peer=False))
        return {"action": "lost", "conflict": True, "why": why}

    def _note_conflict(self, change: Decided, action: str, why: str) -> None:
        if action == "held":
            self.scope.archive.problem(change.path, "held", scan.subject(change.new), why)
            return
        winner = self.peer if action == "applied" else self.scope.node.name
        send.note_conflict(self.scope, change.path, change.here, f"{why}; {winner}'s is live")

    def record(self) -> None:
        """Record what was applied and owe its commands.

        A tick is waited for before the look that gives the signature: then that can be trusted, and the event of our
        own rename finds all quiet. What a user wrote since it was applied gets none, so that the next run sees it.
        """
        if not self.landed:
            return
        if isinstance(self.scope.files, TreeSet):
            beneath.flush(self.scope.files.root)  # names before the word that they are agreed
        scan.tick(time.time_ns())
        for change, put in self.landed:
            if change.source:
                self._record_move(change)
            last = self.last[put.st_dev, put.st_ino] if put else None
            self._record(change, apply.signature(self.scope.files, change, last))
        self.landed = []

    def _record(self, change: Decided, signature: str) -> None:
        archive, path = self.scope.archive, change.path
        if detect.is_directory(change.here) and not detect.is_directory(change.new):
            detect.lose_below(self.scope, path)  # what a user removed there before it went, and nobody had seen go
        if change.new is None and isinstance(self.scope.files, TreeSet):
            archive.forget(path)
        else:
            archive.put(path, Row(change.new, change.new, signature, from_peer=True))
        archive.solved(path, "failed", "held")
        keep.trim(self.scope.files, path)
        if change.new is not None and not isinstance(self.scope.files, TreeSet):
            archive.origin(path, change.new.digest, self.peer)
        self.new_folders += is_directory(change.new) and not is_directory(change.here)
        self._owe(path, ("both", "peer"))

    def _record_move(self, change: Decided) -> None:
        assert change.new
        if change.new.kind == "directory":
            detect.move(self.scope, change.source, change.path)
        else:
            self.scope.archive.forget(change.source)
        self._owe(change.source, ("both", "peer"))

    def _have(self, change: Decided) -> None:
        """Both already have it; what a crash kept from being owed is owed now."""
        row = self.scope.archive.row(change.path)
        send.agree(self.scope, change.path, change.new)
        if row.agreed != change.new and self.scope.archive.fact("born"):
            self._owe(change.path, ("peer",))
        if change.new is not None or not isinstance(self.scope.files, TreeSet):
            self.scope.archive.put(change.path, row._replace(agreed=change.new, from_peer=True))

    def _owe(self, path: str, where: tuple[str, ...]) -> None:
        wanted = [s for s in sections.for_path(self.scope.sections, path, here=False) if s.on in where]
        tasks.owe(self.scope.archive, [*wanted, *hooks.after(self.scope.files)], path)

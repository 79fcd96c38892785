"""Decide, without looking at anything, what becomes of a proposed change: a table of cases.

`base` is what the proposer thinks both agreed on, `there` what it proposes, `here` our live state, `agreed` what our
own archive says. None is an absent path. Both nodes come to the same winner whichever asks first.
`source` is the node whose states alone count, "" when both nodes' do.
"""

import stat
from base64 import b64decode
from typing import NamedTuple

from hotpair import acl
from hotpair.scan import State


class Answer(NamedTuple):
    """What to do: "have" (already so), "take", "lost" (ours stays), "held"; and whether both had changed."""

    action: str
    conflict: bool = False


def decide(
    base: State | None,
    there: State | None,
    here: State | None,
    agreed: State | None,
    from_peer: bool,
    prefer: str,
    nodes: tuple[str, str],
    source: str = "",
) -> Answer:
    """Return the answer to one proposed change. `nodes` are the names of this node and the proposer."""
    if here == there:
        return Answer("have")
    if there is None and base is None and here == agreed and not from_peer:
        return Answer("lost")  # it knows of none, so it removed none: its archive is younger than ours, or was lost
    if source == nodes[0]:
        return Answer("lost", conflict=True)
    if source == nodes[1]:
        return Answer("take", conflict=here not in (base, agreed))
    if there is None and here != agreed:
        # Deletes are causal: only what both agreed on may be removed. Ours was written since, so it survives.
        return Answer("lost", conflict=True)
    if here == base:
        return Answer("take")
    if here == agreed and from_peer:
        # We changed nothing: our state is one that the proposer itself sent, whose receipt it never heard of.
        return Answer("take")
    winner = win(base, here, there, prefer, nodes)
    if winner is None:
        return Answer("held", conflict=True)
    return Answer("lost" if winner == nodes[0] else "take", conflict=True)


def after_loss(here: State | None, agreed: State | None, there: State | None, source: str) -> State | None:
    """Return what the winner is to call agreed, so that its own state is a change that it sends.

    In one that goes one way that is what the loser has: it may be replaced, and removed.
    """
    if source:
        return there
    return None if here == agreed else agreed


def win(base: State | None, here: State | None, there: State | None, prefer: str, nodes: tuple[str, str]) -> str | None:
    """Return the name of the node whose state wins, or None when a person must say. The states differ."""
    if here is None or there is None:
        return nodes[1] if here is None else nodes[0]  # an edit against a delete: the edit survives
    if prefer == "hold":
        return None
    halves = _half_given(base, here, there), _half_given(base, there, here)
    if halves[0] != halves[1]:
        return nodes[1] if halves[0] else nodes[0]
    if here.content != there.content and base is not None:
        # Metadata never costs a content: who wrote wins over who only changed mode, owner or time.
        if here.content == base.content:
            return nodes[1]
        if there.content == base.content:
            return nodes[0]
    if "directory" in (here.kind, there.kind) and here.kind != there.kind:
        return nodes[0] if here.kind == "directory" else nodes[1]  # what is in it has no other place
    if prefer in nodes and not all(halves):
        return prefer
    ours, theirs = _rank(here), _rank(there)
    if ours == theirs:
        return max(nodes)
    return nodes[0] if ours > theirs else nodes[1]


def _half_given(base: State | None, between: State, whole: State) -> bool:
    """Say whether a crash may have left a state while the whole one was given to the base's file, part by part.

    Each part is the base's or the whole one's, but for what another owner takes away meanwhile: set-id bits by
    chown(2), and before another ACL all rights but the owner's (`meta.give_fd`).
    """
    if base is None or not base.content == between.content == whole.content:
        return False
    if any(part not in two for part, *two in zip(*map(_plain, (between, base, whole)), strict=True)):
        return False
    given, before, after = map(_attributes, (between, base, whole))
    if any(given.get(name) not in (before.get(name), after.get(name)) for name in given | before | after):
        return False
    left = base.mode if _owner(between) == _owner(base) else base.mode & ~(stat.S_ISUID | stat.S_ISGID)
    taken = stat.S_IRWXG | stat.S_IRWXO if acl.ACCESS in after and _owner(whole) != _owner(base) else 0
    neither = (between.mode ^ left) & (between.mode ^ whole.mode)
    return not neither & (~taken | between.mode)


def _owner(state: State) -> tuple[int, int]:
    return state.uid, state.gid


def _plain(state: State) -> tuple[int, ...]:
    return *_owner(state), state.mtime_ns


def _attributes(state: State) -> dict[str, bytes]:
    """Return the attributes, of an ACL without what the mode says as well."""
    values = ((name, b64decode(value)) for name, value in state.xattrs)
    return {name: acl.beyond_mode(value) if name == acl.ACCESS else value for name, value in values}


def _rank(state: State) -> tuple[object, ...]:
    """Newest first; what follows only makes both nodes choose alike when clocks do not."""
    return (state.mtime_ns, state.digest, state.mode, state.uid, state.gid, state.xattrs, state.kind)

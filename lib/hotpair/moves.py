"""Moves: which of the paths that are new holds what another path has lost. Pure."""

from hotpair.detect import Change


def pair(changes: list[Change], unmovable: set[str]) -> list[Change]:
    """Return the changes, those of new files that are moved ones with the path that each came from.

    A move is a delete and a create of one content. Of several with the same content, those of the same name come
    first. The delete stays in the list: when it is its turn, the peer already has it.
    """
    gone: dict[str, list[str]] = {}
    for change in changes:
        if change.new is None and change.base is not None and change.base.kind == "file" and change.base.size:
            gone.setdefault(change.base.digest, []).append(change.path)
    return [_moved(change, gone) if gone and _is_new(change, unmovable) else change for change in changes]


def _is_new(change: Change, unmovable: set[str]) -> bool:
    new = change.new is not None and change.new.kind == "file" and change.base is None
    return new and change.path not in unmovable


def _moved(change: Change, gone: dict[str, list[str]]) -> Change:
    sources = gone.get(change.new.digest if change.new else "")
    if not sources:
        return change
    name = change.path.rpartition("/")[2]
    source = next((path for path in sources if path.rpartition("/")[2] == name), sources[0])
    sources.remove(source)
    return change._replace(source=source)


def in_order(change: Change) -> tuple[int, object, str]:
    """Sort key: directories before what is in them, moves before the deletes, deletes inside out, small files first."""
    if change.new is None:
        return 2, -change.path.count("/"), change.path
    if change.source:
        return 1, 0, change.path
    if change.new.kind == "directory":
        return 0, 0, change.path
    return 3, change.new.size, change.path

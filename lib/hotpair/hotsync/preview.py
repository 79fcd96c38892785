"""What a dry run says: the items of rsync's own plan, what the run will make anew before it sends, what is left out."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from hotpair.exits import Fail
from hotpair.hotsync import push
from hotpair.hotsync.identity import OUT
from hotpair.hotsync.itemize import Item
from hotpair.hotsync.lists import Lists
from hotpair.hotsync.push import Run
from hotpair.hotsync.settings import Hotsync

BACKUP = (f"{OUT}/config.tar.xz", f"{OUT}/config.tar.xz.sha256")


class Preview(NamedTuple):
    """What a run would do."""

    items: tuple[Item, ...]
    anew: frozenset[str]  # paths that the run writes before it sends them: how large is not known yet
    skipped: tuple[tuple[str, str], ...]  # paths, and why
    failures: tuple[str, ...]  # of plugins
    held: str  # why nothing would be sent without --force


def preview(planned: Run, lists: Lists, settings: Hotsync) -> Preview:
    """Return what a run with this plan would do."""
    anew = frozenset((*BACKUP, *(path for path in lists.include if path.startswith(f"{OUT}/"))))
    known = {item.path for item in planned.items}
    items = [item for item in planned.items if item.path not in anew or item.act != "delete"]
    items += [Item(path, "send", "file", 0) for path in sorted(anew - known)]
    if OUT not in known:
        items.append(Item(OUT, "change", "directory", 0))
    skipped = [(path, "not here") for path in lists.missing]
    skipped += planned.complaints.partial
    held = ""
    try:
        push.brake(planned, settings)
    except Fail as fail:
        held = str(fail)
    return Preview(tuple(items), anew, tuple(skipped), lists.failures, held)


def lines(found: Preview) -> Iterator[str]:
    """Yield one line for each step, and one at the end."""
    for item in found.items:
        how = " (made anew)" if item.path in found.anew else f" ({item.size} bytes)" * (item.act == "send")
        slash = "/" * (item.kind == "directory" and item.path != "/")
        yield f"{item.act} {item.path}{slash}{how}"
    for path, why in found.skipped:
        yield f"skip {path}: {why}"
    for failure in found.failures:
        yield f"fail {failure}"
    if found.held:
        yield f"hold {found.held}"
    deleted = sum(item.act == "delete" for item in found.items)
    size = sum(item.size for item in found.items)
    yield (
        f"{len(found.items) - deleted} to send, {size} bytes and what is made anew; {deleted} to delete;"
        f" {len(found.skipped)} left out"
    )


def as_json(found: Preview) -> dict[str, Any]:
    return {
        "items": [
            {"act": item.act, "path": item.path, "kind": item.kind, "bytes": item.size, "anew": item.path in found.anew}
            for item in found.items
        ],
        "skipped": [{"path": path, "why": why} for path, why in found.skipped],
        "failures": list(found.failures),
        "held": found.held,
    }

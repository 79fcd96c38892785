"""Which directories incrond watches for a set, and the line of its table for each of them.

A line is constant: set and directory id, never a name, because incrond pastes names into a root shell. incrond cannot
watch every directory, and sees nothing appear in one that is not there yet: what is left out is swept, and listed.
"""

import os
import re
from collections import deque
from typing import NamedTuple

from hotpair import folder, globs, indexing, listed, paths
from hotpair.config import AnySet
from hotpair.filesset import FilesSet
from hotpair.treeset import TreeSet

MASK = "IN_CLOSE_WRITE,IN_MOVED_TO,IN_MOVED_FROM,IN_DELETE,IN_ATTRIB"
CREATE = ",IN_CREATE"  # of a tree: directories and links come with no other event
RECURSIVE = ",recursive=false"
WATCHABLE = re.compile(r"/[\w./@%+=:-]*")  # \w: letters of every alphabet, none that a shell or incrond could mistake
HASTE = "nice -n -15"  # the trigger before incrond, which else starts ten more of it meanwhile; storm.event resets it
LONGEST = 999  # bytes of a line: incrond splits longer ones and takes the tail for a line of its own
SHARE = 0.9  # of the watches that the kernel grants a user: others watch as well


class LeftOut(NamedTuple):
    """A directory that incrond does not watch, and why; the sweep looks after it."""

    live: str
    why: str


def _parents(files: FilesSet) -> list[str]:
    """Return the live parent directories of a set, globs expanded to what is there."""
    found: set[str] = set()
    for path in files.paths:
        parent = path.rsplit("/", 1)[0] or "/"
        found.update(listed.expand(parent) if globs.GLOB.search(parent) else [parent])
    return sorted(found)


def _folders(files: TreeSet) -> list[str]:
    """Return the live folders of a tree, those near the root first."""
    found, queue = [], deque([files.root] if os.path.isdir(paths.under(files.root)) else [])
    while queue:
        here = queue.popleft()
        seen = indexing.look(files, here)
        if seen is not None:
            found.append(here)
            queue.extend(f"{here}/{name}" for name in sorted(seen.directories))
    return found or [files.root]


def on_disk(live: str) -> str:
    """Return where a live directory is on this disk, as a table names it."""
    return paths.under(live).rstrip("/") or "/"


def most(files: TreeSet) -> int:
    """Return how many directories of a tree may be watched: as configured, and as the kernel allows (inotify(7))."""
    with open("/proc/sys/fs/inotify/max_user_watches", encoding="ascii") as file:
        return min(files.watches, int(int(file.read()) * SHARE))


def _why_not(files: AnySet, live: str) -> str:
    """Return why incrond cannot watch a directory, or ""."""
    place = on_disk(live)
    if not WATCHABLE.fullmatch(place):
        return "its name has a character that incrond or a shell takes for something else"
    if os.path.islink(place) or not os.path.isdir(place):
        return "not a directory" if os.path.lexists(place) else "not there"
    if len(os.fsencode(line(files, place, folder.watch_id(live), "/" * 200))) > LONGEST:
        return "its name is too long for a line of incrond"
    return ""


def directories(files: AnySet) -> list[str]:
    """Return the live directories that incrond watches for a set, sorted."""
    if isinstance(files, FilesSet):
        return [live for live in _parents(files) if not _why_not(files, live)]
    return sorted([live for live in _folders(files) if not _why_not(files, live)][: most(files)])


def left_out(files: AnySet) -> list[LeftOut]:
    """Return the directories of a set that incrond does not watch: changes in them are found by the sweep."""
    if isinstance(files, TreeSet):
        return _left_out_of_tree(files)
    reasons = [LeftOut(live, _why_not(files, live)) for live in _parents(files)]
    # a glob matches files too: what is no directory holds nothing of the set
    literal = {path.rsplit("/", 1)[0] or "/" for path in files.paths}
    return [one for one in reasons if one.why and (one.live in literal or one.why != "not a directory")]


def _left_out_of_tree(files: TreeSet) -> list[LeftOut]:
    found, left, limit = [], 0, most(files)
    for live in _folders(files):
        why = _why_not(files, live)
        left += not why
        if why or left > limit:
            found.append(LeftOut(live, why or f"more than {limit} directories: raise `watches`"))
    return found


def line(files: AnySet, place: str, id_: str, program_dir: str) -> str:
    """Return one line of a table.

    incrond takes up to 1024 events at once and starts a process for each, whatever happens to the table meanwhile.
    When a storm has put it away, the shell that incrond starts ends by itself, in a tenth of the time.
    """
    mask = MASK + (CREATE if isinstance(files, TreeSet) else "") + RECURSIVE
    prefix = f"HOTPAIR_ROOT={paths.root()} " if paths.root() else ""
    guard = f"test -e {paths.incron_table(files.name)} && "
    return f"{place} {mask} {guard}{prefix}exec {HASTE} {program_dir}/syncr {files.name} {id_}"

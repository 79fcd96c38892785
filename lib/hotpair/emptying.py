"""Empty a directory that the peer removed, because a person there wants it gone with all that is in it here."""

from hotpair import apply, indexing, scan
from hotpair.exchange import Impossible
from hotpair.stage import Decided
from hotpair.treeset import TreeSet


def empty(files: TreeSet, directory: str) -> list[str]:
    """Remove all that is shared below a directory, a generation kept of each content; return what is gone.

    What the filter leaves out stays, and the directories above it. Raises Unsettled when a user is at work there.
    """
    contents, directories = _below(files, directory)
    gone = []
    for path in [*contents, *reversed(directories)]:
        state = scan.look(path, carried=files.carried)[0]
        if state is None or state.kind == "other":
            continue
        try:
            apply.apply(files, Decided(path, state, None, ""))
        except Impossible:  # a directory that holds what stays
            continue
        gone.append(path)
    return gone


def _below(files: TreeSet, directory: str) -> tuple[list[str], list[str]]:
    """Return the shared files and links below a directory, and the directories, parents first."""
    contents: list[str] = []
    directories: list[str] = []
    folders = [directory]
    while folders:
        folder = folders.pop()
        seen = indexing.look(files, folder)
        for name, record in seen.records.items() if seen else ():
            path = f"{folder}/{name}"
            if record and seen and name in seen.directories:
                folders.append(path)
                directories.append(path)
            elif record:
                contents.append(path)
    return contents, directories

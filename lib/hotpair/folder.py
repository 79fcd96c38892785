"""One folder of a tree at one look, and the index that says how it stood when both nodes agreed on all of it.

A look is a list of records, and so is an index: the folder's own, then one for each entry, sorted. Records are
separated by NUL, which no name holds. An index is written under the state lock and replaced by rename, so a reader
needs no lock. An event that finds its folder as indexed ends here: this module imports nothing that a bare start of
Python has not.
"""

from __future__ import annotations

import os

from hotpair import descend, paths, quiet

UNREADABLE = "?"
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Excluded = Callable[[str, bool], bool]


class Look:
    """What stands in a folder: `own` (what a change of its metadata changes), and for each entry name its record."""

    def __init__(self, own: str, records: dict[str, str], directories: list[str]) -> None:
        self.own, self.records, self.directories = own, records, directories

    def text(self) -> str:
        return "\0".join((self.own, *(f"{name}/{self.records[name]}" for name in sorted(self.records))))


def look(directory: str, excluded: Excluded | None, device: int = 0) -> Look | None:
    """Look at a live folder; None when it is none any more.

    An entry's record is the signature of a file; of a directory device, inode, mode and owner, for its times are its
    entries' business; nothing for what is excluded, UNREADABLE for what root may not look at.
    device: directories of other devices are excluded as well, 0 for none.
    """
    try:
        fd = descend.open_directory(directory)
    except OSError:
        return None
    try:
        found = os.fstat(fd)
        own = f"{found.st_mode} {found.st_uid} {found.st_gid} {found.st_ctime_ns}"
        return Look(own, *_entries(fd, excluded, device))
    finally:
        os.close(fd)


def _entries(fd: int, excluded: Excluded | None, device: int) -> tuple[dict[str, str], list[str]]:
    records, directories = {}, []
    with os.scandir(fd) as entries:
        for entry in entries:
            name, directory = entry.name, entry.is_dir(follow_symlinks=False)
            if name == paths.INBOX:
                continue
            if excluded and excluded(name, directory):
                records[name] = ""
                continue
            try:
                found = entry.stat(follow_symlinks=False)
            except FileNotFoundError:  # removed meanwhile
                continue
            except OSError:  # a user's own mount (FUSE), which is not root's to look at, or a server that is gone
                records[name] = UNREADABLE
                continue
            if not directory:
                records[name] = quiet.of(found)
            elif device in (0, found.st_dev):
                directories.append(name)
                mode = found.st_mode & 0o7777
                records[name] = f"{found.st_dev} {found.st_ino} {mode} {found.st_uid} {found.st_gid}"
            else:
                records[name] = ""
    return records, directories


def watch_id(live: str) -> str:
    """Return the id of a directory: of its name alone, so that a further directory renumbers none."""
    import hashlib  # no event that ends here needs it

    return hashlib.blake2b(os.fsencode(live), digest_size=6).hexdigest()


def _place(set_name: str, watch: str) -> str:
    return paths.set_state(set_name, "folders", watch)


def indexed(set_name: str) -> bool:
    """Say whether the set is a tree: only trees have indexes of folders."""
    return os.path.isdir(paths.set_state(set_name, "folders"))


def read(set_name: str, watch: str) -> tuple[str, str, str, str] | None:
    """Return the configuration, the digest of states, the folder and the look of an index; None when there is none."""
    try:
        with open(_place(set_name, watch), "rb") as file:
            configuration, digest, directory, text = os.fsdecode(file.read()).split("\0", 3)
    except (FileNotFoundError, ValueError):
        return None
    return configuration, digest, directory, text


def write(set_name: str, watch: str, configuration: str, digest: str, directory: str, text: str) -> None:
    """Write the index of a folder whose entries are all as agreed. digest: of what was agreed on."""
    path = _place(set_name, watch)
    temporary = f"{path}.{os.getpid()}"
    with open(temporary, "wb") as out:
        out.write(os.fsencode("\0".join((configuration, digest, directory, text))))
    os.rename(temporary, path)


def forget(set_name: str, watch: str) -> None:
    """Drop the index of a folder: something in it is not as agreed, or it is gone."""
    try:
        os.unlink(_place(set_name, watch))
    except FileNotFoundError:
        return


def forget_all(set_name: str) -> None:
    """Drop every index of a set, so that each folder is looked at again."""
    for watch in os.listdir(paths.set_state(set_name, "folders")):
        forget(set_name, watch)


def unchanged(set_name: str, watch: str) -> bool:
    """Say whether a folder is as both nodes agreed; False whenever that takes a closer look."""
    known = read(set_name, watch)
    if known is None or known[0] != quiet.configuration():
        return False
    excluded = {record[:-1] for record in known[3].split("\0") if record.endswith("/")}
    now = look(known[2], lambda name, _: name in excluded)
    return now is not None and now.text() == known[3]

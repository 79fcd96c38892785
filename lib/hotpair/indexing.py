"""Index the folders of a tree that stand as both nodes agreed, so that the next look at one costs a stat per entry."""

import hashlib
import json
import os
from collections.abc import Iterable
from contextlib import suppress

from hotpair import archive, detect, folder, paths, scan
from hotpair.archive import transaction
from hotpair.config import AnySet
from hotpair.detect import Scope
from hotpair.folder import Look
from hotpair.scan import Unsettled
from hotpair.treeset import TreeSet

Columns = tuple[str | None, str | None, str, int]


def as_agreed(files: AnySet, columns: Columns, record: str, directory: bool) -> bool:
    """Say whether an entry's record is that of an agreed row, as far as a folder can tell of its directories."""
    agreed, seen, signature, _ = columns
    if seen != archive.SAME or not signature or agreed is None:
        return False
    if not directory:
        return signature == record
    dev, ino, mode, uid, gid = record.split(" ")
    if not signature.startswith(f"{dev} {ino} "):
        return False
    owner = list(files.carried.owners.of(int(uid), int(gid)))
    if scan.ACLS[0] not in files.carried.xattrs:  # the group's bits may be a mask; the folder's own look tells
        kind, _, wanted, *wanted_owner = json.loads(agreed)[:5]
        return kind == "directory" and not (wanted ^ int(mode)) & 0o7707 and wanted_owner == owner
    return agreed.startswith(f'["directory", 0, {mode}, {owner[0]}, {owner[1]}, ')


def look(tree: TreeSet, directory: str) -> Look | None:
    """Look at a folder of a tree through its filter."""
    device = os.stat(paths.under(tree.root)).st_dev if tree.one_file_system else 0
    return folder.look(directory, tree.left_out(directory), device)


def indexed(scope: Scope, directory: str, seen: Look) -> str | None:
    """Return the digest of what was agreed in a folder that stands as indexed, None for one that does not."""
    known = folder.read(scope.files.name, folder.watch_id(directory))
    if known is None or known[0] != scope.configuration or known[2] != directory or known[3] != seen.text():
        return None
    return known[1]


def index_folder(scope: Scope, directory: str, seen: Look) -> str:
    """Index a folder when all in it is as agreed; return the digest of that, "" when it is not so."""
    name, watch = scope.files.name, folder.watch_id(directory)
    wanted, directories = {entry: record for entry, record in seen.records.items() if record}, set(seen.directories)
    rows = {entry: row for entry, row in scope.archive.folder(directory).items() if seen.records.get(entry) != ""}
    whole = rows.keys() == wanted.keys() and all(
        as_agreed(scope.files, rows[entry], record, entry in directories) for entry, record in wanted.items()
    )
    if not whole or not (directory == scope.files.live("") or _itself_agreed(scope, directory, seen)):
        detect.forget_index(scope, directory)
        return ""
    sum_ = hashlib.blake2b(digest_size=16)
    for entry in sorted(rows):
        sum_.update(os.fsencode(f"{entry}/{rows[entry][0]}\0"))
    if not scope.dry:
        folder.write(name, watch, scope.configuration, sum_.hexdigest(), directory, seen.text())
    return sum_.hexdigest()


def _itself_agreed(scope: Scope, directory: str, seen: Look) -> bool:
    """Say whether a folder's own mode, owner and attributes were looked at since they changed, and are as agreed."""
    row = scope.archive.row(directory)
    return row.seen == row.agreed and row.signature.rpartition(" ")[2] == seen.own.rpartition(" ")[2]


def index(scope: Scope, tree: TreeSet, folders: Iterable[str]) -> None:
    """Index folders anew. The caller holds the state lock."""
    paths.make_private(paths.set_state(scope.files.name, "folders"))
    with transaction(scope.archive.db):
        for directory in folders:
            seen = look(tree, directory)
            if seen is None:
                detect.forget_index(scope, directory)
                continue
            if directory != tree.root:  # what changed in it gave it another ctime, and so may a chmod have done
                with suppress(Unsettled, OSError):
                    detect.current(scope, directory, scope.archive.row(directory))
            index_folder(scope, directory, seen)

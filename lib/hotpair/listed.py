"""Survey a files set: every path that is listed, as globs match now, and as the archive knows it."""

import os

from hotpair import detect, globs, marks, paths, quiet
from hotpair.archive import Row, transaction
from hotpair.detect import Change, Scope, Survey
from hotpair.filesset import FilesSet
from hotpair.scan import Unsettled


def names(files: FilesSet, rows: dict[str, Row]) -> list[str]:
    """Return every path of the set: as listed, as its globs match now, and as the archive knows it."""
    found = {path for path in rows if files.covers(path)}
    for pattern in files.paths:
        found.update(expand(pattern) if globs.GLOB.search(pattern) else [pattern])
    return sorted(found)


def expand(pattern: str) -> list[str]:
    """Return the live paths that a glob matches; links are not followed on the way."""
    reached = [""]
    for part in pattern.split("/")[1:]:
        if globs.GLOB.search(part):
            reached = [f"{d}/{n}" for d in reached for n in _entries(d) if globs.matches(f"/{n}", f"/{part}")]
        else:
            reached = [f"{d}/{part}" for d in reached]
    return reached


def _entries(directory: str) -> list[str]:
    try:
        return os.listdir(paths.under(directory) or "/") if not os.path.islink(paths.under(directory)) else []
    except OSError:
        return []


def survey(scope: Scope, files: FilesSet, absences: dict[str, float]) -> Survey:
    """Look at every path of the set; the caller holds its state lock. `absences`: see `survey.survey`."""
    changes, unsettled, noticed = [], [], 0
    with transaction(scope.archive.db):
        rows = scope.archive.rows()
        for path in names(files, rows):
            row = rows.get(path, Row())
            try:
                if row.seen is not None:
                    detect.believe_absence(path, absences)
                fresh = detect.current(scope, path, row, scope.files.settle)
            except Unsettled:
                unsettled.append(path)
                continue
            except OSError as error:
                scope.archive.problem(path, "unreadable", "", f"cannot be looked at or kept: {error.strerror}")
                continue
            scope.archive.solved(path, "unreadable")
            rows[path] = fresh
            noticed += fresh.seen != row.seen
            if fresh.seen != fresh.agreed and (fresh.seen is None or fresh.seen.kind != "other"):
                changes.append(Change(path, fresh.agreed, fresh.seen))
        if not unsettled:
            scope.archive.note("born", 1.0)
    write_index(scope, files)
    return Survey(changes, unsettled, noticed, {}, 0, [])


def write_index(scope: Scope, files: FilesSet) -> None:
    """Write what the quiet look of the next event compares."""
    rows = scope.archive.rows()
    trusted = {}
    for path in names(files, rows):
        row = rows.get(path, Row(signature="-"))
        trusted[path] = row.signature if row.seen == row.agreed else ""
    marks.create(files.name)
    quiet.write(files.name, scope.configuration, files.paths, trusted)

"""The quiet look: has anything changed since the last run? Answered with stat alone, before anything is imported.

The index of a set lists the stat signature of every path whose live state is the agreed one, and of the
configuration. Records end in NUL, names hold none: "f SIGNATURE PATH", or "g NAMES-OF-ITS-DIRECTORY" for a glob.
It is written under the state lock and replaced by rename, so a reader needs no lock.
"""

import os

from hotpair import paths

CONFIGURATION = ("hotpair.ini", "syncr.ini")


def signature(path: str) -> str:
    """Return the stat signature of a file on this disk, "-" for none."""
    try:
        return of(os.lstat(path))
    except OSError:
        return "-"


def of(found: os.stat_result) -> str:
    """Return the stat signature: as long as it stays, so does what was read under it."""
    return f"{found.st_dev} {found.st_ino} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"


def configuration() -> str:
    """Return the signature of everything that decides what a set is."""
    return "|".join(signature(paths.config_file(name)) for name in CONFIGURATION)


def _entries(directory: str) -> list[str]:
    try:
        return os.listdir(paths.under(directory))
    except OSError:
        return []


def _matching(names: list[str], prefix: str, suffix: str) -> list[str]:
    """Return those of the names in a directory that `prefix*suffix` matches, as a shell would."""
    least = len(prefix) + len(suffix)
    hidden = prefix[:1] == "."
    return sorted(
        name
        for name in names
        if name.startswith(prefix)
        and name.endswith(suffix)
        and len(name) >= least
        and (hidden or name[0] != ".")
        and name != paths.INBOX
    )


def _glob_record(pattern: str, known: list[str] | None = None) -> str:
    """Return the record of a glob: what it matches now, or one that never holds when it is not a simple one.

    known: the paths it is to be made from, instead of a look at the directory.
    """
    directory, name = pattern.rsplit("/", 1)
    if name.count("*") != 1 or any(c in pattern for c in "?[") or "*" in directory:
        return "x"
    prefix, suffix = name.split("*")
    if known is None:
        names = _entries(directory)
    else:
        names = [name for parent, _, name in (path.rpartition("/") for path in known) if parent == directory]
    return "g" + "/".join((pattern, *_matching(names, prefix, suffix)))


def write(set_name: str, read_from: str, patterns: tuple[str, ...], trusted: dict[str, str]) -> None:
    """Write the index: `trusted` has the signature of each path that is as agreed, "" for one that is not.

    read_from: the signature of the configuration that was used. A glob is recorded as matching these paths and no
    others. So what a user edits or makes at this moment is not taken for what was looked at.
    """
    records = [read_from]
    there = [path for path, sig in trusted.items() if sig != "-"]
    records += [_glob_record(pattern, there) for pattern in patterns if any(c in pattern for c in "*?[")]
    records += [f"f{sig or '?'} {path}" for path, sig in trusted.items()]
    path = paths.set_state(set_name, "index")
    with open(path + ".tmp", "wb") as out:
        out.write(os.fsencode("\0".join(records)))
    os.rename(path + ".tmp", path)


def unchanged(set_name: str) -> bool:
    """Say whether every path of the set is as both nodes agreed; False whenever that takes a closer look."""
    try:
        with open(paths.set_state(set_name, "index"), "rb") as file:
            head, *records = os.fsdecode(file.read()).split("\0")
    except FileNotFoundError:
        return False
    if head != configuration():
        return False
    for record in records:
        if record[0] == "f":
            known, path = record[1:].split(" /", 1)
            if signature(paths.under("/" + path)) != known:
                return False
        elif record[0] == "x" or record != _glob_record(_pattern(record)):
            return False
    return True


def _pattern(record: str) -> str:
    """Return the glob of a "g" record: everything up to the component that has the star."""
    head, star, tail = record[1:].partition("*")
    return head + star + tail.split("/", 1)[0]

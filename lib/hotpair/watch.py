"""Watch: the incron tables and the cron file, made from the configuration and installed."""

import difflib
import os
import re
import shutil
import sys

from hotpair import folder, ini, marks, paths, storm, watched
from hotpair.config import AnySet, Config
from hotpair.exits import ConfigFail
from hotpair.treeset import TreeSet

PROGRAMS = re.compile(r"/[A-Za-z0-9._/+-]*")  # % is a newline to cron
INSTALLED = re.compile(r" (/\S*)/syncr ")
MAKER = "#hotpair-"  # begins every table that we wrote, and may therefore remove
# incrond knows no comments. Two words are no entry; three are one, with `#` as the path, and because `find #` finds
# everything, incrond then tries to watch every directory of the machine, 4 s each time it reads the table.
HEADER = MAKER + "{name}:made-by-hotpair-tables,change-hotpair.ini-and-run-it-again\n"
CRON = """\
# hotpair: what cron starts. Made by `hotpair tables`, which writes it anew each time it runs.
SHELL=/bin/sh
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
{root}# Every minute: what a run left undone, commands that are due, and whether incrond still answers.
* * * * * root {programs}/psync --retry
# Every 15 minutes: compare everything with the peer, for incrond loses events without a word.
*/15 * * * * root {programs}/psync --cron
"""
COPY = """\
# Every minute: the door for the master's pushes, where it is not open. Every 15 minutes: the master pushes.
* * * * * root {programs}/hotsync-slave doors
*/15 * * * * root {programs}/hotsync --cron
# Every night, on the standby: whether a promotion would work.
17 3 * * * root {programs}/hotsync-slave rehearse --cron
"""
SESSIONS = """\
# Every minute, for as long: the session tables follow, and what they keep too long is ended.
* * * * * root {programs}/ssync mirror --cron
"""


def programs() -> str:
    """Return the directory that incrond and cron shall start our programs from: where this one was started from.

    Links are kept: /usr/local/sbin stays right when what it points to is replaced.
    """
    beside = os.path.dirname(os.path.abspath(sys.argv[0]))
    if not os.access(beside + "/syncr", os.X_OK):
        beside = os.path.dirname(shutil.which("syncr") or "/usr/local/sbin/syncr")
    if not PROGRAMS.fullmatch(beside) or len(beside) > 200:
        raise ConfigFail(f"{beside!r}: a shell would misread this directory", "install hotpair where names are plain")
    return beside


def table(files: AnySet, program_dir: str, anew: bool = False) -> str:
    """Return the text of a set's incron table. anew: with another name for a tree's canary than the last."""
    places = [(watched.on_disk(live), folder.watch_id(live)) for live in watched.directories(files)]
    if watched.WATCHABLE.fullmatch(paths.root() or "/"):
        places.append((os.path.dirname(marks.canary(files.name)), _canary(files, anew)))
    lines = [watched.line(files, place, id_, program_dir) + "\n" for place, id_ in places]
    return HEADER.format(name=files.name) + "".join(lines)


def _canary(files: AnySet, anew: bool) -> str:
    """Return the name of the canary's watch: a tree's tells which of its tables incrond has read."""
    if not isinstance(files, TreeSet):
        return marks.CANARY
    last = storm.canary_of(files.name)
    return last if last != marks.CANARY and not anew else f"{marks.CANARY}-{os.urandom(6).hex()}"


def cron(program_dir: str, copies: bool, sessions: bool) -> str:
    """Return the text of the cron file. copies: there is a [hotsync]; sessions: a [sessions]."""
    root = f"HOTPAIR_ROOT={paths.root()}\n" if paths.root() else ""
    return (CRON + COPY * copies + SESSIONS * sessions).format(programs=program_dir, root=root)


def tables() -> list[str]:
    """Return every incron table of ours by its name, those that a storm put away included."""
    directory = paths.under("/etc/incron.d")
    names = os.listdir(directory) if os.path.isdir(directory) else []
    return [f"{directory}/{name}" for name in sorted(names) if name.startswith(("hotpair-", ".hotpair-"))]


def set_of(path: str) -> str:
    """Return the name of the set whose table a file is, put away or not."""
    return os.path.basename(path).lstrip(".").removeprefix("hotpair-").removesuffix(".away")


def plan(configuration: Config, program_dir: str) -> dict[str, str | None]:
    """Return the text of every file to be there, None for a table whose set is gone."""
    wanted: dict[str, str | None] = {
        paths.incron_table(files.name): table(files, program_dir) for files in configuration.sets.values()
    }
    known = {*wanted, *(storm.shelf(name) for name in configuration.sets)}
    for path in tables():
        if path not in known and (read(path) or "").startswith(MAKER):
            wanted[path] = None
    wanted[paths.cron_file()] = cron(program_dir, bool(configuration.hotsync), bool(configuration.sessions))
    return wanted


def read(path: str) -> str | None:
    """Return the text of a file, None when there is none."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except FileNotFoundError:
        return None


def replace(path: str, text: str, mode: int = 0o644) -> None:
    """Write a file under a dotted name, which incrond and cron ignore, and rename it into place: never half of it.

    It is on the disk when this returns, and nobody ever sees more of it than the mode allows.
    """
    directory, name = os.path.split(path)
    temporary = f"{directory}/.{name.lstrip('.')}.tmp"
    os.makedirs(directory, mode=0o755, exist_ok=True)
    with open(temporary, "w", encoding="utf-8", errors="surrogateescape", opener=_private) as file:
        os.fchmod(file.fileno(), mode)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.rename(temporary, path)
    flush(directory)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)


def flush(directory: str) -> None:
    """Have the names in a directory on the disk."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def prepare(set_name: str) -> None:
    """Make what the first event of a set needs; the canary of the epoch has never been touched."""
    paths.make_private(paths.state())  # first: what is made on the way to a deeper one gets the usual mode
    marks.create(set_name)
    paths.make_private(os.path.dirname(marks.canary(set_name)))
    for path in (marks.canary(set_name), marks.answered(set_name)):
        if not os.path.lexists(path):
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
            os.utime(path, (0, 0))


def write(configuration: Config, dry_run: bool = False) -> list[str]:
    """Make the files those of the configuration and return what changes, as the lines of a unified diff.

    A file that is right is not touched: incrond sees nothing for a moment while it reads a table again.
    Raises ConfigFail when it cannot be written.
    """
    lines: list[str] = []
    asides = {paths.incron_table(name): storm.shelf(name) for name in configuration.sets if storm.away(name)}
    try:
        if not dry_run:
            for name in configuration.sets:
                prepare(name)
        for path, text in plan(configuration, programs()).items():
            place = path if os.path.lexists(path) else asides.get(path, path)
            old = read(place)
            if old != text:
                lines += _diff(place, old, text)
                if not dry_run:
                    _put(place, text)
    except OSError as error:
        raise ConfigFail(f"{error.filename}: {error.strerror}", "run as root, on a disk with room") from error
    return lines


def _put(path: str, text: str | None) -> None:
    if text is None:
        os.unlink(path)
    else:
        replace(path, text)


def _diff(path: str, old: str | None, new: str | None) -> list[str]:
    before, after = (path if text is not None else "/dev/null" for text in (old, new))
    lines = difflib.unified_diff((old or "").splitlines(), (new or "").splitlines(), before, after, lineterm="")
    return list(lines)


def refresh(files: AnySet) -> bool:
    """Rewrite an installed table when the directories it names are no longer those that are there."""
    text = read(paths.incron_table(files.name)) or ""
    found = INSTALLED.search(text)
    if found is None or storm.places(text) == storm.places(table(files, found[1])):
        return False
    replace(paths.incron_table(files.name), table(files, found[1], anew=True))
    return True


def follow(files: AnySet, new_folders: int) -> bool:
    """Have new directories watched. Returns whether incrond is blind for a moment: a mkdir makes it so.

    The table is written anew even if it names them already: incrond may have read it before they were there.
    """
    found = INSTALLED.search(read(paths.incron_table(files.name)) or "") if new_folders else None
    if found is None:
        return False
    replace(paths.incron_table(files.name), table(files, found[1], anew=True))
    return True


def watches(files: AnySet) -> dict[str, str]:
    """Return the live folders that the set's table names, by their ids."""
    text = read(paths.incron_table(files.name)) or read(storm.shelf(files.name)) or ""
    places = [place[len(paths.root()) :] or "/" for place in storm.places(text)]
    return {folder.watch_id(live): live for live in places if files.covers(live, True) or live == _root(files)}


def _root(files: AnySet) -> str:
    return files.root if isinstance(files, TreeSet) else ""


def problems(configuration: Config) -> list[ini.Problem]:
    """Return what is wrong with the tables that are installed."""
    found = []
    advice = "run `hotpair tables`"
    for path in tables():
        if os.path.basename(path).endswith(".tmp"):
            continue
        if why := ini.untrusted(path):
            found.append(ini.Problem(path, 0, *why.split(": ", 1)))
        for number, line in enumerate((read(path) or "").split("\n"), 1):
            if line.startswith("#") and len(line.split()) > 2:
                what = "incrond takes a comment of three words for an entry and searches the whole disk"
                found.append(ini.Problem(path, number, what, advice))
            elif "$" in line:
                what = "a `$` has incrond paste a name, or what stands for one, into a shell of root"
                found.append(ini.Problem(path, number, what, advice))
            elif len(os.fsencode(line)) > watched.LONGEST:
                found.append(ini.Problem(path, number, "incrond splits a line of 1000 bytes and more", advice))
        name = set_of(path)
        if name not in configuration.sets:
            found.append(ini.Problem(path, 0, f"there is no set {name!r}", f"{advice}, or remove the file"))
    return found

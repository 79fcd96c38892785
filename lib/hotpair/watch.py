"""Watch: the incron tables and the cron file, made from the configuration.

A line is constant: set and directory id, never a name, because incrond pastes names into a root shell. incrond cannot
watch every directory, and sees nothing appear in one that is not there yet: what is left out is swept, and listed.
"""

import difflib
import hashlib
import os
import re
import shutil
import sys
from typing import NamedTuple

from hotpair import config, detect, ini, marks, paths, storm
from hotpair.config import Config, FilesSet
from hotpair.exits import ConfigFail

MASK = "IN_CLOSE_WRITE,IN_MOVED_TO,IN_MOVED_FROM,IN_DELETE,IN_ATTRIB,recursive=false"
WATCHABLE = re.compile(r"/[\w./@%+=:-]*")  # \w: letters of every alphabet, none that a shell or incrond could mistake
PROGRAMS = re.compile(r"/[A-Za-z0-9._/+-]*")  # % is a newline to cron
INSTALLED = re.compile(r" (/\S*)/syncr ")
HASTE = "nice -n -15"  # the trigger before incrond, which else starts ten more of it meanwhile; storm.event resets it
LONGEST = 999  # bytes of a line: incrond splits longer ones and takes the tail for a line of its own
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


class LeftOut(NamedTuple):
    """A directory that incrond does not watch, and why; the sweep looks after it."""

    live: str
    why: str


def watch_id(live: str) -> str:
    """Return the id of a directory: of its name alone, so that a further directory renumbers none."""
    return hashlib.blake2b(os.fsencode(live), digest_size=4).hexdigest()


def _parents(files: FilesSet) -> list[str]:
    """Return the live parent directories of a set, globs expanded to what is there."""
    found: set[str] = set()
    for path in files.paths:
        parent = path.rsplit("/", 1)[0] or "/"
        found.update(detect.expand(parent) if config.GLOB.search(parent) else [parent])
    return sorted(found)


def _on_disk(live: str) -> str:
    return paths.under(live).rstrip("/") or "/"


def _why_not(files: FilesSet, live: str) -> str:
    """Return why incrond cannot watch a directory, or ""."""
    place = _on_disk(live)
    if not WATCHABLE.fullmatch(place):
        return "its name has a character that incrond or a shell takes for something else"
    if os.path.islink(place) or not os.path.isdir(place):
        return "not a directory" if os.path.lexists(place) else "not there"
    if len(os.fsencode(_line(files.name, place, watch_id(live), "/" * 200))) > LONGEST:
        return "its name is too long for a line of incrond"
    return ""


def directories(files: FilesSet) -> list[str]:
    """Return the live directories that incrond watches for a set, sorted."""
    return [live for live in _parents(files) if not _why_not(files, live)]


def left_out(files: FilesSet) -> list[LeftOut]:
    """Return the directories of a set that incrond does not watch: changes in them are found by the sweep."""
    reasons = [LeftOut(live, _why_not(files, live)) for live in _parents(files)]
    # a glob matches files too: what is no directory holds nothing of the set
    literal = {path.rsplit("/", 1)[0] or "/" for path in files.paths}
    return [one for one in reasons if one.why and (one.live in literal or one.why != "not a directory")]


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


def _line(set_name: str, place: str, id_: str, program_dir: str) -> str:
    """Return one line of a table.

    incrond takes up to 1024 events at once and starts a process for each, whatever happens to the table meanwhile.
    When a storm has put it away, the shell that incrond starts ends by itself, in a tenth of the time.
    """
    prefix = f"HOTPAIR_ROOT={paths.root()} " if paths.root() else ""
    guard = f"test -e {paths.incron_table(set_name)} && "
    return f"{place} {MASK} {guard}{prefix}exec {HASTE} {program_dir}/syncr {set_name} {id_}"


def table(files: FilesSet, program_dir: str) -> str:
    """Return the text of a set's incron table."""
    watched = [(_on_disk(live), watch_id(live)) for live in directories(files)]
    if WATCHABLE.fullmatch(paths.root() or "/"):
        watched.append((os.path.dirname(marks.canary(files.name)), marks.CANARY))
    lines = [_line(files.name, place, id_, program_dir) + "\n" for place, id_ in watched]
    return HEADER.format(name=files.name) + "".join(lines)


def cron(program_dir: str) -> str:
    """Return the text of the cron file."""
    root = f"HOTPAIR_ROOT={paths.root()}\n" if paths.root() else ""
    return CRON.format(programs=program_dir, root=root)


def _tables() -> list[str]:
    """Return every incron table of ours by its name, those that a storm put away included."""
    directory = paths.under("/etc/incron.d")
    names = os.listdir(directory) if os.path.isdir(directory) else []
    return [f"{directory}/{name}" for name in sorted(names) if name.startswith(("hotpair-", ".hotpair-"))]


def plan(configuration: Config, program_dir: str) -> dict[str, str | None]:
    """Return the text of every file to be there, None for a table whose set is gone."""
    wanted: dict[str, str | None] = {
        paths.incron_table(files.name): table(files, program_dir) for files in configuration.sets.values()
    }
    known = {*wanted, *(storm.shelf(name) for name in configuration.sets)}
    for path in _tables():
        if path not in known and (read(path) or "").startswith(MAKER):
            wanted[path] = None
    wanted[paths.cron_file()] = cron(program_dir)
    return wanted


def read(path: str) -> str | None:
    """Return the text of a file, None when there is none."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except FileNotFoundError:
        return None


def replace(path: str, text: str) -> None:
    """Write a file under a dotted name, which incrond and cron ignore, and rename it into place: never half of it."""
    directory, name = os.path.split(path)
    temporary = f"{directory}/.{name.lstrip('.')}.tmp"
    os.makedirs(directory, mode=0o755, exist_ok=True)
    with open(temporary, "w", encoding="utf-8", errors="surrogateescape") as file:
        os.fchmod(file.fileno(), 0o644)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.rename(temporary, path)
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


def refresh(files: FilesSet) -> bool:
    """Rewrite an installed table when the directories it names are no longer those that are there."""
    path = paths.incron_table(files.name)
    text = read(path)
    found = INSTALLED.search(text or "")
    if text is None or found is None:
        return False
    new = table(files, found[1])
    if storm.places(text) == storm.places(new):
        return False
    replace(path, new)
    return True


def problems(configuration: Config) -> list[ini.Problem]:
    """Return what is wrong with the tables that are installed."""
    found = []
    advice = "run `hotpair tables`"
    for path in _tables():
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
            elif len(os.fsencode(line)) > LONGEST:
                found.append(ini.Problem(path, number, "incrond splits a line of 1000 bytes and more", advice))
        name = os.path.basename(path).lstrip(".").removeprefix("hotpair-").removesuffix(".away")
        if name not in configuration.sets:
            found.append(ini.Problem(path, 0, f"there is no set {name!r}", f"{advice}, or remove the file"))
    return found

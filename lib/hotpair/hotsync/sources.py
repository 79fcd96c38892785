"""What each file and plugin of hotsync.d names: read or run now, or as in its last good run when that fails."""

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from typing import NamedTuple

from hotpair import ini, paths, rundir, watch
from hotpair.exits import ConfigFail
from hotpair.hotsync import settings as hotsync

DIRECTORY = "hotsync.d"
INCLUDE, EXCLUDE = ".include", ".exclude"


class Source(NamedTuple):
    """What one file or plugin names, or the section [hotsync]."""

    name: str
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    globs: bool = False  # whether an include may be a glob; what a plugin says is taken as it is


class Unusable(Exception):
    """A file or plugin that failed; the text says how."""


def read(facts: dict[str, str], timeout: float, dry_run: bool) -> tuple[list[Source], list[str]]:
    """Read every list and run every plugin, in the order of their names; return what they name, and who failed how.

    Raises ConfigFail when the directory itself cannot be read: nothing is known then.
    """
    last, failures = _last()
    found: dict[str, Source] = {}
    with nullcontext() if dry_run else rundir.one_at_a_time("plugin", timeout) as record:
        for name in _names():
            try:
                found[name] = _list(name) if _is_list(name) else _run(name, facts, timeout, record)
            except Unusable as why:
                kept = name in last
                instead = "its paths of the last good run count" if kept else "it names nothing"
                failures.append(f"{name}: {why}: {instead}")
                if kept:
                    found[name] = last[name]
    if not dry_run and found != last:
        _write(found)
    return list(found.values()), failures


def lists() -> Iterator[Source]:
    """Yield what the *.include of hotsync.d name. Raises ConfigFail for one that cannot be used."""
    place = paths.config_file(DIRECTORY)
    for name in _names() if os.path.isdir(place) else ():
        if name.endswith(INCLUDE):
            try:
                yield _list(name)
            except Unusable as why:
                raise ConfigFail(f"{place}/{name}: {why}", "a standby would refuse what it names") from None


def _names() -> list[str]:
    place = paths.config_file(DIRECTORY)
    try:
        static = [name for name in os.listdir(place) if _is_list(name) and not name.startswith(".")]
        return sorted({*static, *rundir.programs(DIRECTORY)})
    except OSError as error:
        raise ConfigFail(f"{place}: {error.strerror}", "nothing is sent without it: an empty one will do") from error


def _is_list(name: str) -> bool:
    return name.endswith((INCLUDE, EXCLUDE))


def _list(name: str) -> Source:
    """Read a list: a path, glob or pattern a line."""
    path = paths.config_file(f"{DIRECTORY}/{name}")
    try:
        if why := ini.untrusted(path):
            raise Unusable(f"not used, because {why}")
        with open(path, "rb") as file:
            lines = [(number, line.strip()) for number, line in _lines(file.read())]
    except OSError as error:
        raise Unusable(error.strerror or str(error)) from error
    if name.endswith(EXCLUDE):
        return Source(name, (), _checked(lines, hotsync.unfit_pattern, "line "))
    return Source(name, tuple(map(plain, _checked(lines, hotsync.unfit, "line "))), (), globs=True)


def _run(name: str, facts: dict[str, str], timeout: float, record: int | None) -> Source:
    """Run a plugin, which appends to two files. They are in memory, so that a dry run writes nothing."""
    with ExitStack() as stack:
        include, exclude = (os.memfd_create(what, os.MFD_CLOEXEC) for what in ("include", "exclude"))
        for fd in (include, exclude):
            stack.callback(os.close, fd)
        words = [f"/proc/{os.getpid()}/fd/{fd}" for fd in (include, exclude)]
        try:
            for ran in rundir.run(DIRECTORY, [name], words, facts, timeout, record):
                if ran.failure:
                    raise Unusable(ran.failure)
        except OSError as error:
            raise Unusable(error.strerror or str(error)) from error
        said, left_out = (_lines(os.pread(fd, os.fstat(fd).st_size, 0)) for fd in (include, exclude))
        root = paths.root() + "/"  # of HOTPAIR_DUMPS, which is where the file is on this disk
        live = [(number, "/" + line[len(root) :] if line.startswith(root) else line) for number, line in said]
        found = _checked(live, hotsync.unfit, "include ")
        return Source(name, tuple(map(plain, found)), _checked(left_out, hotsync.unfit_pattern, "exclude "))


def _lines(data: bytes) -> list[tuple[int, str]]:
    """Return the lines that say something with their numbers. rsync takes both signs for a comment's."""
    lines = enumerate(os.fsdecode(data).split("\n"), 1)
    return [(number, line) for number, line in lines if line.strip() and line.lstrip()[0] not in "#;"]


def _checked(lines: list[tuple[int, str]], unfit: "hotsync.Unfit", what: str) -> tuple[str, ...]:
    for number, line in lines:
        if why := unfit(line):
            raise Unusable(f"{what}{number}: {line!r} {why}")
    return tuple(line for _, line in lines)


def plain(path: str) -> str:
    """Return a path without doubled slashes and without one at its end."""
    return "".join(f"/{part}" for part in path.split("/") if part not in ("", "."))


def _file() -> str:
    return paths.state("hotsync", "lists.json")


def _last() -> tuple[dict[str, Source], list[str]]:
    """Return what each named when it last did well, and what is wrong with the file that says so."""
    try:
        with open(_file(), encoding="ascii") as file:
            return {name: _source(name, said) for name, said in json.load(file).items()}, []
    except FileNotFoundError:
        return {}, []
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return {}, [f"{_file()}: {error}: the last good run is not known"]


def _source(name: str, said: dict[str, list[str]]) -> Source:
    include, exclude = (tuple(map(str, said[key])) for key in ("include", "exclude"))
    return Source(name, include, exclude, name.endswith(INCLUDE))


def _write(found: dict[str, Source]) -> None:
    """Write what each named, whole or not at all."""
    paths.make_private(paths.state())
    paths.make_private(paths.state("hotsync"))
    said = {name: {"include": one.include, "exclude": one.exclude} for name, one in found.items()}
    watch.replace(_file(), json.dumps(said, indent=1), 0o600)

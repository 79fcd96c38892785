"""What is done to a tree while others carry it, and whether both sides ended alike: judged by a walk of our own."""

import os
import random
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from tests.lab.demo_world import Seen, look

SIZE = 4096  # bytes of each file
NOISE = random.Random(1).randbytes(SIZE + 200_000)  # nothing here can be compressed
OWN = ".hotpair"  # at the root of a tree: hotpair's inbox, which is no part of it
AGE = 3600  # seconds: what stands there from the start was not written just now
STAYING = 1500  # files that are not deleted: a tool may take the loss of more than half for an accident
ROUNDED = 2000  # nanoseconds: OCaml has times as floating-point numbers and sets microseconds


class Work(NamedTuple):
    """One thing that users do to a tree."""

    name: str
    before: tuple[str, ...]  # the files that both sides have first
    do: Callable[[str], None]  # does it below a root
    new: tuple[str, ...]  # the files that come into being: what a bare rsync is told to carry
    payload: int  # bytes in the files that it is about
    patience: float  # seconds after which it counts as never carried
    goal: str = ""  # which one: hotpair's CPU against that of a bare rsync


class Verdict(NamedTuple):
    """How two trees differ: by nothing, by a rounding of times at most, or else."""

    alike: bool
    drift: int  # nanoseconds that the time of a file is off at most
    first: str  # one path that differs


def content(number: int) -> bytes:
    """Return the content of a file; no two numbers below 20,000 have the same."""
    return NOISE[number * 9 : number * 9 + SIZE]


def write(root: str, names: Iterable[str]) -> None:
    """Write files, and the directories that they lie in."""
    made = {""}
    for number, name in enumerate(names):
        above = os.path.dirname(name)
        if above not in made:
            os.makedirs(f"{root}/{above}", exist_ok=True)
            made.add(above)
        with open(f"{root}/{name}", "wb") as file:
            file.write(content(number % 20_000))


def plant(roots: Iterable[str], names: Iterable[str]) -> None:
    """Make the same tree below each root, old enough to be trusted."""
    then, names = time.time_ns() - AGE * 1_000_000_000, list(names)
    for root in roots:
        os.makedirs(root)
        write(root, names)
        for name in names:
            os.utime(f"{root}/{name}", ns=(then, then))


# -- the works --


def flat(folder: str, number: int) -> tuple[str, ...]:
    return tuple(f"{folder}/f{n:05}.dat" for n in range(number))


def deep(number: int) -> tuple[str, ...]:
    """Return a file in each of so many directories that lie in each other, two in each, ten deep for a thousand."""
    folders = ["deep"]
    for n in range(1, number):
        folders.append(f"{folders[(n - 1) // 2]}/d{n}")
    return tuple(f"{folder}/file.dat" for folder in folders)


def burst(number: int, goal: str) -> Work:
    new = flat("in", number)
    patience = 20.0 if number <= 1000 else 60.0

    def do(root: str) -> None:
        write(root, new)

    return Work(f"burst of {number:,} files", ("in/old",), do, new, SIZE * number, patience, goal)


def nested(number: int) -> Work:
    new = deep(number)
    return Work(f"{number:,} new directories", ("old",), lambda root: write(root, new), new, SIZE * number, 30.0)


def rename(number: int) -> Work:
    def do(root: str) -> None:
        os.rename(f"{root}/names/here", f"{root}/names/there")

    before = ("names/old", *flat("names/here", number))
    return Work(f"rename of a directory of {number:,} files", before, do, (), SIZE * number, 20.0)


def delete(number: int) -> Work:
    gone = flat("gone", number)

    def do(root: str) -> None:
        for name in gone:
            os.unlink(f"{root}/{name}")

    before = ("gone/old", *gone, *flat("stay", number * STAYING // 1000))
    return Work(f"delete of {number:,} files", before, do, (), 0, 20.0, "S5")


def works(scale: int) -> list[Work]:
    """Return all works, so many times smaller."""
    one = 1000 // scale
    return [burst(one, "S1"), burst(10 * one, "S2"), nested(one), rename(one), delete(one)]


# -- the judgement --


def names(root: str) -> set[str]:
    """Return the path of everything below a root."""
    return set(_below(root, ""))


def _below(root: str, folder: str) -> Iterator[str]:
    try:
        entries = list(os.scandir(f"{root}/{folder}"))
    except OSError:  # gone meanwhile
        return
    for entry in entries:
        if entry.name == OWN and not folder:
            continue
        path = folder + entry.name
        yield path
        if entry.is_dir(follow_symlinks=False):
            yield from _below(root, path + "/")


def compare(one: str, other: str) -> Verdict:
    """Compare two trees: types, modes, owners, contents, attributes, and the times of files."""
    drift, here, there = 0, names(one), names(other)
    if missing := here ^ there:
        return Verdict(False, 0, min(missing))
    for name in sorted(here):
        a, b = look(f"{one}/{name}"), look(f"{other}/{name}")
        if a is None or b is None or timeless(a) != timeless(b):
            return Verdict(False, 0, name)
        drift = max(drift, abs(a.mtime_ns - b.mtime_ns))
        if drift >= ROUNDED and stat.S_ISREG(a.kind):
            return Verdict(False, drift, name)
    return Verdict(True, drift, "")


def timeless(seen: Seen) -> Seen:
    return seen._replace(mtime_ns=0)

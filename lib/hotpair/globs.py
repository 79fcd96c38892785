"""Globs of paths: what one matches, and whether two have a path in common, for what one set claims another must not."""

import fnmatch
import re
from functools import cache

from hotpair import paths

GLOB = re.compile(r"[*?\[]")
TOKEN = re.compile(r"\[!?\]?[^]]*\]|.", re.DOTALL)
ALPHABET = [chr(code) for code in range(1, 0x250) if chr(code) != "/"]  # enough for what two bracket lists may share


def matches(live: str, pattern: str) -> bool:
    """Say whether a path matches a glob, component by component; as in a shell, `*` leaves a leading dot alone."""
    parts, wanted = live.split("/"), pattern.split("/")
    if len(parts) != len(wanted):
        return False
    return all(
        part == glob if not GLOB.search(glob) else _component(part, glob)
        for part, glob in zip(parts, wanted, strict=True)
    )


def _component(name: str, glob: str) -> bool:
    return fnmatch.fnmatchcase(name, glob) and name != paths.INBOX and (name[:1] != "." or glob[:1] == ".")


def meet(one: str, other: str) -> bool:
    """Say whether a path can match both globs, component by component."""
    parts, others = one.split("/"), other.split("/")
    return len(parts) == len(others) and all(map(name_meets, parts, others))


def name_meets(one: str, other: str) -> bool:
    """Say whether a name can match both; as in a shell, only a dot matches a leading dot."""
    if one and other and (one[0] == ".") != (other[0] == "."):
        return False
    return _meet(tuple(TOKEN.findall(one)), tuple(TOKEN.findall(other)))


@cache
def _meet(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    if not one and not other:
        return True
    if one[:1] == ("*",):
        return _meet(one[1:], other) or (bool(other) and _meet(one, other[1:]))
    if other[:1] == ("*",):
        return _meet(other, one)
    return bool(one and other) and _share(one[0], other[0]) and _meet(one[1:], other[1:])


def _share(one: str, other: str) -> bool:
    """Say whether a character can match both tokens, neither of which is a star."""
    if len(one) == 1 and one != "?":
        return fnmatch.fnmatchcase(one, other) if other != one else True
    if len(other) == 1 and other != "?":
        return fnmatch.fnmatchcase(other, one)
    return any(fnmatch.fnmatchcase(c, one) and fnmatch.fnmatchcase(c, other) for c in ALPHABET)

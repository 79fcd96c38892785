"""The owner-map of a tree: rules such as `user 1000 = anna`, made one to one, and what is wrong with them."""

import grp
import pwd
import re

from hotpair import ini
from hotpair.owners import Owners

KEY = "owner-map"
MOST = 2**32 - 2
_RULE = re.compile(r"(user|group)\s+(\S+)\s*=\s*(\S+)")
Rule = tuple[str, int, int]  # "user" or "group", its number there, its number here


def read(section: ini.Section) -> Owners:
    """Return the map of a section; what is wrong with it is noted there."""
    rules = {line: rule for line in section.items(KEY) if (rule := _rule(section, line))}
    return Owners(_one_to_one(section, rules, "user"), _one_to_one(section, rules, "group"))


def _rule(section: ini.Section, line: str) -> Rule | None:
    found = _RULE.fullmatch(line)
    if not found:
        remedy = "write `user NUMBER-THERE = NAME-OR-NUMBER-HERE`, or the same with group"
        section.problem(f"{line!r} is no rule for owners", remedy, KEY, line)
        return None
    kind, there, here = found.groups()
    number = int(here) if _plain(here) else _number_of(kind, here)
    if not _plain(there):
        what = f"{there!r} is not a number, and only the peer knows names of its own"
        section.problem(what, f"write the number that the {kind} has there", KEY, line)
    elif number is None:
        section.problem(f"there is no {kind} {here!r} here", f"make that {kind}, or write its number", KEY, line)
    elif not (0 < number <= MOST and 0 < int(there) <= MOST):
        section.problem(f"{line!r} maps root, or what is no number of a {kind}", "leave it out", KEY, line)
    else:
        return kind, int(there), number
    return None


def _plain(word: str) -> bool:
    return word.isascii() and word.isdigit()


def _number_of(kind: str, name: str) -> int | None:
    try:
        return pwd.getpwnam(name).pw_uid if kind == "user" else grp.getgrnam(name).gr_gid
    except KeyError:
        return None


def _one_to_one(section: ini.Section, rules: dict[str, Rule], kind: str) -> dict[int, int]:
    """Return the numbers there by those here, so that no two owners of one side become one on the other.

    A rule alone has two numbers change places: who has the peer's number here gets the one that became free there.
    """
    mine = {line: (there, here) for line, (of, there, here) in rules.items() if of == kind}
    by_there: dict[int, int] = {}
    by_here: dict[int, int] = {}
    for line, (there, here) in mine.items():
        if there in by_there or here in by_here:
            section.problem(f"{line!r} maps a {kind} that another rule maps", "leave one of them", KEY, line)
            return {}
        by_there[there], by_here[here] = here, there
    whole = dict(by_here)
    for line, (there, here) in mine.items():
        if there in by_here:
            continue
        if here in by_there:  # neither swapped nor given to anybody: more likely a slip
            last = here
            while last in by_there:
                last = by_there[last]
            what = f"{line!r} leaves {kind} {there} here without a number there"
            section.problem(what, f"write `{kind} {last} = {there}` too", KEY, line)
        whole[there] = here
    return whole

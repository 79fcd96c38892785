"""Say which paths of a tree are shared: rules as rsync's filter has them, regular expressions as psync had them.

A filter is a list of lines `- PATTERN` (not shared) and `+ PATTERN` (shared). The first that matches decides, and
what none matches is shared. What is in a directory that is not shared is not shared either, whatever matches it.

A PATTERN is one of rsync(1), PATTERN MATCHING RULES, and means what it means there, but that `?` and `[...]` stand
for one character, of which rsync takes one byte, and that a pattern which could never match is refused.

Or it is `re:` and a regular expression of Python, searched anywhere in the path. psync searched absolute paths, so a
`/` stood before each name, and for its `tempfiles` one after a directory: the path begins with `/` here too (the root
of the tree), and that of a directory ends with `/`. So `re:/Thumbs\\.db$` is a file of that name at any depth,
`re:^/cache/$` one directory, and `re:\\.tmp$` never a directory; psync's `excludes` took the slash off, write `/?$`.
Case counts, which psync ignored: `re:(?i)\\.tmp$` does as it did.
"""

import itertools
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from hotpair.paths import INBOX

REGEX = "re:"
WILD = re.compile(r"[*?\[]")
STAR, STARS = "[^/]*", ".*"
CLASSES = {  # of ASCII alone, as rsync has them in every locale
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "blank": r" \t",
    "cntrl": r"\x00-\x1f\x7f",
    "digit": "0-9",
    "graph": "!-~",
    "lower": "a-z",
    "print": " -~",
    "punct": r"!-/:-@\[-`{-~",
    "space": r"\t-\r ",
    "upper": "A-Z",
    "xdigit": "0-9A-Fa-f",
}
REMEMBERED = 4096  # directories; one costs its path, and no peer shall fill the memory

Search = Callable[[str], object]


class BadRule(ValueError):
    """A line that is no rule: `what` is wrong, and the `remedy`."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"{what}: {remedy}")
        self.what, self.remedy = what, remedy


class Rule(NamedTuple):
    """One line, parsed.

    `kind` says what `text` is. Of the name alone: "is" it, "ends" it, or "name", a regular expression for all of it.
    Of the path with the slashes said above: "root", a regular expression from its start on, "path", from any slash
    on, or "regex", from anywhere.
    """

    exclude: bool
    kind: str
    text: str
    directories: bool = False  # it matches nothing else
    open_end: bool = False  # it takes the slash at the end of a directory or leaves it


def parse(lines: Iterable[str]) -> tuple[Rule, ...]:
    """Return the rules of a filter. Raises BadRule."""
    return tuple(parse_line(line) for line in lines)


def parse_line(line: str) -> Rule:
    """Return the rule that a line of a filter is. Raises BadRule."""
    sign, pattern = line[:1], line[2:]
    if sign not in ("-", "+"):
        raise BadRule(f"{line!r} is no rule that hotpair knows", "write `- PATTERN` to leave out, `+ PATTERN` to share")
    if line[1:2] != " ":
        raise BadRule(f"{line!r} has no space after its sign, and modifiers are not known", f"write `{sign} PATTERN`")
    return _parse(pattern, sign == "-")


def parse_tempfile(line: str) -> Rule:
    """Return the exclude that a line of `tempfiles` is: a glob of the name alone, or `re:`. Raises BadRule."""
    if line[:2] in ("- ", "+ "):
        raise BadRule(f"{line!r} has a sign", f"write {line[2:]}")
    if not line.startswith(REGEX) and ("/" in line or "**" in line):
        raise BadRule(f"{line!r} is more than a name", f"write a rule of filter, `- {line}`")
    return _parse(line, True)


def _parse(pattern: str, exclude: bool) -> Rule:
    if not pattern.removeprefix(REGEX).strip():
        raise BadRule("a rule without a pattern", "write what it shall match")
    if pattern.startswith(REGEX):
        return Rule(exclude, "regex", _regex(pattern.removeprefix(REGEX)))
    if pattern != pattern.strip():
        raise BadRule(
            f"{pattern!r} begins or ends with a space", "write one space after the sign, [ ] for one in a name"
        )
    parts = pattern.removeprefix("/").removesuffix("/").split("/")
    if not all(parts) or "." in parts or ".." in parts:
        raise BadRule(f"{pattern!r} can match no path", "write it without //, . and ..; / at its start is the root")
    return _glob(pattern, exclude)


def _regex(text: str) -> str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # `[[:alpha:]]` is a set of other characters in Python
            re.compile(text)
    except (re.error, Warning, RecursionError, OverflowError) as error:
        raise BadRule(f"{text!r} is no regular expression of Python", str(error)) from error
    return text


def _glob(pattern: str, exclude: bool) -> Rule:
    """Return the rule of a glob that is well formed otherwise, deciding as rsync's exclude.c does."""
    text = pattern.removesuffix("/")
    body = text.removeprefix("/")
    directories, deep = text != pattern, "**" in body
    if "/" in text or deep:
        kind = "root" if body != text or body.startswith("**") else "path"
        regex = _translate(body) if WILD.search(body) else re.escape(body)
        start = "" if body.startswith("**") and body == text else "/"
        return Rule(exclude, kind, start + regex, directories, text.endswith("***"))
    if not WILD.search(body):
        return Rule(exclude, "is", body, directories)
    if body[0] == "*" and not WILD.search(body, 1) and "\\" not in body:
        return Rule(exclude, "ends", body[1:], directories)
    return Rule(exclude, "name", _translate(body), directories)


def _translate(glob: str) -> str:
    """Return the regular expression that a glob with a wildcard is. Raises BadRule.

    A star takes as little as it can and never tries again where the next one makes up for it: a long name that
    almost matches costs no more than its length.
    """
    tokens = list(_tokens(glob))
    stars = [at for at, token in enumerate(tokens) if token in (STAR, STARS)]
    for at, following in itertools.pairwise(stars):
        if tokens[at] == STAR or tokens[following] == STARS:
            tokens[at] = f"(?>{tokens[at]}?"
            tokens[following - 1] += ")"
    return "".join(tokens)


def _tokens(glob: str) -> Iterator[str]:
    at = 0
    while at < len(glob):
        char = glob[at]
        at += 1
        if char == "*":
            run = len(glob) - at - len(glob[at:].lstrip("*"))
            at += run
            yield STARS if run else STAR
        elif char == "?":
            yield "[^/]"
        elif char == "[":
            regex, at = _class(glob, at)
            yield regex
        elif char == "\\" and at == len(glob):
            raise BadRule(f"{glob!r} ends with a backslash", r"write \\ for a backslash")
        else:
            yield re.escape(glob[at] if char == "\\" else char)
            at += char == "\\"


def _class(glob: str, at: int) -> tuple[str, int]:
    """Return the set that begins behind a `[`, and where it ends. Raises BadRule."""
    negated = glob[at : at + 1] in ("!", "^")
    at += negated
    items, start, low = "", at, ""
    while glob[at : at + 1] != "]" or at == start:
        named = re.compile(r"\[:([^]]*):\]").match(glob, at)
        if named and named[1] in CLASSES:
            items, at, low = items + CLASSES[named[1]], named.end(), ""
            continue
        ranged = low != "" and glob[at : at + 1] == "-" and glob[at + 1 : at + 2] not in ("", "]")
        at += ranged
        at += glob[at : at + 1] == "\\"
        char = glob[at : at + 1]
        if not char or char == "/" or named:
            raise BadRule(f"{glob!r} has a [ without an end", r"write ] where it ends, without / in between, or \[")
        if ranged:
            items += f"{re.escape(low)}-{re.escape(char)}" if low <= char else ""
        else:
            items += re.escape(char)
        low = "" if ranged else char
        at += 1
    return f"[^/{items}]" if negated else f"(?!/)[{items}]", at + 1


class _Stretch(NamedTuple):
    """Rules that follow each other and decide alike, so that their order is nothing: all of them in few searches."""

    exclude: bool
    names: frozenset[str]
    ends: tuple[str, ...]
    name: Search | None
    paths: tuple[Search, ...]


class Rules:
    """The rules of one tree, ready to judge paths: relative to its root, without a slash at either end.

    hotpair's own directory is excluded wherever it lies. The root itself, "", is not.
    """

    def __init__(self, filters: Sequence[Rule] = (), tempfiles: Sequence[Rule] = ()) -> None:
        every = (*tempfiles, *filters)
        self._any = bool(every)
        self._for_files = tuple(_stretches(every, False))
        self._for_directories = tuple(_stretches(every, True))
        self._covered: dict[str, bool] = {"": True}

    def excluded(self, rel: str, directory: bool) -> bool:
        """Say whether the rules exclude this path, taken alone: who walks does not look into such a directory."""
        if INBOX in rel and INBOX in rel.split("/"):
            return True
        return self._any and rel != "" and self._judge(rel, directory)

    def covers(self, rel: str, directory: bool) -> bool:
        """Say whether neither the path nor any directory above it is excluded: this decides what a peer may write."""
        if INBOX in rel and INBOX in rel.split("/"):
            return False
        if not self._any:
            return True
        above = rel.rpartition("/")[0]
        known = self._covered.get(above)
        if known is None:
            known = self._look_up(above)
        return known and (rel == "" or not self._judge(rel, directory))

    def _judge(self, rel: str, directory: bool) -> bool:
        name = rel[rel.rfind("/") + 1 :]
        path = f"/{rel}/" if directory else "/" + rel
        for exclude, names, ends, match, paths in self._for_directories if directory else self._for_files:
            if name in names or name.endswith(ends) or (match is not None and match(name)):
                return exclude
            for search in paths:
                if search(path):
                    return exclude
        return False

    def _look_up(self, directory: str) -> bool:
        """Judge a directory below the last one that is known, in a loop: a path may have more parts than frames fit."""
        if len(self._covered) > REMEMBERED:
            self._covered = {"": True}
        unknown = [directory]
        while (above := unknown[-1].rpartition("/")[0]) not in self._covered:
            unknown.append(above)
        covered = self._covered[above]
        for below in reversed(unknown):
            covered = covered and not self._judge(below, True)
            self._covered[below] = covered
        return covered


def _stretches(rules: Sequence[Rule], directory: bool) -> Iterator[_Stretch]:
    fitting = [rule for rule in rules if directory or not rule.directories]
    for exclude, group in itertools.groupby(fitting, key=lambda rule: rule.exclude):
        kinds: dict[str, list[str]] = {"is": [], "ends": [], "name": [], "root": [], "path": [], "regex": []}
        for rule in group:
            end = r"/\Z" if directory and not rule.open_end else r"\Z"
            kinds[rule.kind].append(rule.text + end if rule.kind in ("root", "path") else rule.text)
        name = re.compile("|".join(kinds["name"]), re.DOTALL).fullmatch if kinds["name"] else None
        paths = [re.compile("|".join(kinds["root"]), re.DOTALL).match] if kinds["root"] else []
        paths += [re.compile("|".join(kinds["path"]), re.DOTALL).search] if kinds["path"] else []
        paths += [regex.search for regex in _joined(kinds["regex"])]
        yield _Stretch(exclude, frozenset(kinds["is"]), tuple(kinds["ends"]), name, tuple(paths))


def _joined(texts: list[str]) -> Iterator[re.Pattern[str]]:
    """Yield one expression for all that can be part of another: those without groups and flags of their own."""
    single = [re.compile(text) for text in texts]
    plain = [regex.pattern for regex in single if not regex.groups and regex.flags == re.UNICODE]
    if plain:
        yield re.compile("|".join(plain))
    yield from (regex for regex in single if regex.groups or regex.flags != re.UNICODE)

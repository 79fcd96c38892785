"""Convert a rules file of clsync into the lines of `filter` that say the same of every path.

What clsync makes of such a file is told by clsync(1), RULES, and by clsync 0.4.5 run with `-d5`, which prints it:

- A rule is a sign, a letter and a POSIX extended regular expression (regcomp's REG_EXTENDED), searched in the path
  below the watched directory; the first that matches decides, and what none matches is synced (the page, and run).
- The letter counts in either case, so `W` is `w` (run; the page has it stand for `w` and `m`).
- `f` is all that is no directory, since the first walk asks for no more (run); of `w`, `m`, `s` and `d`, of
  directories, `d` is all three (the page).
- A rule with another letter is passed over with a warning, one with another sign or a bad expression ends clsync, and
  the last line loses its last character when no newline ends it (run).
- The watched directory itself is judged too, as an empty path: what excludes it excludes everything (run).
- A name with a newline is never synced (sync.c), so what an expression says of one is not kept.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from hotpair import log
from hotpair.convert import Foreign
from hotpair.rules import CLASSES

RULE = re.compile(r"([+-])([fdwms*])(.*)", re.IGNORECASE | re.DOTALL)
COUNT = re.compile(r"\{(\d+(,\d*)?|,\d+)\}")
BACKSLASH = {"<": r"\b(?=\w)", ">": r"\b(?<=\w)", "w": r"\w", "W": r"\W", "s": r"\s", "S": r"\S", "b": r"\b"}
SPECIAL = re.compile(r"[][\\.^$*+?{}|()]")
ROOT = "clsync did not look into the watched directory because of the next rule, hotpair always does"
LAST = "clsync lost the last character of the next rule, as no newline ends it: it is converted as it is written"
INSIDE = "hotpair shares the next directory itself as well, clsync only looked into it"
APART = "not converted, hotpair shares a directory with what is in it or neither"
ALWAYS = "not converted, hotpair always shares the root of a tree"
UNKNOWN = "not converted, clsync knows no such letter either"


class Token(NamedTuple):
    """One piece of an expression; `text` is the same for Python."""

    kind: str  # char, other (matches some character as well), empty, open, close, bar, repeat, start, end, unsayable
    text: str  # of what is unsayable, the reason


class Unsayable(Exception):
    """An expression that Python has no words for; the text says why."""


def convert(text: str) -> str:
    """Return the key `filter` with a line for each rule, or a comment. Raises Foreign."""
    lines = text.split("\n")
    written, root = ["filter ="], False
    for number, line in enumerate((line.rstrip("\r") for line in lines), 1):
        if not line or line.startswith("#"):
            written.append("    " + log.escape(line) if line else "")
            continue
        if line[0] not in "+-":
            raise Foreign(number, f"{line[0]!r} begins no rule", "write + or - for it")
        if number == len(lines):
            written.append(f"    # {LAST}")
        found = RULE.fullmatch(line)
        if found and not root and found[2].lower() in "dw*":
            root = _is_of_root(number, found[3])
            if root and found[1] == "-":
                written.append(f"    # {ROOT}")
        written += ["    " + one for one in _rule(number, line, found)]
    return "\n".join(written).rstrip("\n") + "\n"


def _rule(number: int, line: str, found: re.Match[str] | None) -> Iterator[str]:
    """Yield what one rule becomes."""
    reason = ""
    try:
        if not found:
            reason = UNKNOWN
        elif found[2].lower() in "ms" or (found[2].lower() == "w" and found[1] == "-"):
            reason = APART
        elif [token.kind for token in _tokens(number, found[3])] == ["start", "end"]:
            reason = ALWAYS
        else:
            patterns = list(_patterns(number, found[2].lower(), found[3]))
            if found[2].lower() == "w":
                yield f"# {INSIDE}"
            yield from (f"{found[1]} {pattern}" for pattern in patterns)
    except Unsayable as error:
        reason = f"not converted, {error}"
    if reason:
        yield f"# {reason}: {log.escape(line)}"


def _is_of_root(number: int, expression: str) -> bool:
    """Say whether an expression matches the watched directory itself."""
    try:
        return bool(re.search("".join(token.text for token in _tokens(number, expression)), ""))
    except Unsayable:
        return False


def _patterns(number: int, letter: str, expression: str) -> Iterator[str]:
    """Yield the patterns that match the same paths together."""
    tokens = _tokens(number, expression)
    if [token.text for token in tokens[-2:]] == [".", "*"]:
        tokens = tokens[:-2]  # what may follow, or not, says nothing
    if not tokens and letter != "f":
        yield "*" if letter == "*" else "*/"
        return
    for directory in (False, True):
        if letter == "*" or directory == (letter != "f"):
            yield "re:" + _head(tokens) + _tail(tokens, directory)


def _alternatives(tokens: list[Token]) -> bool:
    """Say whether a bar stands outside of all parentheses."""
    depth = 0
    for token in tokens:
        depth += (token.kind == "open") - (token.kind == "close")
        if token.kind == "bar" and not depth:
            return True
    return False


def _head(tokens: list[Token]) -> str:
    """Return how the expression begins, so that it is not searched in the slash that hotpair's paths begin with."""
    first, second = [*tokens, Token("end", ""), Token("end", "")][:2]
    if _alternatives(tokens):
        return "(?!^)"
    if first.kind == "start":
        return "^/"
    fixed = first.kind == "char" and first.text != "/" and (second.kind != "repeat" or second.text == "+")
    return "" if fixed else "(?!^)"


def _tail(tokens: list[Token], directory: bool) -> str:
    """Return the expression and how it ends, so that it matches a directory, or all but directories.

    It does not see the slash that hotpair has at the end of a directory.
    """
    several = _alternatives(tokens)
    begun = not several and tokens[:1] and tokens[0].kind == "start"
    ended = not several and tokens[-1:] and tokens[-1].kind == "end"
    middle = tokens[1 if begun else 0 : -1 if ended else None]
    anchors = {"start": "(?<=^/)", "end": "(?=/$)" if directory else "$"}
    body = "".join(anchors.get(token.kind, token.text) for token in middle)
    if several:
        body = f"(?:{body})"
    fixed = middle[-1:] and middle[-1].kind == "char" and middle[-1].text != "/"
    if ended:
        return body + ("/$" if directory else "$" if fixed else "(?<!/)$")
    return body + (".*/$" if directory else ".*(?<!/)$")


def _tokens(number: int, expression: str) -> list[Token]:
    """Take an expression apart. Raises Foreign for one that regcomp(3) refuses, Unsayable for one Python cannot say."""
    tokens: list[Token] = []
    at = depth = 0
    while at < len(expression):
        token, at = _token(number, expression, at)
        if token.kind == "close" and not depth:
            token = Token("char", r"\)")
        depth += (token.kind == "open") - (token.kind == "close")
        before = tokens[-1].kind if tokens else "open"
        if token.kind == "repeat" and before in ("open", "bar", "start", "end", "empty"):
            raise Foreign(number, f"{token.text} in {expression!r} has nothing to repeat", "repair the expression")
        if token.kind == "repeat" and before == "repeat":
            token = _repeated({tokens.pop().text, token.text})
        tokens.append(token)
    unsayable = [token.text for token in tokens if token.kind == "unsayable"]
    try:
        re.compile("".join("x" if token.kind == "unsayable" else token.text for token in tokens))
    except (re.error, OverflowError) as error:
        raise Foreign(number, f"{expression!r} is no regular expression", str(error)) from error
    if unsayable:
        raise Unsayable(unsayable[0])
    return tokens


def _repeated(both: set[str]) -> Token:
    """Return the one repetition that two in a row are."""
    if not both <= set("*+?"):
        return Token("unsayable", "a repetition is repeated")
    return Token("repeat", both.pop() if len(both) == 1 else "*")


def _token(number: int, expression: str, at: int) -> tuple[Token, int]:
    """Return the piece that begins at a place, and where the next one does."""
    char, following = expression[at], expression[at + 1 : at + 2]
    if char == "[":
        return _set(number, expression, at + 1)
    if char == "\\":
        return _escaped(number, following), at + 2
    if char == "{":
        found = COUNT.match(expression, at)
        if not found:
            raise Foreign(number, f"{{ in {expression!r} is no repetition", r"write \{ for a brace")
        return Token("repeat", found[0]), found.end()
    kinds = {"^": "start", "$": "end", "(": "open", ")": "close", "|": "bar", ".": "other"}
    kinds |= dict.fromkeys("*+?", "repeat")
    return (Token(kinds[char], char) if char in kinds else Token("char", _literal(char))), at + 1


def _escaped(number: int, char: str) -> Token:
    if not char:
        raise Foreign(number, "a backslash at the end", r"write \\ for a backslash")
    if char in "`'":
        return Token("start", "^") if char == "`" else Token("end", "$")
    if char == "B":
        return Token("unsayable", r"\B is not the same beside a slash")
    if char in "123456789":
        return Token("other", f"(?:\\{char})")
    if char in BACKSLASH:
        return Token("other" if char in "wWsS" else "empty", BACKSLASH[char])
    return Token("char", _literal(char))  # \d is the letter d


def _literal(char: str) -> str:
    if char.isprintable():
        return SPECIAL.sub(r"\\\g<0>", char)
    return f"\\U{ord(char):08x}"  # a line of an INI file may not have it


def _set(number: int, expression: str, at: int) -> tuple[Token, int]:
    """Return the set that begins behind a `[`, where a backslash is one character of many."""
    negated = expression[at : at + 1] == "^"
    at += negated
    items, start, collating = "", at, False
    while expression[at : at + 1] != "]" or at == start:
        named = re.compile(r"\[([:=.])(.*?)\1\]").match(expression, at)
        if at >= len(expression) or (named and named[1] == ":" and named[2] not in CLASSES):
            raise Foreign(number, f"{expression!r} has a [ without an end", r"write \[ for a bracket")
        if named:
            collating |= named[1] != ":"
            items, at = items + CLASSES.get(named[2], "x"), named.end()
        elif expression[at + 1 : at + 2] == "-" and expression[at + 2 : at + 3] not in ("", "]"):
            items, at = items + f"{_member(expression[at])}-{_member(expression[at + 2])}", at + 3
        else:
            items, at = items + _member(expression[at]), at + 1
    if collating:
        return Token("unsayable", "Python has no collating elements"), at + 1
    return Token("other", f"[{'^' * negated}{items}]"), at + 1


def _member(char: str) -> str:
    return re.escape(char) if char.isascii() and char.isprintable() else _literal(char)

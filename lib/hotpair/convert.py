"""Convert a syncr.ini of Syncr's own format (bare command lines under [/path]) into hotpair's.

Syncr gave each line to bash's `eval`. A line that means the same without a shell becomes an argv line; any other
keeps its text and gets `sh:`, and goes to bash by name where it is bash's alone. Comments and blank lines stay.
"""

import os
import re
import shlex

from hotpair.exits import Fail
from hotpair.globs import GLOB
from hotpair.sections import OPTIONS, SHELL, STAGED

HEADER = re.compile(r"\[(/.*)\]")
OTHER_HEADER = re.compile(r"\[[^\s\[\]]+\]")  # `[ -f x ]` and `[[ … ]]` are commands
# a command, then a comment: `#` begins a word, outside quotes
TRAILING = re.compile(r"""((?:[^'"\\\#]|'[^']*'|"(?:[^"\\]|\\.)*"|\\.|(?<=\S)\#)*?)\s+(\#.*)""", re.DOTALL)
# what shlex splits as a shell does: no expansion, no operator, no escape
PLAIN = re.compile(r"""(?:[\w@%+=:,./^ \t-]|'[^']*'|"[^"$`\\!]*")+""")
ASSIGNMENT = re.compile(r"\w+\+?=.*")
BASH = re.compile(r"""\[\[|\(\(|&>|<<<|[<>]\(|\$['"]|\{[^{}\s]*(?:,|\.\.)[^{}\s]*\}|\bsource\b|\bfunction\b|\|&|;;?&""")
# words that only a shell knows; echo, printf and test are programs as well
LASTING = {".", "alias", "cd", "declare", "export", "hash", "popd", "pushd", "readonly", "set", "shopt", "source"}
LASTING |= {"trap", "typeset", "ulimit", "umask", "unalias", "unset"}  # all of these were for the lines after them
BUILTIN = {"!", ":", "[", "bg", "break", "builtin", "case", "command", "continue", "coproc", "disown", "do", "done"}
BUILTIN |= {"elif", "else", "esac", "eval", "exec", "exit", "fg", "fi", "for", "function", "getopts", "if", "jobs"}
BUILTIN |= {"let", "local", "mapfile", "read", "return", "select", "shift", "then", "time", "times", "type", "until"}
BUILTIN |= {"wait", "while", *LASTING}
ALONE = "# the line below was there for those after it; each now has a shell of its own: join them with &&"


class Foreign(Fail):
    """A line that Syncr's format does not have."""

    code = os.EX_DATAERR

    def __init__(self, line: int, what: str, remedy: str) -> None:
        super().__init__(f"line {line}: {what}", remedy)
        self.line = line


def convert(text: str) -> str:
    """Return the same sections, commands and comments in hotpair's format. Raises Foreign."""
    blocks: list[_Block] = [_Block("")]
    for number, written in enumerate(text.removeprefix("\N{BYTE ORDER MARK}").split("\n"), 1):
        comment, line = _comment(number, written.strip(" \t\r"))
        if not line:
            blocks[-1].lines.append(comment)
            continue
        if comment:
            blocks[-1].lines.append("    " + comment if blocks[-1].header else comment)
        header = _header(number, line)
        if header and header in (block.header for block in blocks):
            raise Foreign(number, f"{line} is there twice", "write its commands under the first")
        if header:
            blocks.append(_Block(header))
        elif not blocks[-1].header:
            raise Foreign(number, "a command before any section", "write [/path] above it")
        else:
            blocks[-1].command(line)
    return "\n".join(line for block in blocks for line in block.written())


class _Block:
    """A section as it is converted; the first has no header and holds what stands above all sections."""

    def __init__(self, header: str) -> None:
        self.header, self.commands = header, 0
        self.lines: list[str] = []

    def command(self, line: str) -> None:
        self.commands += 1
        if _lasting(line):
            self.lines.append("    " + ALONE)
        self.lines.append("    " + _command(line))

    def written(self) -> list[str]:
        if not self.header:
            return self.lines
        if not self.commands:  # Syncr did nothing there, and hotpair takes it for a mistake
            return ["# " + self.header, *self.lines]
        return [self.header, "run =", *self.lines]


def _comment(number: int, line: str) -> tuple[str, str]:
    """Return the comment of a line, and the line without it. Raises Foreign for what is more than one line."""
    if line and line.splitlines() != [line]:
        raise Foreign(number, "a control character that ends a line", "remove it")
    if line.startswith("#"):
        return line, ""
    found = TRAILING.fullmatch(line)
    return (found[2], found[1]) if found else ("", line)


def _header(number: int, line: str) -> str:
    """Return the section header that a line is in hotpair's format, or "" for a command. Raises Foreign."""
    found = HEADER.fullmatch(line)
    if not found:
        if OTHER_HEADER.fullmatch(line) or line.startswith("[/"):
            raise Foreign(number, f"{line} names no absolute path", "write [/path]")
        if line.partition("=")[0].strip() in OPTIONS and "=" in line:
            raise Foreign(number, "this is hotpair's format already", "copy the file as it is")
        return ""
    if "#" in line or ";" in line:
        raise Foreign(number, "a header cannot hold # or ;", "write ? for it")
    parts = found[1].split("/")[1:]
    if not all(parts) or "." in parts or ".." in parts:
        raise Foreign(number, f"{found[1]} is not a plain path", "write it without //, . and ..")
    literal = GLOB.sub(r"[\g<0>]", found[1])  # Syncr knew no globs
    return f"[{literal}]"


def _command(line: str) -> str:
    """Return a command line as hotpair writes it."""
    if BASH.search(line):
        return f"{SHELL} exec /bin/bash -c {shlex.quote(line)}"
    first = shlex.split(line)[0] if PLAIN.fullmatch(line) else ""
    relative = "/" in first and not first.startswith("/")
    if not first or relative or first in BUILTIN or "=" in first or STAGED in line or line.startswith(SHELL):
        return f"{SHELL} {line}"
    return line


def _lasting(line: str) -> bool:
    """Say whether a line only changes the shell that reads it."""
    if re.search(r"[;&|]", line):
        return False
    words = line.split()
    return words[0] in LASTING or all(ASSIGNMENT.fullmatch(word) for word in words)

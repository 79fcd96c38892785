"""Read what rsync prints: the items of --out-format, its --stats, and what it complains of. Pure."""

import re
from collections.abc import Iterable
from typing import NamedTuple

# Behind a mark of our own, so that no other line of rsync is taken for an item: what changes, size, name
FORMAT = ">>> %i %l %n"
ITEM = re.compile(r">>> (\*deleting|[<>ch.*][fdLDS][^ ]*) +(-?\d+) (.+)", re.DOTALL)
ESCAPE = re.compile(rb"\\#([0-3][0-7]{2})")
STAT = re.compile(r"(Number of files|Number of regular files transferred|Total bytes sent): (\d+)")
QUOTED = re.compile(r'"(.*)"')
STUNNEL = re.compile(r"(?:\[(?P<mark>.)\]|[0-9. :]+LOG(?P<level>[0-7])\[[^]]*\]:) (?P<text>.*)")
SUMMARY = ("rsync error: ", "rsync warning: ", "IO error encountered -- skipping", "*** Skipping")
REFUSED = ("daemon-excluded", "daemon refused")
KINDS = {"f": "file", "d": "directory", "L": "link", "D": "device", "S": "special"}


class Item(NamedTuple):
    """One line of a plan or run."""

    path: str  # from the root of the transfer, with a slash before it
    act: str  # "send" (bytes), "make" (a directory, link, hard link or device), "change" (attributes) or "delete"
    kind: str  # "file", "directory", "link", "device" or "special"; of what is deleted "file" for all but directories
    size: int  # bytes of the file, 0 of everything else
    new: bool = False  # the standby had nothing of that name


class Complaints(NamedTuple):
    """What rsync said of paths, and of itself."""

    partial: tuple[tuple[str, str], ...] = ()  # paths that are not as they should be, and why
    refused: tuple[str, ...] = ()  # those of them that the other end does not accept
    vanished: tuple[str, ...] = ()  # gone between the list and the reading
    reasons: tuple[str, ...] = ()  # lines that name no path, the other end's first


def unescape(shown: str) -> str:
    r"""Return the name that rsync shows with \#ooo for each byte that is not printable."""
    raw = ESCAPE.sub(lambda found: bytes([int(found[1], 8)]), shown.encode(errors="surrogateescape"))
    return raw.decode(errors="surrogateescape")


def item(line: str) -> Item | None:
    """Return what a line of the output says is done, None when it is no item."""
    found = ITEM.fullmatch(line)
    if not found:
        return None
    code, size, name = found[1], int(found[2]), "/" + unescape(found[3])
    directory = name.endswith("/")
    name = "/" if name == "/./" else name.rstrip("/") or "/"
    if code == "*deleting":
        return Item(name, "delete", "directory" if directory else "file", 0)
    act = {"<": "send", ">": "send", "c": "make", "h": "make"}.get(code[0], "change")
    size = size if code[1] == "f" and act == "send" else 0
    return Item(name, act, KINDS[code[1]], size, code[2:3] == "+")


def stats(lines: Iterable[str]) -> dict[str, int]:
    """Return the numbers of --stats that are used, by the words rsync has for them."""
    return {found[1]: int(found[2]) for line in lines if (found := STAT.match(line))}


def complaints(text: str, root: str = "") -> Complaints:
    """Sort what rsync wrote to standard error. root: the directory that the transfer is of, at the sending end."""
    partial: dict[str, str] = {}
    refused: list[str] = []
    vanished: list[str] = []
    reasons: list[str] = []
    for line in text.splitlines():
        quoted = QUOTED.search(line)
        stunnel = STUNNEL.match(line)
        if stunnel:
            told = stunnel["mark"] == "!" or (stunnel["level"] or "9") <= "3"
            if told and "TIMEOUTclose" not in stunnel["text"]:  # the end of every connection
                reasons.append(f"stunnel: {stunnel['text']}")
        elif line.startswith("@ERROR"):
            reasons.insert(0, line.partition(":")[2].strip())
        elif line.startswith(SUMMARY) or not line.strip():
            continue
        elif quoted and line.startswith("file has vanished"):
            vanished.append(_live(quoted[1], root))
        elif quoted and any(words in line for words in REFUSED):
            refused.append(_live(quoted[1], root))
            partial[refused[-1]] = "the standby does not accept it"
        elif quoted and _about_a_path(line):
            partial[_live(quoted[1], root)] = _reason(line, quoted)
        else:
            reasons.append(line.strip())
    return Complaints(tuple(partial.items()), tuple(refused), tuple(vanished), tuple(reasons))


def _about_a_path(line: str) -> bool:
    return line.startswith("rsync: ") or "failed" in line or line.startswith("cannot ")


def _reason(line: str, quoted: re.Match[str]) -> str:
    """Return the system's words about a path, without the name of rsync's function."""
    after = line[quoted.end() :]
    said = after.rpartition("failed: ")[2] if "failed: " in after else after.lstrip(":. ")
    return said.strip() or line[: quoted.start()].rpartition("] ")[2].strip()


def _live(shown: str, root: str) -> str:
    """Return the live path of a name in a complaint: whole at the sending end, from the module's root at the other."""
    path = "/" + unescape(shown).lstrip("/")
    return path[len(root) :] if root and path.startswith(root + "/") else path

"""Give this node the local accounts that the master has: missing ones at once, who may log in and how at a promotion.

Through useradd(8) and its kin, which lock the files, and chpasswd(8), which reads hashes from standard input.
"""

from collections.abc import Callable
from typing import NamedTuple

from hotpair import child, log, paths, watch
from hotpair.failover import accounts
from hotpair.failover.accounts import ORDINARY, Accounts, User

NOLOGIN = "/usr/sbin/nologin"
TIMEOUT = 60.0  # seconds that one of the tools may take: it waits for the lock of /etc/passwd
Report = Callable[[str], None]


def create_missing(theirs: Accounts, report: Report) -> tuple[str, ...]:
    """Make the groups and users that are missing here, nobody able to log in yet; return what failed.

    Before packages are installed: those that find their user there give it no other number.
    """
    missing = accounts.plan(theirs, accounts.read())
    failures = []
    for group, number in missing.groups:
        failures += _do("groupadd", _number("-g", number, group.gid), group.name, "group", report)
    here = accounts.read().groups
    for user, number in missing.users:
        first = theirs.group_of(user)
        words = [*_number("-u", number, user.uid), "-M", "-N", "-s", NOLOGIN, "-d", user.home, "-c", user.gecos]
        failures += _do("useradd", [*words, *(["-g", first] if first in here else [])], user.name, "user", report)
    return tuple(failures)


def _number(option: str, number: int | None, there: int) -> list[str]:
    """Return the words for a number, or for any that is free; a package's stays among the packages'."""
    if number is not None:
        return [option, str(number)]
    return [] if there in ORDINARY else ["-r"]


def _do(tool: str, words: list[str], name: str, what: str, report: Report) -> list[str]:
    prefix = ["--prefix", paths.root()] if paths.root() else []
    failure = child.run([tool, *prefix, *words, "--", name], child.environment(), TIMEOUT)
    report(f"{what} {name}: {log.escape(failure) or f'{tool} done'}")
    return [f"{what} {name}: {failure}"] if failure else []


class Change(NamedTuple):
    """What usermod(8) is to change of a user."""

    name: str
    words: tuple[str, ...]


def changes(theirs: Accounts, ours: Accounts) -> list[Change]:
    """Return what the users that both nodes have need to be as they are there. Pure.

    Ordinary users get all of it; users of packages, which their own packages look after, get missing groups only.
    Groups that the master does not have are this node's business.
    """
    found = []
    for name, there in theirs.users.items():
        here = ours.users.get(name)
        if here is None or 0 in (here.uid, there.uid):
            continue
        words: list[str] = []
        wanted, have = _groups(theirs, name) & ours.groups.keys(), _groups(ours, name)
        if not _ordinary(theirs, ours, name):
            if wanted - have:
                words = ["-a", "-G", ",".join(sorted(wanted - have))]
        else:
            words = _differing(theirs, there, ours, here)
            if wanted != have & theirs.groups.keys():
                words += ["-G", ",".join(sorted(wanted | have - theirs.groups.keys()))]
        if words:
            found.append(Change(name, tuple(words)))
    return found


def _groups(of: Accounts, name: str) -> set[str]:
    return {group.name for group in of.groups.values() if name in group.members}


def _ordinary(theirs: Accounts, ours: Accounts, name: str) -> bool:
    return name in ours.users and theirs.users[name].uid in ORDINARY and ours.users[name].uid in ORDINARY


def _differing(theirs: Accounts, there: User, ours: Accounts, here: User) -> list[str]:
    pairs = (("-c", there.gecos, here.gecos), ("-d", there.home, here.home), ("-s", there.shell, here.shell))
    words = [word for option, wanted, have in pairs if wanted != have for word in (option, wanted)]
    first = theirs.group_of(there)
    if first in ours.groups and first != ours.group_of(here):
        words += ["-g", first]
    return words


def restore(theirs: Accounts, logins: str, report: Report) -> tuple[str, ...]:
    """Let ordinary users in as on the master: home, shell, groups, password or lock; return what failed.

    logins: NAME:HASH a line. Root's own password stays, and so do the ages of passwords.
    """
    ours, failures = accounts.read(), []
    for change in changes(theirs, ours):
        failures += _do("usermod", list(change.words), change.name, "user", report)
    have = accounts.hashes(watch.read(paths.under("/etc/shadow")) or "", ours)
    wanted = accounts.hashes(logins, theirs)
    lines = [
        f"{name}:{word}\n" for name, word in wanted.items() if _ordinary(theirs, ours, name) and have.get(name) != word
    ]
    if lines:
        argv = ["chpasswd", "-e", *(["--root", paths.root()] if paths.root() else [])]
        failure = child.run(argv, child.environment(), TIMEOUT, "".join(lines).encode("utf-8", "surrogateescape"))
        report(f"passwords of {len(lines)} users: {log.escape(failure) or 'given'}")
        failures += [f"passwords: {failure}"] if failure else []
    return tuple(failures)

"""Give a standby what the master has: before a promotion its packages and accounts, in one its configuration too."""

import os
from collections.abc import Callable, Iterable

from hotpair import child, paths
from hotpair.exits import Fail
from hotpair.failover import accounts, logins, renumber, software
from hotpair.hotsync import backup
from hotpair.hotsync.settings import Hotsync

Report = Callable[[str], None]
SELINUX = "/sys/fs/selinux/enforce"


def prepare(archive: str, report: Report, timeout: float) -> tuple[str, ...]:
    """Make the users and groups that are missing, then install the packages that are; return what failed.

    In this order, for a package that finds its user there keeps the user's number, so that nothing is to be translated
    later. timeout: seconds for each call of the package manager. Raises Fail without a whole archive.
    """
    master = backup.read(archive)
    failures = logins.create_missing(master.accounts, report)
    try:
        lacking = software.missing(master.texts["packages"])
        failures += software.install(lacking, report, timeout)
    except Fail as fail:
        failures += (fail.message,)
    owners = accounts.renumbered(master.accounts, accounts.read())
    if any(owners):
        report(
            f"{len(owners.users) + len(owners.groups)} users and groups have other numbers: a promotion sees to that"
        )
    return failures


def restore(
    archive: str, settings: Hotsync, received: Iterable[str], epoch: int, report: Report, timeout: float
) -> tuple[str, ...]:
    """Make this node's configuration the master's, keeping its own beside; return what is not as it was there.

    received: the live paths that came with the master's numbers. epoch: the one that this promotion began; what is done
    once for it is not done twice. The door must be closed. Any of it may be cut short and done again.
    """
    master = backup.read(archive)
    left = logins.create_missing(master.accounts, report)
    owners = accounts.renumbered(master.accounts, accounts.read())
    count, failures = renumber.repair_owners(received, owners, f"epoch {epoch}")
    report(f"{count} files given to who has another number here")
    before = paths.state("hotsync", f"before-{epoch}")
    backup.save(settings, before)
    report(f"this node's own configuration is in {before}")
    done = backup.unpack(archive, paths.root())
    report(f"{len(done.written)} files of the master's configuration written")
    left += (*failures, *done.left, *_relabel(done.written, timeout))
    return left + logins.restore(master.accounts, master.texts["logins"], report)


def _relabel(written: Iterable[str], timeout: float) -> tuple[str, ...]:
    """Give files the SELinux labels of their places, where it is in use: a new file has its directory's."""
    if paths.root() or not os.path.exists(SELINUX):
        return ()
    listed = b"".join(os.fsencode(live) + b"\0" for live in written)
    failure = child.run(["restorecon", "-i", "-0", "-f", "-"], child.environment(), timeout, listed)
    return (f"labels: {failure}",) if failure else ()

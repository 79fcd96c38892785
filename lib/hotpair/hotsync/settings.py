"""[hotsync]: what the master sends to the standby, what the standby lets it write, and the way there."""

from collections.abc import Callable
from typing import NamedTuple

from hotpair import ini, options, treeset
from hotpair.options import Option, limit, number, one_of, port, shaped

PATH = "an absolute path"
PATHS = "absolute paths, one a line"
OPTIONS = {
    "role": Option("", one_of("master", "standby"), "master or standby: what this node is until a promotion"),
    "include": Option("", str, PATHS),
    "exclude": Option("", str, "patterns of rsync, one a line"),
    "accept": Option("", str, PATHS),
    "config": Option("/etc\n/var/spool/cron/crontabs", str, PATHS),
    "keep": Option("6", number, "a whole number"),
    "databases": Option("enabled", one_of("enabled", "disabled"), "enabled or disabled"),
    "transport": Option("stunnel", one_of("stunnel", "ssh"), "stunnel or ssh"),
    "port": Option("8730", port, "a port number from 1 to 65535"),
    "rsyncd-port": Option("8731", port, "a port number from 1 to 65535"),
    "password": Option("/etc/hotpair/hotsync.password", shaped(r"/.+"), PATH),
    "key": Option("/etc/hotpair/hotsync.key", shaped(r"/.+"), PATH),
    "certificate": Option("/etc/hotpair/hotsync.crt", shaped(r"/.+"), PATH),
    "peer-certificate": Option("/etc/hotpair/hotsync-peer.crt", shaped(r"/.+"), PATH),
    "timeout": Option("60", limit, "seconds, 1 at least"),
    "plugin-timeout": Option("600", limit, "seconds, 1 at least"),
    "max-delete": Option("50%", treeset.share, treeset.PERCENT),
    "mail": Option("root", shaped(r"[A-Za-z0-9._+@-]*"), "a mail address, or nothing"),
}
LISTS = ("include", "exclude", "accept", "config")
Unfit = Callable[[str], str]


class Hotsync(NamedTuple):
    """What one section says. Paths are live paths; files of the configuration are not yet under the prefix."""

    role: str  # of this node until a promotion says otherwise
    include: tuple[str, ...]  # paths and globs
    exclude: tuple[str, ...]  # patterns of rsync's --exclude-from, anchored at / where they begin with one
    accept: tuple[str, ...]  # what a standby takes besides what it would send itself
    config: tuple[str, ...]  # what the configuration backup holds
    keep: int  # configuration backups
    databases: str
    transport: str
    port: int  # stunnel's, on every address
    rsyncd_port: int  # of rsync's daemon, on the loopback alone
    password: str
    key: str
    certificate: str
    peer_certificate: str
    timeout: float  # seconds that the other end may be silent
    plugin_timeout: float  # seconds
    max_delete: treeset.Share
    mail: str


def read(section: ini.Section) -> Hotsync:
    """Return what a section says; what is wrong with it is noted there."""
    found = options.values(section, OPTIONS, ("role",))
    for key in LISTS:
        if key in section.values:
            found[key] = tuple(section.items(key))
        else:
            found[key] = tuple(OPTIONS[key].default.split())
    if found["port"] == found["rsyncd_port"]:
        section.problem(f"port and rsyncd-port are both {found['port']}", "give each its own", "rsyncd-port")
    for key in ("include", "accept", "config"):
        for line in found[key]:
            if why := unfit(line):
                section.problem(f"{line!r} {why}", "write a whole path", key, line)
    for line in found["exclude"]:
        if why := unfit_pattern(line):
            section.problem(f"{line!r} {why}", "write patterns alone", "exclude", line)
    return Hotsync(**found)


def unfit(path: str) -> str:
    """Return what keeps a line from naming what is sent, or ""."""
    if not path.startswith("/"):
        return "is no absolute path"
    parts = path.split("/")
    return "leads upwards" if ".." in parts else "" if path.strip("/.") else "is the whole disk"


def unfit_pattern(pattern: str) -> str:
    """Return what keeps a line from being a pattern of rsync: it would be a rule to it; or ""."""
    return "is a rule of rsync, not a pattern" if pattern == "!" or pattern[:2] in ("+ ", "- ") else ""

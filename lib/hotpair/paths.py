"""Every path that hotpair touches, under one root prefix (HOTPAIR_ROOT).

Two prefixes are two nodes on one machine. A *live* path is the absolute path as the
configuration writes it; `under` says where it is on this disk. Paths are `str` with
surrogateescape, so that every byte a name may hold goes through unchanged.
"""

import os

INBOX = ".hotpair"  # staging directory beside the live files, root's alone


def root() -> str:
    """Return the prefix without a trailing slash: "" on a real node."""
    return os.environ.get("HOTPAIR_ROOT", "").rstrip("/")


def under(live: str) -> str:
    """Return where the live path is on this disk."""
    return root() + live


def config_file(name: str) -> str:
    return under("/etc/hotpair/" + name)


def state(*parts: str) -> str:
    """Return a path below var/lib/hotpair, which is root's alone (0700)."""
    return "/".join((under("/var/lib/hotpair"), *parts))


def runtime(*parts: str) -> str:
    """Return a path below run/hotpair: locks and sockets, gone after a reboot."""
    return "/".join((under("/run/hotpair"), *parts))


def set_state(set_name: str, *parts: str) -> str:
    """Return a path in the state directory of one set."""
    return state("sets", set_name, *parts)


def generation(number: int) -> str:
    """Return the directory that mirrors `/` and holds generation `number` of every file; 0 is the present content."""
    return state("generations", str(number))


def incron_table(set_name: str) -> str:
    return under("/etc/incron.d/hotpair-" + set_name)


def cron_file() -> str:
    return under("/etc/cron.d/hotpair")


def make_private(directory: str) -> str:
    """Create a directory for root alone (0700), parents included, and return it."""
    if not os.path.isdir(directory):
        umask = os.umask(0o077)  # makedirs gives its mode to the last directory only
        try:
            os.makedirs(directory, exist_ok=True)
        finally:
            os.umask(umask)
    return directory


def lane(name: str, aside: bool) -> str:
    """Return a set's name for a directory that runs use, or for its twin of what is carried aside of them."""
    return name + ".large" * aside

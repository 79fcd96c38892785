"""What makes a node itself and never comes from the other one: not by the door, not by a restore. Pure."""

import fnmatch
from collections.abc import Iterable

from hotpair import paths

OUT = "/var/lib/hotpair/hotsync/out"  # what the master made for the standby: the one place of ours that does come
PASSWD = ("passwd", "group", "shadow", "gshadow", "subuid", "subgid")
# Live paths, each with all below it. In a glob no star stands for a slash, as in rsync's filter rules.
NEVER = (
    # hotpair itself: configuration, keys, state, and what it installed
    "/etc/hotpair",
    "/var/lib/hotpair",  # but OUT
    "/etc/cron.d/hotpair",
    "/etc/incron.d/hotpair-*",
    "/etc/incron.d/.hotpair-*",
    # who the node is, and how root gets in
    "/etc/hostname",
    "/etc/machine-id",
    "/var/lib/dbus/machine-id",
    "/etc/ssh/ssh_host_*",
    "/root/.ssh",
    *(f"/etc/{name}" for name in PASSWD),
    *(f"/etc/{name}-" for name in PASSWD),
    "/etc/.pwd.lock",
    # its place in the network
    "/etc/hosts",
    "/etc/resolv.conf",
    "/etc/network",
    "/etc/netplan",
    "/etc/NetworkManager",
    "/etc/systemd/network",
    "/etc/sysconfig/network*",
    "/etc/udev/rules.d/*persistent-net*",
    "/etc/keepalived",
    # its disks, its kernel, its clock
    "/etc/fstab",
    "/etc/crypttab",
    "/etc/mtab",
    "/etc/adjtime",
    "/etc/systemd/system/*.mount",
    "/etc/systemd/system/*.swap",
    "/etc/lvm",
    "/etc/mdadm",
    "/etc/mdadm.conf",
    "/etc/iscsi",
    "/etc/initramfs-tools",
    "/etc/dracut.conf*",
    "/etc/default/grub*",
    "/etc/grub.d",
    "/boot",
    "/dev",
    "/proc",
    "/sys",
    "/run",
    "/var/run",
    # what its own packages say of themselves
    "/var/lib/dpkg",
    "/var/lib/rpm",
    "/etc/ld.so.cache",
)


def is_own(path: str) -> bool:
    """Say whether a live path is one of NEVER or below one and not below OUT, or a set's inbox or marker."""
    parts = path.split("/")
    if ".." in parts or paths.INBOX in parts:  # with dots it is not said where that leads
        return True
    return covered(path, NEVER) and not covered(path, (OUT,))


def covered(path: str, patterns: Iterable[str]) -> bool:
    """Say whether a path matches one of the globs, or lies below what matches."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    return any(_covers(pattern.split("/")[1:], parts) for pattern in patterns)


def _covers(pattern: list[str], parts: list[str]) -> bool:
    return len(parts) >= len(pattern) and all(
        fnmatch.fnmatchcase(part, glob) for part, glob in zip(parts, pattern, strict=False)
    )

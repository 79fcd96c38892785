"""The node's role and epoch, as var/lib/hotpair/role.json says: "peer", epoch 0, until a failover writes it."""

import json
from typing import NamedTuple

from hotpair import paths
from hotpair.exits import ConfigFail


class Role(NamedTuple):
    """role: "peer" (both ways), "master" or "standby"; epoch rises at each promotion."""

    role: str = "peer"
    epoch: int = 0


def current() -> Role:
    """Return the role. Raises ConfigFail when the file is there but is not one."""
    file = paths.state("role.json")
    try:
        with open(file, encoding="utf-8") as text:
            found = json.load(text)
        return Role(str(found["role"]), int(found["epoch"]))
    except FileNotFoundError:
        return Role()
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigFail(f"{file}: not a role file", "restore it from the other node's word") from error


def boot_id() -> str:
    """Return the kernel's id of this boot (random(4), /proc/sys/kernel/random/boot_id)."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()

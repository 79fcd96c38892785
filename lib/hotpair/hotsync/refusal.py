"""Tell the sender why the gate refuses: rsync's daemon passes on nothing of what its early exec prints.

Behind a socket that program's output is thrown away, and the sender reads "early exec failed". But it has inherited the
connection, and at that point of the protocol every line is one of text: the one that begins with @ERROR ends it.
"""

import os
import socket
import stat

PREFIX = "@ERROR: "
LONGEST = 500  # characters


def tell(reason: str) -> None:
    """Say to the sender why nothing is taken; the caller then exits with something else than 0."""
    line = f"{PREFIX}{' '.join(reason.split())[:LONGEST]}\n".encode(errors="replace")
    os.write(_connection(), line)


def _connection() -> int:
    """Return the descriptor of the connection that rsync's daemon answers; without one, rsync speaks on its output."""
    for name in sorted(os.listdir("/proc/self/fd"), key=int):
        fd = int(name)
        try:
            if not stat.S_ISSOCK(os.fstat(fd).st_mode):
                continue
            with socket.socket(fileno=os.dup(fd)) as found:
                if found.family in (socket.AF_INET, socket.AF_INET6) and found.getpeername():
                    return fd
        except OSError:  # listdir's own descriptor, or a socket that is not connected
            continue
    return 1

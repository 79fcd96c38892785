"""The one exception family: what went wrong, the exit code, and what to do about it."""

from __future__ import annotations

import errno
import os
import sys

from hotpair import log

TYPE_CHECKING = False  # the quiet path imports this module: no typing, no collections
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

INTERRUPTED = 130  # 128 + SIGINT, as a shell reports it


class Fail(Exception):
    """A failure a person can act on: `message` (one line), `remedy` (what to do), `code` (an os.EX_* value)."""

    code = os.EX_SOFTWARE

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}: {self.remedy}" if self.remedy else self.message


class UsageFail(Fail):
    """Wrong words on the command line."""

    code = os.EX_USAGE


class ConfigFail(Fail):
    """The configuration cannot be used; nothing has been done."""

    code = os.EX_CONFIG


class Later(Fail):
    """A temporary failure: peer away, lock held, disk full. Nothing is lost; cron tries again.

    kind: what stands in the way of a run, as `status` lists it.
    """

    code = os.EX_TEMPFAIL
    kind = "peer"


class Refused(Fail):
    """The other side said no, or sent what the protocol forbids."""

    code = os.EX_PROTOCOL


class NoInput(Fail):
    """What was asked for does not exist."""

    code = os.EX_NOINPUT


def guard(main: Callable[[Sequence[str]], int]) -> int:
    """Run `main(argv)`, turn what it raises into one line and an exit code, and return that code."""
    try:
        return main(sys.argv[1:])
    except Fail as fail:
        log.error(str(fail))
        return fail.code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return os.EX_OK
    except KeyboardInterrupt:
        return INTERRUPTED
    except SystemExit as end:  # argparse, having said what was wrong
        return os.EX_USAGE if end.code else os.EX_OK
    except Exception as bug:
        said, code = _of_the_machine(bug)
        if said:
            log.error(said)
            return code
        frame = bug.__traceback__
        while frame and frame.tb_next:
            frame = frame.tb_next
        where = f"{frame.tb_frame.f_code.co_filename}:{frame.tb_lineno}" if frame else "?"
        log.error(f"internal error at {where}: {type(bug).__name__}: {bug}: please report this line")
        return os.EX_SOFTWARE


def _of_the_machine(bug: Exception) -> tuple[str, int]:
    """Return what to say of a failure that is the machine's, and the exit code; "" for any other."""
    if isinstance(bug, PermissionError):
        remedy = "see `lsattr`: it is kept even from root" if os.geteuid() == 0 else "run as root"
        return f"{bug.filename}: {bug.strerror}: {remedy}", os.EX_NOPERM
    if no_space(bug):
        return f"{bug}: nothing is lost: make space, and it goes on by itself", os.EX_TEMPFAIL
    if str(bug) == "database is locked":
        return f"{bug}, by a program that reads a large file: tried again by itself in a minute", os.EX_TEMPFAIL
    if type(bug).__name__ == "DatabaseError":  # SQLite's SQLITE_CORRUPT and SQLITE_NOTADB
        return f"archive.db: {bug}: move it away, and both nodes compare everything anew", os.EX_IOERR
    return "", os.EX_SOFTWARE


def no_space(bug: Exception) -> bool:
    """Say whether a full disk or quota is what went wrong."""
    if isinstance(bug, OSError):
        return bug.errno in (errno.ENOSPC, errno.EDQUOT)
    # SQLite's SQLITE_IOERR and SQLITE_FULL, by name: an idle event must not import it
    return type(bug).__name__ == "OperationalError" and str(bug) in ("disk I/O error", "database or disk is full")

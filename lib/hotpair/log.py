"""One line out: to standard error for a person, to syslog when a machine started us."""

import os
import sys

from hotpair import paths

person = False  # set by the programs that a person starts: what they say goes to standard error, terminal or not


def escape(text: str) -> str:
    """Return the text on one line with every character that is not printable shown as an escape.

    Names come from users: a newline in one would forge a log line, an escape sequence would drive a terminal.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def _emit(priority: str, text: str) -> None:
    line = escape(text)
    program = os.path.basename(sys.argv[0]) or "hotpair"
    if person or sys.stderr.isatty():
        sys.stderr.write(f"{program}: {line}\n")
    elif paths.root():  # syslog's socket is outside the prefix
        try:
            os.makedirs(paths.under("/var/log"), exist_ok=True)
            with open(paths.under("/var/log/hotpair.log"), "a", opener=_private) as out:
                out.write(f"{program}[{os.getpid()}]: {line}\n")
        except OSError:  # a full disk
            sys.stderr.write(f"{program}: {line}\n")
    else:
        import syslog  # the quiet path never pays for it

        syslog.openlog(program, syslog.LOG_PID, syslog.LOG_DAEMON)
        syslog.syslog(getattr(syslog, priority), line)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def error(text: str) -> None:
    """Log a failure."""
    _emit("LOG_ERR", text)


def notice(text: str) -> None:
    """Log a change of state: peer away, peer back, a conflict."""
    _emit("LOG_NOTICE", text)

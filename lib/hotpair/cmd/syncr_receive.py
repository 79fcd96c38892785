"""syncr-receive [SET]: the peer's end of a conversation; the only thing that the peer's key can start."""

import os
import re
from collections.abc import Sequence

from hotpair import archive, config, large, log, peer, run, tasks, watch
from hotpair.exits import Fail, Refused, UsageFail
from hotpair.receive import Reception
from hotpair.wire import Wire

USAGE = """usage: syncr-receive SET

sshd starts this as the forced command of the peer's key, in /root/.ssh/authorized_keys:

  restrict,command="/usr/local/sbin/syncr-receive" ssh-ed25519 AAAA... root@alpha

The set then comes from SSH_ORIGINAL_COMMAND, which may say `syncr-receive SET` and nothing else. It decides, stages
and applies what the peer proposes; only paths of its own configuration are ever written.
`hotsync-slave role`, `hotsync-slave door`, `hotsync-slave hand-over` and `ssync apply` may be asked for as well.

exit: 0 done, 76 refused, 75 the peer went away, 66 no such set, 78 configuration, 64 usage"""
_ORIGINAL = re.compile(r"syncr-receive ([a-z0-9-]+)")
_OTHER = re.compile(r"(hotsync-slave) (role|door|hand-over)|(ssync) (apply)")


def main(argv: Sequence[str]) -> int:
    """Serve one conversation on standard input and output. Returns an os.EX_* value."""
    if list(argv) in (["--help"], ["-h"]):
        print(USAGE)
        return os.EX_OK
    other = _OTHER.fullmatch(os.environ.get("SSH_ORIGINAL_COMMAND", ""))
    if other:
        name, word = filter(None, other.groups())
        os.execv(peer.program(name), [peer.program(name), word])
    set_name = _set_name(argv)
    wire = Wire(0, 1, 60.0)
    try:
        scope = run.scope(config.load(), set_name)
    except Fail as fail:
        wire.send(refused=str(fail))
        raise
    wire.timeout = scope.node.io_timeout
    reception = Reception(wire, scope)
    try:
        reception.serve()
    finally:
        blind = watch.follow(scope.files, reception.new_folders)
        aside = reception.turned and bool(large.aside(scope))
        scope.archive.db.close()  # SQLite must not be carried through fork(2) with a file open
        _afterwards(set_name, blind, aside)
    return os.EX_OK


def _set_name(argv: Sequence[str]) -> str:
    asked = os.environ.get("SSH_ORIGINAL_COMMAND", "" if len(argv) != 1 else f"syncr-receive {argv[0]}")
    if "SSH_CONNECTION" not in os.environ and len(argv) != 1:
        raise UsageFail("one word is wanted, a set", "see `syncr-receive --help`")
    match = _ORIGINAL.fullmatch(asked)
    if match is None:
        raise Refused(f"the peer asked for {asked[:80]!r}", "this key starts `syncr-receive SET` only")
    return match[1]


def _afterwards(set_name: str, blind: bool, aside: bool) -> None:
    """Do in a process of its own what the peer need not wait for.

    That are owed commands, a look at what incrond missed, and large contents that our turn left aside.
    """
    db = archive.connect()
    owed = tasks.waiting(db)
    db.close()
    if not (owed or blind or aside) or os.fork():
        return
    try:
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(nothing, fd)
        tasks.run_due(archive.connect(), set_name)
        if blind:
            run.after_blindness(run.scope(config.load(), set_name))
        elif aside:
            large.carry(run.scope(config.load(), set_name))
    except Fail as fail:
        log.error(str(fail))
    finally:
        os._exit(os.EX_OK)

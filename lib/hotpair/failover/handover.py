"""Change places while both nodes live: the master hands over what it has to the standby, which is promoted then."""

import json
import os
import time
from typing import Any

from hotpair import child, log, peer
from hotpair.config import Config
from hotpair.exits import Fail, Refused
from hotpair.failover import demotion, gate, notes, peer_role, role, takeover
from hotpair.failover.role import MASTER, STANDBY
from hotpair.failover.steps import Stopped

LONGEST = 6 * 3600.0  # seconds for the last push, and for the answer to it
BUSY = f"exit {os.EX_TEMPFAIL}"  # a hotsync of cron's is under way
TRIES, PAUSE = 60, 2.0  # and how long we wait for it
MOST = 65536  # bytes of an answer


def failback(configuration: Config, by: str) -> dict[str, Any]:
    """Have the peer hand over, then be promoted. The peer serves on when it could not.

    An answer that got lost does not matter: what the peer says it is, counts.
    """
    mine, found = peer_role.settle(configuration)
    if mine.role == STANDBY and mine.reason == gate.FENCED:
        raise Stopped("this node has not kept its unseen writes", "`hotsync-slave demote`, then wait for a push")
    record = notes.read(notes.PROMOTION)
    if mine.serving or takeover.unfinished(record, mine):
        return takeover.promote(configuration, takeover.Order(by, planned=True))
    if mine.role != STANDBY:
        raise Stopped(f"this node is {mine.role}, no standby", "failback is for the node that is to be master again")
    if found is None:
        raise Stopped("the other node does not answer", "`hotsync-slave promote` if it is dead")
    if found.role == MASTER:
        said = _ask(configuration)
        found = peer_role.ask(configuration.node)
        if found is None or found.role == MASTER:
            raise Stopped(f"the other node did not hand over: {said}", "mend that; it goes on as master")
        peer_role.hear(found)
    return takeover.promote(configuration, takeover.Order(by, "failback", planned=True))


def _ask(configuration: Config) -> str:
    """Have the peer hand over, and return what it says in the end."""
    process = peer.start(configuration.node, "hotsync-slave", "hand-over")
    assert process.stdin and process.stdout
    try:
        process.stdin.close()
        answer = peer_role.first_line(process.stdout.fileno(), LONGEST, MOST)
        return str(json.loads(answer)["said"])
    except (ValueError, KeyError, TypeError):
        return "no answer"
    finally:
        peer.close(process)


def hand_over(configuration: Config) -> int:
    """Be standby in favour of the peer, which asks for it, after one last complete push. Returns the new epoch.

    The services run until that push has ended, for the databases are dumped in it; nobody comes in meanwhile, for the
    addresses have gone before. Raises Fail, and serves on, when something is in the way.
    """
    with takeover.alone():
        mine, found = peer_role.settle(configuration)
        if not mine.serving:
            raise Refused(f"this node is {mine.role}, no master that serves")
        if found is None or found.role != STANDBY:
            raise Refused(f"the other node is {found.role if found else 'away'}, no standby")
        try:
            demotion.withdraw(configuration, mine.epoch)
            _push()
            demotion.stop_services(configuration)
        except BaseException:
            log.notice("the hand-over did not come to its end: this node serves on")
            takeover.serve_on(configuration, mine.epoch)
            raise
        demotion.become_standby(mine.epoch, by=found.node, reason="failback")
        return mine.epoch


def _push() -> None:
    """Do one last push, waiting for one of cron's that is under way. Raises Stopped when it is not complete."""
    for _ in range(TRIES):
        failed = child.run([peer.program("hotsync")], child.environment(), LONGEST)
        if not failed:
            return
        if not failed.startswith(BUSY):
            break
        time.sleep(PAUSE)
    raise Stopped(f"the last hotsync is not complete: {failed}", "mend that, then failback again")


def answer(configuration: Config) -> str:
    """Hand over, and return the line that the peer is told."""
    try:
        epoch = hand_over(configuration)
    except Fail as fail:
        return json.dumps({"said": str(fail)})
    return json.dumps({"said": "handed over", "epoch": epoch, "role": role.current().role})

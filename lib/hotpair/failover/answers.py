"""What machines ask of hotsync-slave: rsync's daemon, cron, keepalived, the other node. Each returns an exit code."""

import argparse
import os

from hotpair import alerts, config, log, paths
from hotpair.config import Config
from hotpair.exits import ConfigFail, Fail
from hotpair.failover import gate, peer_role, role


def with_hotsync() -> Config:
    """Return the configuration. Raises ConfigFail when it has no [hotsync]."""
    configuration = config.load()
    if configuration.hotsync is None:
        raise ConfigFail(f"{paths.config_file('hotpair.ini')}: no section [hotsync]", "write one on both nodes")
    return configuration


def configured() -> Config:
    """Return the configuration, which has a [hotsync]; the node has a role from then on."""
    configuration = with_hotsync()
    assert configuration.hotsync
    role.begin(configuration.hotsync.role)
    return configuration


def answer_gate(_: argparse.Namespace) -> int:
    """Let a push in, or tell its sender why not."""
    from hotpair.hotsync import doors, refusal

    log.person = False
    try:
        doors.renew()
        configuration = config.load()
        if configuration.hotsync is None:
            raise gate.Closed("no section [hotsync] in hotpair.ini there", "write one")
        gate.serve(configuration.hotsync.role)
    except Fail as fail:
        log.notice(f"push refused: {fail}")
        refusal.tell(log.escape(str(fail)))
        return gate.Closed.code
    return os.EX_OK


def answer_landed(_: argparse.Namespace) -> int:
    """Note how a push ended."""
    log.person = False
    gate.landed()
    return os.EX_OK


def answer_role(_: argparse.Namespace) -> int:
    """Say what this node is."""
    print(peer_role.words(config.load()), flush=True)
    return os.EX_OK


def answer_door(_: argparse.Namespace) -> int:
    """Be rsync's daemon for one push."""
    from hotpair.hotsync import doors

    log.person = False
    doors.serve(configured())
    return os.EX_OK


def answer_hand_over(_: argparse.Namespace) -> int:
    """Be standby in favour of the other node."""
    from hotpair.failover import handover

    log.person = False
    print(handover.answer(configured()), flush=True)
    return os.EX_OK


def every_minute(_: argparse.Namespace) -> int:
    """Do what cron's minute asks for: nothing without [hotsync]."""
    from hotpair.failover import takeover
    from hotpair.hotsync import doors

    log.person = False
    configuration = config.load()
    if configuration.hotsync:
        takeover.minute(configuration)
        try:
            doors.open(configuration)
        except Fail as fail:
            alerts.report("door", str(fail))
            return fail.code
        alerts.report("door", "")
    return os.EX_OK


def follow_keepalived(options: argparse.Namespace) -> int:
    """Be what keepalived says, until it ends."""
    from hotpair.failover import follow

    log.person = False
    configured()
    follow.follow(options.fifo)
    return os.EX_OK

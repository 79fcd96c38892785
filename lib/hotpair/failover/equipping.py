"""What a person, or cron at night, has done on a standby: prepare, rehearse, restore. Each returns an exit code."""

import json
import os
import time

from hotpair import alerts, log, paths
from hotpair.exits import NoInput
from hotpair.failover import answers, equip, rehearse, role, steps
from hotpair.failover.role import STANDBY
from hotpair.hotsync import backup


def prepare() -> int:
    """Make the users and install the packages that the master has and this node lacks."""
    configuration = answers.configured()
    failures = equip.prepare(backup.archive(), log.notice, configuration.failover.hook_timeout)
    for failure in failures:
        log.error(failure)
    return steps.Stopped.code if failures else os.EX_OK


def rehearse_it(cron: bool, as_json: bool) -> int:
    """Say whether a promotion would work. Returns 0, 1 or 2; for cron, which is told by mail and log, 0."""
    configuration = answers.configured()
    log.person = not cron
    if cron and role.current().role != STANDBY:
        return os.EX_OK
    report = rehearse.rehearse(configuration)
    if as_json:
        print(report.json())
    elif not cron:
        print("\n".join(report.lines()))
    if not cron:
        return report.level
    bad = [str(finding) for finding in report.findings if finding.level == rehearse.CRITICAL]
    for line in bad:
        log.error(line)
    alerts.report("rehearsal", "\n".join(bad))
    return os.EX_OK


def restore(number: int, where: str, as_json: bool) -> int:
    """Unpack a configuration backup below a directory; / is this node, whose own configuration is kept beside."""
    settings = answers.configured().hotsync
    assert settings
    path = backup.archive() if number == 0 else f"{backup.kept(number)}/{backup.NAME}"
    directory = paths.root() if where == "/" else os.path.abspath(where)
    if where == "/":
        before = paths.state("hotsync", time.strftime("before-restore-%Y%m%d-%H%M%S"))
        backup.save(settings, before)
        log.notice(f"this node's own configuration is in {before}")
    elif not os.path.isdir(directory):
        raise NoInput(f"{directory} is no directory", "make it first, or give / for this node itself")
    done = backup.unpack(path, directory)
    if as_json:
        print(json.dumps({"written": list(done.written), "left": list(done.left)}, indent=1))
    else:
        print(f"{len(done.written)} files written")
    for line in done.left:
        log.error(line)
    return steps.Stopped.code if done.left else os.EX_OK

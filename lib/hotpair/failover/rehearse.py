"""Rehearse: whether a promotion would work, found out without touching anything, and how long it would take."""

import json
import os
import re
import ssl
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

from hotpair import hooks, log, paths, rundir, watch
from hotpair.config import Config
from hotpair.exits import ConfigFail, Fail
from hotpair.failover import accounts, software
from hotpair.hotsync import backup, inventory
from hotpair.hotsync.backup import Contents
from hotpair.hotsync.settings import Hotsync

OK, WARNING, CRITICAL = "ok", "warning", "critical"
LEVELS = (OK, WARNING, CRITICAL)
AGE = (2100.0, 7200.0)  # seconds: two of cron's quarters of an hour missed; eight of them
DAYS = (30.0, 7.0)  # that a certificate is still good for
SPACE = (0.10, 0.03)  # of a file system that are free
GROWTH = 5  # times its dump, generously, that a loaded database takes
SHOWN = 10  # names of a list
START = 3.0  # seconds that a service takes to start, unless measured
TAKE_OVER = 5.0  # seconds to look for a duplicate address, add it and make it known
DECIDE = 5.0  # seconds to ask the peer in vain, and to write the role
PREPARE = "run `hotsync-slave prepare`"
NAME = re.compile("[a-z0-9-]+")  # of a program; README is none
HOOKS = ("promote.d", "demote.d", "restore.d")


class Finding(NamedTuple):
    """One thing that was looked at."""

    topic: str
    level: str  # OK, WARNING or CRITICAL
    text: str
    remedy: str = ""

    def __str__(self) -> str:
        advice = f": {self.remedy}" if self.remedy else ""
        return log.escape(f"{self.level:8} {self.topic}: {self.text}{advice}")


class Report(NamedTuple):
    """All that was found, and the seconds that each part of a promotion is expected to take."""

    findings: tuple[Finding, ...]
    parts: dict[str, float]

    @property
    def level(self) -> int:
        """0, 1 or 2: all is well, warnings, something critical."""
        return max((LEVELS.index(finding.level) for finding in self.findings), default=0)

    @property
    def seconds(self) -> float:
        return sum(self.parts.values())

    def lines(self) -> Iterator[str]:
        """Yield what a person reads."""
        yield from map(str, self.findings)
        parts = ", ".join(f"{name} {seconds:.1f}" for name, seconds in self.parts.items())
        yield f"expected time until services run: {self.seconds:.0f} s ({parts})"

    def json(self) -> str:
        found = [finding._asdict() for finding in self.findings]
        return json.dumps({"level": self.level, "seconds": self.seconds, "parts": self.parts, "findings": found})


def rehearse(config: Config) -> Report:
    """Look at everything that a promotion needs. Raises ConfigFail without a section [hotsync]."""
    if config.hotsync is None:
        raise ConfigFail("no section [hotsync]", "write one with role")
    parts = {"decision": DECIDE}
    findings = [_age(), *_backup(config, parts), *_dumps(config, parts)]
    findings += [*_space(), *_certificates(config.hotsync), *_hooks()]
    parts["services"] = START * len(config.failover.services)
    parts["address"] = TAKE_OVER if config.failover.address else 0.0
    return Report(tuple(findings), parts)


def _graded(topic: str, value: float, bounds: tuple[float, float], text: str, remedy: str) -> Finding:
    """Return a finding about a value that is the worse the larger it is."""
    level = OK if value <= bounds[0] else WARNING if value <= bounds[1] else CRITICAL
    return Finding(topic, level, text, "" if level == OK else remedy)


def _age() -> Finding:
    """How old the data is: since the last push that came in whole began, or as the sender noted it."""
    remedy = "see why: `hotpair status` on the master, or `hotsync` there by hand"
    try:
        last = _noted("received.json", "complete", "begun") or _noted("state.json", "last_complete")
    except (ValueError, TypeError, AttributeError):
        return Finding("sync", CRITICAL, "what is noted of it cannot be read", remedy)
    if not last:
        return Finding("sync", CRITICAL, "there never was a complete one", remedy)
    age = time.time() - last
    if age < -60:
        return Finding("sync", WARNING, f"the last complete one is {-age:.0f} s from now", "set both clocks")
    return _graded("sync", age, AGE, f"the last complete one is {age / 60:.0f} min old", remedy)


def _noted(file: str, *keys: str) -> float:
    """Return a time that is noted in a file of hotsync's, 0 where it is not."""
    found = json.loads(watch.read(paths.state("hotsync", file)) or "{}")
    for key in keys:
        found = found.get(key) or {}
    return float(found or 0)


def _backup(config: Config, parts: dict[str, float]) -> Iterator[Finding]:
    """Whether the configuration backup is whole, how long it takes to read, and what of it this node lacks."""
    try:
        master = backup.read(backup.archive())
    except Fail as fail:
        yield Finding("backup", CRITICAL, fail.message, fail.remedy)
        return
    parts["configuration"] = master.seconds
    yield Finding("backup", OK, f"whole, {master.size / 1e6:.1f} MB in {master.seconds:.1f} s")
    for topic, look in (("packages", _packages), ("units", _units)):
        try:
            yield from look(config, master)
        except Fail as fail:
            yield Finding(topic, WARNING, fail.message, fail.remedy)
    yield from _users(master)


def _packages(_: Config, master: Contents) -> Iterator[Finding]:
    yield _list("packages", software.missing(master.texts["packages"]), "missing", "all there", PREPARE)


def _users(master: Contents) -> Iterator[Finding]:
    """Which users and groups are missing, and whose files a promotion has to give to another number."""
    theirs, ours = master.accounts, accounts.read()
    plan, owners = accounts.plan(theirs, ours), accounts.renumbered(theirs, ours)
    missing = {*(user.name for user, _ in plan.users), *(group.name for group, _ in plan.groups)}
    yield _list("users", sorted(missing), "missing", "all there", PREPARE)
    if any(owners):
        count = len(owners.users) + len(owners.groups)
        yield Finding("users", OK, f"{count} with other numbers: a promotion gives their files to them")


def _units(config: Config, master: Contents) -> Iterator[Finding]:
    """Whether what the master starts is here, or comes with its configuration, and can be parsed."""
    enabled, services = master.texts["units"].split(), config.failover.services
    places = ("etc/systemd/system", "etc/init.d")
    coming = {name for name in (*enabled, *services) if any(f"config/{at}/{name}" in master.names for at in places)}
    here = {_kind(name) for name in (*inventory.units(), *coming)}
    yield _list("units", sorted(name for name in enabled if _kind(name) not in here), "missing", "all there", PREPARE)
    lost = sorted(name for name in services if _kind(name) not in here)
    yield _list("services", lost, "missing", f"{len(services)} there", "install what has them", CRITICAL)
    if inventory.systemd():
        for name in (name for name in services if name not in lost and name not in coming):
            try:
                inventory.says("systemd-analyze", "verify", "--man=no", name)
            except Fail as fail:
                yield Finding("services", WARNING, f"{name}: {fail.message}", fail.remedy)


def _kind(unit: str) -> str:
    """Return the name of a unit's file without what tells instances from each other."""
    return re.sub("@[^.]*", "@", unit.removesuffix(".service"))


def _list(topic: str, names: list[str], bad: str, good: str, remedy: str, level: str = WARNING) -> Finding:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    if names:
        return Finding(topic, level, f"{bad}: {', '.join(names[:SHOWN])}{more}", remedy)
    return Finding(topic, OK, good)


def _dumps(config: Config, parts: dict[str, float]) -> Iterator[Finding]:
    """Whether the dumps go into a database, each in a scratch server that its program in restore.d makes."""
    directory = paths.state("hotsync", "out", "dumps")
    try:
        names = rundir.programs("restore.d")
    except FileNotFoundError:
        names = []
    if not names or not os.path.isdir(directory):
        yield Finding("dumps", OK, "none here, or nothing in restore.d to load them")
        return
    facts, begun = {"HOTPAIR_NODE": config.node.name}, time.monotonic()
    for ran in rundir.run("restore.d", names, ["rehearse", directory], facts, config.failover.hook_timeout):
        parts[f"dumps of {ran.name}"], begun = time.monotonic() - begun, time.monotonic()
        if ran.failure:
            yield Finding(
                "dumps", CRITICAL, f"{ran.name}: {ran.failure}", "try it by hand: restore.d/NAME rehearse DIR"
            )
        else:
            yield Finding("dumps", OK, f"{ran.name}: loaded in {parts[f'dumps of {ran.name}']:.1f} s")


def _space() -> Iterator[Finding]:
    """Whether configuration and dumps have room where they go."""
    out = paths.state("hotsync", "out")
    need = 0
    for at, _, files in os.walk(out):
        for name in files:
            with suppress(FileNotFoundError):  # a run is bringing another
                need += GROWTH * os.lstat(f"{at}/{name}").st_size
    for live in ("/", "/var/lib"):
        found = os.statvfs(paths.under(live))
        free, share = found.f_bavail * found.f_frsize, found.f_bavail / max(found.f_blocks, 1)
        text = f"{live}: {free / 1e9:.1f} GB free, {share:.0%}"
        if free < need:
            yield Finding("space", CRITICAL, f"{text}, {need / 1e9:.1f} GB needed", "make space")
        else:
            yield _graded("space", 1 - share, (1 - SPACE[0], 1 - SPACE[1]), text, "make space")


def _certificates(settings: Hotsync) -> Iterator[Finding]:
    """How many days each certificate is still good for."""
    if settings.transport != "stunnel":
        return
    for file in (settings.certificate, settings.peer_certificate):
        try:
            said = inventory.says("openssl", "x509", "-enddate", "-noout", "-in", paths.under(file))
        except Fail as fail:
            yield Finding("certificate", CRITICAL, fail.message, fail.remedy)
            continue
        days = (ssl.cert_time_to_seconds(said.strip().removeprefix("notAfter=")) - time.time()) / 86400
        text = f"{file}: {days:.0f} days left" if days > 0 else f"{file}: expired {-days:.0f} days ago"
        yield _graded("certificate", -days, (-DAYS[0], -DAYS[1]), text, "make a new one, and give it to the peer")


def _hooks() -> Iterator[Finding]:
    """Whether each program of the hook directories would be run."""
    for directory in HOOKS:
        place = paths.config_file(directory)
        names = sorted(os.listdir(place)) if os.path.isdir(place) else []
        whys = {name: hooks.untrusted([f"{place}/{name}"]) for name in names}
        bad = [f"{name}: {why}" for name, why in whys.items() if why]
        idle = [name for name in names if NAME.fullmatch(name) and not os.access(f"{place}/{name}", os.X_OK)]
        yield _list(directory, bad, "not run", f"{len(names)} files, each root's alone", "see there", CRITICAL)
        if idle:
            yield _list(directory, idle, "not executable", "", "chmod +x what is to run, or remove it")

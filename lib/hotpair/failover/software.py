"""Install the packages that a standby lacks; what they bring does not start, now or at the next boot."""

import fnmatch
import os
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager

from hotpair import child, log, paths
from hotpair.exits import Fail
from hotpair.hotsync import inventory

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9+._:~-]*")
# What belongs to the machine: its kernel, its boot loader, its chips
MACHINE = (
    *("linux-image*", "linux-headers*", "linux-modules*", "kernel", "kernel-*", "grub*", "shim*", "efibootmgr"),
    *("*-microcode", "microcode_ctl", "firmware-*", "*-firmware", "open-vm-tools*", "qemu-guest-agent"),
)
POLICY = "/usr/sbin/policy-rc.d"  # whose exit 101 keeps a package from starting its service
MARK = "written by hotpair while it installs packages"
Report = Callable[[str], None]


def lacking(wanted: str, installed: Collection[str]) -> list[str]:
    """Return the packages of a list ("NAME VERSION" a line) that are not installed, but those of the machine. Pure."""
    names = (line.split()[0] for line in wanted.splitlines() if line.strip())
    fit = (name for name in names if NAME.fullmatch(name) and not any(fnmatch.fnmatchcase(name, g) for g in MACHINE))
    return sorted({name for name in fit if name not in installed})


def missing(wanted: str) -> list[str]:
    """Return the packages of the master's list that are not installed here. Raises Fail when nothing tells."""
    return lacking(wanted, inventory.installed())


def install(names: Sequence[str], report: Report, timeout: float) -> tuple[str, ...]:
    """Install packages, all at once, and if that fails each on its own; return which could not be had, and why.

    timeout: seconds for each call of the package manager.
    """
    if not names:
        return ()
    if paths.root():
        raise Fail("packages belong to the whole machine, not to a prefix", "run it without HOTPAIR_ROOT")
    command = _command()
    before = _enabled()
    with _no_services():
        if inventory.has("dpkg") and (failure := _run(["dpkg", "--configure", "-a"], timeout)):  # what a crash left
            report(f"packages not configured: {failure}")
        if inventory.has("apt-get") and (failure := _run(["apt-get", "-q", "update"], timeout)):
            report(f"package lists not renewed: {failure}")
        failures = _each(command, names, report, timeout) if _run([*command, *names], timeout) else []
    for unit in sorted(_enabled() - before):
        _disable(unit, report, timeout)
    report(f"{len(names) - len(failures)} of {len(names)} packages installed")
    return tuple(failures)


def _command() -> list[str]:
    if inventory.has("apt-get"):
        keep = ["-o", "Dpkg::Options::=--force-confold", "-o", "DPkg::Lock::Timeout=60"]
        return ["apt-get", "-y", "-q", *keep, "install", "--"]
    if inventory.has("dnf"):
        return ["dnf", "-y", "-q", "install", "--"]
    raise Fail("no package manager that is known here", "install apt-get or dnf")


def _each(command: Sequence[str], names: Sequence[str], report: Report, timeout: float) -> list[str]:
    failures = []
    for name in names:
        if failure := _run([*command, name], timeout):
            failures.append(f"{name}: {failure}")
            report(failures[-1])
    return failures


def _run(argv: Sequence[str], timeout: float) -> str:
    environment = child.environment(DEBIAN_FRONTEND="noninteractive", LC_ALL="C.UTF-8")
    return log.escape(child.run(argv, environment, timeout))


def _enabled() -> set[str]:
    return set(inventory.enabled().splitlines())


def _disable(unit: str, report: Report, timeout: float) -> None:
    """Keep what a package brought from starting at the next boot: the promotion starts it."""
    argv = ["systemctl", "disable", "--", unit] if inventory.systemd() else ["update-rc.d", unit, "disable"]
    report(f"{unit}: {_run(argv, timeout) or 'not started at boot'}")


@contextmanager
def _no_services() -> Iterator[None]:
    """Keep packages of Debian from starting their services; a policy that is there already stays. RPM starts none."""
    _forget(POLICY)  # what a crash left
    ours = inventory.has("dpkg") and not os.path.lexists(POLICY)
    if ours:
        fd = os.open(POLICY, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o700)
        with open(fd, "w", encoding="utf-8") as file:
            file.write(f"#!/bin/sh\n# {MARK}\nexit 101\n")
            os.fchmod(fd, 0o755)
    try:
        yield
    finally:
        if ours:
            _forget(POLICY)


def _forget(place: str) -> None:
    try:
        with open(place, encoding="utf-8", errors="replace") as file:
            ours = MARK in file.read()
    except FileNotFoundError:
        return
    if ours:
        os.unlink(place)

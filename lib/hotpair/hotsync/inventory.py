"""What is installed and enabled on this node, one a line, as the configuration backup has it."""

import os
import re
import shutil
from collections.abc import Iterable
from typing import Any

from hotpair import child, paths, watch
from hotpair.exits import Fail

TIMEOUT = 120.0  # seconds that a package manager may take to say what there is
EXTENDED_STATES = "/var/lib/apt/extended_states"
LINK = re.compile(r"S\d\d(.+)")


def has(program: str) -> bool:
    """Say whether a program is here."""
    return shutil.which(program, path=child.PATH) is not None


def says(*argv: str) -> str:
    """Return what a program prints. Raises Fail when it fails, with its last words."""
    import sh

    try:
        start: Any = sh.Command("/usr/bin/env")
        return str(start("--", *argv, _env=child.environment(), _timeout=TIMEOUT, _tty_out=False, _cwd="/"))
    except sh.ErrorReturnCode as failed:
        lines = (failed.stderr or failed.stdout).decode(errors="replace").strip().splitlines()
        what = f"{argv[0]}: {lines[-1].strip() if lines else f'exit {failed.exit_code}'}"
        raise Fail(what, f"try it by hand: {' '.join(argv)}") from None
    except sh.TimeoutException:
        raise Fail(f"{argv[0]}: not done after {TIMEOUT:g} s", f"try it by hand: {' '.join(argv)}") from None


def installed() -> dict[str, str]:
    """Return the version of each installed package by its name; of a foreign architecture as NAME:ARCHITECTURE too."""
    found = {}
    if has("dpkg-query"):
        for name, architecture, version in _debian():
            found[name] = found[f"{name}:{architecture}"] = version
    elif has("rpm"):
        for line in says("rpm", "-qa", "--qf", "%{NAME}\\t%{VERSION}-%{RELEASE}\\n").splitlines():
            name, version = line.split("\t")
            found[name] = version
    return found


def _debian() -> list[tuple[str, str, str]]:
    """Return name, architecture and version of each package that dpkg has installed."""
    shape = "${db:Status-Status}\\t${Package}\\t${Architecture}\\t${Version}\\n"
    lines = [line.split("\t") for line in says("dpkg-query", "-W", "-f", shape).splitlines()]
    return [(name, architecture, version) for status, name, architecture, version in lines if status == "installed"]


def manual(installed: Iterable[tuple[str, str, str]], states: str) -> list[str]:
    """Return what `apt-mark showmanual` prints in 2 s of CPU: what apt's extended_states does not call automatic.

    A foreign architecture is written after the name. Pure.
    """
    automatic: set[tuple[str, str]] = set()
    for stanza in states.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in stanza.splitlines() if ": " in line)
        if fields.get("Auto-Installed") == "1":
            automatic.add((fields.get("Package", ""), fields.get("Architecture", "")))
    found = list(installed)
    native = next((architecture for name, architecture, _ in found if name == "dpkg"), "")
    names = []
    for name, architecture, _ in found:
        if (name, native if architecture == "all" else architecture) not in automatic:
            names.append(name if architecture in ("all", native) else f"{name}:{architecture}")
    return names


def packages() -> str:
    """Return the packages that somebody asked for, "NAME VERSION" a line; all where that is not recorded."""
    versions = installed()
    names: Iterable[str] = versions
    if has("apt-mark"):
        names = manual(_debian(), watch.read(EXTENDED_STATES) or "")
    elif has("dnf"):
        names = says("dnf", "-q", "repoquery", "--userinstalled", "--qf", "%{name}\\n").split()
    return "".join(f"{name} {versions[name]}\n" for name in sorted(set(names)) if name in versions)


def systemd() -> bool:
    """Say whether systemd runs this node (sd_booted(3))."""
    return os.path.isdir("/run/systemd/system")


def enabled() -> str:
    """Return what starts at boot, one a line: systemd's units, or the init scripts of runlevel 2 or 3."""
    if systemd():
        lines = says("systemctl", "list-unit-files", "--state=enabled", "--no-legend", "--no-pager").splitlines()
        names = {line.split()[0] for line in lines if line.strip()}
    else:
        names = set()
        for directory in ("/etc/rc2.d", "/etc/rc3.d", "/etc/rc.d/rc3.d"):
            place = paths.under(directory)
            links = map(LINK.fullmatch, os.listdir(place) if os.path.isdir(place) else ())
            names |= {link[1] for link in links if link}
    return "".join(f"{name}\n" for name in sorted(names))


def units() -> set[str]:
    """Return every unit that systemd could start, or every init script."""
    if systemd():
        lines = says("systemctl", "list-unit-files", "--no-legend", "--no-pager").splitlines()
        return {line.split()[0] for line in lines if line.strip()}
    place = paths.under("/etc/init.d")
    return (
        {name for name in os.listdir(place) if os.access(f"{place}/{name}", os.X_OK)} if os.path.isdir(place) else set()
    )

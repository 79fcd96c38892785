"""What is installed and enabled on this node, one a line, as the configuration backup has it."""

import os
import re
import shutil
from collections.abc import Iterable
from typing import Any

from hotpair import child, paths
from hotpair.exits import Fail

TIMEOUT = 120.0  # seconds that a package manager may take to say what there is
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
        shape = "${db:Status-Status}\\t${Package}\\t${Architecture}\\t${Version}\\n"
        for line in says("dpkg-query", "-W", "-f", shape).splitlines():
            status, name, architecture, version = line.split("\t")
            if status == "installed":
                found[name] = found[f"{name}:{architecture}"] = version
    elif has("rpm"):
        for line in says("rpm", "-qa", "--qf", "%{NAME}\\t%{VERSION}-%{RELEASE}\\n").splitlines():
            name, version = line.split("\t")
            found[name] = version
    return found


def packages() -> str:
    """Return the packages that somebody asked for, "NAME VERSION" a line; all where that is not recorded."""
    versions = installed()
    names: Iterable[str] = versions
    if has("apt-mark"):
        names = says("apt-mark", "showmanual").split()
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

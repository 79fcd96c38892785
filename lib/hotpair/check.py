"""Check: everything that is wrong in the configuration, at once, and what is not wrong but unwise."""

import os
import re
from typing import Any

from hotpair import config, globs, hooks, log, paths, rundir, sections, treeset, watch
from hotpair.config import AnySet, Config
from hotpair.exits import ConfigFail
from hotpair.hotsync import doors
from hotpair.treeset import TreeSet

FLOOR = (3, 5, 1)  # upstream's first rsync with the 33 repairs of 3.5.0 and without its regressions
DEBIAN_FLOOR = "3.5.0+ds1-0+deb12u1"  # bookworm's package with the same
PROOF = "--confine-root"  # an option that 3.5 brought: no version number that is patched up has it


def problems() -> tuple[Config | None, list[str]]:
    """Return the configuration and one line for each mistake in it; it is None when there is one in hotpair.ini."""
    configuration, lines = None, []
    try:
        configuration, found = config.examine()
        lines += [str(problem) for problem in sorted(found, key=lambda p: p.line)]
    except ConfigFail as fail:
        lines.append(str(fail))
    try:
        lines += [str(problem) for problem in sections.examine()[1]]
    except ConfigFail as fail:
        lines.append(str(fail))
    if configuration is not None:
        lines += [str(problem) for problem in watch.problems(configuration)]
        lines += hooks.problems(configuration)
        lines += _of_the_copy(configuration)
    return configuration, lines


def _of_the_copy(configuration: Config) -> list[str]:
    """Return what is wrong beside the two files with what [hotsync] needs."""
    if configuration.hotsync is None:
        return []
    missing = paths.config_file("hotsync.d")
    lines = [] if os.path.isdir(missing) else [f"{missing}: not there: make it, or copy the one that hotpair ships"]
    for directory in ("hotsync.d", "restore.d", "promote.d", "demote.d"):
        lines += rundir.problems(directory)
    return lines + doors.problems(configuration.hotsync)


def unowned(configuration: Config) -> list[str]:
    """Return one line for each section of syncr.ini whose commands never run."""
    lines = []
    for section in sections.examine()[0]:
        if not any(_may_hold(files, section.pattern) for files in configuration.sets.values()):
            lines.append(f"{paths.config_file('syncr.ini')}: [{section.pattern}] is in no set: its commands never run")
    return lines


def _may_hold(files: AnySet, pattern: str) -> bool:
    if isinstance(files, TreeSet):
        return treeset.may_be_within(pattern, files.root)
    return any(globs.meet(pattern, path) for path in files.paths)


def _says(*command: str) -> str:
    """Return what a program prints, "" when it fails or is not there."""
    import sh

    try:
        start: Any = sh.Command(command[0])
        return str(start(*command[1:], _timeout=10))
    except (sh.CommandNotFound, sh.ErrorReturnCode, sh.TimeoutException):
        return ""


def rsync_warning() -> str:
    """Return why the installed rsync is below the security floor, or ""."""
    upgrade = f"install upstream {'.'.join(map(str, FLOOR))} or Debian's {DEBIAN_FLOOR}, or later"
    found = re.search(r"version v?(\d+)\.(\d+)\.(\d+)", _says("rsync", "--version"))
    if found is None:
        return "rsync is not there, and larger files need it: apt install rsync"
    version = ".".join(found.groups())
    if PROOF not in _says("rsync", "--help"):
        return f"rsync {version} is below the security floor (it has no {PROOF}): {upgrade}"
    if tuple(map(int, found.groups())) >= FLOOR:
        return ""
    package = _says("dpkg-query", "-W", "-f", "${Version}", "rsync").strip()
    if package and _at_least(package):
        return ""
    return f"rsync {package or version} is below the security floor: {upgrade}"


def _at_least(package: str) -> bool:
    import sh

    try:
        sh.Command("dpkg")("--compare-versions", package, "ge", DEBIAN_FLOOR)
    except (sh.CommandNotFound, sh.ErrorReturnCode):
        return False
    return True


def report() -> int:
    """Print every mistake, or that there is none. Returns the exit code."""
    configuration, lines = problems()
    for line in lines:
        print(log.escape(line))
    unwise = unowned(configuration) if configuration and not lines else []
    for warning in filter(None, [*unwise, rsync_warning()]):
        print(log.escape(f"warning: {warning}"))
    if lines or configuration is None:
        return ConfigFail.code
    print(f"configuration is sound: {len(configuration.sets)} {'set' if len(configuration.sets) == 1 else 'sets'}")
    return 0

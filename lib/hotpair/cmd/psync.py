"""psync [SET|PATH...]: compare with the peer both ways, repair what no event announced, retry what is due."""

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext

from hotpair import archive, config, detect, large, log, marks, quiet, retention, run, tasks, watchdog
from hotpair.detect import Scope
from hotpair.exits import Fail, Later, UsageFail
from hotpair.treeset import TreeSet

WAIT = 60.0  # seconds a sweep waits for the run under way, which may be sitting out a storm
PAUSE = 0.5  # seconds between two sweeps while the peer is at a run of its own
LISTED = 20  # differences that a person is told of
QUIET = 600.0  # seconds until --until-quiet says that the nodes do not come to rest
EPILOG = """examples:
  psync                    compare every set with the peer and repair both sides
  psync etc                only the set `etc`
  psync /srv/home/anna     only this directory of a tree, with all below it
  psync --dry-run          say what a run would do, and do nothing
  psync --check --checksum read everything on both nodes, say what differs, and do nothing
  psync --force            also what is held back by a pause after failures

cron runs `psync --cron` every 15 minutes and `psync --retry` every minute (see `hotpair tables`).

exit: 0 in sync, 75 something is left for later (peer away, held, still moving), 76 the peer refuses, 64 usage,
      66 no such set or path, 77 not root, 78 configuration;
      with --check: 0 equal, 1 it could not be told, 2 they differ, 3 they differ by what is under way"""
SWITCHES = {
    ("-n", "--dry-run"): "print the plan, change nothing on either node",
    ("-f", "--force"): "do not wait for the pause after a failure",
    ("--force-directories",): "remove directories on the peer with what they hold there; needs a SET or PATH",
    ("--once",): "one pass, whatever it leaves",
    ("--until-quiet",): "pass after pass, until one finds nothing to do",
    ("-k", "--skip-initial"): "send what is known to have changed, and compare nothing",
    ("--check",): "say what differs on the two nodes, and repair nothing",
    ("-l", "--lite"): "with --check: kinds and sizes alone, and no word of what is under way",
    ("-c", "--checksum"): "with --check: read all contents again, whatever size and times say",
    ("--json",): "print the result as JSON",
    ("--cron",): "be silent when all is well, report to syslog otherwise",
    ("--retry",): "cron's minute job: retry, run due commands, watch incrond",
}


ONE_OF = ({"--dry-run", "--check", "--cron", "--retry"}, {"--once", "--until-quiet"})


def parser() -> argparse.ArgumentParser:
    words = argparse.ArgumentParser(
        prog="psync", description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    words.add_argument("what", nargs="*", metavar="SET|PATH", help="sets of hotpair.ini, or paths in them; else all")
    groups = {name: group for group, of in ((words.add_mutually_exclusive_group(), of) for of in ONE_OF) for name in of}
    for names, text in SWITCHES.items():
        groups.get(names[-1], words).add_argument(*names, action="store_true", help=text)
    return words


def main(argv: Sequence[str]) -> int:
    """Sweep. Returns an os.EX_* value, or with --check what psync's rcheck returned."""
    options = parser().parse_args(argv)
    log.person = not (options.cron or options.retry)
    if (options.lite or options.checksum) and not options.check:
        raise UsageFail("--lite and --checksum go with --check", "see `psync --help`")
    others = options.cron or options.retry or options.check or options.dry_run
    if options.force_directories and (others or not options.what):
        raise UsageFail("--force-directories goes with a SET or PATH, and with no other mode", "see `psync --help`")
    configuration = config.load()
    scopes = [_scope(configuration, word, options.checksum) for word in options.what or configuration.sets]
    if options.dry_run:
        return _dry_run(scopes, options.json)
    if options.check:
        return _check(scopes, options)
    if options.retry:
        watchdog.minute(configuration)  # first, so that what it puts back is looked at in the same minute
        code = max([_retry(scope) for scope in scopes], default=os.EX_OK)
    else:
        code = _sweeps(scopes, options)
    failed = tasks.run_due(archive.connect(), force=options.force)
    return os.EX_TEMPFAIL if failed else code


def _scope(configuration: config.Config, word: str, reread: bool) -> Scope:
    if not word.startswith("/"):
        return run.scope(configuration, word)._replace(reread=reread)
    path = os.path.normpath(word)
    files = configuration.of(path)
    below = path if files.covers(path) or files.covers(path, True) else ""
    return run.scope(configuration, files.name)._replace(below=below, reread=reread)


def _sweeps(scopes: list[Scope], options: argparse.Namespace) -> int:
    results: dict[str, run.Result] = {}
    for scope in scopes:
        try:
            results[scope.below or scope.files.name] = _sweep(scope, options)
        except Later as fail:
            log.error(str(fail))
            results[scope.below or scope.files.name] = run.Result(fail.code, compared=False)
    if options.cron:
        for scope in scopes:
            _read_again(scope)
    else:
        _print(results, options.json)
    return max([result.code for result in results.values()], default=os.EX_OK)


def _sweep(scope: Scope, options: argparse.Namespace) -> run.Result:
    from hotpair import progress

    force, rounds = options.force or not options.cron, 1 if options.once else run.ROUNDS
    bar = sys.stderr.isatty() and not options.cron and not options.json
    deadline = time.monotonic() + QUIET
    with progress.shown(scope.files.name) if bar else nullcontext(detect.silent) as report:
        scope = scope._replace(progress=report, emptying=options.force_directories)
        if options.skip_initial:
            with run.alone(scope, WAIT, force):
                return run.Result(run.run(scope, force), compared=False)
        result = _compare(scope, force, rounds, wait=not options.cron)
        while options.until_quiet and _restless(scope, result) and time.monotonic() < deadline:
            result = _compare(scope, force, rounds, wait=not options.cron)
        return result


def _compare(scope: Scope, force: bool, rounds: int, wait: bool) -> run.Result:
    """Sweep alone, and again when something large was left, or the peer was at a run of its own.

    wait: for the one and the other, which would otherwise be seen by a later sweep.
    """
    repaired, deadline = 0, time.monotonic() + WAIT
    while True:
        result = _alone(scope, force, rounds)
        repaired += result.repaired
        left_large = bool(large.aside(scope)) or any(large.are(scope, result.differences))
        if not wait or not (left_large or result.busy) or time.monotonic() > deadline:
            return result._replace(repaired=repaired)
        if left_large:
            wait = result.busy
            _carry(scope, force)
        else:
            time.sleep(PAUSE)


def _carry(scope: Scope, force: bool) -> None:
    """Have both nodes carry their large contents, and wait for who is at it already."""
    deadline = time.monotonic() + QUIET
    while large.carry(scope, force, turn=True) is None and time.monotonic() < deadline:
        time.sleep(PAUSE)


def _alone(scope: Scope, force: bool, rounds: int) -> run.Result:
    with run.alone(scope, WAIT, force):
        result = run.sweep(scope, force, rounds)
        if result.code == os.EX_OK and not scope.below:
            retention.retain(scope)
    return result


def _read_again(scope: Scope) -> None:
    """Once in each hour of `fullsync`, have both nodes read every content again; what decayed is listed, not sent.

    No lock is held: it may take hours, and changes are to cross meanwhile.
    """
    from hotpair import verify

    now = time.time()
    if not isinstance(scope.files, TreeSet) or not verify.due(scope.files.fullsync, scope.archive.fact("reread"), now):
        return
    scope.archive.note("reread", now)  # so that no later sweep begins it too
    try:
        verify.remember(scope, verify.verify(scope._replace(reread=True), lite=False))
    except Fail as fail:
        scope.archive.note("reread", 0.0)
        log.error(f"{scope.files.title}: {fail}")


def _restless(scope: Scope, result: run.Result) -> bool:
    if scope.archive.problems("peer", "before", "unmounted", "standby", "brake"):
        return False
    return bool(result.code or result.repaired) or marks.waiting(scope.files.name)


def _retry(scope: Scope) -> int:
    """Run a set that has something left: marks, a run cut short, or paths that are not as agreed."""
    name = scope.files.name
    if not (marks.waiting(name) or marks.unfinished(name)) and _at_rest(scope):
        return os.EX_OK
    code = run.unless_under_way(scope) or os.EX_OK
    return large.carry(scope) or code


def _at_rest(scope: Scope) -> bool:
    """Say whether nothing waits: of a tree as the archive knows, for a look at all of it is the sweep's business."""
    if isinstance(scope.files, TreeSet):
        return not scope.archive.pending()
    return quiet.unchanged(scope.files.name)


def _dry_run(scopes: list[Scope], as_json: bool) -> int:
    from hotpair import plan

    lines = {scope.below or scope.files.name: plan.plan(scope) for scope in scopes}
    if as_json:
        print(json.dumps(lines, indent=1))
    else:
        for name, found in lines.items():
            for line in found:
                print(log.escape(f"{name}: {line}"))
            if not found:
                print(log.escape(f"{name}: nothing to do"))
    return os.EX_OK


def _check(scopes: list[Scope], options: argparse.Namespace) -> int:
    from hotpair import verify

    reports, code = {}, verify.EQUAL
    for scope in scopes:
        try:
            reports[scope.below or scope.files.name] = report = verify.verify(scope, options.lite)
        except Fail as fail:
            log.error(str(fail))
            code = max(code, verify.FAILED)
            continue
        code = report.code if report.code in (verify.DIVERGED, verify.UNDER_WAY) and code != verify.DIVERGED else code
    for name, report in {} if options.json else reports.items():
        print("\n".join(f"{log.escape(name)}: {line}" for line in verify.as_lines(report) or ["equal on both nodes"]))
    if options.json:
        print(json.dumps({name: verify.as_json(report) for name, report in reports.items()}, indent=1))
    return code


def _print(results: dict[str, run.Result], as_json: bool) -> None:
    if as_json:
        report = {
            name: {"in_sync": not r.code, "repaired": r.repaired, "differ": [d.path for d in r.differences]}
            for name, r in results.items()
        }
        json.dump(report, sys.stdout, indent=1)
        print()
        return
    for name, result in results.items():
        said = f"{'NOT ' * bool(result.code)}in sync, {result.repaired} repaired"
        if not result.compared:
            said = "something is left for later" if result.code else "sent what had changed"
        print(log.escape(f"{name}: {said}"))
        for difference in result.differences[:LISTED]:
            print(log.escape(f"  {difference.path}: differs"))
        if len(result.differences) > LISTED:
            print(f"  and {len(result.differences) - LISTED} more: see psync --check")

"""psync [SET...]: compare whole sets with the peer both ways, repair what no event announced, retry what is due."""

import argparse
import json
import os
import sys
from collections.abc import Sequence

from hotpair import archive, config, log, marks, quiet, run, tasks, watchdog
from hotpair.compare import Difference
from hotpair.detect import Scope

WAIT = 60.0  # seconds a sweep waits for the run under way, which may be sitting out a storm
EPILOG = """examples:
  psync                    compare every set with the peer and repair both sides
  psync etc                only the set `etc`
  psync --dry-run          say what a run would do, and do nothing
  psync --force            also what is held back by a pause after failures

cron runs `psync --cron` every 15 minutes and `psync --retry` every minute (see `hotpair tables`).

exit: 0 in sync, 75 something is left for later (peer away, held, still moving), 78 configuration, 64 usage"""


def parser() -> argparse.ArgumentParser:
    words = argparse.ArgumentParser(
        prog="psync", description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    words.add_argument("sets", nargs="*", metavar="SET", help="sets of hotpair.ini; all when none is named")
    words.add_argument("-n", "--dry-run", action="store_true", help="print the plan, change nothing on either node")
    words.add_argument("-f", "--force", action="store_true", help="do not wait for the pause after a failure")
    words.add_argument("--json", action="store_true", help="print the result as JSON")
    words.add_argument("--cron", action="store_true", help="be silent when all is well, report to syslog otherwise")
    words.add_argument("--retry", action="store_true", help="cron's minute job: retry, run due commands, watch incrond")
    return words


def main(argv: Sequence[str]) -> int:
    """Sweep. Returns an os.EX_* value."""
    options = parser().parse_args(argv)
    log.person = not (options.cron or options.retry)
    configuration = config.load()
    names = options.sets or list(configuration.sets)
    scopes = [run.scope(configuration, name) for name in names]
    if options.dry_run:
        return _dry_run(scopes, options.json)
    if options.retry:
        watchdog.minute(configuration)  # first, so that what it puts back is looked at in the same minute
        code = max([_retry(scope) for scope in scopes], default=os.EX_OK)
    else:
        by_hand = not options.cron
        results = {scope.files.name: _sweep(scope, options.force or by_hand) for scope in scopes}
        code = max([result.code for result in results.values()], default=os.EX_OK)
        if by_hand:
            _print(results, options.json)
    failed = tasks.run_due(archive.connect(), force=options.force)
    return os.EX_TEMPFAIL if failed else code


def _sweep(scope: Scope, force: bool) -> run.Result:
    with run.alone(scope, WAIT):
        return run.sweep(scope, force)


def _retry(scope: Scope) -> int:
    """Run a set that has something left: marks, a run cut short, or paths that are not as agreed."""
    name = scope.files.name
    if not (marks.waiting(name) or marks.unfinished(name)) and quiet.unchanged(name):
        return os.EX_OK
    return run.unless_under_way(scope) or os.EX_OK


def _dry_run(scopes: list[Scope], as_json: bool) -> int:
    from hotpair import plan

    lines = {scope.files.name: plan.plan(scope) for scope in scopes}
    if as_json:
        print(json.dumps(lines, indent=1))
    else:
        for name, found in lines.items():
            for line in found:
                print(log.escape(f"{name}: {line}"))
            if not found:
                print(f"{name}: nothing to do")
    return os.EX_OK


def _print(results: dict[str, run.Result], as_json: bool) -> None:
    if as_json:
        report = {
            name: {"in_sync": not r.code, "repaired": r.repaired, "differ": [_where(d) for d in r.differences]}
            for name, r in results.items()
        }
        json.dump(report, sys.stdout, indent=1)
        print()
        return
    for name, result in results.items():
        print(f"{name}: {'in sync' if not result.code else 'NOT in sync'}, {result.repaired} repaired")
        for difference in result.differences:
            print(log.escape(f"  {_where(difference)}"))


def _where(difference: Difference) -> str:
    return f"{difference.path}: differs"

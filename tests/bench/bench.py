"""Measure hotpair against its goals and its peers: ratios of things done in turns, no absolute times.

bench.py               all parts; those in the lab need root
bench.py PART...       some of: events crossing idle burst steps trees sessions
bench.py --only PART   the same
bench.py --write       write docs/benchmarks.md too; with `--only trees` or `--only sessions` that section alone
bench.py --short       fewer pairs and smaller trees, to try it out
bench.py --pairs N     so many pairs of each work on trees instead of 7
"""

import argparse
import os
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "lib")]

from tests.bench import burst, crossing, events, page, pairs, sessions, timeline, turns  # noqa: E402
from tests.bench.figures import CARRIED, HEAD, Report, load, text_table, times  # noqa: E402
from tests.lab.spaces import may_build  # noqa: E402

PARTS = ("events", "crossing", "idle", "burst", "steps", "trees", "sessions")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {' '.join(PARTS)}")
    parser.add_argument("--only", action="append", default=[], metavar="PART", help="the same")
    parser.add_argument("--pairs", type=int, default=0, metavar="N")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--short", action="store_true")
    options = parser.parse_args()
    options.parts += options.only
    options.pairs = options.pairs or (2 if options.short else 7)
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no such part: {' '.join(sorted(unknown))}")
    if options.write and options.parts not in ([], ["trees"], ["sessions"]):
        parser.error("--write wants all parts, or trees or sessions alone")
    if options.write and options.short and not options.parts:
        parser.error("--write wants all parts, and not short")
    return options


def why_no_lab(wanted: set[str]) -> str:
    """Return why the lab cannot be measured, "" if it can."""
    if reason := may_build():
        return reason
    if wanted == {"trees"}:
        return ""  # says itself who is missing
    missing = [program for program in ("lsyncd", "strace") if not shutil.which(program)]
    return f"no {' and no '.join(missing)} here: `make bench` installs it" if missing else ""


def in_lab(report: Report, wanted: set[str], short: bool) -> None:
    """Measure what takes a pair with files sets; each part leaves it fit for the next."""
    with pairs.bench() as pair:
        if not pair.group:
            report.note("no control group can be made here: the CPU of one change and of bursts is left out")
        if "idle" in wanted:
            pair.hotpair().carry(b"before idle\n")
            burst.idle(pair, report)
        if "crossing" in wanted:
            crossing.measure(pair, report, 5 if short else 20)
        if "burst" in wanted:
            burst.measure(pair, report)
    if "steps" in wanted:
        with pairs.bench() as pair:
            timeline.measure(pair, report, 5 if short else 15)


def measure(wanted: set[str], short: bool, rounds: int) -> Report:
    report = Report()
    report.pairs = 3 if short else 11
    report.note(f"load before: {load()}")
    if "events" in wanted:
        events.measure(report)
    if "sessions" in wanted:
        sessions.measure(report, 3 if short else 9, 10 if short else 1)
    if lab := wanted - {"events", "sessions"}:
        if reason := why_no_lab(lab):
            report.note(f"skipped: {' '.join(part for part in PARTS if part in lab)}: {reason}")
        else:
            if lab - {"trees"}:
                in_lab(report, lab, short)
            if "trees" in lab:
                with pairs.bench() as pair:
                    turns.measure(pair, report, rounds, 10 if short else 1)
    report.note(f"load after: {load()}")
    return report


def show(report: Report) -> None:
    tables = [[HEAD, *(row.cells() for row in report.rows)], times(report.times), times(report.steps)]
    for title, table in zip(("ratios and counts", "for orientation", "steps of one change"), tables, strict=True):
        if len(table) > 1:
            print(f"\n{title}\n{text_table(table)}")
    for work, lines in report.trees.items():
        print(f"\n{work}\n{text_table([CARRIED, *(line.cells() for line in lines)])}")


def main() -> int:
    options = arguments()
    report = measure(set(options.parts) or set(PARTS), options.short, options.pairs)
    show(report)
    if options.write:
        file = ROOT / "docs/benchmarks.md"
        old = file.read_text(encoding="utf-8")
        if options.parts and not (report.trees or report.rows):
            return os.EX_UNAVAILABLE
        if options.parts == ["trees"]:
            text = page.with_trees(old, report)
        elif options.parts == ["sessions"]:
            text = page.with_sessions(old, report)
        else:
            text = page.page(report)
        file.write_text(text, encoding="utf-8")
    return os.EX_OK


if __name__ == "__main__":
    sys.exit(main())

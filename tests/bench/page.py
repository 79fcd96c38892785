"""Write docs/benchmarks.md: the machine, the figures of this run, and what they mean."""

import datetime
import os
import platform
import subprocess

from tests.bench.figures import CARRIED, HEAD, Report, markdown_table, times

TREE_GOALS = ("S1", "S2", "S4", "S5", "S6")
SESSION_GOAL = "T1"
HOW = """\
# Benchmarks

Written by `make bench` with `tests/bench/bench.py --write`. Two things are compared by doing them in turns in one run,
in changing order; a figure is the ratio within a pair, so that what else the machine does hits both. Verdicts look at
the median. CPU counts every process that takes part. Absolute times describe this machine on this day and are judged
nowhere.
"""
GOALS = """\
*plan* is what was to be reached with files sets; *S3*, *S7*, *S10* and *G12* are numbers of the project's list of
performance goals: one change over ssh no later than lsyncd delay=0 over the same ssh; a quiet event three times cheaper
than a Syncr-like bash script; no process when idle; no lost rewrite. *S4*, *S5*, *S6* and the bursts, *S1* and *S2*,
are explained with the trees.
"""
READING = """\
## How to read it

* A *quiet event* is what most events are: the echo of an arrival, a file beside the set's. It is started as incrond
  starts it, by bash. The row "by the line of the incron table" has the whole line: the test for a storm, and nice.
* The Syncr-like script starts three small programs in C (incrontab, cmp, logger) and reads no configuration. A bare
  start of Python costs about as much, so no front end in Python can be three times cheaper than it.
* *kept ssh*: `ssh` with hotpair's own options, ControlMaster and ControlPersist included. *stock ssh*: a connection for
  each change, which is what lsyncd does unless told otherwise.
* lsyncd stays resident, keeps no copy and does not ask what the peer has changed meanwhile. rsync's quick check
  compares size and whole seconds, so a second content of the same size in the same second never leaves. The rows of
  rewrites count that: the second is written as soon as the first has arrived, within the same second of the clock.
* The nodes of the lab have their files in memory, where `fsync` costs nothing. On a disk hotpair pays for it; rsync as
  lsyncd starts it never calls it.
* In a burst the triggers are counted by a two-line shell script put before the trigger. A shell without a trigger is
  one that found the table put away.
"""
TREES = """\
## Trees

A round has each program once, in a fresh tree, and the next round has them the other way round; ratios are medians of
what was found within a round. Those that no goal is about take part in the first three only. One runs at a time. All go
over an ssh connection that is kept open from before the work, hotpair over its own. The files have 4 KiB each, which
nothing can compress.

* *CPU* is that of all processes on both nodes from the first change until nothing computes any more. Who writes the
  files, and who looks whether they are there, is not counted. *wall* is from the first change until the peer had all:
  the writing is in it, and what is started by hand begins only when it is over.
* *bare rsync*: `rsync -a --files-from` with the list of the new files, `rsync -a --delete` for rename and delete,
  `rsync -a` for the sweep. Somebody told it when and what; it looks one way only.
* *unison* is started once, by hand, when the work is done. *lsyncd* and *clsync* are resident and find it themselves,
  as hotpair does through incrond. clsync has its shortest delays, a second each.
* *identical* is judged by a walk of our own after all is quiet: types, modes, owners, contents, attributes, the times
  of files. Unison sets times to the microsecond, which passes and is said. What had not arrived in time counts as "no"
  and is compared with nothing; after two of those a program does not try that work again.
* *KiB on the link* is what the kernel counted on it in both directions, ssh and TCP included.

S1, S2: a burst of 1,000 and of 10,000 files costs at most 1.5 times the CPU of one bare rsync of the same list. S4: a
rename of a directory carries no content, and costs no more CPU than lsyncd with rsyncssh. S5: a delete costs at most
1.5 times a bare `rsync --delete`. S6: a sweep of both sides that finds nothing costs at most 1.5 times `rsync -a`.
"""
TREES_TRIED = """\
### What the trees cost, and what was tried

Where a goal is missed, its row says by how much. What the profiles of both nodes show, and what was tried:

* *S1, S2.* The profile is flat. Half of a file's CPU is Python's own, two fifths the kernel's, a twentieth SQLite's;
  no function has more than a few percent. On each node a file is looked at, read and hashed, has its row written, and
  on the peer is staged, read again, put in its place and looked at once more: that is what an archive, an inbox and a
  proof of what arrived cost, and bare rsync has none of them. A burst pays besides, whatever its length, for the events
  that incrond has read before the table is away: a shell for each, and some triggers. For a few hundred files that is
  most of it. What helped: small contents gathered into large writes and no `select` before each (three writes for each
  file before), together with one `lstat` in place of a way down through all directories where leftovers of a crash and
  old generations are looked for and are rarely there: 12 % less CPU for 3,000 files between two roots without incrond.
  What did not: batches of 500 instead of 100 entries (a tenth less wall, CPU the same), no garbage collection (within
  the noise), openat2(2) through ctypes instead of a step for each component (1 to 2 microseconds less of 4, and one
  more way to go wrong).
* *S4.* No content crosses. What is left is two starts of Python with their imports, which lsyncd, being resident, and
  its one `mv` over ssh do not pay.
* *S5.* Both starts, the events as above, and for each file a row, a look and a lease on the peer before it is moved
  into the generations, where bare rsync unlinks. What helped: a sweep looks again at what is missing when that can be
  believed, 0.2 seconds later, and not until then: a fifth less CPU between two roots. The same was tried in a run that
  incrond fired and was taken back: it noticed the end of a storm later.
* *S6.* A start of Python on both nodes is half the CPU of the bare `rsync -a`; `scandir` and `stat` of every entry on
  both, in the shortest loop that Python has, are as much as it once more. So the goal is out of reach for what is
  written in Python and looks at every file, as P8 wants it. What helped: the rows that are not as agreed are found by
  their index, which SQLite had not chosen by itself and read the whole table; no call of a filter where there is none:
  5 to 10 % less together. What gave little: formatting the records within the loop (3 %), no garbage collection (5 %,
  for memory that nobody bounds).
"""
SESSIONS = """\
## Session tables

Dump and load of whole tables in a network namespace of their own, each in turns with what does it without hotpair. A
*dump* is what a mirror does in each cycle, with Python running already: read, parse, and make the record. A *load* is
what a promotion does, when nothing of the table is here. The goal, T1, is 1.5 times the bare tool.

What brought dumps there from two and three times: reading what a tool prints while it prints on, for which it wants a
second processor; rows that are alike read a column at a time; what HAProxy says of an entry besides its key and time
understood once for all entries with the same (here all have the same); no search for garbage, which there is none of.
What brought loads there: an empty table of xt_recent is filled before the rules are asked. nft and ipset are given the
time that elements have left, by hotpair and without it.
"""
STEPS = """\
## One change, step by step

Both daemons run under `strace --seccomp-bpf` here, which makes everything somewhat slower. Most of the way is Python
that starts and imports, once on each side; what hotpair itself does with the change (propose, decide, carry, verify,
exchange) is the last lines.
"""
TRIED = """\
## What was tried to make one change faster

* Contents up to `rsync-above` (32 KiB) travel in the conversation: four processes fewer, and none of the 40 ms that
  rsync sleeps before it ends.
* The peer's end is started before most of our own imports and the look at the files: both come up at the same time.
* flock(2) itself instead of filelock on the way of a change: from 94 to 64 ms in the lab.
* The copy for the new generation after the exchange instead of before: 3 ms.
* No `typing`, `contextlib` or `collections` before it is known that there is work: a quiet event went from 2.4 to 1.2
  times a bare start of Python. One change gains nothing from it: it imports them later.

What would remain: start ssh before the configuration is parsed, from words that `hotpair tables` could leave behind;
import less on both sides (sqlite3, re, subprocess, hashlib, json, iniconfig). A resident process would save all of it,
and is what this project does without.
"""


def first_line(*argv: str) -> str:
    """Return what a program says of its version."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True)
    except OSError:
        return "not installed"
    return ((done.stdout or done.stderr).strip().splitlines() or ["?"])[0].strip()


def package(name: str) -> str:
    return first_line("dpkg-query", "-W", "-f", "${Version}", name)


def machine() -> list[list[str]]:
    """Return what was measured with, as rows."""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        models = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    return [
        ["date", f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC"],
        ["machine", f"{os.cpu_count()} cores, {(models or ['?'])[0]}, kernel {platform.release()}"],
        ["python3", first_line("/usr/bin/python3", "--version")],
        ["rsync", first_line("rsync", "--version")],
        ["openssh", first_line("ssh", "-V")],
        ["lsyncd", first_line("lsyncd", "--version")],
        ["incron", package("incron")],
        ["clsync", package("clsync")],
        ["unison", first_line("unison", "-version")],
    ]


def crossing(report: Report) -> str:
    """Say whether S3 is reached, by how much not, and where the time goes."""
    rows = [row for row in report.rows if row.goal == "S3"]
    if not rows:
        return ""
    if rows[0].middle <= 1:
        return "## S3\n\nReached: one change arrives no later than with lsyncd over the same ssh.\n"
    stock = [row for row in report.rows if "stock" in row.against and "wall" in row.what]
    aside = (
        f", and {stock[0].middle:.2f} times as long as with\nlsyncd and an ssh connection for each change"
        if stock
        else ""
    )
    ours, theirs = [row.middle for row in report.times[:2]]
    return (
        f"## S3 is not reached\n\nOne change takes {rows[0].middle:.1f} times as long as with lsyncd delay=0 over the\n"
        f"same kept connection ({ours:.0f} ms against {theirs:.0f} ms here){aside}.\n"
        "The difference is two starts of Python with their imports, one on each side and one after the other.\n"
    )


def carried(report: Report) -> list[str]:
    """Return a table for each work on trees."""
    tables = {
        work: markdown_table([CARRIED, *(line.cells() for line in lines)]) for work, lines in report.trees.items()
    }
    return [f"### {work[0].upper()}{work[1:]}\n\n{table}" for work, table in tables.items()]


def of_trees(report: Report) -> str:
    """Return the section on trees, which says itself when and with what it was measured."""
    rows = [row.cells() for row in report.rows if row.goal in TREE_GOALS]
    parts = [TREES, markdown_table([["", ""], *machine()]), *carried(report)]
    parts += [f"### On the link\n\n{markdown_table([HEAD, *rows])}"] if rows else []
    notes = [f"* {note}" for note in report.notes if note.startswith(("trees:", "load"))]
    parts += [TREES_TRIED, "### Remarks on the trees", "\n".join(notes)]
    return _joined(parts)


def with_trees(old: str, report: Report) -> str:
    """Return a page with its section on trees replaced; the rest is of the run that wrote it."""
    mark = next(one for one in (_title(SESSIONS), _title(STEPS)) if one in old)
    head, _, tail = old.partition(mark)
    return head.partition(_title(TREES))[0] + of_trees(report) + "\n" + mark + tail


def of_sessions(report: Report) -> str:
    """Return the section on session tables, which says itself when and with what it was measured."""
    rows = [row.cells() for row in report.rows if row.goal == SESSION_GOAL]
    notes = [f"* {note}" for note in report.notes if note.startswith(("sessions:", "load"))]
    return _joined([SESSIONS, markdown_table([["", ""], *machine()]), markdown_table([HEAD, *rows]), "\n".join(notes)])


def with_sessions(old: str, report: Report) -> str:
    """Return a page with its section on session tables replaced, or put before the steps of one change."""
    head, mark, tail = old.partition(_title(STEPS))
    return head.partition(_title(SESSIONS))[0] + of_sessions(report) + "\n" + mark + tail


def page(report: Report) -> str:
    """Return the whole page."""
    apart = (*TREE_GOALS, SESSION_GOAL)
    table = markdown_table([HEAD, *(row.cells() for row in report.rows if row.goal not in apart)])
    parts = [HOW, markdown_table([["", ""], *machine()]), "## Ratios and counts", table, GOALS]
    parts += [f"## Times, for orientation\n\n{markdown_table(times(report.times))}"] if report.times else []
    parts += [READING, crossing(report)]
    parts += [of_trees(report)] if report.trees else []
    parts += [of_sessions(report)] if any(row.goal == SESSION_GOAL for row in report.rows) else []
    parts += [STEPS, markdown_table(times(report.steps))] if report.steps else []
    notes = [note for note in report.notes if not note.startswith(("trees:", "sessions:"))]
    parts += [TRIED, "## Remarks of the run", "\n".join(f"* {note}" for note in notes)]
    return _joined(parts)


def _title(section: str) -> str:
    return section[: section.index("\n") + 1]


def _joined(parts: list[str]) -> str:
    return "\n\n".join(part.strip() for part in parts if part) + "\n"

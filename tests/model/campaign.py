"""Run many histories: `campaign.py --count N --seed S`. It goes on where an earlier call with the same words stopped.

The report, build/campaign-MACHINE-S.json, says per chunk of histories which seed and machine made it and whether it
passed.
"""

import argparse
import json
import multiprocessing
import sys
import time
import traceback
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path

from hypothesis import HealthCheck, Phase, Verbosity, seed, settings
from hypothesis.reporting import with_reporter
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "lib"), str(ROOT)]
STEPS = {"files": 25, "trees": 30}  # of one history
CHUNK = 10  # histories that share a seed, and that are lost when the campaign is stopped
TOLD = 400  # last messages of a chunk that a failure shows
Chunk = tuple[int, str, int]  # seed, name of the machine, and steps of a history


def machine(name: str) -> type[RuleBasedStateMachine]:
    """Return the state machine of a name; what it imports takes a second."""
    from tests.model.machine import Pair
    from tests.model.tree_machine import Trees

    return Trees if name == "trees" else Pair


def run_chunk(chunk: Chunk) -> tuple[int, str, str]:
    """Run some histories of a seed and a machine and return these and what failed, "" when nothing did."""
    chunk_seed, name, steps = chunk
    told: deque[str] = deque(maxlen=TOLD)  # a failure that its repetition does not show is seen here only
    try:
        with with_reporter(lambda line: told.append(str(line))):
            run_state_machine_as_test(
                seed(chunk_seed)(machine(name)),
                settings=settings(
                    max_examples=CHUNK,
                    stateful_step_count=steps,
                    deadline=None,
                    database=None,
                    phases=[Phase.generate],
                    verbosity=Verbosity.debug,
                    suppress_health_check=list(HealthCheck),
                    report_multiple_bugs=False,
                ),
            )
    except Exception:
        return chunk_seed, name, "\n".join([*told, traceback.format_exc()])
    return chunk_seed, name, ""


def chunks(first_seed: int, names: list[str], count: int, steps: int = 0) -> list[Chunk]:
    """Return what makes so many histories, of the machines by turns. steps: of each, 0 for what STEPS has."""
    by_turns = [names[n % len(names)] for n in range((count + CHUNK - 1) // CHUNK)]
    return [(first_seed + n, name, steps or STEPS[name]) for n, name in enumerate(by_turns)]


def play(wanted: Iterable[Chunk], jobs: int) -> Iterator[tuple[int, str, str]]:
    """Yield what `run_chunk` returns of each, as they end; so many run at once, each in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(jobs, maxtasksperchild=4) as pool:
        yield from pool.imap_unordered(run_chunk, wanted)


def main() -> int:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--count", type=int, default=2000, help="histories (default %(default)s)")
    words.add_argument("--seed", type=int, default=1, help="the campaign's seed (default %(default)s)")
    words.add_argument("--jobs", type=int, default=2, help="processes at once (default %(default)s)")
    words.add_argument("--steps", type=int, default=0, help="steps of a history (default: files 25, trees 30)")
    words.add_argument("--machine", choices=[*STEPS, "both"], default="both", help="what is shared (default both)")
    options = words.parse_args()
    report = ROOT / "build" / f"campaign-{options.machine}-{options.seed}.json"
    report.parent.mkdir(exist_ok=True)
    done = json.loads(report.read_text()) if report.exists() else {}
    names = list(STEPS) if options.machine == "both" else [options.machine]
    started = time.monotonic()
    wanted = chunks(options.seed * 1_000_000, names, options.count, options.steps)
    left = [chunk for chunk in wanted if str(chunk[0]) not in done]
    for number, (chunk_seed, name, failure) in enumerate(play(left, options.jobs), 1):
        done[str(chunk_seed)] = {"machine": name, "histories": CHUNK, "failure": failure}
        report.write_text(json.dumps(done, indent=1))
        print(f"{number * CHUNK}/{len(left) * CHUNK} histories, {time.monotonic() - started:.0f} s", flush=True)
        if failure:
            print(failure[-12000:], flush=True)
    failed = [s for s, result in done.items() if result["failure"]]
    total = sum(result["histories"] for result in done.values())
    print(f"seed {options.seed}: {total} histories, {len(failed)} chunks failed {failed}; report: {report}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

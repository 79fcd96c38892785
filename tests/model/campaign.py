"""Run many histories: `campaign.py --count N --seed S`. It goes on where an earlier call with the same seed stopped.

The report, build/campaign-S.json, says per chunk of histories which seed made it and whether it passed.
"""

import argparse
import json
import multiprocessing
import sys
import time
import traceback
from pathlib import Path

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "lib"), str(ROOT)]
CHUNK = 10  # histories that share a seed, and that are lost when the campaign is stopped


def run_chunk(chunk_seed: int) -> tuple[int, str]:
    """Run some histories and return their seed and what failed, "" when nothing did."""
    from tests.model.machine import Pair

    try:
        run_state_machine_as_test(
            seed(chunk_seed)(Pair),
            settings=settings(
                max_examples=CHUNK,
                stateful_step_count=25,
                deadline=None,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
                report_multiple_bugs=False,
            ),
        )
    except Exception:
        return chunk_seed, traceback.format_exc()
    return chunk_seed, ""


def main() -> int:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--count", type=int, default=2000, help="histories (default %(default)s)")
    words.add_argument("--seed", type=int, default=1, help="the campaign's seed (default %(default)s)")
    words.add_argument("--jobs", type=int, default=2, help="processes at once (default %(default)s)")
    options = words.parse_args()
    report = ROOT / "build" / f"campaign-{options.seed}.json"
    report.parent.mkdir(exist_ok=True)
    done = json.loads(report.read_text()) if report.exists() else {}
    seeds = [options.seed * 1_000_000 + number for number in range((options.count + CHUNK - 1) // CHUNK)]
    started = time.monotonic()
    left = [s for s in seeds if str(s) not in done]
    with multiprocessing.get_context("spawn").Pool(options.jobs, maxtasksperchild=4) as pool:
        for number, (chunk_seed, failure) in enumerate(pool.imap_unordered(run_chunk, left), 1):
            done[str(chunk_seed)] = {"histories": CHUNK, "failure": failure}
            report.write_text(json.dumps(done, indent=1))
            print(f"{number * CHUNK}/{len(left) * CHUNK} histories, {time.monotonic() - started:.0f} s", flush=True)
            if failure:
                print(failure[-6000:])
                break
    failed = [s for s, result in done.items() if result["failure"]]
    total = sum(result["histories"] for result in done.values())
    print(f"seed {options.seed}: {total} histories, {len(failed)} chunks failed {failed}; report: {report}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

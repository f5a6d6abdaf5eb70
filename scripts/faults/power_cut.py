"""Cuts the power of a small training at many moments, and resumes it from what the disk then holds.

    python scripts/faults/power_cut.py [--most N] [--seeds N] [--keep FOLDER] [key=value ...]

--most 60      cuts to try, spread over all that leave different things behind; 0: every one of them (half an hour)
--seeds 2      chances drawn at each moment, beside the five fates that are always tried
--keep FOLDER  where the recorded run and the failed resumes stay (default: a temporary folder)

Further settings are those of agents.train. The training is recorded with all it does to its folder and to its cache; what a
file system may lose, and what not, is told in cutting/journal.py. After every cut the run must go on from a checkpoint no older
than the newest that counted, say of nothing that it is missing, and end with the weights, numbers and episodes of the run that
went through. Exit code 1 if one does not.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

from cutting import trial


def main() -> int:
    """Record, cut, resume; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--record", type=Path, help=argparse.SUPPRESS)
    options, more = parser.parse_known_intermixed_args()
    if options.record:
        trial.recorded(options.record, more)
    with tempfile.TemporaryDirectory() as temporary:
        return cut_and_resume(options.keep or Path(temporary), [*trial.SETTINGS, *more], options.most, options.seeds)


def cut_and_resume(folder: Path, settings: list[str], most: int, seeds: int) -> int:
    """Returns the exit code."""
    journal = trial.record(folder / "recorded", settings)
    different = trial.distinct(journal, seeds)
    tried = different if not most else different[:: max(1, len(different) // most)]
    print(f"{len(journal.moments)} moments, {len(different)} different states of the disk, of which {len(tried)} are tried")
    found: Counter[str] = Counter()
    failed = 0
    for number, cut in enumerate(tried):
        place = folder / f"cut-{number:04d}"
        outcome = trial.resume(journal, cut, place, settings)
        found["no run yet" if not outcome.begun else f"from checkpoint {outcome.found}"] += 1
        if outcome.problems:
            failed += 1
            print(f"cut before '{outcome.step}' ({cut.fate}; {place}): {'; '.join(outcome.problems)}")
        else:
            shutil.rmtree(place)
    for name, count in sorted(found.items()):
        print(f"{count:5d} {name}")
    print(
        f"{failed} of {len(tried)} did not go on as if nothing had happened"
        if failed
        else "all went on as if nothing had happened"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

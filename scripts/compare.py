"""Several methods, several seeds, equal budgets: trains them all and writes one report.

    python scripts/compare.py env=alfworld algos=[gigpo,grpo] seeds=3

algos=[a,b]           methods, an arm each (default gigpo, grpo); the brackets may be left away
arm.<name>="..."      a further arm with settings of its own: arm.slow="algo=poad critic.lr=1e-6"
seeds=3               how many (0, 1, 2), or which: seeds=[3,5]
budget=200000         environment steps of training for each run; default: what the first arm's iterations take if episodes
                      last half of env.max_steps. With iterations=40 and no budget every run has 40 iterations instead
repeats=4             a final evaluation of its own with so many episodes a task; default 1: the run's last evaluation counts
jobs=2                runs at a time; default: as many as there are cores, one on a GPU
out=runs/...          folder for runs and report; default runs/compare-<env>-<arms>

Every other key=value goes to every run (`python -m agents.train --help`). Arms must share tasks, model and warm start; that is
checked by split hashes and by the evaluations before training. The same command goes on with what was cut off, and takes what
is finished as it is. Written: report.html, report.png, report.json. Exit codes: 0 well, 1 a run failed, 2 the comparison cannot
be run as asked, 130 interrupted.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence

from comparison import evidence, plan, runs
from comparison.figure import draw
from comparison.page import page
from comparison.progress import Progress
from comparison.summary import summarize
from rich.console import Console

from agents.runs.failures import Interrupted, reported, tell
from envs.common import streams
from envs.common.text import printable

WHAT = {
    "out of context": "outgrew the context and count as lost",
    "faults": "were cut off by a fault and are in no rate",
}
"""What the counts of a report mean."""


@streams.guarded()
def main(arguments: Sequence[str]) -> int:
    """Run the comparison and write its report; returns the exit code."""
    if {"-h", "--help"} & set(arguments):
        return tell(__doc__ or "")
    console = Console(highlight=False)
    with reported() as outcome:
        planned = plan.read(arguments)
        try:
            with Progress(planned, console) as progress:
                runs.execute(planned, progress.show)
        except runs.Stopped:
            command = shlex.join(["python", "scripts/compare.py", *arguments])
            said = f"stopped; the runs in {planned.out} are saved. Go on with the same command:\n{command}"
            raise Interrupted(printable(said)) from None
        evidence.refuse_unequal(planned)
        failed = [run for run in planned if run.failed]
        for run in failed:
            print(printable(f"{run.name} failed: {run.failed} (see {runs.log_file(run)})"), file=sys.stderr)
        if len(failed) < len(planned.runs):
            write(planned, console)
        outcome.code = 1 if failed else 0
    return outcome.code


def write(planned: plan.Plan, console: Console) -> None:
    """The report in its three forms."""
    report = summarize(planned)
    (planned.out / "report.json").write_text(json.dumps(report, indent=1, allow_nan=False))
    (planned.out / "report.html").write_text(page(report), encoding="utf-8")
    draw(report).savefig(planned.out / "report.png")
    for temperature, found in report["temperatures"].items():
        for arm, of_arm in found["arms"].items():
            start, final = of_arm["start"], of_arm["all"]
            spread = "" if final["low"] is None else f" [{final['low']:.3f}, {final['high']:.3f}]"
            console.print(f"{arm}, temperature {temperature}: {start['mean']:.3f} -> {final['mean']:.3f}{spread}", markup=False)
    for arm, cost in report["cost"].items():
        for what in ("out of context", "faults"):
            if cost[what]["mean"]:
                console.print(f"{arm}: {cost[what]['mean']:.0f} episodes a run {WHAT[what]}", markup=False)
    console.print(printable(f"written: {planned.out}/report.html, report.png, report.json"), soft_wrap=True, markup=False)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

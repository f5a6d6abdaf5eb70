"""The credit study: how true is each method's credit, how fast does it learn, and do these go together?

    python scripts/credit_study.py --small      # a small form: ten minutes on two cores
    python scripts/credit_study.py              # the study: some twenty core hours, in pieces; the same command goes on
    python scripts/credit_study.py --report     # only the page and the figures, from the results that are there

Runs of a reference method pass through stages of training; the policies of these stages are audited (`python -m agents.audit`)
with all methods. Beside it each arm is trained with the same budget of environment steps. Results are small files which stay
when runs are deleted (docs/credit-study/; with --small, the folder of the runs); what has a result is not done again.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from creditstudy import figure, page
from creditstudy.execute import Execution, Stopped
from creditstudy.plan import SMALL, WHOLE, Study
from creditstudy.results import Results
from creditstudy.summary import learned
from rich.console import Console

from agents.runs.failures import Interrupted, reported
from envs.common.streams import guarded
from envs.common.text import printable

DOCS = Path(__file__).resolve().parents[1] / "docs" / "credit-study"


@guarded()
def main(arguments: Sequence[str]) -> int:
    """Do what is missing and write the report. Returns 0, 1 if a piece failed, or 130 after a signal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="the small form")
    parser.add_argument("--report", action="store_true", help="play and train nothing")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="processes at a time, a core each (default 2)")
    parser.add_argument("--runs", type=Path, metavar="FOLDER", help="for runs and audits (default runs/credit-study[-small])")
    parser.add_argument("--results", type=Path, metavar="FOLDER", help="for results and page (default docs/credit-study)")
    asked = parser.parse_args(arguments)
    if asked.jobs < 1:
        parser.error(f"--jobs is {asked.jobs}; at least one process must run")
    study = SMALL if asked.small else WHOLE
    runs: Path = asked.runs or Path("runs") / ("credit-study-small" if asked.small else "credit-study")
    folder: Path = asked.results or (runs / "report" if asked.small else DOCS)
    console, results = Console(highlight=False, markup=False), Results(folder)
    with reported() as outcome:
        failed: list[str] = []
        try:
            if not asked.report:
                failed = Execution(study, results, runs, console).run(asked.jobs)
        except Stopped:
            said = f"stopped; what was begun is saved in {printable(str(runs))}, and the same command goes on"
            raise Interrupted(said) from None
        command = "python scripts/credit_study.py" + (" --small" if asked.small else "")
        write(study, results, folder, command)
        console.print(printable(f"written: {folder / 'README.md'}, and figures beside it"), soft_wrap=True)
        for line in failed:
            print(printable(line), file=sys.stderr)
        outcome.code = 1 if failed else 0
    return outcome.code


def write(study: Study, results: Results, folder: Path, command: str) -> None:
    """Page and figures."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "README.md").write_text(page.document(study, results, shlex.join(shlex.split(command)), "."), encoding="utf-8")
    audited = any(results.of_audit(one) for one in study.audits)
    if audited:
        for measure in ("correlation", "cosine"):
            figure.truth(study, results, measure).savefig(folder / f"truth-{measure}.png")
    if arms := learned(study, results):
        figure.learning(arms).savefig(folder / "learning.png")
    if audited and arms:
        figure.against(study, results, arms).savefig(folder / "against.png")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

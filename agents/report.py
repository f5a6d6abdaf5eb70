"""`python -m agents.report runs/<name>`: what a run was, how it went and what it reached, on one page; also of several runs.

What is shown is read by agents.reporting; nothing is measured anew. Works while a run is still going, and after a kill.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from agents.replay import options
from envs.common import streams
from envs.common.structured import ConfigError

USAGE = """\
Write a page about a training run: what was run, learning curves, evaluations,
where the time went, warnings, and episodes to look at.

usage: python -m agents.report RUN [RUN ...] [--html FILE]

  python -m agents.report runs/<name>           the page is runs/<name>/report.html
  python -m agents.report runs/a runs/b         both beside each other, in runs/report.html
  python -m agents.report runs/<name> --html page.html

The page is one file without network or scripts. Links lead to the replays of
some episodes, which are written to RUN/replay/, and to audits of the run.
Given again, the command replaces the page by one of what there is then.

options:
  --html FILE   where the page goes; of what is there already, only an .html
                file is replaced
  --help        this text"""


@streams.guarded()
def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    from agents.runs.failures import reported, tell

    with reported() as outcome:
        asked = options.read("agents.report", arguments)
        if asked.help:
            return tell(USAGE)
        if not asked.words:
            raise ConfigError("name one run or several, for example python -m agents.report runs/<name>; none was given")
        tell(f"written: {report(asked.words, None if asked.html is None else Path(asked.html))}")
    return outcome.code


def report(runs: Sequence[str], html: Path | None = None) -> Path:
    """Write the page of some runs; returns its path. Raises ConfigError for a folder that is no run's."""
    from agents.replay.html import write
    from agents.reporting import episodes, page, reading

    read = [reading.read(run) for run in {Path(run).resolve(): run for run in runs}.values()]
    target = html or (Path(runs[0]) if len(read) == 1 else Path(runs[0]).parent) / "report.html"
    write(target, page.document(read, [episodes.choose(run) for run in read], target.absolute().parent))
    return target


if __name__ == "__main__":
    sys.exit(main())

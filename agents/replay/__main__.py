"""`python -m agents.replay runs/<name>`: an episode step by step with the credit of each, in the terminal and as an HTML page.

What is shown is in agents.replay; nothing is computed anew but returns. Works while a run is still going, and after a kill.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from agents.replay import options
from envs.common import streams
from envs.common.structured import AtLeast, ConfigError, build

USAGE = """\
Show an episode of a training run step by step, with the credit that every step and token got and why.

usage: python -m agents.replay RUN [iteration=N] [episode=N] [options]

  python -m agents.replay runs/<name>                         the newest iteration, its most instructive episode
  python -m agents.replay runs/<name> iteration=12 episode=3
  python -m agents.replay runs/<name> --all                   one page with every episode of the iteration

The most instructive episode is the one whose tokens were credited most differently (largest less smallest advantage);
where a method gives all of an episode the same credit, a won one of the group whose returns differ most.

keys:
  iteration     whose episodes are shown; the newest one if not given
  episode       its number in that iteration, from 1; the most instructive one if not given

options:
  --html FILE   where the page goes; else RUN/replay/iteration_<N>-episode_<N>.html (its whole group is in it);
                of what is there already, only an .html file is replaced
  --all         the page has all groups of the iteration, with an index; RUN/replay/iteration_<N>.html
  --help        this text"""


@dataclass
class Choice:
    """Which episode."""

    iteration: Annotated[int, AtLeast(1)] | None = None
    """Iteration whose episodes are shown; the newest one if not given."""
    episode: Annotated[int, AtLeast(1)] | None = None
    """Number of the episode in that iteration, from 1; the most instructive one if not given."""


@streams.guarded()
def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    try:
        asked = options.read("agents.replay", arguments, "--all")
        if asked.help:
            from agents.runs.failures import tell

            return tell(USAGE)
        run, choice = _read(asked.words)
    except ConfigError as exc:
        return _refuse(f"error: {exc}")
    from agents.replay.html import PageError
    from agents.replay.reading import ReplayError
    from agents.runs.failures import reported
    from envs.common.text import printable
    from envs.trajectory_file import TrajectoryFileError

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # an episode may hold what this terminal cannot write
    with reported() as outcome:
        try:
            replay(run, choice, None if asked.html is None else Path(asked.html), asked.all)
        except (ConfigError, PageError, ReplayError, TrajectoryFileError) as exc:
            raise type(exc)(printable(str(exc))) from exc  # names of folders are in it
    return outcome.code


def replay(run: str, choice: Choice, html: Path | None, everything: bool) -> Path:
    """Print the episode and write the page; returns the page's path. Raises ConfigError, PageError, ReplayError,
    TrajectoryFileError."""
    from rich.console import Console

    from agents.replay import page, reading, terminal
    from agents.replay.html import write
    from envs.common.text import printable

    iteration = reading.read(run, choice.iteration)
    episode, why = reading.choose(iteration, choice.episode)
    chosen = None if everything else episode
    target = html or page.place(run, iteration, chosen)
    write(target, page.document(iteration, chosen))
    # The page is there before anything is printed: whoever reads the beginning only (`| head`) has it too.
    console = Console(highlight=False)
    terminal.show(iteration, episode, why, console)
    console.print(f"\nwritten: {printable(str(target))}", soft_wrap=True, markup=False)
    return target


def _read(words: Sequence[str]) -> tuple[str, Choice]:
    from agents.config.overrides import parse

    runs = [word for word in words if "=" not in word or Path(word).is_dir()]
    if len(runs) != 1:
        given = f"{len(runs)} were given ({', '.join(runs)})" if runs else "none was given"
        raise ConfigError(f"name one run, for example python -m agents.replay runs/<name>; {given}")
    values = {one.key_or_group: one.value() for one in parse([word for word in words if word not in runs])}
    return runs[0], build(Choice, values)


def _refuse(message: str) -> int:
    from envs.common.text import printable

    print(printable(message), file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())

"""Episodes of a run that are worth opening, and the pages of the replay that show them, made where they can be."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from agents.config.overrides import command_line
from agents.replay import page, reading
from agents.replay.view import Episode, Iteration
from agents.reporting.reading import Run
from envs.common import disk
from envs.common.structured import ConfigError
from envs.common.text import first_line, printable
from envs.trajectory_file import TrajectoryFileError

MOST = 3
"""Best ones, and worst ones."""


@dataclass
class Chosen:
    """Episodes of an iteration, each with why it was chosen and where it is shown."""

    iteration: Iteration | None = None
    episodes: list[tuple[str, Episode]] = field(default_factory=list)
    pages: dict[int, Path] = field(default_factory=dict)
    """The page of the replay, by the episode's number."""
    command: str = ""
    """What shows more of them."""
    note: str | None = None


def choose(run: Run) -> Chosen:
    """The best, the worst and the most instructive episodes of the newest iteration that is over."""
    numbers = run.folder.iterations()
    if not numbers:
        return Chosen(note="there are no episodes yet")
    over = [number for number in numbers if number <= run.iteration]
    newest = (over or numbers)[-1]
    chosen = Chosen(command=command_line("agents.replay", str(run.folder.named), f"iteration={newest}"))
    try:
        chosen.iteration = reading.read(run.folder.named, newest)
    except (ConfigError, reading.ReplayError, TrajectoryFileError, OSError) as error:
        chosen.note = f"the episodes of iteration {newest} cannot be shown: {first_line(error)}"
        return chosen
    chosen.episodes = ranked(chosen.iteration)
    _write(run, chosen)
    return chosen


def ranked(iteration: Iteration) -> list[tuple[str, Episode]]:
    """The best episodes, the worst ones, and the most instructive one, each once; without those that a fault cut off."""
    known = [episode for episode in iteration.episodes if episode.error is None]
    order = sorted(known, key=lambda one: (-one.success, -one.score, -one.reward, len(one.steps), one.number))
    found = [("best", one) for one in order[:MOST]]
    worst = [one for one in reversed(order) if one not in order[:MOST]][:MOST]
    found += [("worst", one) for one in worst]
    instructive, _ = reading.choose(iteration)
    if instructive not in [one for _, one in found]:
        found.append(("most instructive", instructive))
    return found


def _write(run: Run, chosen: Chosen) -> None:
    """The page of each group that an episode is of."""
    assert chosen.iteration is not None
    by_group: dict[str, Path] = {}
    for _, episode in chosen.episodes:
        group = chosen.iteration.group_of(episode).id
        if group not in by_group:
            target = page.place(run.folder.path, chosen.iteration, episode)
            try:
                disk.folder(target.parent)
                disk.write(target, page.document(chosen.iteration, episode).encode())
            except OSError as error:
                chosen.note = printable(f"pages of the replay cannot be written there ({error.strerror})")
                return
            by_group[group] = target
        chosen.pages[episode.number] = by_group[group]

"""What is missing in the folder of a run that is resumed: what a power cut took where a file system does not sync, or somebody.

A run goes on all the same: nothing of this is learned from again. But its record has gaps, and who reads it must know.
"""

from __future__ import annotations

from collections.abc import Iterable

from agents.runs.folder import RunFolder
from agents.runs.metrics import iteration_of, whole_lines


def missing(folder: RunFolder, iteration: int) -> list[str]:
    """What the run up to a checkpoint's iteration should have left and has not, each in words."""
    lines, broken = whole_lines(folder.metrics) if folder.metrics.is_file() else ([], [])
    untold = set(range(iteration + 1)) - {iteration_of(line) for line in lines}
    unkept = (number for number in range(1, iteration + 1) if not _has_content(folder, number))
    found = []
    if broken:
        found.append(f"{folder.metrics}: broken lines are left out: {listed(broken)}")
    if untold:
        found.append(f"{folder.metrics} has no numbers of iterations that were done: {listed(untold)}")
    if gone := listed(unkept):
        found.append(f"{folder.trajectories(0).parent} has no episodes of iterations that were done: {gone}")
    if not folder.get_splits():
        found.append(
            f"{folder.splits} cannot be read and is written anew: nobody can tell whether the tasks are those that the run "
            "began with"
        )
    if not folder.get_status():
        found.append(f"{folder.status} cannot be read: nobody can tell whether the run had finished")
    return found


def listed(numbers: Iterable[int]) -> str:
    """Numbers in their order, three or more neighbors as a range."""
    spans: list[list[int]] = []
    for number in sorted(numbers):
        if spans and number == spans[-1][-1] + 1:
            spans[-1].append(number)
        else:
            spans.append([number])
    return ", ".join(f"{span[0]} to {span[-1]}" if len(span) > 2 else ", ".join(map(str, span)) for span in spans)


def _has_content(folder: RunFolder, iteration: int) -> bool:
    file = folder.trajectories(iteration)
    return file.is_file() and file.stat().st_size > 0

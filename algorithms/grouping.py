"""Step groups: steps of one task group that were taken in the same state (exact key) or in similar texts."""

from __future__ import annotations

from difflib import SequenceMatcher

import numpy as np

from algorithms.base import Batch, Ints


def same_state(batch: Batch) -> Ints:
    """[S] number of the step's group: equal task group and state key. Raises ValueError if a step has no state key."""
    missing = np.flatnonzero(batch.state < 0)
    if len(missing):
        where = f"trajectory {batch.episode[missing[0]]}, step {batch.position[missing[0]]}"
        raise ValueError(
            f"{len(missing)} steps have no state_key (the first: {where}), so visits of the same state cannot be found; "
            "let the environment give one, or use grouping=similarity"
        )
    return batch.state


def similar_text(batch: Batch, threshold: float) -> Ints:
    """[S] number of the step's group by similarity of observations within a task group.

    Greedy in batch order: a step joins the first group whose first member's text has `SequenceMatcher.ratio` >= threshold, so
    the groups depend on the order of the trajectories.
    """
    if batch.state_text is None:
        raise ValueError("grouping=similarity needs batch.state_text; this batch has none")
    firsts: dict[int, list[tuple[int, SequenceMatcher[str]]]] = {}
    seen: dict[tuple[int, str], int] = {}  # an equal text ends where the earlier one did: first members never change
    numbers = np.empty(len(batch.group), dtype=np.int64)
    made = 0
    for step, (task, text) in enumerate(zip(batch.group.tolist(), batch.state_text, strict=True)):
        if (task, text) not in seen:
            for number, matcher in firsts.setdefault(task, []):
                matcher.set_seq1(text)
                # Both quick ratios are upper bounds of the ratio.
                if min(matcher.real_quick_ratio(), matcher.quick_ratio()) >= threshold and matcher.ratio() >= threshold:
                    seen[task, text] = number
                    break
            else:
                firsts[task].append((made, SequenceMatcher(None, "", text)))
                seen[task, text] = made
                made += 1
        numbers[step] = seen[task, text]
    return numbers

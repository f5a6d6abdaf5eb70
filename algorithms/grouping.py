"""Step groups: steps of one task group that were taken in the same state (exact key) or in similar texts."""

from __future__ import annotations

from collections.abc import Sequence
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
    """[S] number of the step's group by similarity of observations within a task group, see `similar`.

    Steps come in batch order, so the groups depend on the order of the trajectories.
    """
    if batch.state_text is None:
        raise ValueError("grouping=similarity needs batch.state_text; this batch has none")
    return similar(batch.group.tolist(), batch.state_text, threshold)


def similar(task: Sequence[int], texts: Sequence[str], threshold: float) -> Ints:
    """[M] number of each text's cluster among those of its task, from 0; task, texts [M].

    Greedy in the order given: a text joins the first cluster whose first member has `SequenceMatcher.ratio` >= threshold.
    """
    firsts: dict[int, list[tuple[int, SequenceMatcher[str]]]] = {}
    seen: dict[tuple[int, str], int] = {}  # an equal text ends where the earlier one did: first members never change
    numbers = np.empty(len(task), dtype=np.int64)
    made = 0
    for place, (of, text) in enumerate(zip(task, texts, strict=True)):
        if (of, text) not in seen:
            for number, matcher in firsts.setdefault(of, []):
                matcher.set_seq1(text)
                # Both quick ratios are upper bounds of the ratio.
                if min(matcher.real_quick_ratio(), matcher.quick_ratio()) >= threshold and matcher.ratio() >= threshold:
                    seen[of, text] = number
                    break
            else:
                firsts[of].append((made, SequenceMatcher(None, "", text)))
                seen[of, text] = made
                made += 1
        numbers[place] = seen[of, text]
    return numbers


def sizes(group: Ints) -> dict[str, float]:
    """Mean size of the groups [S], and the share of steps that are alone in theirs."""
    size = np.bincount(group)  # [G]
    mean, lone = len(group) / max(1, int((size > 0).sum())), (size[group] == 1).sum() / max(1, len(group))
    return {"step_group_size": float(mean), "lone_steps": float(lone)}

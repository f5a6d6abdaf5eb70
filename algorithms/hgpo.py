"""HGPO (arXiv 2602.22817): a step is compared among steps with the same last k states, for several k at once.

The larger k, the more alike is what the compared steps know, and the fewer they are: a long context is less biased and counts
more. The defaults are the paper's formulas; conf/algo/hgpo_official.yaml sets what the authors' trainer computes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from algorithms.base import Advantages, Algorithm, Batch, Bools, Floats, Ints, Scored
from algorithms.grouping import same_state
from algorithms.stats import Lone, Normalize, Over, compared_steps, normalize, share
from envs.common.structured import Fraction, Natural, NonNegative


@dataclass
class HGPO(Algorithm):
    """A(i,t) = sum over k of w_k A_k(i,t), w_k proportional to (k + 1)^alpha, given to every token of the action.

    A_k = (G - mean) / F among the steps of the task with the same last k states, k = 1 ... history + 1; a step that is alone
    there has no A_k, and w is shared among the others.
    """

    gamma: Fraction = 0.95
    """Discount of step returns."""
    history: Natural = 2
    """How many states before the current one the longest context has; 0: only the current state is compared."""
    alpha: NonNegative = 1.0
    """How much more longer contexts count; 0: all the same."""
    normalize: Normalize = "std"
    """std: divide by the group's standard deviation (ddof 0) plus epsilon; mean: only subtract the mean (F = 1)."""
    episode: bool = False
    """Add the episode's advantage among its task's episodes (ddof 1), as k = 0."""
    zeros: Literal["kept", "dropped"] = "kept"
    """Context advantages of exactly 0. kept: they take their share of the weights; dropped: the others get it (official)."""
    episode_stats: Over = "trajectories"
    """The episode term's statistics are over the group's trajectories, or over its steps (official)."""
    singleton_group: Lone = "zero"
    """The episode term in a group of one: none, or the score itself (official)."""
    epsilon: NonNegative = 1e-6
    """Added to the standard deviation."""

    min_group_size: ClassVar[int] = 2

    def credit(self, batch: Scored) -> Advantages:
        """One value a step [S]."""
        terms = self.terms(batch, batch.scores(), batch.returns(self.gamma))
        return Advantages(
            np.asarray(sum(terms.values())),
            parts=terms,
            step_group=same_state(batch),
            metrics={f"share_{name}": share(term != 0, batch.included) for name, term in terms.items()},
        )

    def terms(self, batch: Batch, score: Floats, step_return: Floats) -> dict[str, Floats]:
        """[S] w_k A_k by name: `episode` if asked for, `context_1`, ...; score is the episode's return at each step [S]."""
        found: dict[str, tuple[int, Floats, Bools]] = {}  # k, A_k, whether there is one
        if self.episode:
            compared = compared_steps(batch, self.episode_stats)
            advantage = normalize(score, batch.group, compared, self.normalize, self.epsilon, self.singleton_group)
            among = batch.included if self.singleton_group == "raw" else batch.included & ~alone(batch.group, compared)
            found["episode"] = 0, advantage, among
        for k, context in enumerate(contexts(batch, self.history + 1), start=1):
            compared, context = batch.included & (context >= 0), np.maximum(context, 0)
            advantage = normalize(step_return, context, compared, self.normalize, self.epsilon, ddof=0)
            found[f"context_{k}"] = k, advantage, compared & ~alone(context, compared)
        weights = {
            name: (k + 1.0) ** self.alpha * (there & (advantage != 0) if self.zeros == "dropped" else there)
            for name, (k, advantage, there) in found.items()
        }
        total = np.asarray(sum(weights.values()))
        total[total == 0] = 1.0
        return {name: weights[name] / total * advantage for name, (_, advantage, _) in found.items()}


def contexts(batch: Batch, longest: int) -> list[Ints]:
    """For k = 1 ... longest the number [S] of each step's last k states; -1 where the trajectory has not had k yet."""
    state = same_state(batch)
    found = [state]
    for k in range(2, longest + 1):
        shorter = np.append(-1, found[-1][:-1])  # that of the step before, so that both together are one step longer
        number = np.unique(shorter * (state.max(initial=0) + 1) + state, return_inverse=True)[1]
        found.append(np.where(batch.position >= k - 1, number, -1))
    return found


def alone(group: Ints, counted: Bools) -> Bools:
    """[S] whether at most one of the step's group is counted."""
    return np.bincount(group[counted], minlength=int(group.max(initial=-1)) + 1)[group] <= 1

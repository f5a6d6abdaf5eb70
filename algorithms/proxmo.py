"""ProxMO (arXiv 2602.19225): a step's baseline is the mean over its task, weighted by how alike the observations are.

Episodes weigh by how rarely the task succeeds. The defaults are the paper's formulas; conf/algo/proxmo_official.yaml sets what
the authors' trainer computes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from algorithms.base import Advantages, Floats, Scored
from algorithms.grouping import same_state, sizes
from algorithms.grpo import GRPO
from algorithms.stats import ROUNDING, Normalize, compared_steps, deviations, normalize
from algorithms.texts import numbered, tfidf
from envs.common.structured import AboveZero, Fraction, NonNegative, Positive

WON = 0.5
"""success=score: an episode of a higher return succeeded."""


@dataclass
class ProxMO(GRPO):
    """A(i,t) = w(i) (R_i - mean R) + omega (G_t - sum over the task's steps k of softmax_k(cos(t,k) / temperature) G_k).

    w = 1 + beta (sigmoid((1 - p)^alpha) - 1/2) for a success, 1 + beta (sigmoid(-p^alpha) - 1/2) for a failure, where p is how
    often the task succeeds: a rare success counts more, a rare failure less. cos is that of the observations' TF-IDF vectors.
    Every token of the action gets A(i,t).
    """

    gamma: Fraction = 0.95
    """Discount of step returns G; the episode's return R is undiscounted."""
    omega: NonNegative = 1.0
    """Weight of the step advantage."""
    alpha: NonNegative = 4.0
    """Power of p: the larger, the less episodes of tasks in the middle are weighed."""
    beta: NonNegative = 0.1
    """How far weights may be from 1; 0: all weigh 1."""
    success: Literal["episode", "score"] = "episode"
    """What succeeded. episode: what the environment says, p is the share of the task's episodes; score: a return over 0.5, p is
    the mean return, cut to [0, 1] (official). With a reward of 10 that is 1 if a tenth of the episodes succeeds."""
    grouping: Literal["soft", "exact"] = "soft"
    """What a step is compared with. soft: all steps of its task, weighted by similarity; exact: visits of the same state, as in
    GiGPO."""
    temperature: AboveZero = 0.1
    """grouping=soft: the lower, the less a step is compared with others than the most similar ones."""
    words: Positive = 1024
    """grouping=soft: how many different words count, the most frequent ones."""
    normalize: Normalize = "mean"
    """mean: only subtract the mean; std: divide by the group's standard deviation (ddof 1) plus epsilon, in the episode's part
    and with grouping=exact in the step's."""

    credits_steps: ClassVar[bool] = True

    @property
    def reads_success(self) -> bool:
        return self.success == "episode"

    def credit(self, batch: Scored) -> Advantages:
        """One value a step [S]."""
        episode = super().credit(batch).values * self.weights(batch, batch.scores())

        step_return = batch.returns(self.gamma)
        group = None if self.grouping == "soft" else same_state(batch)
        if group is None:
            step = self.soft(batch, step_return)
        else:
            step = normalize(step_return, group, batch.included, self.normalize, self.epsilon)
        return Advantages(
            episode + self.omega * step,
            parts={"episode": episode, "step": step},
            step_group=group,
            metrics={} if group is None else sizes(group),
        )

    def weights(self, batch: Scored, score: Floats) -> Floats:
        """[S] w of each step's episode."""
        if self.success == "episode":
            won = batch.success[batch.episode]
            rate = won - deviations(won.astype(np.float64), batch.group, compared_steps(batch, "trajectories"))
        else:
            won, compared = score > WON, compared_steps(batch, self.episode_stats)
            rate = np.clip(score - deviations(score, batch.group, compared, self.singleton_group), 0.0, 1.0)
        power = np.where(won, (1.0 - rate) ** self.alpha, -(rate**self.alpha))
        return 1.0 + self.beta * (1.0 / (1.0 + np.exp(-power)) - 0.5)

    def soft(self, batch: Scored, step_return: Floats) -> Floats:
        """[S] step return less the mean of its task's, weighted by similarity; 0 if no observation holds a word."""
        if batch.state_text is None:
            raise ValueError("grouping=soft needs batch.state_text; this batch has none")
        text, texts = numbered(batch.state_text)
        vectors = tfidf(texts, np.bincount(text), self.words)
        if not len(vectors.word):
            return np.zeros(len(step_return))
        pair, of = np.unique(batch.group * len(texts) + text, return_inverse=True)  # [U] a text in a task, [S] the step's
        sums = np.stack([np.bincount(of, step_return), np.bincount(of)], axis=1)  # [U, 2] of returns, and of steps
        task, shown = np.divmod(pair, len(texts))
        baseline = np.empty(len(pair))
        for part in np.split(np.arange(len(pair)), np.flatnonzero(np.diff(task)) + 1):
            rows = vectors.rows(shown[part])
            weight = rows @ rows.T / self.temperature
            weight -= weight.max(axis=1, keepdims=True)
            total, n = (np.exp(weight, out=weight) @ sums[part]).T
            baseline[part] = total / n
        deviation = step_return - baseline[of]
        deviation[np.abs(deviation) <= ROUNDING * np.abs(baseline[of])] = 0.0
        return deviation

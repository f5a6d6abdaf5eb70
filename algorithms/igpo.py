"""IGPO (arXiv 2510.14967): credit to a turn by how much likelier it made the task's true answer, to the last by the outcome.

For environments that know their answers (TextEnv.answer). What the policy thinks of an answer is computed by the trainer. The
defaults are the paper's formulas; conf/algo/igpo_official.yaml and igpo_first_release.yaml set what the authors' code computes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from algorithms.base import Advantages, Algorithm, Bools, Floats, Need, Scored
from algorithms.stats import ROUNDING, Normalize, discounted_returns, discounted_sums, episode_returns, normalize
from envs.common.structured import Fraction, NonNegative


@dataclass
class IGPO(Algorithm):
    """A turn's reward is its information gain, the last turn's the episode's return; compared in the task, then summed onwards.

    Shaped rewards entering at `return` are part of the episode's return.
    """

    gamma: Fraction = 1.0
    """Discount of normalized rewards from one turn to the next."""
    gain: Literal["probability", "log_probability"] = "probability"
    """What the gain is the difference of, after and before the turn: p = exp(mean log-probability of the answer's tokens)
    (paper), or that mean (an option of the second release)."""
    statistics: Literal["joint", "separate"] = "joint"
    """Mean and std over all gains and returns of a task (paper), or over its gains and its returns apart."""
    normalize: Normalize = "std"
    """std: divide by the population standard deviation; mean: only subtract the mean."""
    outcome_weight: NonNegative = 1.0
    """Factor of returns, before they are compared."""
    gain_weight: NonNegative = 1.0
    """Factor of gains, before they are compared; 0 leaves gains of 0, which still enter the statistics."""
    zero_gain: Literal["counts", "joins_next"] = "counts"
    """A turn that gained exactly 0. counts: as any other; joins_next: it is no turn, enters no statistic, and gets the next
    one's advantage (official)."""
    baseline: Literal["turns", "positions"] = "turns"
    """positions: no normalization; a token's undiscounted return less the task's mean at the same place, counted in sampled
    tokens from the episode's beginning (official, first release)."""
    cut: bool = True
    """baseline=positions: a token's return ends with its turn, as it did where the environment's tokens stand between turns."""
    epsilon: NonNegative = 1e-6
    """Added to the standard deviation."""
    variance_epsilon: NonNegative = 0.0
    """Added to the variance."""

    min_group_size: ClassVar[int] = 2
    needs: ClassVar[frozenset[Need]] = frozenset({"answers"})

    @property
    def discount(self) -> float:
        return self.gamma

    @property
    def credits_tokens(self) -> bool:
        """With baseline=positions."""
        return self.baseline == "positions"

    def credit(self, batch: Scored) -> Advantages:
        """One value a step [S]; with baseline=positions one a token [T]. Raises ValueError if there are no `answers`."""
        if batch.answers is None:
            raise ValueError(
                "IGPO needs batch.answers, the log-probability of the true answer before each step; there are none"
            )
        last = np.append(np.diff(batch.episode) != 0, True)[: len(batch.episode)]
        gain = self.gains(batch.answers, last)
        known = last | np.isfinite(gain)
        outcome = self.outcome_weight * episode_returns(batch, batch.reward)
        reward = np.where(last, outcome, np.where(known, self.gain_weight * gain, 0.0))
        metrics = {"gain": float(gain[known & ~last].mean()) if (known & ~last).any() else 0.0}
        parts = {"gain": gain, "outcome": np.where(last, outcome, np.nan)}
        if self.baseline == "positions":
            parts = {name: np.repeat(part, batch.tokens) for name, part in parts.items()}
            return Advantages(self._by_position(batch, reward), level="token", parts=parts, metrics=metrics)
        discount = np.full(len(reward), self.gamma)
        if self.zero_gain == "joins_next":
            joins = ~last & (gain == 0)
            known, discount = known & ~joins, np.where(joins, 1.0, discount)
        group = batch.group if self.statistics == "joint" else 2 * batch.group + last
        compared = normalize(reward, group, known, self.normalize, self.epsilon, ddof=0, variance_epsilon=self.variance_epsilon)
        compared = np.where(known, compared, 0.0)
        advantage = discounted_sums(compared, discount, batch.episode)
        return Advantages(advantage, parts={**parts, "turn": compared}, metrics=metrics)

    def gains(self, answers: Floats, last: Bools) -> Floats:
        """[S] what each turn but the `last` [S] of an episode added to the answer; nan there, and where no answer is known."""
        belief = np.exp(answers) if self.gain == "probability" else answers
        after = np.append(belief[1:], np.nan)[: len(belief)]
        return np.where(last, np.nan, after - belief)

    def _by_position(self, batch: Scored, reward: Floats) -> Floats:
        """[T] a token's return less the mean of the task's episodes at its place, where one that has ended counts as 0."""
        onwards = reward if self.cut else discounted_returns(batch, reward, gamma=1.0)
        returns, group = np.repeat(onwards, batch.tokens), np.repeat(batch.group, batch.tokens)  # [T]
        per_episode = np.bincount(batch.episode, batch.tokens, len(batch.faulted)).astype(np.int64)  # [N]
        place = np.arange(len(returns)) - np.repeat(np.cumsum(per_episode) - per_episode, per_episode)
        key = group * per_episode.max(initial=0) + place
        episodes = np.bincount(batch.group[batch.position == 0])  # [G]
        mean = (np.bincount(key, returns)[key] if len(key) else returns) / episodes[group]
        deviation = returns - mean
        deviation[np.abs(deviation) <= ROUNDING * np.abs(mean)] = 0.0
        return deviation

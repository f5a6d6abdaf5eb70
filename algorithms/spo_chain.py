"""SPO-chain (arXiv 2505.23564): tokens between two places where the policy was uncertain, by how much value changed there.

A place's value is the mean return of continuations sampled from there, in the middle of an answer too.
conf/algo/spo_chain_official.yaml sets what the authors' trainer computes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from algorithms.base import Advantages, Batch, Floats, Ints, Need, Scored
from algorithms.branching import MonteCarloMethod, certain_tokens, difference, normalized, with_own
from algorithms.stats import discounted_returns
from envs.common.structured import Fraction, Positive


@dataclass
class SPOChain(MonteCarloMethod):
    """A segment's tokens get V(its end) - V(its beginning), rewards in between added; the last one ends with the return itself.

    Segments begin before every `interval`-th token of an episode that was sampled with a probability below `threshold`, from
    the first such token on. What is before it gets 0.
    """

    threshold: Fraction = 0.9
    """Below this probability a token is uncertain."""
    interval: Positive = 5
    """A segment has so many uncertain tokens."""
    certain: Literal["masked", "zero", "credited"] = "masked"
    """Tokens that are not uncertain. masked: not trained on (the paper's probability mask); zero: their advantage is 0, and
    they count in the loss's mean; credited: like the rest of their segment."""

    needs: ClassVar[frozenset[Need]] = frozenset({"prefix_values"})

    @property
    def credits_tokens(self) -> bool:
        return True

    def places(self, batch: Batch) -> Ints:
        """[B] the tokens before which segments begin. Raises ValueError without batch.logprobs."""
        uncertain = np.flatnonzero(~certain_tokens(batch, self.threshold))  # [U]
        episode = np.repeat(batch.episode, batch.tokens)[uncertain]
        number = np.bincount(episode, minlength=len(batch.faulted))  # [N]
        place = np.arange(len(uncertain)) - (np.cumsum(number) - number)[episode]  # 0, 1, 2, ... within each trajectory
        return uncertain[place % self.interval == 0]

    def most_places(self, steps: int, tokens: int) -> int:
        return -(-tokens // self.interval)

    def credit(self, batch: Scored) -> Advantages:
        """One value a token [T]. Raises ValueError without batch.prefix_values and batch.logprobs."""
        if batch.prefix_values is None:
            raise ValueError("SPO-chain needs batch.prefix_values, the mean return of continuations from before its cuts")
        sure = certain_tokens(batch, self.threshold)
        values, base = segment_advantages(batch, batch.prefix_values, self.gamma)
        if self.certain != "credited":
            values = np.where(sure, 0.0, values)
        values, defined = with_own(batch, values), np.ones(len(values), dtype=bool)
        if self.certain == "masked":
            defined = ~sure
        if self.normalize:
            values = normalized(values, defined)
        cuts = int((~np.isnan(batch.prefix_values)).sum())
        episodes = max(1, len(batch.faulted))
        metrics = {"cuts": cuts / episodes, "certain_tokens": float(sure.mean()) if len(sure) else 0.0}
        return Advantages(values, defined, level="token", parts={"value": base}, metrics=metrics)


def segment_advantages(batch: Scored, values: Floats, gamma: float) -> tuple[Floats, Floats]:
    """[T] advantage of each token's segment, 0 before an episode's first cut, and [T] the value at its beginning, nan there.

    values [T]: at cuts, nan elsewhere. From a cut in step s to one in step t, A = sum of gamma^(k-s) r_k over s <= k < t +
    gamma^(t-s) V(end) - V(beginning); behind the last cut the sum goes to the episode's end.
    """
    step = np.repeat(np.arange(len(batch.tokens)), batch.tokens)  # [T]
    cut = np.flatnonzero(~np.isnan(values))
    credit, base = np.zeros(len(values)), np.full(len(values), np.nan)
    if not len(cut):
        return credit, base
    at, returns = step[cut], discounted_returns(batch, batch.backed_up, gamma)  # [C], [S]
    follows = np.append(batch.episode[at[1:]] == batch.episode[at[:-1]], False)  # [C] whether another cut of the episode does
    end = np.append(cut[1:], 0)
    steps = np.where(follows, batch.position[step[end]] - batch.position[at], 0)
    passed = np.where(follows, gamma**steps * (values[end] - returns[step[end]]), 0.0)
    advantage = difference(returns[at] + passed, values[cut])
    number = np.searchsorted(cut, np.arange(len(values)), side="right") - 1  # [T] the last cut up to each token
    there = (number >= 0) & (batch.episode[at[number]] == batch.episode[step])
    credit[there], base[there] = advantage[number[there]], values[cut[number[there]]]
    return credit, base

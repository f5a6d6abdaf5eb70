"""MA-RLHF (arXiv 2410.02743): PPO over macro actions, runs of tokens that are decided on as one.

A macro action has one value, one reward and one advantage, which all its tokens get. Macro actions never cross steps, and a
step is the natural one: with macro=step, value=first this is PPO over actions. conf/algo/ma_ppo_official.yaml sets what the
authors' trainer computes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from algorithms.base import Floats, Ints, Need, Scored
from algorithms.critics import CriticMethod, at_last_token
from algorithms.parse import constituents, levels
from algorithms.stats import gae
from envs.common.structured import Fraction, Positive


@dataclass
class MacroPPO(CriticMethod):
    """GAE over macro actions. The ratio of the loss stays that of single tokens, as in the authors' code."""

    gamma: Fraction = 1.0
    """Discount from one macro action to the next."""
    lam: Fraction = 0.95
    """GAE's lambda: 0 trusts the value of the next macro action, 1 the rewards of the whole rest."""
    macro: Literal["ngram", "parse", "perplexity", "step"] = "ngram"
    """What a macro action is. ngram: so many tokens; parse: a part of the response, which tags, lines, marks and spaces divide;
    perplexity: tokens of which each was at least as likely as the one before; step: a whole response."""
    n: Positive = 5
    """macro=ngram: tokens of a macro action (paper)."""
    most: Positive = 5
    """macro=parse: tokens of the largest macro action (the paper's C)."""
    value: Literal["equal", "position", "first"] = "equal"
    """Which value a macro action has: the mean of those before its tokens; a mean with weights 1, 1/2, 1/3, ...; or that before
    its first token, which is then the only one to be fitted."""
    reward: Literal["sum", "mean"] = "sum"
    """Of the rewards at its tokens. mean: weighted as the values are (official)."""
    boundaries: Literal["paper", "official"] = "paper"
    """official: the last token of a response is a macro action of its own; behind an n-gram that ends right before it stands an
    empty one, without value and reward; and with macro=perplexity one begins a token early."""

    needs: ClassVar[frozenset[Need]] = frozenset({"values"})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reward == "mean" and self.value == "first":
            raise ValueError("reward is 'mean', weighted as the values are, and value is 'first'; allowed with it: sum")

    @property
    def reads(self) -> frozenset[Need]:
        return super().reads | ({"token_text"} if self.macro == "parse" else frozenset())

    @property
    def credits_tokens(self) -> bool:
        """Unless a step is one decision."""
        return self.macro != "step"

    def estimate(self, batch: Scored, values: Floats) -> tuple[Floats, Floats]:
        """GAE over macro actions; the values before all tokens of one are fitted to its return (value=first: the first)."""
        size, step = self.macros(batch)
        weight, paid = weights(size, self.value), self.at_tokens(batch)
        value = summed(weight * values, size)
        reward = summed(paid if self.reward == "sum" else weight * paid, size)
        advantage = gae(reward, value, np.full(len(size), self.gamma), batch.episode[step], self.lam)
        return np.repeat(advantage, size), np.where(weight > 0, np.repeat(advantage + value, size), np.nan)

    def at_tokens(self, batch: Scored) -> Floats:
        """[T] the reward that stands at each token: a step's, at its last one."""
        return at_last_token(batch, batch.reward)

    def macros(self, batch: Scored) -> tuple[Ints, Ints]:
        """[M] tokens of each macro action, and its step. Raises ValueError without the batch's logprobs (macro=perplexity) or
        token_text (macro=parse)."""
        tokens = batch.tokens
        if self.macro == "perplexity" and batch.logprobs is None:
            raise ValueError("macro=perplexity needs batch.logprobs, the log-probability of each sampled token")
        if self.macro == "parse" and batch.token_text is None:
            raise ValueError("macro=parse needs batch.token_text, what each sampled token adds to the text of its response")
        place = np.arange(int(tokens.sum())) - np.repeat(np.cumsum(tokens) - tokens, tokens)  # [T] within the step
        alone = np.zeros(len(place), dtype=bool)
        if self.boundaries == "official":
            alone[np.cumsum(tokens) - 1] = True
        begins = place == 0
        if self.macro == "ngram":
            begins |= place % self.n == 0
        elif self.macro == "parse":
            assert batch.token_text is not None
            begins |= constituents(parsed(batch.token_text, tokens), self.most)
        elif self.macro == "perplexity":
            assert batch.logprobs is not None
            rises = np.append(False, np.diff(batch.logprobs) < 0)[: len(place)] & (place > 0)  # less likely than the one before
            begins |= rises if self.boundaries == "paper" else np.append(rises[1:], False)[: len(place)]
        step = np.repeat(np.arange(len(tokens)), tokens)
        # Where one would begin anyway at the token that is alone, an empty one does.
        first = np.sort(np.concatenate([np.flatnonzero(begins | alone), np.flatnonzero(begins & alone)]))
        return np.diff(first, append=len(place)), step[first]


def parsed(pieces: Sequence[str], tokens: Ints) -> Ints:
    """[T] `levels` of responses of `tokens` [S] tokens, whose pieces [T] stand one after another."""
    known: dict[tuple[str, ...], Ints] = {}
    said = [tuple(pieces[end - n : end]) for end, n in zip(np.cumsum(tokens).tolist(), tokens.tolist(), strict=True)]
    for one in said:
        if one not in known:
            known[one] = levels(one)
    return np.concatenate([known[one] for one in said]) if said else np.zeros(0, dtype=np.int64)


def weights(size: Ints, value: Literal["equal", "position", "first"]) -> Floats:
    """[T] what each token counts for in its macro action of `size` [M] tokens, summing to 1."""
    place = np.arange(int(size.sum())) - np.repeat(np.cumsum(size) - size, size)
    if value == "first":
        return (place == 0).astype(np.float64)
    raw = np.ones(len(place)) if value == "equal" else 1.0 / (place + 1)
    return raw / np.repeat(summed(raw, size), size)


def summed(values: Floats, size: Ints) -> Floats:
    """[M] sums of values [T] over macro actions of `size` [M] tokens; 0 of an empty one."""
    return np.bincount(np.repeat(np.arange(len(size)), size), values, len(size)).astype(np.float64)

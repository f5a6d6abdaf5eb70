"""Objectives on pairs of a better and a worse episode of one task: weighted DPO losses on log pi - log pi_ref of their tokens.

Such an objective pays nothing. What it adds to an update is its gradient: the numbers -dL / d log pi of the sampled tokens,
times their count, enter at the advantage. At the first step of an update, with loss.aggregation=token-mean, the gradient is
then exactly that of the method's own loss plus L. Later steps of the same update keep the numbers of the first.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from algorithms.base import Algorithm, Batch, Bools, Floats, Ints
from algorithms.shaping.outcome_model import Outcomes, everywhere
from algorithms.shaping.preference import Fit, right_share, sigmoid, softplus
from envs.common.structured import AboveZero

Pair = tuple[slice, slice]
"""Which of the tokens [T] of a batch are compared: those of the better episode, and those of the worse one."""


@dataclass
class PairObjective(Outcomes):
    """A subclass says what it reads of each token, and its loss."""

    begin: Literal["parting", "start"] = "parting"
    """Where the tokens begin that are compared: with the first step whose state or answer differs, or with the episode. What
    two episodes have in common cancels in plain DPO, but not with weights."""
    weight: AboveZero = 1.0
    """Of this objective beside the method's own loss."""

    name: ClassVar[str]
    """Under which it is registered."""
    rewards_tokens: ClassVar[bool] = True

    @abstractmethod
    def read(self, batch: Batch, reference: Floats) -> tuple[Floats, dict[str, float]]:
        """[T] what the objective reads of each token of a batch, after its models have learned; metrics. reference [T]."""

    @abstractmethod
    def loss(self, pairs: Sequence[Pair], policy: Floats, reference: Floats, read: Floats) -> Fit:
        """Mean over pairs, and its gradient with respect to `policy`, the log-probabilities that are trained. All [T]."""

    @property
    def reads_reference(self) -> bool:
        return True

    def check(self, method: Algorithm) -> None:
        """Raises ValueError where parts of a gradient would be taken for rewards."""
        where = method.shaped_at.get(self.name, "reward")
        if where != "advantage":
            raise ValueError(
                f"weight is {self.weight:g}, that of a gradient whose parts enter as advantages, and "
                f"algo.shaped_at.{self.name} is '{where}': set algo.shaped_at.{self.name}=advantage"
            )

    async def shape(self, batch: Batch) -> Floats:
        """[T] what each token adds to the advantage. Faulted episodes take no part.

        metrics: loss, number and accuracy of pairs under the policy before its update, and those of models that learned.
        """
        model, counted = self.of_trainer(self.model), np.repeat(batch.included, batch.tokens)
        policy, reference = model.rollout_logprobs(batch), model.reference_logprobs(batch)
        read, metrics = self.read(batch, reference)
        played = Batch(**batch.finished())
        pairs = paired(played, self.labels(played) > 0, self.begin)
        found = self.loss(pairs, policy[counted], reference[counted], read[counted])
        self.metrics = {**metrics, "pairs": float(found.compared)}
        if found.compared:
            self.metrics |= {"loss": found.loss, "accuracy": found.accuracy}
        return everywhere(-self.weight * len(found.gradient) * found.gradient, counted)


def paired(batch: Batch, better: Bools, begin: Literal["parting", "start"] = "parting") -> list[Pair]:
    """All pairs of a better [N] episode and one that is not, of the same group, from where on they are compared."""
    group = batch.group[batch.position == 0]  # [N]
    chosen, rejected = np.nonzero(better[:, None] & ~better & (group[:, None] == group))
    first_step = np.append(0, np.cumsum(batch.length))
    first_token = np.append(0, np.cumsum(batch.tokens))
    taken = _numbered(batch)

    def compared(one: int, other: int) -> Pair:
        a, b = (slice(first_step[number], first_step[number + 1]) for number in (one, other))
        alike = _in_common(taken[a], taken[b]) if begin == "parting" else 0
        return (
            slice(int(first_token[a.start + alike]), int(first_token[a.stop])),
            slice(int(first_token[b.start + alike]), int(first_token[b.stop])),
        )

    return [compared(*pair) for pair in zip(chosen.tolist(), rejected.tolist())]


def weighted_dpo(pairs: Sequence[Pair], ratio: Floats, better: Floats, worse: Floats) -> Fit:
    """Mean over pairs of -log sigmoid(sum of better x ratio over the better's tokens - sum of worse x ratio over the worse's).

    All [T]: the log-ratios, and the weights of a token in a better and in a worse episode. The gradient is with respect to
    `ratio`.
    """
    margin = np.array([better[a] @ ratio[a] - worse[b] @ ratio[b] for a, b in pairs])
    return Fit(
        float(softplus(-margin).mean()) if pairs else 0.0,
        spread(pairs, -sigmoid(-margin) / max(1, len(pairs)), better, -worse),
        len(pairs),
        right_share(margin) if pairs else 0.0,
    )


def positionwise_dpo(pairs: Sequence[Pair], ratio: Floats, better: Floats, worse: Floats) -> Fit:
    """The same without the sums: -log sigmoid of the difference at each place, counted from where a pair begins, and its mean
    over the places of the longer episode; an episode that has ended has ratios of 0. Then the mean over pairs."""
    gradient, losses, right = np.zeros(len(ratio)), [], []
    for a, b in pairs:
        margin = np.zeros(max(a.stop - a.start, b.stop - b.start))
        margin[: a.stop - a.start] += better[a] * ratio[a]
        margin[: b.stop - b.start] -= worse[b] * ratio[b]
        slope = -sigmoid(-margin) / (max(1, len(margin)) * len(pairs))
        gradient[a] += slope[: a.stop - a.start] * better[a]
        gradient[b] -= slope[: b.stop - b.start] * worse[b]
        losses.append(softplus(-margin).mean() if len(margin) else np.log(2))
        right.append(right_share(margin) if len(margin) else 0.5)
    return Fit(float(np.mean(losses or [0])), gradient, len(pairs), float(np.mean(right or [0])))


def spread(pairs: Sequence[Pair], of_pair: Floats, better: Floats, worse: Floats) -> Floats:
    """[T] sum over pairs of `of_pair` [P] times `better` [T] at its better episode's tokens, and `worse` [T] at the other's."""
    total = np.zeros(len(better))
    for (a, b), value in zip(pairs, of_pair, strict=True):
        total[a] += value * better[a]
        total[b] += value * worse[b]
    return total


def _numbered(batch: Batch) -> Ints:
    """[S] equal where state and sampled tokens are; without a state key, where the tokens are."""
    if batch.token_ids is None:
        raise ValueError("pairs need batch.token_ids, the sampled tokens")
    known: dict[tuple[int, bytes], int] = {}
    said = np.split(batch.token_ids, np.cumsum(batch.tokens)[:-1]) if len(batch.tokens) else []
    numbers = [known.setdefault((state, ids.tobytes()), len(known)) for state, ids in zip(batch.state.tolist(), said)]
    return np.array(numbers, dtype=np.int64)


def _in_common(a: Ints, b: Ints) -> int:
    """How many steps two episodes have in common, from the beginning."""
    n = min(len(a), len(b))
    differ = np.append(a[:n] != b[:n], True)
    return int(differ.argmax())

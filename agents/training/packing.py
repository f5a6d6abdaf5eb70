"""Episodes as rows: what was read and sampled, as the texts that a model reads again to learn from it.

Invariant: a row's ids are exactly those that the model read and sampled; the loss stands on sampled tokens only. A growing
conversation is one row; where the prompt is rebuilt (context=window), a step is one. Where an action was chosen as a whole, a
step is a row whose candidates stand behind its prompt.

Rows know nothing of each other. That texts begin alike, and that no token is computed twice, is left to the passes over them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from agents.rollout.choice import ActionChoice, Scoring
from agents.training.prefix_tree import Text
from algorithms.base import Ints
from envs.trajectory import Trajectory


@dataclass(slots=True)
class Row:
    """What is read to learn from some sampled tokens, always in one pass."""

    ids: Text
    """[L]"""
    targets: list[int]
    """Places in `ids` of the sampled tokens."""
    tokens: list[int]
    """Their numbers in the batch's flat order (trajectory by trajectory, step by step)."""
    choice: ActionChoice | None = None
    """If the action was chosen as a whole: among what, behind `ids`. Then `tokens` holds its first one, and `targets` none."""

    def __len__(self) -> int:
        return len(self.ids)

    # -- what goes through a model: all but tokens that only stand to be predicted ---------------------------------------

    @property
    def trunk(self) -> Text:
        """What all texts of the row begin with: where there is no choice, the only one."""
        return self.ids if self.choice is not None else self.ids[: self.targets[-1]]

    @property
    def texts(self) -> list[Text]:
        """The trunk, or each candidate behind it."""
        if self.choice is None:
            return [self.trunk]
        return [np.concatenate([self.ids, np.array(one[:-1], dtype=np.int32)]) for one in self.choice.responses]

    @property
    def predicted(self) -> list[tuple[Ints, Ints]]:
        """For each text, the places that predict a token [M], and these tokens' ids [M]."""
        if self.choice is None:
            places = np.array(self.targets, dtype=np.int64)
            return [(places - 1, self.ids[places].astype(np.int64))]
        last = len(self.ids) - 1
        return [(np.arange(last, last + len(one)), np.array(one, dtype=np.int64)) for one in self.choice.responses]

    @property
    def behind(self) -> list[int]:
        """How many tokens each candidate puts behind the trunk."""
        return [len(one) - 1 for one in self.choice.responses] if self.choice is not None else []


def laid_out(trajectory: Trajectory, first: int = 0) -> list[Row]:
    """Rows of one episode: one for a conversation, one a step where each has a prompt of its own.

    first: flat number of the episode's first sampled token.
    """
    rows: list[Row] = []
    ids: list[int] = []
    targets: list[int] = []
    start = first
    for step in trajectory.steps:
        ids += step.prompt_ids
        targets.extend(range(len(ids), len(ids) + len(step.response_ids)))
        ids += step.response_ids
        if trajectory.context == "window" or step is trajectory.steps[-1]:
            rows.append(Row(np.array(ids, dtype=np.int32), targets, list(range(start, start + len(targets)))))
            start, ids, targets = start + len(targets), [], []
    return rows


def read_before(trajectory: Trajectory) -> Iterator[Text]:
    """What had been read before each response of an episode."""
    whole = laid_out(trajectory)
    read = 0
    for number, step in enumerate(trajectory.steps):
        if trajectory.context == "window":
            yield whole[number].ids[: len(step.prompt_ids)]
        else:
            yield whole[0].ids[: read + len(step.prompt_ids)]
            read += len(step.prompt_ids) + len(step.response_ids)


def choosing(trajectory: Trajectory, first: int, scoring: Scoring) -> Iterator[Row]:
    """A row for each step of an episode: what was read before it, and all its candidates."""
    for step, ids in zip(trajectory.steps, read_before(trajectory), strict=True):
        responses, lengths = scoring.candidates(step.admissible_actions or [])
        if step.response_ids not in responses:
            raise ValueError(f"the response that says '{step.action}' is not among the candidates of its step")
        yield Row(ids, [], [first], ActionChoice(responses, lengths, responses.index(step.response_ids)))
        first += len(step.response_ids)


def answering(trajectory: Trajectory, first: int, lead: Sequence[int], answer: Sequence[int]) -> Iterator[Row]:
    """A row for each step of an episode: what was read before it, and a response that gives `answer` behind `lead` instead.

    first: number of the first answer token.
    """
    for ids in read_before(trajectory):
        given = np.concatenate([ids, np.array([*lead, *answer], dtype=np.int32)])
        yield Row(given, list(range(len(given) - len(answer), len(given))), list(range(first, first + len(answer))))
        first += len(answer)


def acted(trajectory: Trajectory, first: int = 0) -> list[Row]:
    """Rows of one episode whose places stand at the last token of each response: where an action has just been said.

    first: flat number of the episode's first step; steps are numbered instead of tokens.
    """
    rows: list[Row] = []
    ids: list[int] = []
    ends: list[int] = []
    for number, step in enumerate(trajectory.steps, start=first):
        ids += [*step.prompt_ids, *step.response_ids]
        ends.append(len(ids))
        if trajectory.context == "window" or step is trajectory.steps[-1]:
            # A place is what predicts the token behind it; behind the row's last one any will do.
            whole = np.array([*ids, 0], dtype=np.int32)
            rows.append(Row(whole, ends, list(range(number + 1 - len(ends), number + 1))))
            ids, ends = [], []
    return rows


def rebuild_tokens(trajectories: Iterable[Trajectory]) -> int:
    """Tokens that a layout with one whole prompt a step would compute for the same conversations."""
    total = 0
    for trajectory in trajectories:
        context = 0
        for step in trajectory.steps:
            read = len(step.prompt_ids) + len(step.response_ids)
            context = context + read if trajectory.context == "full" else read
            total += context
    return total

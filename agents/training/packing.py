"""Episodes as rows for the trainer, every token computed once where the context allows it.

Invariant: joining a row's tokens along prefix and branch gives exactly the ids that the model read and sampled; the loss stands
on sampled tokens only. A growing conversation is one row. Rebuilt prompts (context=window) that begin alike share that prefix:
one row holds the prefix once and each remainder as a branch that sees the prefix and itself. Where an action was chosen as a
whole, all candidates of a step stand behind its prompt, as branches too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from agents.rollout.choice import ActionChoice, Scoring
from envs.trajectory import Step, Trajectory

MIN_SHARED = 32
"""Prefixes shorter than this are not worth a branched row."""


@dataclass(slots=True)
class Row:
    """One line of a micro-batch."""

    ids: list[int]
    positions: list[int] | None
    """Position of each token, or None for 0, 1, 2, ..."""
    segments: list[int] | None
    """0 for the shared prefix, 1.. for the branches; None for a row without branches."""
    targets: list[int]
    """Places in `ids` of the sampled tokens."""
    tokens: list[int]
    """For each target, its number in the batch's flat order (trajectory by trajectory, step by step)."""
    choices: list[ActionChoice] | None = None
    """If actions were chosen as wholes: one choice for each of `tokens`, the first ones of responses, and no targets."""

    def __len__(self) -> int:
        return len(self.ids)


def laid_out(trajectory: Trajectory, first: int = 0) -> list[Row]:
    """Rows of one episode without branches: one for a conversation, one a step where each has a prompt of its own.

    first: flat number of the episode's first sampled token.
    """
    if trajectory.context == "full":
        return [_conversation(trajectory, first)] if trajectory.steps else []
    return list(_windows(trajectory, first))


def _conversation(trajectory: Trajectory, first: int) -> Row:
    ids: list[int] = []
    targets: list[int] = []
    for step in trajectory.steps:
        ids.extend(step.prompt_ids)
        targets.extend(range(len(ids), len(ids) + len(step.response_ids)))
        ids.extend(step.response_ids)
    return Row(ids, None, None, targets, list(range(first, first + len(targets))))


def _windows(trajectory: Trajectory, first: int) -> Iterator[Row]:
    for step in trajectory.steps:
        start, n = len(step.prompt_ids), len(step.response_ids)
        yield Row(
            [*step.prompt_ids, *step.response_ids], None, None, list(range(start, start + n)), list(range(first, first + n))
        )
        first += n


def branched(windows: Iterable[Row], longest_row: int) -> Iterator[Row]:
    """Join rows that begin alike, given in the order of their ids, which puts the longest common prefixes side by side.

    `longest_row` bounds a joined row in tokens: attention in a row is quadratic.
    """
    group: list[Row] = []
    prefix = 0
    total = 0
    for row in windows:
        if group:
            shared = min(_common(group[0].ids, row.ids), prefix, row.targets[0] - 1)
            # Taking the row in may shorten the prefix of the whole group: only while that still saves tokens.
            joined = total + len(row) - shared + (prefix - shared) * (len(group) - 1)
            if shared >= MIN_SHARED and 2 * shared >= prefix and joined <= longest_row:
                total, prefix = joined, shared
                group.append(row)
                continue
            yield _join(group, prefix)
        group, prefix, total = [row], row.targets[0] - 1, len(row)
    if group:
        yield _join(group, prefix)


def _common(left: Sequence[int], right: Sequence[int]) -> int:
    n = min(len(left), len(right))
    if left[:n] == right[:n]:
        return n
    low, high = 0, n
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if left[:middle] == right[:middle] else (low, middle)
    return low


def _join(group: Sequence[Row], prefix: int) -> Row:
    if len(group) == 1:
        return group[0]
    ids = list(group[0].ids[:prefix])
    positions = list(range(prefix))
    segments = [0] * prefix
    targets: list[int] = []
    tokens: list[int] = []
    for number, row in enumerate(group, start=1):
        shift = len(ids) - prefix
        ids.extend(row.ids[prefix:])
        positions.extend(range(prefix, len(row)))
        segments.extend([number] * (len(row) - prefix))
        targets.extend(place + shift for place in row.targets)
        tokens.extend(row.tokens)
    return Row(ids, positions, segments, targets, tokens)


def choosing(trajectory: Trajectory, first: int, longest_row: int, scoring: Scoring) -> Iterator[Row]:
    """Rows with the candidates of every step. What was read is the trunk; a branch sees the trunk before it, the trunk sees no
    branch.

    A row holds as many steps as `longest_row` tokens allow (0: all), and at least one: a step's prompt and all its candidates
    must be in one pass, however many they are.
    """
    read: list[int] = []
    row: Row | None = None
    written = 0
    for step in trajectory.steps:
        if trajectory.context == "window":
            read, written = [], 0
            if row:
                yield row
                row = None
        read += step.prompt_ids
        responses, lengths = scoring.candidates(step.admissible_actions or [])
        spread = sum(len(response) - 1 for response in responses)
        if row and longest_row and len(row) + len(read) - written + spread > longest_row:
            yield row
            row = None
        if row is None:
            row, written = Row([], [], [], [], [], []), 0
        _extend(row, read[written:], range(written, len(read)), 0)
        written = len(read)
        assert row.choices is not None
        row.choices.append(_branch_out(row, step, responses, lengths, written))
        row.tokens.append(first)
        read += step.response_ids
        first += len(step.response_ids)
    if row:
        yield row


def _extend(row: Row, ids: Sequence[int], positions: Iterable[int], segment: int) -> None:
    assert row.positions is not None
    assert row.segments is not None
    row.ids += ids
    row.positions += positions
    row.segments += [segment] * len(ids)


def _branch_out(row: Row, step: Step, responses: list[list[int]], lengths: list[int], position: int) -> ActionChoice:
    """Lay out the candidates of a step as branches behind its prompt; the last token of each only stands to be predicted."""
    if step.response_ids not in responses:
        raise ValueError(f"the response that says '{step.action}' is not among the candidates of its step")
    prompt = len(row) - 1
    before: list[int] = []
    branches = sum(len(choice.sizes) for choice in row.choices or [])
    for segment, response in enumerate(responses, start=branches + 1):
        before += [prompt, *range(len(row), len(row) + len(response) - 1)]
        _extend(row, response[:-1], range(position, position + len(response) - 1), segment)
    targets = [token for response in responses for token in response]
    return ActionChoice(before, targets, [len(response) for response in responses], lengths, responses.index(step.response_ids))


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

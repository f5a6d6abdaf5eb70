"""Which states an audit values, and how a decision's true advantage is made of them: A = r + gamma V(after) - V(before).

A state is what the rest of an episode depends on: the environment's state and all that the policy has read and said (with
context=window: what it reads now, and the time). Episodes of one task that came there the same way share it, and it is valued
once. A decision is a step, or a part of a step's response; both are rows of `Decisions`.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np

from algorithms.base import Bools, Floats, Ints
from envs.trajectory import Trajectory

END = -1
"""Number of the state after a last step, whose value is 0."""


@dataclass(frozen=True, slots=True)
class State:
    """A state, by the first episode that was in it: before its step, with the first `token` tokens of the response said."""

    episode: int
    step: int
    token: int = 0


@dataclass(eq=False)
class Decisions:
    """Decisions [D] in the order of their episodes, as rows over states."""

    episode: Ints
    """[D] number of the episode."""
    step: Ints
    """[D] number of its step in the batch's flat order."""
    tokens: Ints
    """[D, 2] first token of the batch's flat order that belongs to it, and the one behind its last."""
    before: Ints
    """[D] number of the state in which it was made."""
    after: Ints
    """[D] of the state that it led to; END behind a last step."""
    reward: Floats
    """[D] the environment's own reward for it."""
    discount: Floats
    """[D] of the value after it."""

    def __len__(self) -> int:
        return len(self.episode)

    @property
    def entries(self) -> tuple[Ints, Ints, Floats]:
        """(decision, state, factor) [E]: how values enter the advantages, A = reward + factor V, summed by decision."""
        led = np.flatnonzero(self.after != END)
        number = np.arange(len(self))
        return (
            np.concatenate([number, led]),
            np.concatenate([self.before, self.after[led]]),
            np.concatenate([-np.ones(len(self)), self.discount[led]]),
        )

    def uses(self, states: int) -> Floats:
        """[V] sum of the squared factors with which each of so many states enters the advantages."""
        _, state, factor = self.entries
        return sums(state, factor**2, states)


def sums(number: Ints, values: Floats | Bools, count: int) -> Floats:
    """[count] sum of `values` by number."""
    return np.bincount(number, values, count).astype(np.float64)


@dataclass(eq=False)
class States:
    """The states [V] that were met. Holds what is needed to recognize one."""

    trajectories: Sequence[Trajectory]
    met: list[State] = field(default_factory=list)
    _numbers: dict[Hashable, int] = field(default_factory=dict)
    _of_step: dict[tuple[int, int], int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.met)

    def name(self, number: int) -> str:
        """A name that the same audit gives the same state whenever it is run."""
        state = self.met[number]
        return f"{self.trajectories[state.episode].called}>{state.step}.{state.token}"

    def of_step(self, episode: int, step: int) -> int:
        """Number of the state before a step; earlier steps of the episode must have been asked for."""
        if (episode, step) not in self._of_step:
            self._of_step[episode, step] = self._number(self._key(episode, step), State(episode, step))
        return self._of_step[episode, step]

    def within(self, episode: int, step: int, token: int) -> int:
        """Number of the state in the middle of a response, behind its first `token` tokens; 0: the state before the step."""
        before = self.of_step(episode, step)
        said = tuple(self.trajectories[episode].steps[step].response_ids[:token])
        return self._number((before, said), State(episode, step, token)) if token else before

    def _key(self, episode: int, step: int) -> Hashable:
        trajectory = self.trajectories[episode]
        here = trajectory.steps[step]
        task = (trajectory.env_id, trajectory.task_id, trajectory.seed, trajectory.context)
        read = (here.state_key, tuple(here.prompt_ids))
        if trajectory.context == "window":
            return (*task, step, *read)
        if step == 0:
            return (*task, *read)
        return (self.of_step(episode, step - 1), tuple(trajectory.steps[step - 1].response_ids), *read)

    def _number(self, key: Hashable, state: State) -> int:
        number = self._numbers.setdefault(key, len(self.met))
        if number == len(self.met):
            self.met.append(state)
        return number


def of_steps(states: States, gamma: float) -> Decisions:
    """The steps [D = S] of all episodes as decisions; their states are added to `states`."""
    rows: list[tuple[int, int, int, float]] = []
    sizes: list[int] = []
    for number, trajectory in enumerate(states.trajectories):
        numbers = [states.of_step(number, step) for step in range(len(trajectory.steps))]
        rows += [(number, *pair) for pair in zip(numbers, [*numbers[1:], END], (s.reward for s in trajectory.steps))]
        sizes += [len(step.response_ids) for step in trajectory.steps]
    episode, before, after, reward = zip(*rows) if rows else ((), (), (), ())
    ends = np.cumsum(np.array(sizes, dtype=np.int64))
    return Decisions(
        episode=np.array(episode, dtype=np.int64),
        step=np.arange(len(rows)),
        tokens=np.stack([ends - sizes, ends], axis=1) if rows else np.zeros((0, 2), dtype=np.int64),
        before=np.array(before, dtype=np.int64),
        after=np.array(after, dtype=np.int64),
        reward=np.array(reward, dtype=np.float64),
        discount=np.full(len(rows), gamma),
    )


def of_tokens(states: States, steps: Decisions, chosen: Bools, wanted: Ints, most: int) -> Decisions:
    """The choices within some steps as decisions; their states are added to `states`.

    steps: all steps [S]; chosen [T]: tokens at which there was a choice; wanted: numbers of the steps that are looked into;
    most: into how many decisions a response is divided. With more choices, neighbors are put together.
    """
    first_step = np.searchsorted(steps.episode, np.arange(len(states.trajectories)))
    rows: list[tuple[int, int, int, int, int, int, float, float]] = []
    for step in sorted(wanted.tolist()):
        episode = int(steps.episode[step])
        place = step - int(first_step[episode])
        first, end = steps.tokens[step].tolist()
        choices = np.flatnonzero(chosen[first:end])
        if not len(choices):
            continue
        cuts = choices[np.unique(np.linspace(0, len(choices), min(most, len(choices)), endpoint=False).astype(np.int64))]
        # Before the first choice nothing is decided: that state is the one before the step.
        starts = [0, *cuts[1:].tolist()]
        numbers = [states.within(episode, place, token) for token in starts]
        spans = zip([first + start for start in starts], [*(first + start for start in starts[1:]), end])
        for at, (span, number) in enumerate(zip(spans, numbers)):
            last = at == len(numbers) - 1
            after = int(steps.after[step]) if last else numbers[at + 1]
            reward, discount = (float(steps.reward[step]), float(steps.discount[step])) if last else (0.0, 1.0)
            rows.append((episode, step, *span, number, after, reward, discount))
    columns = list(zip(*rows)) if rows else [()] * 8
    ints = [np.array(column, dtype=np.int64) for column in columns[:6]]
    return Decisions(
        episode=ints[0],
        step=ints[1],
        tokens=np.stack(ints[2:4], axis=1),
        before=ints[4],
        after=ints[5],
        reward=np.array(columns[6], dtype=np.float64),
        discount=np.array(columns[7], dtype=np.float64),
    )

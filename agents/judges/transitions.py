"""What is judged: the steps of an episode that changed anything, each with the moves before it that the judge is shown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from envs.trajectory import Step, Trajectory


@dataclass(frozen=True, slots=True)
class Transition:
    """A step that is to be judged. It says nothing of the episode's earlier verdicts: equal moves are one question."""

    moves: tuple[tuple[str, str], ...]
    """(observation, action), oldest first; the last move is the one that is judged."""
    after: str
    """Observation after it."""


def transitions(trajectory: Trajectory, window: int) -> Iterator[tuple[int, Transition]]:
    """(number of the step, transition) for each step that changed anything; one whose outcome nobody saw is left out."""
    steps = trajectory.steps
    for t, step in enumerate(steps):
        after = steps[t + 1].observation if t + 1 < len(steps) else trajectory.final_observation
        if after is not None and step.changed:
            shown = steps[max(0, t + 1 - window) : t + 1]
            yield t, Transition(tuple((one.observation, done(one)) for one in shown), after)


def done(step: Step) -> str:
    """The action in the environment's own words: of one that it did not understand, what the policy wrote is kept out."""
    understood = step.valid or step.action in (step.admissible_actions or ())
    return step.action if understood else "(something impossible)"

"""What actions drawn uniformly among the admissible ones reach on a split: the floor that an evaluation is to be read against.

Tasks and environment seeds are those of the split. Actions are drawn from generators of their own, so no other number of a run
depends on whether the floor was measured.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from agents.rollout.planner import Episode
from agents.rollout.sampler import Sampler
from agents.runs import checkpoint
from agents.runs.evaluation import Rate, rate
from envs.common.seeding import generator
from envs.pool import EpisodeError, Slot
from envs.trajectory import NO_ACTIONS, Step, Trajectory

SECONDS = 20.0
"""What it may take; a slow environment goes without."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """The random policy's success, or why it is not known."""

    rate: Rate | None
    skipped: str
    """Why it was not measured; "" if it was."""
    seconds: float


class _Skipped(Exception):
    pass


async def random_policy(sampler: Sampler, episodes: Sequence[Episode], seconds: float = SECONDS) -> Baseline:
    """Play `episodes` with random actions, in the pool of `sampler`."""
    before, began = checkpoint.random_states(), time.monotonic()
    try:
        played = await sampler.played_by(_Chance(began + seconds), episodes)
    except BaseExceptionGroup as raised:
        skipped, others = raised.split(_Skipped)
        if skipped is None or others is not None:
            raise
        why: BaseException = skipped
        while isinstance(why, BaseExceptionGroup):  # every episode under way says the same
            why = why.exceptions[0]
        return Baseline(None, str(why), time.monotonic() - began)
    finally:
        checkpoint.restore_random_states(before)  # of environments that draw from Python's or numpy's own generators
    return Baseline(rate(played), "", time.monotonic() - began)


@dataclass(frozen=True, slots=True)
class _Chance:
    deadline: float

    async def play(self, session: str, episode: Episode, trajectory: Trajectory, slot: Slot) -> None:
        """Play to the end. Raises EpisodeError, _Skipped."""
        rng = generator(episode.sample_seed, "random policy")
        observation, info = await slot.reset(seed=episode.seed, task=episode.task_id)
        ended = False
        while not ended:
            if time.monotonic() > self.deadline:
                raise _Skipped(f"the environment is slow: it would take more than {SECONDS:.0f} s")
            actions = info["admissible_actions"]
            if actions is None:
                raise _Skipped("the environment does not list its actions")
            if not actions:
                if not trajectory.steps:
                    raise EpisodeError("exception", "the environment lists no action to begin with")
                trajectory.steps[-1].truncated, trajectory.reason = True, NO_ACTIONS
                break
            action = actions[int(rng.integers(len(actions)))]
            observation, reward, terminated, truncated, info = await slot.step(action)
            trajectory.steps.append(Step(observation, action, reward, terminated=terminated, truncated=truncated))
            ended = terminated or truncated
        trajectory.success = ended and bool(info["success"]) and not truncated
        trajectory.score = float(info["score"])

"""Continues episodes from any of their steps: whole episodes, whose first steps are those of the episode that they leave.

They are played as all episodes are (agents.rollout.episode), in environments that were put where they begin
(agents.rollout.prefix); one that fails does so alone. Here it is only seen to that what the continuations of an episode have in
common is read once: they begin in the order of their places, so that what was read for one place leads to the next, and is held
no longer than until all that begin there have begun.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import groupby

from agents.models.temperature import Temperature
from agents.rollout.engines.base import EngineError, new_session
from agents.rollout.episode import Player
from agents.rollout.planner import Branch, Episode
from agents.rollout.prefix import BranchError
from agents.rollout.sampler import OnEpisode, Sampler
from envs.pool import Slot
from envs.trajectory import Trajectory

__all__ = ["Branch", "BranchError", "continued", "read_before"]


@dataclass(frozen=True, slots=True)
class _Begins:
    """A player that tells when its first response is there: from then on it needs nothing that is held for it."""

    player: Player
    begun: asyncio.Event

    async def play(self, session: str, episode: Episode, trajectory: Trajectory, slot: Slot) -> None:
        async for _ in self.player.steps(session, episode, trajectory, slot):
            self.begun.set()


async def continued(
    sampler: Sampler, branches: Sequence[Branch], temperature: Temperature, on_episode: OnEpisode | None = None
) -> list[Trajectory]:
    """Play each branch to its end; the result has the order of `branches`, whichever ended first.

    A trajectory begins with the parent's own Step objects, `steps[:branch.step]`, and `parent` names episode and step. Where
    the parent was over by then it ends as that did. If a fault cut it off it has `error` set, and is no success. What all this
    took is counted in `sampler.branched`. Raises BranchError for an episode that this sampler cannot continue.
    """
    found: dict[int, Trajectory] = {}
    of_parent: dict[int, list[int]] = {}

    def ended(number: int, trajectory: Trajectory) -> None:
        found[number] = trajectory
        sampler.branched.add(branches[number], trajectory)
        if on_episode:
            on_episode(trajectory)

    for number, branch in enumerate(branches):
        _check(sampler, branch)
        if branch.over:
            ended(number, _as_it_ended(branch))
        else:
            of_parent.setdefault(id(branch.parent), []).append(number)
    player, engine = replace(sampler.at(temperature), counts=sampler.branched.tokens), sampler.player.engine
    alive = asyncio.Semaphore(sampler.concurrency)
    # Each parent holds what was read of it: no more of them at once than fill the places with their branches.
    most = max(map(len, of_parent.values()), default=1)
    parents = asyncio.Semaphore(max(1, sampler.concurrency // most))

    async def play(number: int, begun: asyncio.Event) -> None:
        try:
            planned = [Episode.continuing(branches[number])]
            await sampler.played_by(_Begins(player, begun), planned, lambda _, one: ended(number, one), alive)
        finally:
            begun.set()

    def place(number: int) -> tuple[int, int]:
        return branches[number].step, branches[number].token

    async def leave(numbers: Sequence[int]) -> None:
        """Begin the branches of one parent."""
        trunk = new_session()
        async with parents:
            engine.count_apart(trunk, sampler.branched.tokens)
            try:
                for _, together in groupby(sorted(numbers, key=place), key=place):
                    here = {number: asyncio.Event() for number in together}
                    if len(numbers) > 1:
                        with suppress(EngineError):  # then each reads it for itself
                            await engine.hold(trunk, read_before(branches[next(iter(here))]))
                    for number, begun in here.items():
                        tasks.create_task(play(number, begun))
                    for begun in here.values():
                        await begun.wait()
            finally:
                engine.release(trunk)

    try:
        async with asyncio.TaskGroup() as tasks:
            for numbers in of_parent.values():
                tasks.create_task(leave(numbers))
    except BaseExceptionGroup as raised:
        refused, others = raised.split(BranchError)
        if refused is None or others is not None:
            raise
        raise _first(refused) from None
    return [found[number] for number in range(len(branches))]


def _check(sampler: Sampler, branch: Branch) -> None:
    """Raise BranchError for what is wrong with a branch before anything is played."""
    parent, player = branch.parent, sampler.player
    why = ""
    if parent.env_id != sampler.env_id:
        why = f"it was played in {parent.env_id}, and this run plays {sampler.env_id}"
    elif parent.context != player.context:
        why = f"it was played with env.context={parent.context}, and this run has env.context={player.context}"
    elif player.context == "full" and not all(step.prompt_ids and step.response_ids for step in parent.steps[: branch.step]):
        why = "its steps have no tokens, of which a growing conversation is made: only env.context=window goes on without"
    elif branch.token and player.scoring is not None:
        why = "with engine.constrained=scored an action is chosen as a whole, so nothing of it can be kept: token must be 0"
    elif branch.token and len(branch.kept.logprobs) < branch.token:
        why = f"the tokens of step {branch.step} have no log-probabilities, so none of them can be kept: token must be 0"
    if why:
        raise BranchError(f"episode {parent.called} cannot be continued from step {branch.step}: {why}")


def _as_it_ended(branch: Branch) -> Trajectory:
    parent = branch.parent
    return replace(
        parent,
        steps=list(parent.steps),
        name=branch.name,
        parent=(parent.called, branch.step),
        reseeded=list(parent.reseeded),
        attempt=0,
    )


def read_before(branch: Branch) -> list[int]:
    """What the model has read where a branch begins, as far as the parent knows it."""
    steps, step = branch.parent.steps, branch.step
    earlier = steps[:step] if branch.parent.context == "full" else []
    ids = [token for one in earlier for token in (*one.prompt_ids, *one.response_ids)]
    return [*ids, *(steps[step].prompt_ids if step < len(steps) else []), *branch.kept.ids]


def _first(group: BaseExceptionGroup[BranchError]) -> BranchError:
    error: BranchError | BaseExceptionGroup[BranchError] = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error

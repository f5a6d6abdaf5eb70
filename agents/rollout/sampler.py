"""Plays episodes: one coroutine each, joined only in the engine's batch, and gives finished groups as they end.

A finished episode takes no further part in any batch. An episode whose environment fails, or whose request the engine cannot
answer, is played again alone; if it fails again it is returned with `error` set, neither success nor ordinary failure. The
others never notice: one that loses its worker to a neighbor's fault is played again for nothing, and tasks that fail again and
again are played no more. Any number of calls may play at once (training and evaluation, say): every episode has a session of
its own for the life of the engine.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from agents.config.secrets import masked
from agents.models.temperature import Temperature
from agents.rollout.engines.base import EngineError, EngineStats, new_session
from agents.rollout.episode import Player
from agents.rollout.faults import Faults
from agents.rollout.planner import Branch, Episode
from envs.pool import EpisodeError, Pool, Slot
from envs.trajectory import Trajectory

OnEpisode = Callable[[Trajectory], None]


class Plays(Protocol):
    """Who plays an episode: the policy (agents.rollout.episode.Player), or chance."""

    async def play(self, session: str, episode: Episode, trajectory: Trajectory, slot: Slot) -> None:
        """Play to the end, adding steps to `trajectory`. Raises EpisodeError if the environment fails."""


@dataclass(slots=True)
class BranchStats:
    """What continuations took since the last `take()`. None of it is among the counts of ordinary episodes."""

    episodes: int = 0
    steps: int = 0
    """That were played; not those shared with a parent."""
    replayed: int = 0
    """Steps that environments took again to stand where a branch begins."""
    faults: int = 0
    """Continuations that a fault cut off."""
    tokens: EngineStats = field(default_factory=EngineStats)

    def add(self, branch: Branch, trajectory: Trajectory) -> None:
        self.episodes += 1
        self.faults += trajectory.error is not None
        if not branch.over:
            self.steps += len(trajectory.steps) - branch.step
            self.replayed += branch.step

    def take(self) -> dict[str, int]:
        counts = {"episodes": self.episodes, "steps": self.steps, "replayed": self.replayed, "faults": self.faults}
        self.episodes = self.steps = self.replayed = self.faults = 0
        tokens = self.tokens.take()
        return counts | {name: tokens[name] for name in ("prefill", "sampled", "computed", "reused")}


@dataclass(slots=True)
class Sampler:
    """Holds what episodes are played with: a player with its engine and dialogue, and a pool of environments.

    It owns no weights that are trained: an engine samples from the version it was given last.
    """

    env_id: str
    player: Player
    """How the policy plays; the temperature is said at each call."""
    pool: Pool
    retries: int = 1
    """How often an episode is played again after a fault of its own."""
    concurrency: int = 128
    """Episodes alive at once in one call; as one ends the next enters."""
    branched: BranchStats = field(default_factory=BranchStats)
    """Of `agents.rollout.branching.continued`."""
    faults: Faults = field(default_factory=lambda: Faults(limit=0))

    async def groups(
        self, episodes: Sequence[Episode], temperature: Temperature, on_episode: OnEpisode | None = None
    ) -> AsyncIterator[list[Trajectory]]:
        """The groups of `episodes` (those with the same group_id) as they end; members in the order of the plan."""
        missing: dict[str, int] = {}
        for episode in episodes:
            missing[episode.group_id] = missing.get(episode.group_id, 0) + 1
        members: dict[str, dict[int, Trajectory]] = {group_id: {} for group_id in missing}
        ended: asyncio.Queue[list[Trajectory] | None] = asyncio.Queue()

        def keep(place: int, trajectory: Trajectory) -> None:
            if on_episode:
                on_episode(trajectory)
            group = members[trajectory.group_id]
            group[place] = trajectory
            if len(group) == missing[trajectory.group_id]:
                ended.put_nowait([group[i] for i in sorted(group)])

        playing = asyncio.create_task(self.played_by(self.at(temperature), episodes, keep))
        playing.add_done_callback(lambda task: ended.put_nowait(None))
        try:
            while (group := await ended.get()) is not None:
                yield group
            await playing  # raises what went wrong
        finally:
            playing.cancel()

    async def play(
        self, episodes: Sequence[Episode], temperature: Temperature, on_episode: OnEpisode | None = None
    ) -> list[Trajectory]:
        """Play all episodes; the result has their order, whichever ended first."""
        told = None if on_episode is None else lambda place, one: on_episode(one)
        return await self.played_by(self.at(temperature), episodes, told)

    def close(self) -> None:
        """Let go of the engine's memory and of the pool's workers."""
        self.player.engine.close()
        self.pool.close()

    def at(self, temperature: Temperature) -> Player:
        """How the policy plays at a temperature."""
        return replace(self.player, sampling=replace(self.player.sampling, temperature=temperature))

    async def played_by(
        self,
        player: Plays,
        episodes: Sequence[Episode],
        on_episode: Callable[[int, Trajectory], None] | None = None,
        places: asyncio.Semaphore | None = None,
    ) -> list[Trajectory]:
        """As `play`, by anyone. on_episode is also told the place in `episodes`. places: of several calls that share them."""
        alive = places or asyncio.Semaphore(self.concurrency)

        async def one(place: int, episode: Episode) -> Trajectory:
            async with alive:
                trajectory = await self._with_retries(player, episode)
                if on_episode:
                    on_episode(place, trajectory)
                return trajectory

        async with asyncio.TaskGroup() as tasks:
            played = [tasks.create_task(one(place, episode)) for place, episode in enumerate(episodes)]
        return [task.result() for task in played]

    async def _with_retries(self, player: Plays, episode: Episode) -> Trajectory:
        own = attempt = 0
        while True:
            trajectory = episode.begun(self.env_id, self.player.context, attempt)
            if episode.task_id in self.faults.set_aside:
                trajectory.error = f"set aside: {self.faults.set_aside[episode.task_id]}"
                return trajectory
            session = new_session()
            try:
                with self.pool.slot() as slot:
                    await player.play(session, episode, trajectory, slot)
                self.faults.ended(episode.task_id)
                return trajectory
            except EngineError as error:
                trajectory.error, own = masked(str(error)), own + 1
            except EpisodeError as error:
                trajectory.error = masked(str(error))
                if error.kind != "worker_lost":
                    own += 1
                    self.faults.failed(episode.task_id, trajectory.error)
            finally:
                self.player.engine.release(session)
            trajectory.success = False
            if own > self.retries:
                return trajectory
            attempt += 1

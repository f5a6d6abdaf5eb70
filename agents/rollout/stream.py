"""Rollouts that overlap updates: groups are played in the planner's order, ahead of the learner, and taken as they end.

The bound is the age of a sample: a group that began with weights `overlap` versions older than those that are trained is taken
now or never. As many groups are begun as can be learned from in time, and no more: with `overlap` iterations' worth open
during an update, the next ones wait for its weights.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from agents.config.sections import RolloutConfig
from agents.rollout.collect import LOST_ROUNDS, Collected, Group, Watch, lost, returns_alike
from agents.rollout.episode import Player
from agents.rollout.planner import Episode, Planner
from agents.rollout.sampler import Sampler
from envs.pool import Slot
from envs.trajectory import Trajectory

T = TypeVar("T")


@dataclass(eq=False, slots=True)
class _Open:
    """A group that was begun, and not taken yet."""

    number: int
    """In the planner's order."""
    begun: list[Trajectory] = field(default_factory=list)
    """Its episodes, with those that a fault ended and that are played again."""
    since: int | None = None
    """Version of the weights as its first episode began: no token of it is older."""
    age: int = 0
    """How many versions older that is than the weights that the iteration trains."""
    playing: asyncio.Task[tuple[Group, list[Trajectory]]] = field(init=False)
    """The group, and its greedy episode where the method needs one."""

    @property
    def steps(self) -> int:
        return sum(len(one.steps) for one in self.begun)


@dataclass(frozen=True, slots=True)
class _Noting:
    """A player that notes which episodes of a group it began, and when."""

    player: Player
    group: _Open

    async def play(self, session: str, episode: Episode, trajectory: Trajectory, slot: Slot) -> None:
        if self.group.since is None:
            self.group.since = self.player.engine.weights_version
        self.group.begun.append(trajectory)
        await self.player.play(session, episode, trajectory, slot)


class Stream:
    """Plays groups ahead of the learner. Holds those that were begun and not taken, and the number of the next."""

    def __init__(
        self, planner: Planner, sampler: Sampler, config: RolloutConfig, temperature: float, greedy: bool, iterations: int
    ) -> None:
        """greedy: play a greedy episode for each group, too. iterations: the last one, beyond which nothing is played ahead."""
        self._planner, self._sampler, self._config = planner, sampler, config
        self._temperature, self._greedy, self._iterations = temperature, greedy, iterations
        self._places = asyncio.Semaphore(sampler.concurrency)
        self._open: list[_Open] = []
        self._again: list[int] = []
        """Numbers of groups that were open when the run was interrupted."""
        self._next = 0
        self._idle, self._idle_since = 0.0, time.perf_counter()

    @property
    def idle(self) -> float:
        """Seconds so far in which no group was played."""
        return self._idle + (0.0 if self._playing else time.perf_counter() - self._idle_since)

    async def take(self, iteration: int, watch: Watch) -> Collected:
        """The groups that iteration 1, 2, ... learns from; raises what ended a rollout.

        Groups of which faults left nothing are replaced, and with dynamic sampling those whose episodes all return the same: as
        many as its rounds may play.
        """
        wanted, most_alike = self._planner.groups, self._config.dynamic_sampling.rounds * self._planner.groups
        ahead = min(self._config.overlap + 1, self._iterations - iteration + 1) * wanted
        told = watch(wanted * self._planner.group_size)
        self._raise_failures()
        for one in self._open:  # those that are begun from now on are of age 0
            one.age = 0 if one.since is None else iteration - 1 - one.since
        late = [one for one in self._open if one.age > self._config.overlap]
        await self._end(late)
        kept: list[_Open] = []
        alike: list[_Open] = []
        gone: list[_Open] = []
        while True:
            self._begin(ahead - len(kept))
            ended = [one for one in self._open if one.playing.done()]
            for one in sorted(ended, key=lambda one: (-one.age, one.number)):
                group, _ = one.playing.result()
                if len(alike) < most_alike and returns_alike(group):
                    alike.append(one)
                elif len(gone) < LOST_ROUNDS * wanted and lost(group):
                    gone.append(one)
                elif len(kept) < wanted and self._leaves_time(one, wanted - len(kept) - 1):
                    kept.append(one)
                    for trajectory in group:
                        told(trajectory)
                else:
                    continue
                self._open.remove(one)
            if len(kept) == wanted:
                break
            if len(self._open) >= ahead - len(kept):
                await asyncio.wait(self._playing, return_when=asyncio.FIRST_COMPLETED)
        kept.sort(key=lambda one: one.number)
        return Collected(
            [one.playing.result()[0] for one in kept],
            [one.playing.result()[0] for one in (*alike, *gone)],
            [greedy for one in kept for greedy in one.playing.result()[1]],
            len(late),
            sum(one.steps for one in late),
        )

    async def beside(self, work: Coroutine[Any, Any, T]) -> T:
        """Await `work` while episodes are played; if a rollout fails, `work` is cancelled, and what went wrong is raised."""
        task = asyncio.ensure_future(work)
        try:
            while not task.done():
                await asyncio.wait({task, *self._playing}, return_when=asyncio.FIRST_COMPLETED)
                self._raise_failures()
            return task.result()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def close(self) -> None:
        """End what is played."""
        await self._end(list(self._open))

    # -- groups ---------------------------------------------------------------------------------------------------------

    @property
    def _playing(self) -> list[asyncio.Task[tuple[Group, list[Trajectory]]]]:
        return [one.playing for one in self._open if not one.playing.done()]

    def _begin(self, most: int) -> None:
        """Begin groups until `most` are open."""
        while len(self._open) < most:
            self._idle = self.idle
            one = _Open(self._again.pop(0) if self._again else self._next)
            self._next = max(self._next, one.number + 1)
            one.playing = asyncio.create_task(self._play(one))
            one.playing.add_done_callback(self._ended)
            self._open.append(one)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._idle_since = time.perf_counter()

    async def _play(self, one: _Open) -> tuple[Group, list[Trajectory]]:
        episodes = self._planner.group(one.number)
        compared = self._planner.greedy([episodes], episodes[0].budget) if self._greedy else []
        async with asyncio.TaskGroup() as tasks:
            sampled, greedy = (
                tasks.create_task(
                    self._sampler.played_by(_Noting(self._sampler.at(temperature), one), asked, places=self._places)
                )
                for asked, temperature in ((episodes, self._temperature), (compared, 0.0))
            )
        return sampled.result(), greedy.result()

    async def _end(self, ended: Sequence[_Open]) -> None:
        for one in ended:
            one.playing.cancel()
        await asyncio.gather(*(one.playing for one in ended), return_exceptions=True)
        self._open = [one for one in self._open if one not in ended]

    def _raise_failures(self) -> None:
        for one in self._open:
            if one.playing.done():
                one.playing.result()

    def _leaves_time(self, taken: _Open, left: int) -> bool:
        """Whether all others can be learned from before they are too old, if this one and `left` others are now."""
        if self._config.late == "drop":
            return True
        overlap, wanted = self._config.overlap, self._planner.groups
        others = [one.age for one in self._open if one is not taken]
        return all(sum(other >= age for other in others) <= left + (overlap - age) * wanted for age in range(1, overlap + 1))

    # -- state ----------------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Where the planner's order is taken up again. Live episodes are not kept: their groups are played anew."""
        return {"next": self._next, "open": sorted([*self._again, *(one.number for one in self._open)])}

    def load_state(self, state: dict[str, Any]) -> None:
        self._next, self._again = state["next"], list(state["open"])

"""Groups that are played ahead of the learner: how many, in which order, how old, and what becomes of those too late.

Episodes are played by the tests' own hand: one ends when the test says so, and its steps have the version that is sampled then.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from agents.config.sections import DynamicSamplingConfig, RolloutConfig
from agents.rollout.collect import Collected
from agents.rollout.planner import GREEDY, Episode, Planner
from agents.rollout.stream import Stream
from envs.trajectory import Step, Trajectory

TASKS = [f"task {i}" for i in range(40)]
GROUPS, SIZE = 3, 2


@dataclass
class Hand:
    """Who plays: an episode takes a step at once, and ends when it is let go."""

    version: int = 0
    begun: list[int] = field(default_factory=list)
    """Groups in the order in which their first episode began."""
    free: set[int] = field(default_factory=set)
    """Groups whose episodes may end."""
    alike: set[int] = field(default_factory=set)
    broken: set[int] = field(default_factory=set)
    faulty: set[int] = field(default_factory=set)
    cut: list[int] = field(default_factory=list)
    """Groups whose episodes were ended."""

    @property
    def engine(self) -> Hand:
        return self

    @property
    def weights_version(self) -> int:
        return self.version

    async def play(self, session: str, episode: Episode, trajectory: Trajectory, slot: Any) -> None:
        number = self.number(episode.group_id)
        if number not in self.begun:
            self.begun.append(number)
        trajectory.steps.append(
            Step("", "", float(number not in self.alike and episode.sample_seed % 2), weights_version=self.version)
        )
        try:
            while number not in self.free:
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            self.cut.append(number)
            raise
        if number in self.broken:
            raise ZeroDivisionError(f"group {number}")
        trajectory.error = "crash" if number in self.faulty else None
        trajectory.steps.append(Step("", "", weights_version=self.version))

    @staticmethod
    def number(group_id: str) -> int:
        _, iteration, place = group_id.removesuffix(GREEDY).split("-")
        return (int(iteration) - 1) * GROUPS + int(place)


@dataclass
class Hands:
    """A sampler whose player is the hand."""

    hand: Hand
    concurrency: int = 100

    def at(self, temperature: float) -> Hand:
        return self.hand

    async def played_by(
        self, player: Any, episodes: Sequence[Episode], on_episode: Any = None, places: asyncio.Semaphore | None = None
    ) -> list[Trajectory]:
        assert places is not None

        async def one(episode: Episode) -> Trajectory:
            played = Trajectory("e", episode.task_id, episode.group_id, episode.seed, episode.split)
            async with places:
                await player.play("", episode, played, None)
            return played

        async with asyncio.TaskGroup() as tasks:
            played = [tasks.create_task(one(replace(episode, sample_seed=i))) for i, episode in enumerate(episodes)]
        return [task.result() for task in played]


@dataclass
class Driven:
    """A stream, the hand that plays for it, and the learner's part in a few words."""

    hand: Hand
    stream: Stream
    iteration: int = 0

    async def take(self) -> list[int]:
        return numbers(await self.take_all())

    async def take_all(self) -> Collected:
        self.iteration += 1
        return await self.stream.take(self.iteration, lambda episodes: lambda one: None)

    def publish(self) -> None:
        self.hand.version = self.iteration


def numbers(played: Collected) -> list[int]:
    return [Hand.number(group[0].group_id) for group in played.groups]


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def driven(
    scenario: Callable[[Driven], Coroutine[Any, Any, None]], iterations: int = 9, greedy: bool = False, **settings: Any
) -> None:
    hand = Hand()
    planner = Planner(TASKS, GROUPS, SIZE, seed=0)
    concurrency = settings.pop("concurrency", 100)

    async def main() -> None:
        sampler: Any = Hands(hand, concurrency)
        stream = Stream(planner, sampler, RolloutConfig(GROUPS, SIZE, **settings), 1.0, greedy, iterations)
        await scenario(Driven(hand, stream))
        await stream.close()
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())


@pytest.mark.parametrize("overlap", [1, 2])
def test_as_many_groups_are_open_as_can_be_learned_from_in_time(overlap: int) -> None:
    async def scenario(of: Driven) -> None:
        taking = asyncio.create_task(of.take())
        await turns()
        assert of.hand.begun == list(range((overlap + 1) * GROUPS))
        of.hand.free |= {0, 1, 2}
        assert await taking == [0, 1, 2]
        await turns()
        assert len(of.hand.begun) == (overlap + 1) * GROUPS, "while the update runs nothing is begun that would be too old"
        of.publish()
        taking = asyncio.create_task(of.take())
        await turns()
        assert of.hand.begun == list(range((overlap + 2) * GROUPS))
        taking.cancel()

    driven(scenario, overlap=overlap)


def test_groups_are_taken_as_they_end_and_given_in_the_order_of_the_plan() -> None:
    async def scenario(of: Driven) -> None:
        of.hand.free |= {5, 1, 3}
        assert await of.take() == [1, 3, 5]
        of.publish()
        of.hand.free |= {0, 2, 4, 6}
        assert await of.take() == [0, 2, 4], "the older ones come first"

    driven(scenario, overlap=1)


def test_an_update_waits_for_groups_that_would_be_too_old_the_next_time() -> None:
    async def scenario(of: Driven) -> None:
        of.hand.free |= {0, 1, 2}
        await of.take()
        of.publish()
        of.hand.free |= {3, 6, 7, 8}  # 4 and 5 began with version 0: now or never
        taking = asyncio.create_task(of.take())
        await turns()
        assert not taking.done()
        of.hand.free |= {4, 5}
        assert await taking == [3, 4, 5]

    driven(scenario, overlap=1)


def test_with_two_versions_no_more_groups_are_put_off_than_two_iterations_can_take() -> None:
    async def scenario(of: Driven) -> None:
        of.hand.free |= {0, 1, 2}
        await of.take()
        of.publish()
        of.hand.free |= {9, 10, 11}  # 3 to 8 began with version 0: three now and three the next time at the latest
        taking = asyncio.create_task(of.take())
        await turns()
        assert not taking.done()
        of.hand.free |= {3, 7, 8}
        assert await taking == [3, 7, 8]
        of.publish()
        taking = asyncio.create_task(of.take())
        await turns()
        assert not taking.done()
        of.hand.free |= {4, 5, 6}
        assert await taking == [4, 5, 6]

    driven(scenario, overlap=2)


def test_groups_that_are_too_old_are_ended_counted_and_replaced() -> None:
    async def scenario(of: Driven) -> None:
        of.hand.free |= {0, 1, 2}
        await of.take()
        of.publish()
        of.hand.free |= {3, 6, 7}
        assert await of.take() == [3, 6, 7]
        of.publish()
        of.hand.free |= {8, 9, 10, 11, 12}
        found = await of.take_all()
        assert numbers(found) == [8, 9, 10]
        assert (found.late, found.late_steps) == (2, 2 * SIZE)
        assert sorted(of.hand.cut) == sorted([4, 5] * SIZE)
        assert of.hand.begun[-3:] == [11, 12, 13], "two iterations' worth are open, as without them"
        assert {step.weights_version for t in found.learned for step in t.steps} <= {1, 2}

    driven(scenario, overlap=1, late="drop")


@pytest.mark.parametrize("late", ["wait", "drop"])
@pytest.mark.parametrize("overlap", [1, 2, 3])
def test_no_sample_is_older_than_allowed_whatever_ends_when(overlap: int, late: str) -> None:
    """Groups end in an order drawn at random, newer ones mostly first; every iteration gets all of its groups once."""
    draw, seen, last = random.Random(overlap), set[int](), 12

    async def scenario(of: Driven) -> None:
        async def let_go() -> None:
            while True:
                waiting = [number for number in of.hand.begun if number not in of.hand.free]
                if waiting and draw.random() < 0.3:
                    of.hand.free.add(draw.choice(waiting[-2:] if draw.random() < 0.9 else waiting))
                await asyncio.sleep(0)

        ending = asyncio.create_task(let_go())
        dropped = 0
        for _ in range(last):
            found = await of.take_all()
            assert len(found.groups) == GROUPS
            assert seen.isdisjoint(numbers(found))
            seen.update(numbers(found))
            ages = [of.iteration - 1 - s.weights_version for t in found.learned for s in t.steps]
            assert max(ages) <= overlap
            dropped += found.late
            await turns(draw.randrange(6))  # an update
            of.publish()
        ending.cancel()
        await asyncio.gather(ending, return_exceptions=True)
        assert dropped == 0 if late == "wait" else dropped > 0
        assert len(of.hand.begun) == last * GROUPS + dropped, "nothing is played that no iteration takes"

    driven(scenario, overlap=overlap, late=late, iterations=last)


def test_episodes_begin_as_places_become_free() -> None:
    async def scenario(of: Driven) -> None:
        taking = asyncio.create_task(of.take())
        await turns()
        assert of.hand.begun == [0, 1]
        of.hand.free.add(1)
        await turns()
        assert of.hand.begun == [0, 1, 2]
        of.hand.free |= {0, 2}
        assert await taking == [0, 1, 2]

    driven(scenario, overlap=1, concurrency=2 * SIZE)


def test_groups_that_are_alike_are_replaced_by_the_next_as_often_as_the_rounds_say() -> None:
    async def scenario(of: Driven) -> None:
        of.hand.free |= set(range(99))
        of.hand.alike |= {1, 2}
        found = await of.take_all()
        assert 1 not in numbers(found)
        assert 2 not in numbers(found)
        assert [Hand.number(group[0].group_id) for group in found.dropped] == [1, 2]
        of.publish()
        of.hand.alike |= set(range(99))
        found = await of.take_all()
        assert (len(found.groups), len(found.dropped)) == (GROUPS, GROUPS)

    driven(scenario, overlap=1, dynamic_sampling=DynamicSamplingConfig(rounds=1))


@pytest.mark.fault("all episodes of a group fail", lost="the group, which another task replaces")
def test_groups_of_which_faults_left_nothing_are_replaced_by_the_next() -> None:
    async def scenario(of: Driven) -> None:
        of.hand.free |= set(range(99))
        of.hand.faulty |= {0, 2}
        found = await of.take_all()
        assert numbers(found) == [1, 3, 4]
        assert [Hand.number(group[0].group_id) for group in found.dropped] == [0, 2]

    driven(scenario, overlap=1)


@pytest.mark.fault("all episodes of an iteration fail", lost="the iteration's update")
def test_where_every_episode_fails_an_iteration_ends_all_the_same() -> None:
    async def scenario(of: Driven) -> None:
        of.hand.free |= set(range(99))
        of.hand.faulty |= set(range(99))
        found = await of.take_all()
        assert len(found.groups) == GROUPS
        assert all(one.error for one in found.learned)

    driven(scenario, overlap=1)


def test_a_greedy_episode_is_played_with_each_group() -> None:
    async def scenario(of: Driven) -> None:
        of.hand.free |= set(range(99))
        found = await of.take_all()
        assert [one.group_id for one in found.greedy] == [f"{group[0].group_id}{GREEDY}" for group in found.groups]
        assert [one.seed for one in found.greedy] == [group[0].seed for group in found.groups]

    driven(scenario, overlap=1, greedy=True)


@pytest.mark.fault("a rollout fails beside an update", lost="what came after the newest checkpoint")
def test_what_ends_a_rollout_ends_the_update_beside_it() -> None:
    ended: list[bool] = []

    async def update() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    async def scenario(of: Driven) -> None:
        of.hand.free |= {0, 1, 2}
        of.hand.broken.add(4)
        await of.take()
        asyncio.get_running_loop().call_later(0.01, of.hand.free.add, 4)
        with pytest.raises(ExceptionGroup, match="unhandled") as raised:
            await of.stream.beside(update())
        assert "group 4" in repr(raised.value)
        assert ended == [True]

    driven(scenario, overlap=1)


def test_what_ends_an_update_is_raised() -> None:
    async def update() -> None:
        await turns(3)
        raise ZeroDivisionError("an update")

    async def scenario(of: Driven) -> None:
        of.hand.free |= {0, 1, 2}
        await of.take()
        with pytest.raises(ZeroDivisionError, match="an update"):
            await of.stream.beside(update())

    driven(scenario, overlap=1)


def test_a_resumed_stream_plays_anew_what_was_not_learned_from() -> None:
    kept: dict[str, Any] = {}

    async def first(of: Driven) -> None:
        of.hand.free |= {0, 4, 2}
        assert await of.take() == [0, 2, 4]
        kept.update(of.stream.state())

    async def second(of: Driven) -> None:
        of.stream.load_state(kept)
        assert of.stream.state() == kept
        of.iteration, of.hand.version = 1, 1
        taking = asyncio.create_task(of.take())
        await turns()
        assert of.hand.begun == [1, 3, 5, 6, 7, 8]
        of.hand.free |= {1, 3, 5}
        assert await taking == [1, 3, 5]

    driven(first, overlap=1)
    assert kept == {"next": 6, "open": [1, 3, 5]}
    driven(second, overlap=1)


def test_the_time_without_an_episode_is_counted() -> None:
    async def scenario(of: Driven) -> None:
        of.hand.free |= set(range(6))
        await of.take()
        await turns()
        before = of.stream.idle
        await asyncio.sleep(0.02)
        assert of.stream.idle - before >= 0.02
        of.publish()
        taking = asyncio.create_task(of.take())
        await turns()
        before = of.stream.idle
        await asyncio.sleep(0.02)
        assert of.stream.idle == before
        taking.cancel()

    driven(scenario, overlap=1)

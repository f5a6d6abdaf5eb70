"""The pool plays episodes: workers change nothing about what happens, and a wrong setting is refused."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest

from envs.base import TextEnv
from envs.pool import Mode, Pool, PoolError
from tests.envs.pool_tools import MODES, maker, walk
from tests.envs.toys import Corridor, CorridorConfig, Slippery


@pytest.mark.parametrize("mode", MODES)
def test_an_episode_goes_from_reset_to_its_end(mode: Mode) -> None:
    async def run() -> None:
        async with Pool(maker(Corridor), mode=mode) as pool:
            with pool.slot() as env:
                observation, info = await env.reset(seed=3, task="length-4")
                assert "leave the corridor of 4 cells" in observation
                assert info["task_id"] == "length-4"
                while True:
                    _, reward, terminated, truncated, info = await env.step("right")
                    if terminated or truncated:
                        break
                assert (reward, terminated, truncated, info["success"]) == (1.0, True, False, True)

    asyncio.run(run())


def test_same_seed_same_behavior_with_any_number_of_workers() -> None:
    async def run(mode: Mode, workers: int) -> list[Any]:
        async with Pool(maker(Corridor, slippery=0.3), workers=workers, mode=mode) as pool:
            return await asyncio.gather(*(walk(pool, seed) for seed in range(9)))

    reference = asyncio.run(run("inline", 1))
    assert len({str(episode) for episode in reference}) > 5
    for mode, workers in (("threads", 1), ("threads", 4), ("processes", 1), ("processes", 3)):
        assert asyncio.run(run(mode, workers)) == reference  # type: ignore[arg-type]


def test_chance_is_drawn_anew_alike_in_every_mode() -> None:
    async def run(mode: Mode) -> list[Any]:
        async with Pool(maker(Slippery, slippery=0.5), workers=2, mode=mode) as pool:
            with pool.slot() as env:
                with pytest.raises(RuntimeError, match=r"reseed\(\) on a slot without an episode"):
                    await env.reseed(7)
                seen: list[Any] = []
                for seed in (None, 7, 8, 7):
                    seen.append([await env.reset(seed=3, task="length-11")])
                    for step in range(12):
                        if step == 6 and seed is not None:
                            assert await env.reseed(seed) == "anew"
                        seen[-1].append(await env.step(("left", "right")[step % 2]))
                return seen

    reference = asyncio.run(run("inline"))
    assert reference[1] == reference[3]
    assert len({str(seen) for seen in reference}) == 3
    for mode in ("threads", "processes"):
        assert asyncio.run(run(mode)) == reference  # type: ignore[arg-type]


def test_workers_do_not_import_the_training_program() -> None:
    async def run() -> None:
        async with Pool(_modules_maker, mode="processes") as pool:
            with pool.slot() as env:
                observation, _ = await env.reset(seed=1)
                assert "'torch'" not in observation
                assert "'agents'" not in observation

    asyncio.run(run())


class _Modules(Corridor):
    def start(self, task_id: str, rng: Any) -> Any:
        turn = super().start(task_id, rng)
        turn.observation = str(sorted(sys.modules))
        return turn


def _modules_maker() -> TextEnv:
    return _Modules(CorridorConfig())


def test_a_maker_that_cannot_travel_is_refused_with_advice() -> None:
    with pytest.raises(PoolError, match=r"functools\.partial"):
        Pool(lambda: Corridor(CorridorConfig()), mode="processes")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "fork"}, "mode is 'fork'; allowed: inline, threads, processes"),
        ({"workers": 0}, "workers is 0; it must be at least 1"),
        ({"step_timeout": 0}, "step_timeout is 0; it must be above 0, or None"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Pool(maker(Corridor), **arguments)

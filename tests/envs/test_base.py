"""The base class: how an episode begins, goes on and ends, whatever the environment."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from envs.base import Split, TaskError
from envs.common.seeding import derive, generator
from tests.envs.toys import Corridor, CorridorConfig, Fixed, Slippery


def corridor(**config: float) -> Corridor:
    return Corridor(CorridorConfig(**config))  # type: ignore[arg-type]


def test_a_time_limit_is_truncated_never_terminated_never_a_success() -> None:
    env = corridor(max_steps=2)
    env.reset(seed=1, options={"task": "length-9"})
    assert env.step("wait")[2:4] == (False, False)
    _, _, terminated, truncated, info = env.step("wait")
    assert (terminated, truncated, info["success"], info["reason"]) == (False, True, False, "time_limit")


def test_success_at_the_last_allowed_step_is_a_success() -> None:
    env = corridor(max_steps=50)
    env.reset(seed=1, options={"task": "length-9"})
    needed = 0
    while not env.step("right")[2]:
        needed += 1
    env = corridor(max_steps=needed + 1)
    env.reset(seed=1, options={"task": "length-9"})
    for _ in range(needed):
        assert env.step("right")[2:4] == (False, False)
    _, reward, terminated, truncated, info = env.step("right")
    assert (reward, terminated, truncated, info["success"]) == (1.0, True, False, True)
    assert "reason" not in info


def test_an_invalid_action_is_told_and_ends_nothing() -> None:
    env = corridor()
    env.reset(seed=1, options={"task": "length-9"})
    observation, reward, terminated, truncated, info = env.step("dance")
    assert (reward, terminated, truncated, info["valid"]) == (0.0, False, False, False)
    assert observation.startswith("Nothing happens.")


def test_step_before_reset_or_after_the_end_is_refused() -> None:
    env = corridor(max_steps=1)
    with pytest.raises(RuntimeError, match="call reset"):
        env.step("wait")
    env.reset(seed=1, options={"task": "length-9"})
    env.step("wait")
    with pytest.raises(RuntimeError, match="after the end"):
        env.step("wait")


def test_a_task_that_cannot_be_played_leaves_no_episode_behind() -> None:
    env = corridor()
    env.reset(seed=1, options={"task": "length-9"})
    with pytest.raises(TaskError, match="unknown task 'maze'"):
        env.reset(seed=1, options={"task": "maze"})
    with pytest.raises(RuntimeError, match="call reset"):
        env.step("wait")


def test_without_a_task_one_of_the_train_split_is_drawn_from_the_seed() -> None:
    env = corridor()
    drawn = [env.reset(seed=seed)[1]["task_id"] for seed in range(20)]
    assert set(drawn) == set(env.tasks("train"))
    assert [corridor().reset(seed=seed)[1]["task_id"] for seed in range(20)] == drawn


def test_the_seed_decides_the_same_start_whether_the_task_is_named_or_drawn() -> None:
    env = corridor()
    observation, info = env.reset(seed=5)
    assert env.reset(seed=5, options={"task": info["task_id"]})[0] == observation


def test_unknown_reset_options_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"unknown reset options \['level'\]; allowed: 'task'"):
        corridor().reset(seed=1, options={"level": 3})


def test_a_time_limit_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="max_steps is 0; it must be at least 1"):
        corridor(max_steps=0)


def test_chance_in_the_middle_of_an_episode_is_a_function_of_the_new_seed() -> None:
    def walked(seed: int | None) -> list[str]:
        env = Slippery(CorridorConfig(slippery=0.5, max_steps=40))
        _, info = env.reset(seed=1, options={"task": "length-20"})
        keys = [info["state_key"]]
        for step in range(24):
            if step == 4 and seed is not None:
                assert env.reseed(seed) == "anew"
            keys.append(env.step(("left", "right")[step % 2])[4]["state_key"])
        return keys

    assert walked(7) == walked(7)
    assert walked(7)[:5] == walked(8)[:5] == walked(None)[:5]
    assert len({str(walked(seed)) for seed in (7, 8, None)}) == 3


def test_what_is_not_left_to_chance_or_cannot_be_drawn_anew_is_said() -> None:
    for env, said in ((corridor(), "no chance"), (Fixed(CorridorConfig()), "fixed")):
        with pytest.raises(RuntimeError, match=r"reseed\(\) outside of an episode"):
            env.reseed(7)
        env.reset(seed=1)
        assert env.reseed(7) == said


def test_seeds_depend_on_names_and_on_nothing_else() -> None:
    assert derive(7, "rollout", 3) == 2386104074466389615
    assert derive(7, "rollout", 3) != derive(7, "rollout", 4) != derive(8, "rollout", 4)
    assert derive(7, "a", "b") != derive(7, "ab") != derive(7, "b", "a")
    assert 0 <= derive(7, "x") < 1 << 63
    assert generator(7, "x").integers(1 << 40) == generator(7, "x").integers(1 << 40)


class Backwards(Corridor):
    def tasks(self, split: Split) -> Sequence[str]:
        return list(reversed(super().tasks(split)))


def test_the_hash_of_a_split_names_its_tasks_in_their_order() -> None:
    one, again, other = corridor(), corridor(), Backwards(CorridorConfig())
    assert one.split_hash("train") == again.split_hash("train") != one.split_hash("eval")
    assert other.split_hash("train") != one.split_hash("train")

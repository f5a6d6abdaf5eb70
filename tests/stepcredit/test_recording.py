"""Trajectory files of agents that act by themselves: what is in them is what happened, and nothing unfinished is a success."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.wrappers import RecordEpisodeStatistics, TimeLimit

import stepcredit
from envs.trajectory import Trajectory
from envs.trajectory_file import read
from stepcredit import RecordTrajectories
from tests.envs import toys


def corridor(**settings: Any) -> toys.Corridor:
    return toys.Corridor(toys.CorridorConfig(**settings))


def win(env: gymnasium.Env[str, str], seed: int | None = 0) -> tuple[list[str], list[float]]:
    """Walk to the end of a corridor; what was seen before each step, and what it paid."""
    observation, _ = env.reset(seed=seed)
    seen, paid, ended = [], [], False
    while not ended:
        seen.append(observation)
        observation, reward, terminated, truncated, _ = env.step("right")
        paid.append(float(reward))
        ended = terminated or truncated
    return seen, paid


def episodes(path: Path) -> list[Trajectory]:
    return list(read(path))


def test_an_episode_is_written_as_it_ends_with_all_that_happened(tmp_path: Path) -> None:
    env = RecordTrajectories(corridor(), tmp_path / "deep" / "episodes.jsonl", split="eval", group=lambda info: "all")
    seen, paid = win(env, seed=5)
    (one,) = episodes(env.path)
    assert ([step.observation for step in one.steps], [step.reward for step in one.steps]) == (seen, paid)
    assert (one.success, one.score, one.error, one.cut_off, one.seed, one.split, one.group_id) == (
        True,
        1.0,
        None,
        None,
        5,
        "eval",
        "all",
    )
    assert one.final_observation not in (None, "", seen[-1])
    assert one.steps[-1].terminated
    assert one.steps[0].admissible_actions
    assert len({step.state_key for step in one.steps}) == len(one.steps)
    env.close()
    assert len(episodes(env.path)) == 1


def test_what_it_records_is_what_the_environment_said(tmp_path: Path) -> None:
    plain, recorded = corridor(), RecordTrajectories(corridor(), tmp_path / "x.jsonl")
    assert win(plain) == win(recorded)


@pytest.mark.fault("an agent leaves an episode unfinished", lost="the rest of the episode")
@pytest.mark.parametrize("how", ["closed", "reset"])
def test_an_unfinished_episode_is_cut_off_and_never_a_success(tmp_path: Path, how: str) -> None:
    env = RecordTrajectories(corridor(), tmp_path / "x.jsonl.gz")
    _, info = env.reset(seed=0)
    env.step(info["admissible_actions"][0])
    env.close() if how == "closed" else env.reset(seed=1)
    (one,) = episodes(env.path)
    assert (one.success, one.cut_off, one.error) == (False, how, None)
    assert one.steps[-1].truncated
    assert not one.steps[-1].terminated


def test_an_episode_without_a_step_is_not_written(tmp_path: Path) -> None:
    env = RecordTrajectories(corridor(), tmp_path / "x.jsonl")
    env.reset(seed=0)
    env.reset(seed=1)
    env.close()
    assert not env.path.exists()


def test_a_time_limit_of_the_environment_or_of_a_wrapper_is_a_cut_off(tmp_path: Path) -> None:
    for number, env in enumerate([corridor(max_steps=1), TimeLimit(corridor(), 1)]):
        recorded = RecordTrajectories(env, tmp_path / f"{number}.jsonl")
        recorded.reset(seed=0)
        recorded.step("look")
        (one,) = episodes(recorded.path)
        assert (one.success, one.cut_off) == (False, "time_limit")


@pytest.mark.fault("an environment raises an exception", lost="the episode")
def test_an_exception_of_the_environment_is_a_fault(tmp_path: Path) -> None:
    class Broken(toys.Corridor):
        def act(self, action: str) -> stepcredit.StepResult:
            raise RuntimeError("the walls fell in")

    env = RecordTrajectories(Broken(toys.CorridorConfig()), tmp_path / "x.jsonl")
    env.reset(seed=0)
    with pytest.raises(RuntimeError, match="the walls fell in"):
        env.step("right")
    env.close()
    (one,) = episodes(env.path)
    assert (one.error, one.success, one.cut_off) == ("exception: RuntimeError: the walls fell in", False, None)


def test_it_goes_with_gymnasium_and_other_wrappers_in_any_order(tmp_path: Path) -> None:
    made = gymnasium.make("stepcredit/ALFWorld-v0", max_steps=2)
    for number, env in enumerate(
        [
            RecordTrajectories(RecordEpisodeStatistics(made), tmp_path / "0.jsonl"),
            RecordEpisodeStatistics(RecordTrajectories(made, tmp_path / "1.jsonl")),
        ]
    ):
        _, info = env.reset(seed=0)
        for _ in range(2):
            *_, info = env.step(info["admissible_actions"][0])
        assert "episode" in info
        (one,) = episodes(tmp_path / f"{number}.jsonl")
        assert (one.env_id, one.cut_off, len(one.steps)) == ("stepcredit/ALFWorld-v0", "time_limit", 2)


def test_of_vectorized_environments_each_writes_a_file_of_its_own(tmp_path: Path) -> None:
    def make(number: int) -> RecordTrajectories:
        return RecordTrajectories(corridor(max_steps=3), tmp_path / f"{number}.jsonl")

    envs = gymnasium.vector.SyncVectorEnv([lambda number=number: make(number) for number in range(2)])
    envs.reset(seed=[0, 1])
    for _ in range(4):  # the fourth begins the next episodes
        envs.step(("nonsense", "nonsense"))
    envs.close()
    for number in range(2):
        (one,) = episodes(tmp_path / f"{number}.jsonl")
        assert (one.seed, len(one.steps), one.cut_off) == (number, 3, "time_limit")
        assert not any(step.valid for step in one.steps)


def test_only_environments_that_tell_their_states_are_recorded(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="CartPoleEnv is no TextEnv"):
        RecordTrajectories(gymnasium.make("CartPole-v1"), tmp_path / "x.jsonl")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="split is 'dev'; allowed: train, eval, test"):
        RecordTrajectories(corridor(), tmp_path / "x.jsonl", split="dev")  # type: ignore[arg-type]


def test_recorded_episodes_get_credit_from_any_method(tmp_path: Path) -> None:
    env = RecordTrajectories(corridor(), tmp_path / "x.jsonl")
    for seed in range(3):
        win(env, seed)
    steps = [(number, one, step) for number, one in enumerate(stepcredit.read_trajectories(env.path)) for step in one.steps]
    credit = stepcredit.advantages(
        "gigpo",
        rewards=[step.reward for _, _, step in steps],
        episodes=[number for number, _, _ in steps],
        groups=[one.group_id for _, one, _ in steps],
        states=[step.state_key for _, _, step in steps],
    )
    assert np.isfinite(credit.values).all()

"""The warm start: demonstrations win or dawdle, careful ones come first, and training reaches them in that order."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from agents.config.loading import load
from agents.config.sections import WarmstartConfig
from agents.training.demonstrations import demonstrate
from agents.training.packing import Row
from agents.training.warmstart import clone, warm_start
from envs.alfworld.config import ALFWorldConfig
from envs.alfworld.env import ALFWorldEnv
from envs.base import Unsolvable
from tests.agents.models.models_for_tests import small_policy
from tests.agents.parts import opened


class Enough(Exception):
    """Ends a training from its callback."""


def row(*ids: int) -> Row:
    return Row(np.array(ids, dtype=np.int32), [len(ids) - 1], [0])


def weights(policy) -> list[torch.Tensor]:
    return [p.detach().clone() for _, p in policy.trainable()]


def test_careful_demonstrations_come_first_and_in_the_share_asked_for() -> None:
    config = load(["env=alfworld", "algo=gigpo", "warmstart.suboptimal_share=0.25", "env.train_games=5", "device=cpu"])
    with opened(config) as parts:
        made = parts.demonstrations(parts.env.tasks("train"), 12)
        looks = [[step.action for step in t.steps].count("look") for t in made]
        assert not any(looks[:9])
        assert all(looks[9:])


class Lost(ALFWorldEnv):
    """Its oracle gives up."""

    def imperfect_demonstration(self, task_id, rng, detours, suboptimal):
        return ["look"] * (self.max_steps if suboptimal else 2)


def test_a_demonstration_that_neither_wins_nor_dawdles_to_the_end_is_an_error() -> None:
    env = Lost(ALFWorldConfig(max_steps=5))
    task = env.tasks("train")[0]
    assert len(demonstrate(env, task, 0, 0.0, suboptimal=True)) == 5
    with pytest.raises(RuntimeError, match="does not win task"):
        demonstrate(env, task, 0, 0.0, suboptimal=False)


def test_tasks_that_the_oracle_cannot_win_in_time_are_passed_over_unless_all_are() -> None:
    config = load(
        [
            "env=alfworld",
            "env.max_steps=7",
            "warmstart.suboptimal_share=0",
            "warmstart.detours=0",
            "env.train_games=12",
            "device=cpu",
        ]
    )
    with opened(config) as parts:
        tasks = list(parts.env.tasks("train"))

        def in_time(task: str) -> bool:
            try:
                return bool(demonstrate(parts.env, task, 0, 0.0, suboptimal=False))
            except Unsolvable:
                return False

        short = [task for task in tasks if in_time(task)]
        assert 0 < len(short) < len(tasks)
        made = parts.demonstrations(tasks, 2 * len(short))
        assert len(made) == 2 * len(short)
        assert all(len(t.steps) <= 7 for t in made)
        with pytest.raises(Unsolvable, match=r"more than env\.max_steps=7"):
            parts.demonstrations([task for task in tasks if task not in short], 3)


def test_training_reaches_the_last_demonstrations_last() -> None:
    good, unreadable = [row(5, 6, 7)] * 50, [row(5, 6, 10**6)] * 50
    config = WarmstartConfig(steps=20, batch=4)

    def halfway(step: int, loss: float) -> None:
        if step == 10:
            raise Enough

    with pytest.raises(Enough):
        clone(small_policy(), good + unreadable, config, 0, halfway)
    with pytest.raises(IndexError):
        clone(small_policy(), good + unreadable, config, 0)


def test_cloning_learns_what_was_shown() -> None:
    policy = small_policy()
    first: list[float] = []
    last = clone(policy, [row(5, 6, 7), row(8, 9, 10)], WarmstartConfig(steps=60, batch=2), 0, lambda _, x: first.append(x))
    assert last < 0.2 < 2 < first[0]


def test_steps_too_small_for_bf16_add_up() -> None:
    policy = small_policy()
    policy.model.to(torch.bfloat16)
    before = weights(policy)
    clone(policy, [row(5, 6, 7), row(8, 9, 10)], WarmstartConfig(steps=100, batch=2, lr=2e-5), 0)
    pairs = [(a, b) for a, b in zip(before, weights(policy), strict=True) if a.dim() == 2]
    moved = sum(int((a != b).sum()) for a, b in pairs) / sum(a.numel() for a, _ in pairs)
    assert moved > 0.5


def test_a_warm_start_is_cached_by_all_that_it_depends_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPCREDIT_CACHE", str(tmp_path))
    config = load(["env=alfworld", "algo=gigpo", "env.train_games=5", "warmstart.steps=3", "warmstart.batch=2", "device=cpu"])
    with opened(config) as parts:
        made = parts.demonstrations(parts.env.tasks("train"), 4)
        untrained = copy.deepcopy(parts.policy.model.state_dict())

        def begin(settings: WarmstartConfig = config.warmstart, seed: int = 0) -> bool:
            parts.policy.model.load_state_dict(untrained)
            return bool(warm_start(parts.policy, made, settings, seed)["cached"])

        assert not begin()
        trained = weights(parts.policy)
        assert begin()
        assert all(torch.equal(a, b) for a, b in zip(trained, weights(parts.policy), strict=True))
        parts.policy.model.load_state_dict(untrained)
        assert any(not torch.equal(a, b) for a, b in zip(trained, weights(parts.policy), strict=True))
        assert not begin(seed=1)
        assert not begin(WarmstartConfig(steps=3, batch=2, lr=1e-4))
        made[0].steps[0].response_ids[0] += 1
        assert not begin()

"""A training whose temperature follows the entropy: sampler and learner agree, from the first iteration on and when resumed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from agents.config.commands import TrainConfig
from agents.config.loading import load
from agents.models.temperature import ByEntropy
from agents.rollout.planner import evaluation_episodes
from agents.runs import checkpoint
from agents.training.experience import Experience
from agents.training.learner import Learner
from agents.training.reward_model import RewardModel
from agents.training.weights import WeightStore
from algorithms.shaping.implicit_prm import ImplicitPRM
from envs import registry
from tests.agents.parts import Parts, opened
from tests.agents.test_methods import CONSTANT, stopped_and_resumed, train
from tests.envs import toys

registry.register("hallway", "tests/Hallway-v0", "tests.envs.toys:Corridor", toys.CorridorConfig, toys.CorridorPrompt)
SMALL = (
    *("env=hallway", "env.max_steps=5", "model.tiny.hidden=32", "model.tiny.intermediate=32", "device=cpu", "threads=1"),
    *("evaluation.episodes=4", "evaluation.repeats=2", "engine.max_tokens=6", "engine.temperature=0.8"),
    *("algo=grpo", "optim.lr=1e-3", "warmstart.enabled=false"),
)
TAU = "rollout.temperature_tau=0.3"
RUN = [
    *SMALL,
    *CONSTANT,
    "optim.lr=1e-4",
    "rollout.groups=2",
    "rollout.group_size=4",
    "evaluation.after=false",
    "checkpoint.every=1",
]


def sampled(parts: Parts, temperature: float | ByEntropy) -> Experience:
    """What the learner gets of episodes at a temperature."""
    episodes = evaluation_episodes(parts.config.evaluation, parts.env, parts.config.seed)  # type: ignore[union-attr]
    played = parts.runner.run(parts.sampler.play(episodes, temperature))  # type: ignore[arg-type]
    tries = parts.sampler.player.dialogue.tries if parts.config.engine.constrained == "admissible" else None
    made = Experience.of(played, tries)
    made.advantages += np.random.default_rng(0).normal(size=made.sampled).astype(np.float32)
    made.defined[:] = True
    return made


@pytest.mark.parametrize("constrained", ["none", "admissible"])
def test_the_learner_knows_the_probabilities_that_the_sampler_drew_by(constrained: str) -> None:
    config = load([*SMALL, TAU, f"engine.constrained={constrained}"])
    assert isinstance(config, TrainConfig)
    with opened(config) as parts:
        learner, store = Learner(parts.policy, config), WeightStore(parts.policy, [parts.sampler.player.engine])
        model = learner.add_reward_model("implicit_prm", ImplicitPRM())
        assert isinstance(model, RewardModel)
        assert learner.temperature == 0.8
        used = []
        for iteration in (1, 2, 3):
            data = sampled(parts, learner.temperature)
            learner.observe(data, {"entropy"})
            assert data.entropy is not None
            entropies = data.entropy[data.chosen.numpy()]
            # What reward models say of the policy, and what is learned from, is what was drawn by.
            np.testing.assert_allclose(model.rollout_logprobs(data), data.rollout_logprobs.numpy(), atol=1e-4)
            now = learner.temperature
            metrics = learner.update(data, iteration)
            parts.runner.run(store.publish(iteration))
            assert metrics["update/mismatch_max"] < 1e-4
            used.append(metrics["update/temperature"])
            assert learner.temperature == ByEntropy.fitted(0.8, 0.3, entropies)
            assert learner.temperature != now
            assert learner.actor.temperature == model.temperature == learner.temperature
        assert used[0] == 0.8
        assert all(0.8 * 0.7 < value < 0.8 * 1.3 and value != 0.8 for value in used[1:])
        # At one temperature the same tokens would have had other probabilities.
        data, model.temperature = sampled(parts, learner.temperature), 0.8
        assert np.abs(model.rollout_logprobs(data) - data.rollout_logprobs.numpy()).max() > 1e-2


def test_entropies_are_the_policys_before_their_temperature_followed_them_and_are_read_without_a_method_that_asks() -> None:
    config = load([*SMALL, TAU, "engine.constrained=none"])
    assert isinstance(config, TrainConfig)
    with opened(config) as parts:
        learner = Learner(parts.policy, config)
        data = sampled(parts, learner.temperature)
        learner.observe(data, {"entropy"})
        plain = data.entropy
        assert plain is not None
        learner._heat(ByEntropy(0.8, 0.9, 0.0, 0.1, 0.1))
        learner.observe(data, {"entropy"})
        np.testing.assert_array_equal(data.entropy, plain)
        data.entropy = None
        learner._heat(0.8)
        learner.update(data, 1)
        assert learner.temperature == ByEntropy.fitted(0.8, 0.3, plain)


def test_a_training_that_was_stopped_goes_on_at_the_same_temperatures(tmp_path: Path) -> None:
    rows = stopped_and_resumed(tmp_path, [*RUN, "algo=hapo", "rollout.temperature_tau=0.3"], iterations=3)
    temperatures = [row["update/temperature"] for row in rows[1:]]
    assert temperatures[0] == 0.8
    assert 0.8 * 0.7 < min(temperatures[1:]) < max(temperatures[1:]) < 0.8 * 1.3
    assert all(row["update/mismatch_max"] < 1e-4 for row in rows[1:])
    kept = [checkpoint.of_run(tmp_path / name, None).state["update"]["learner"]["temperature"] for name in ("whole", "stopped")]
    assert kept[0] == kept[1]
    assert kept[0]["tau"] == 0.3


def test_hapo_trains_with_it_and_other_methods_at_one_temperature(tmp_path: Path) -> None:
    rows = train(tmp_path, "hapo", *RUN, "algo=hapo", "iterations=2")
    assert [row["update/temperature"] for row in rows[1:]] == [0.8, pytest.approx(0.8, rel=0.05)]
    assert rows[-1]["update/temperature"] != 0.8
    *_, row = train(tmp_path, "grpo", *RUN, "iterations=2")
    assert "update/temperature" not in row
    assert "temperature" not in checkpoint.of_run(tmp_path / "grpo", None).state["update"]["learner"]


def test_trees_grow_at_the_temperature_of_training(tmp_path: Path) -> None:
    *_, row = train(tmp_path, "tree", *RUN, "algo=tree_grpo", "rollout.temperature_tau=0.5", "iterations=2")
    assert row["branch/leaves"] > row["branch/episodes"] > 0
    assert row["update/mismatch_max"] < 1e-4
    assert row["update/temperature"] != 0.8

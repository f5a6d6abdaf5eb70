"""The owners of an update: what they write into an experience, what they refuse, and what a resumed run goes on with."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from agents.config.commands import TrainConfig
from agents.config.loading import load
from agents.training.credit import Credit
from agents.training.experience import Experience
from agents.training.learner import Learner, MismatchError
from envs import registry
from tests.agents.parts import Parts, opened
from tests.agents.test_training import SMALL
from tests.envs import toys

registry.register("hallway", "tests/Hallway-v0", "tests.envs.toys:Corridor", toys.CorridorConfig, toys.CorridorPrompt)


@pytest.fixture
def parts() -> Iterator[Parts]:
    config = load([*SMALL, "algo=ppo", "shaping=invalid_action", "loss.mismatch_stop=null"])
    with opened(config) as made:
        yield made


def owners(parts: Parts) -> tuple[Learner, Credit]:
    assert isinstance(parts.config, TrainConfig)
    learner = Learner(parts.policy, parts.config)
    noted = parts.sampler.player.dialogue.noted
    return learner, Credit(learner, parts.config, lambda: pytest.fail("no shaping asks for a judge"), noted)


def experience(parts: Parts) -> Experience:
    assert isinstance(parts.config, TrainConfig)
    tries = parts.sampler.player.dialogue.tries if parts.config.engine.constrained == "admissible" else None
    return Experience.of(parts.evaluation(), tries)


def test_credit_is_in_the_experience_and_in_its_steps(parts: Parts) -> None:
    _, credit = owners(parts)
    found = experience(parts)
    for step in found.steps[::2]:
        step.valid = False
    found.valid[::2] = False
    asyncio.run(credit.assign(found))
    assert found.returns is not None
    assert len(found.returns) == len(found.advantages) == found.sampled
    assert bool(found.defined.all())
    assert found.shaped["invalid_action"].tolist() == [-0.1, 0.0] * (len(found.steps) // 2) + [-0.1] * (len(found.steps) % 2)
    assert ["invalid_action" in step.shaped_rewards for step in found.steps] == (~found.valid).tolist()
    told = [value for step in found.steps for value in (step.credit or {})["advantage"]]
    np.testing.assert_allclose(told, found.advantages.numpy(), atol=1e-6)


@pytest.mark.parametrize("context", ["full", "window"])
def test_actions_of_successes_are_judged_in_hindsight(context: str) -> None:
    """The whole way: from the method's note through dialogue, rows and policy back into credit."""
    sentence = "algo.sentence='It ends well. {observation}'"
    with opened(load([*SMALL, "algo=hcapo", f"env.context={context}", "warmstart.enabled=false", sentence])) as parts:
        _, credit = owners(parts)
        found = experience(parts)
        found.success[::2] = True
        for trajectory, success in zip(found.trajectories, found.success.tolist()):
            trajectory.success = success
        asyncio.run(credit.assign(found))
        assert found.hindsight is not None
        won = found.success[found.episode]
        assert np.isfinite(found.hindsight).tolist() == won.tolist()
        ratio = np.array([(step.credit or {})["ratio"] for step in found.steps])
        assert (ratio[~won] == 1).all()
        assert len(set(ratio[won].tolist())) > 2

        # By hand, of one step: what is read is the prompt with the sentence, and nothing else.
        tokenizer, step = parts.policy.tokenizer, int(np.flatnonzero(won)[0])
        trajectory = found.trajectories[found.episode[step]]
        (row,) = credit._with_notes(Experience.of([trajectory], parts.sampler.player.dialogue.tries))[:1]
        read = tokenizer.decode(row.ids[: row.targets[0]])
        assert trajectory.final_observation is not None
        note = f"It ends well. {trajectory.final_observation}"
        told = tokenizer.decode(parts.sampler.player.dialogue.noted(note)[0])
        prompt = tokenizer.decode(trajectory.steps[0].prompt_ids)
        assert read == f"{prompt.removesuffix(' <act>')} {told} <act>"


def test_the_age_of_every_token_is_measured(parts: Parts) -> None:
    learner, credit = owners(parts)
    found = experience(parts)
    asyncio.run(credit.assign(found))
    assert not found.weights_version.any()
    assert not any(value for name, value in learner.update(found, 1).items() if name.startswith("update/stale_"))
    found.weights_version[:] = 3
    found.weights_version[:2] = torch.tensor([1, 2])
    metrics = learner.update(found, 4)
    assert {name: value for name, value in metrics.items() if name.startswith("update/stale_")} == {
        "update/stale_mean": pytest.approx(3 / found.sampled),
        "update/stale_max": 2.0,
        "update/stale_1": pytest.approx(1 / found.sampled),
        "update/stale_2": pytest.approx(1 / found.sampled),
    }


@pytest.mark.parametrize("kind", ["auto", "none"])
def test_what_older_weights_sampled_is_no_difference_between_sampling_and_training(parts: Parts, kind: str) -> None:
    """With and without a correction: the run stops for tokens of the newest weights alone."""
    assert isinstance(parts.config, TrainConfig)
    parts.config.rollout.overlap, parts.config.loss.correction.kind = 1, kind  # type: ignore[assignment]
    learner, credit = owners(parts)
    found = experience(parts)
    asyncio.run(credit.assign(found))
    learner.config.loss.mismatch_stop = "auto"
    older = torch.arange(found.sampled) % 3 == 0
    found.weights_version[:] = 1
    found.weights_version[older] = 0
    found.rollout_logprobs[older] -= 0.25
    metrics = learner.update(found, 2)
    assert metrics["update/mismatch_max"] < 1e-4
    if kind == "auto":
        assert metrics["update/effective_share"] < 0.999
    found.weights_version[:] = 1
    assert learner.update(found, 3)["update/stale_1"] == 1.0, "nothing is left to compare, and nothing stops the run"
    found.weights_version[:] = 3
    found.rollout_logprobs -= 0.25
    with pytest.raises(MismatchError, match=r"loss\.mismatch_stop allows 0\.001"):
        learner.update(found, 4)


@pytest.mark.fault("sampling and training differ", lost="the iteration: the run stops before it is saved")
def test_a_difference_between_sampling_and_training_stops_the_run_before_it_is_saved(parts: Parts) -> None:
    learner, credit = owners(parts)
    found = experience(parts)
    asyncio.run(credit.assign(found))
    found.rollout_logprobs -= 0.25
    learner.config.loss.mismatch_stop = "auto"
    with pytest.raises(MismatchError, match=r"differ by 0\.25 on average"):
        learner.update(found, 1)


def test_owners_go_on_from_their_saved_state_to_the_bit(parts: Parts) -> None:
    learner, credit = owners(parts)
    found = experience(parts)
    asyncio.run(credit.assign(found))
    learner.update(found, 1)
    state = copy.deepcopy({**learner.state(), **credit.state()})
    assert state.keys() == {"learner", "frozen", "critic"}
    weights = copy.deepcopy(parts.policy.model.state_dict())

    def after() -> list[torch.Tensor]:
        asyncio.run(credit.assign(found))
        learner.update(found, 2)
        return [p.detach().clone() for _, p in parts.policy.trainable()]

    first = after()
    parts.policy.model.load_state_dict(weights)
    learner, credit = owners(parts)
    for owner in (learner, credit):
        owner.load_state(state)
    assert all(torch.equal(one, other) for one, other in zip(first, after(), strict=True))


def test_the_credit_of_an_experience_does_not_depend_on_the_order_of_its_episodes(parts: Parts) -> None:
    """Engines and ranks give episodes in another order: each token's advantage and the gradient stay as they are."""
    episodes = parts.evaluation()
    found = []
    for order in (episodes, episodes[::-1]):
        learner, credit = owners(parts)
        one = Experience.of(order, parts.sampler.player.dialogue.tries)
        asyncio.run(credit.assign(one))
        learner.actor.optim.lr = 0.0
        learner.actor.optim.minibatch_episodes = len(episodes)
        learner.actor.update(one, 0)
        told = {id(step): (step.credit or {})["advantage"] for step in one.steps}
        found.append(
            ([told[id(s)] for t in episodes for s in t.steps], [p.grad for _, p in learner.actor.optimizer.parameters])
        )
    (advantages, gradients), (others, reversed_) = found
    assert len(episodes) > 2
    for mine, other in zip(advantages, others, strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-5)
    for mine, other in zip(gradients, reversed_, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-5, rtol=1e-3)


def test_an_experience_refuses_an_episode_twice_and_a_token_without_a_log_probability(parts: Parts) -> None:
    found = experience(parts)
    with pytest.raises(ValueError, match="in the list twice"):
        Experience.of([*found.trajectories, found.trajectories[0]])
    found.steps[0].rollout_logprobs.pop()
    with pytest.raises(ValueError, match="log-probabilities for"):
        Experience.of(found.trajectories)

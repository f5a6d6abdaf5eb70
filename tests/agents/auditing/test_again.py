"""Decisions credited again under other futures: what a method is told, and the bias and chance that are found in its credit."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, replace

import numpy as np
import pytest
from rich.console import Console

from agents.auditing import again
from agents.auditing.measures import resampled
from agents.auditing.methods import copies, gathered
from agents.auditing.playing import Store
from agents.auditing.valuing import Valued, valued
from agents.config.loading import load, load_audit
from agents.training.experience import Experience
from algorithms import base
from algorithms.base import Advantages, Algorithm, Scored
from algorithms.stats import discounted_returns
from tests.agents.auditing.tabular import table_engine, values  # noqa: F401
from tests.agents.parts import Parts, opened
from tests.algorithms.batches import as_batch
from tests.algorithms.examples import episode

WORDS = ("env=table", "engine.name=table", "env.pool.mode=inline", "model.tiny.hidden=32", "rollout.group_size=4")

Told = tuple[Experience, list[list[int]]]


@dataclass
class MonteCarlo(Algorithm):
    """Return from the step on less a baseline: the exact value (unbiased, and full of chance), and what is added to it."""

    off: float = 0.0

    def credit(self, batch: Scored) -> Advantages:
        tasks = [t.task_id for t in batch.trajectories for _ in t.steps]
        keys = [int(step.state_key) for t in batch.trajectories for step in t.steps]
        known = np.array([values(task)[t, key] for task, t, key in zip(tasks, batch.position.tolist(), keys)])
        going_on = np.array([step.action == "go on" for t in batch.trajectories for step in t.steps])
        return Advantages(discounted_returns(batch, batch.reward, 1.0) - known + self.off * going_on)


@pytest.fixture(scope="module")
def parts() -> Iterator[Parts]:
    with opened(load([*WORDS, "warmstart.enabled=false"])) as parts:
        yield parts


@pytest.fixture(scope="module")
def found(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> Valued:
    config = load_audit([*WORDS, "episodes=96", "continuations=16", "futures=1000"])
    folder = tmp_path_factory.mktemp("audit")
    return parts.runner.run(valued(config, parts.sampler, parts.env, Store(folder), Console(quiet=True)))


@pytest.fixture(scope="module")
def told(parts: Parts, found: Valued) -> Told:
    """The audited episodes and those of the futures, and for each step the numbers of its futures."""
    audited, numbers, others = len(found.trajectories), [], []
    for place, futures in zip(found.again.tolist(), found.futures):
        own = int(found.steps.decisions.episode[place])
        itself = futures == [found.trajectories[own]]
        numbers.append([own] if itself else [audited + len(others) + at for at in range(len(futures))])
        others += [] if itself else futures
    return gathered(copies([*found.trajectories, *others]), load([*WORDS]), parts.sampler, parts.env), numbers


def measured(told: Told, found: Valued, method: Algorithm, scale: float = 1.0) -> dict[str, float]:
    (batch, numbers), audited = told, len(found.trajectories)
    credits = again.credited_again(method, batch, audited, batch.chosen.numpy(), found.again, numbers, 1.0)
    credits.credit = credits.credit * scale
    numbers_found = again.measure(credits, found.steps, resampled(np.arange(audited), np.ones(audited, dtype=bool), 100, 0))
    assert all(one.value is not None for one in numbers_found.values())
    return {name: one.value or 0.0 for name, one in numbers_found.items()}


def test_credit_by_the_return_less_the_exact_value_has_no_bias_and_much_chance(told: Told, found: Valued) -> None:
    numbers = measured(told, found, MonteCarlo())
    assert numbers["bias"] < 0.2
    assert numbers["deviation"] > 0.5


def test_what_is_added_to_one_action_is_found_as_bias(told: Told, found: Valued) -> None:
    little, much = (measured(told, found, MonteCarlo(off=off)) for off in (0.1, 0.5))
    assert measured(told, found, MonteCarlo())["bias"] < little["bias"] < much["bias"]
    assert much["bias"] > 0.7


def test_a_scale_of_the_credit_says_nothing(told: Told, found: Valued) -> None:
    one, other = (measured(told, found, MonteCarlo(off=0.2), scale) for scale in (1.0, 40.0))
    assert one == pytest.approx(other)


def test_an_outcome_method_is_measured_too(told: Told, found: Valued) -> None:
    numbers = measured(told, found, base.build({"name": "grpo"}))
    assert numbers["bias"] > 0.3
    assert numbers["deviation"] > 0.3


def test_the_truth_as_credit_has_neither(told: Told, found: Valued) -> None:
    """Exact for last steps too, of which no future is drawn."""

    @dataclass
    class Exact(Algorithm):
        def credit(self, batch: Scored) -> Advantages:
            of = []
            for t in batch.trajectories:
                value, keys = values(t.task_id), [int(step.state_key) for step in t.steps]
                after = [*(value[n + 1, key] for n, key in enumerate(keys[1:])), 0.0]
                of += [s.reward + later - value[n, k] for n, (s, k, later) in enumerate(zip(t.steps, keys, after))]
            return Advantages(np.array(of))

    numbers = measured(told, found, Exact())
    assert numbers["bias"] < 0.2
    assert numbers["deviation"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("name", ["grpo", "gigpo", "hgpo", "rloo", "reinforce_pp", "passk_grpo", "opo"])
def test_regrouped_episodes_are_credited_as_if_they_had_been_played_in_these_groups(name: str) -> None:
    rng = np.random.default_rng(0)
    played = [
        episode([0.0] * int(rng.integers(1, 4)) + [float(rng.integers(2))], group=f"g{number // 4}", states="abcd"[:4])
        for number in range(8)
    ]
    for number, one in enumerate(played):
        one.steps = one.steps[: 2 + number % 3]
    groups = [np.array(members) for members in ([0, 1, 2, 3], [0, 1, 7, 3], [4, 5, 5, 7], [6, 5, 4, 7])]
    batch = as_batch(played)
    regrouped, chosen = again.regrouped(batch, groups, np.arange(int(batch.tokens.sum())) % 2 == 0)
    expected = as_batch(
        [replace(deepcopy(played[one]), group_id=f"new {number}") for number, members in enumerate(groups) for one in members]
    )
    method = base.build({"name": name})
    assert method.advantages(regrouped).values == pytest.approx(method.advantages(expected).values)
    assert len(chosen) == int(expected.tokens.sum())


def test_only_the_episode_that_is_credited_again_has_another_future(parts: Parts, found: Valued) -> None:
    heard: list[Scored] = []

    @dataclass
    class Listens(Algorithm):
        def credit(self, batch: Scored) -> Advantages:
            heard.append(batch)
            return Advantages(np.zeros(len(batch.reward)))

    audited = len(found.trajectories)
    place = next(p for p, futures in zip(found.again.tolist(), found.futures) if len(futures) > 2)
    futures = found.futures[found.again.tolist().index(place)]
    batch = gathered(copies([*found.trajectories, *futures]), load([*WORDS]), parts.sampler, parts.env)
    numbers = [list(range(audited, audited + len(futures)))]
    credits = again.credited_again(Listens(), batch, audited, batch.chosen.numpy(), np.array([place]), numbers, 1.0)
    own = int(found.steps.decisions.episode[place])
    members = [n for n, t in enumerate(found.trajectories) if t.group_id == found.trajectories[own].group_id]
    (seen,) = heard
    assert len(seen.trajectories) == len(members) * len(futures)
    for number, trajectory in enumerate(seen.trajectories):
        future, member = divmod(number, len(members))
        expected = futures[future] if members[member] == own else found.trajectories[members[member]]
        assert [s.action for s in trajectory.steps] == [s.action for s in expected.steps]
    position = int(batch.position[place])
    assert credits.outcome.tolist() == pytest.approx([sum(s.reward for s in t.steps[position:]) for t in futures])

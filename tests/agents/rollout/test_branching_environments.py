"""In every environment, context and way of choosing: an episode that is continued with its own seeds comes again."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from agents.config import loading
from agents.rollout.branching import Branch, continued
from agents.rollout.build import make_env
from agents.rollout.choice import Scoring
from agents.rollout.engines.base import Request
from agents.rollout.engines.scripted import ScriptedEngine
from agents.rollout.planner import group_episodes
from agents.rollout.sampler import Sampler
from agents.rollout.turns import Plan
from envs.trajectory import Trajectory
from tests.agents.models.families import folder, training
from tests.agents.parts import Parts, opened

SETTINGS = {
    "alfworld": ["env=alfworld", "env.train_games=4", "env.max_steps=6"],
    "webshop": ["env=webshop", "env.max_steps=5"],
    "sokoban": ["env=sokoban", "env.max_steps=6", "env.longest=6"],
    "minihack": ["env=minihack", "env.levels=[Room-Monster-5x5]", "env.max_steps=6"],
}
WAYS = ["none", "admissible", "scored"]


@pytest.fixture(scope="module", params=SETTINGS)
def parts(request: pytest.FixtureRequest) -> Iterator[Parts]:
    if request.param == "minihack" and importlib.util.find_spec("nle") is None:
        pytest.skip("MiniHack is not installed")
    config = loading.load(
        [*SETTINGS[request.param], "algo=gigpo", "model.tiny.hidden=32", "engine.max_tokens=7", "env.pool.mode=inline"]
    )
    with opened(config) as made:
        yield made


def playing(parts: Parts, context: str, way: str) -> Sampler:
    player = parts.sampler.player
    scoring = Scoring(player.dialogue.tries, "words") if way == "scored" else None
    return replace(
        parts.sampler, player=replace(player, context=context, history=2, constrained=way == "admissible", scoring=scoring)
    )


def parents(parts: Parts, sampler: Sampler) -> list[tuple[Trajectory, int]]:
    """Episodes, and the seeds that they were sampled with."""
    planned = group_episodes(5, "train", 1, make_env(parts.config).tasks("train")[:2], 1, "train")
    played = parts.runner.run(sampler.play(planned, 1.0))
    assert all(one.error is None and one.steps for one in played)
    return [(one, episode.sample_seed) for one, episode in zip(played, planned, strict=True)]


def assert_same(child: Trajectory, parent: Trajectory, atol: float = 1e-4) -> None:
    for mine, theirs in zip(child.steps, parent.steps, strict=True):
        assert mine.rollout_logprobs == pytest.approx(theirs.rollout_logprobs, abs=atol)
        assert replace(mine, rollout_logprobs=[]) == replace(theirs, rollout_logprobs=[])
    assert child == replace(parent, steps=child.steps, name=child.name, parent=child.parent)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("context", ["full", "window"])
def test_an_episode_that_is_continued_with_its_own_seeds_comes_again_from_every_step(
    parts: Parts, context: str, way: str
) -> None:
    sampler = playing(parts, context, way)
    branches = [
        Branch(parent, step, seed, chance=False)
        for parent, seed in parents(parts, sampler)
        for step in range(len(parent.steps) + 1)
    ]
    Random(0).shuffle(branches)
    for branch, child in zip(branches, parts.runner.run(continued(sampler, branches, 1.0)), strict=True):
        assert_same(child, branch.parent)
        assert child.parent == (branch.parent.name, branch.step)
        assert all(mine is theirs for mine, theirs in zip(child.steps[: branch.step], branch.parent.steps))


@pytest.mark.parametrize("way", ["none", "admissible"])
@pytest.mark.parametrize("context", ["full", "window"])
def test_a_response_that_is_continued_with_its_own_seed_comes_again_from_every_token(
    parts: Parts, context: str, way: str
) -> None:
    sampler = playing(parts, context, way)
    branches = [
        Branch(parent, step, seed, token, chance=False)
        for parent, seed in parents(parts, sampler)
        for step in range(min(3, len(parent.steps)))
        for token in range(1, len(parent.steps[step].response_ids))
    ]
    assert len(branches) > 5
    for branch, child in zip(branches, parts.runner.run(continued(sampler, branches, 1.0)), strict=True):
        assert_same(child, branch.parent)
        kept, step = child.steps[branch.step], branch.parent.steps[branch.step]
        assert kept.rollout_logprobs[: branch.token] == step.rollout_logprobs[: branch.token]


@pytest.mark.parametrize("context", ["full", "window"])
@pytest.mark.parametrize("kind", ["qwen2", "gemma3_text", "lfm2", "qwen3_5_text"])
def test_conversations_with_thoughts_come_again_whatever_the_models_layers_are(kind: str, context: str, tmp_path: Path) -> None:
    settings = [*training(folder(tmp_path, kind), tmp_path), "algo=gigpo", "env.thinking=true", f"env.context={context}"]
    with opened(loading.load([*settings, "env.pool.mode=inline", "engine.constrained=none", "engine.max_tokens=9"])) as made:
        branches = [
            Branch(parent, step, seed, token)
            for parent, seed in parents(made, made.sampler)
            for step in range(len(parent.steps))
            for token in (0, 4)
            for _ in range(2)
        ]
        for branch, child in zip(branches, made.runner.run(continued(made.sampler, branches, 1.0)), strict=True):
            assert_same(child, branch.parent, atol=1e-2)
        counts = made.sampler.branched.take()
        if context == "full":
            assert counts["reused"] > counts["prefill"]


def test_a_branch_pursues_the_subgoal_that_its_parent_had_there() -> None:
    settings = [*SETTINGS["alfworld"], "algo=hiper", "env.context=window", "env.history=1", "env.pool.mode=inline"]
    with opened(loading.load(settings)) as made:
        dialogue = made.sampler.player.dialogue
        plans = [Plan(True, "hold target"), Plan(True, "finish"), Plan(False, "")]

        def script(request: Request) -> list[int]:
            return [*dialogue.spell("look", None, plans[request.seed % 3]), dialogue.stop_ids[0]]

        sampler = replace(made.sampler, player=replace(made.sampler.player, engine=ScriptedEngine(script)))
        known = parents(made, sampler)
        said = [dialogue.parts(step.response_ids)[1].subgoal for one, _ in known for step in one.steps]
        assert set(said) == {"hold target", "finish", ""}
        branches = [Branch(one, step, seed, chance=False) for one, seed in known for step in range(len(one.steps) + 1)]
        for branch, child in zip(branches, made.runner.run(continued(sampler, branches, 1.0)), strict=True):
            assert_same(child, branch.parent)


def test_other_seeds_go_other_ways_and_share_what_lies_before(parts: Parts) -> None:
    sampler = playing(parts, "full", "admissible")
    parent = parents(parts, sampler)[0][0]
    middle = len(parent.steps) // 2
    children = parts.runner.run(continued(sampler, [Branch(parent, middle, seed) for seed in range(12)], 1.0))
    assert len({tuple(step.action for step in child.steps) for child in children}) > 1
    for child in children:
        assert child.steps[:middle] == parent.steps[:middle]
        assert child.steps[middle].prompt_ids == parent.steps[middle].prompt_ids
        assert (child.group_id, child.task_id, child.split) == (parent.group_id, parent.task_id, parent.split)
    assert len({child.name for child in children}) == 12

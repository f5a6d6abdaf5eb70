"""Branches of an iteration's episodes, played for real: the values against the truth, the trees against their tokens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from agents.rollout.branching import continued
from agents.rollout.collect import Collected
from agents.rollout.engines.base import Request, uniforms
from agents.rollout.engines.hf import HFEngine
from agents.rollout.engines.scripted import ScriptedEngine
from agents.rollout.planner import Episode
from agents.rollout.sampler import Sampler
from agents.training.branches import Branches, batch_of, mean_known
from agents.training.experience import Experience
from algorithms.base import Algorithm
from algorithms.grpo import GRPO
from algorithms.spo_chain import SPOChain
from algorithms.spo_tree import SPOTree
from algorithms.tree_grpo import TreeGRPO
from algorithms.vineppo import VinePPO
from envs.pool import Pool
from envs.trajectory import Trajectory
from tests.agents.rollout.test_sampler import corridor_policy, sampler, writes
from tests.envs.toys import Corridor, CorridorConfig, Moody, Slippery

STRAIGHT = partial(Corridor, CorridorConfig(max_steps=6))
SLIPPERY = partial(Slippery, CorridorConfig(slippery=0.5, max_steps=8))


def planned(groups: int, size: int) -> list[Episode]:
    """Groups of episodes of a task each."""
    tasks = Corridor(CorridorConfig()).tasks("train")
    return [
        Episode(tasks[group % len(tasks)], f"g{group}", group, 10 * group + member, "train", member=member)
        for group in range(groups)
        for member in range(size)
    ]


def at_random(request: Request) -> list[int]:
    """Left, right or look, by the request's seed."""
    draw = uniforms(np.array([request.seed], dtype=np.uint64), np.zeros(1, dtype=np.uint64))[0]
    return writes(("left", "right", "look")[int(3 * draw)])


def branched(
    method: Algorithm, env: Any, engine: Any = None, groups: int = 3, size: int = 2, seed: int = 0, **settings: Any
) -> tuple[Collected, dict[str, int]]:
    """Episodes of some groups with what the method has played on from inside, and what that took."""

    async def work(made: Sampler) -> tuple[Collected, dict[str, int]]:
        episodes = [one async for one in made.groups(planned(groups, size), 1.0)]
        episodes.sort(key=lambda group: group[0].group_id)
        plays_on = partial(continued, made, temperature=1.0)
        branches = Branches.of(method, plays_on, seed, lambda one: one.error is None and bool(one.steps))
        assert branches is not None
        found = await branches.play(Collected(episodes, [], []), lambda number: lambda one: None)
        return found, made.branched.take()

    with Pool(env, workers=2, mode="inline", step_timeout=1.0) as pool:
        return asyncio.run(work(sampler(engine or ScriptedEngine(at_random), pool, **settings)))


def experience_of(found: Collected) -> Experience:
    return Experience.of([one for one in found.learned if one.error is None], branched=found.columns)


def test_methods_that_ask_for_no_branches_get_none() -> None:
    assert Branches.of(GRPO(), None, 0, bool) is None  # type: ignore[arg-type]


# -- values -----------------------------------------------------------------------------------------------------------------


def test_the_values_that_vineppo_reads_are_those_of_the_states() -> None:
    """Who goes left, right or nowhere with probability 1/3 each on slippery ground gets out with a known probability."""
    count = 600
    found, _ = branched(VinePPO(continuations=count), SLIPPERY, groups=2, size=1)
    experience = experience_of(found)

    def value(length: int, cell: int, left: int) -> float:
        out = np.zeros(length + 1)
        out[length] = 1.0
        for _ in range(left):
            moved = np.array([out[max(0, c - 1)] + out[min(length, c + 1)] + out[c] for c in range(length)]) / 3
            out[:length] = (moved + out[:length]) / 2
        return float(out[cell])

    expected = np.array(
        [value(*map(int, step.state_key.split(":")), 8 - t) for one in found.learned for t, step in enumerate(one.steps)]
    )
    bound = 4.5 * np.sqrt(expected * (1 - expected) / count) + 1e-9
    assert experience.state_values is not None
    assert (np.abs(experience.state_values - expected) < bound).all()
    assert np.ptp(expected) > 0.3


@pytest.mark.parametrize("gamma", [1.0, 0.5])
def test_a_value_is_the_mean_discounted_return_of_the_continuations_of_its_place(gamma: float) -> None:
    found, took = branched(VinePPO(continuations=4, gamma=gamma), SLIPPERY, groups=2, size=1)
    experience = experience_of(found)
    assert experience.state_values is not None
    assert len(found.branched) == 4 * len(experience.steps) == took["episodes"]
    assert took["steps"] == sum(len(child.steps) - child.parent[1] for child in found.branched if child.parent)
    for number, step in enumerate(experience.steps):
        children = found.branched[4 * number : 4 * number + 4]
        t = int(experience.position[number])
        assert all(child.steps[t].state_key == step.state_key and child.parent[1] == t for child in children if child.parent)
        returns = [sum(gamma**n * s.reward for n, s in enumerate(child.steps[t:])) for child in children]
        assert experience.state_values[number] == pytest.approx(np.mean(returns))


def test_episodes_of_a_group_that_went_the_same_way_are_continued_once_for_all_of_them() -> None:
    found, _ = branched(VinePPO(continuations=2), STRAIGHT, groups=2, size=5)
    experience = experience_of(found)
    assert experience.state_values is not None
    ways = [
        (one.group_id, tuple(tuple(step.response_ids) for step in one.steps[:t]))
        for one in found.learned
        for t in range(len(one.steps))
    ]
    assert len(found.branched) == 2 * len(set(ways)) < 2 * len(ways)
    values: dict[Any, float] = {}
    assert all(values.setdefault(way, value) == value for way, value in zip(ways, experience.state_values, strict=True))


def test_only_the_first_states_are_played_on_from_if_that_is_asked() -> None:
    found, _ = branched(VinePPO(continuations=2, max_states=2), STRAIGHT)
    experience = experience_of(found)
    assert experience.state_values is not None
    np.testing.assert_array_equal(np.isnan(experience.state_values), experience.position >= 2)
    assert {child.parent[1] for child in found.branched if child.parent} == {0, 1}


def test_chains_are_cut_inside_answers_and_what_is_before_the_cut_is_kept() -> None:
    method = SPOChain(continuations=2, interval=2, threshold=0.9)
    found, _ = branched(method, STRAIGHT, HFEngine(corridor_policy(), max_batch=8), seed=1)
    experience = experience_of(found)
    assert experience.prefix_values is not None
    cuts = np.flatnonzero(~np.isnan(experience.prefix_values))
    assert cuts.tolist() == method.places(experience).tolist()
    first = np.cumsum(experience.tokens) - experience.tokens
    assert set(cuts.tolist()) - set(first.tolist())
    known = {one.name: one for one in found.learned}
    for child in found.branched:
        assert child.parent is not None
        parent, t = known[child.parent[0]], child.parent[1]
        assert all(mine is theirs for mine, theirs in zip(child.steps[:t], parent.steps))
        asked = {
            int(cut - first[experience.token_step[cut]])
            for cut in cuts
            if experience.token_step[cut] == step_number(experience, parent, t)
        }
        assert any(child.steps[t].response_ids[:token] == parent.steps[t].response_ids[:token] for token in asked)
    assert method.advantages(experience).defined.any()


@pytest.mark.fault("an environment fails in a branch", lost="the branch")
def test_a_continuation_that_a_fault_cuts_off_is_in_no_mean_and_an_episode_that_one_cut_off_is_not_continued() -> None:
    def sometimes(request: Request) -> list[int]:
        draw = uniforms(np.array([request.seed], dtype=np.uint64), np.zeros(1, dtype=np.uint64))[0]
        return writes(("left", "right", "right", "raise")[int(4 * draw)])

    method = VinePPO(continuations=3)
    moody = partial(Moody, CorridorConfig(max_steps=5))
    found, took = branched(method, moody, ScriptedEngine(sometimes), groups=6, size=2, retries=0)
    lost = [one for one in found.learned if one.error is not None]
    experience = experience_of(found)
    assert experience.state_values is not None
    assert lost
    assert took["faults"] == sum(child.error is not None for child in found.branched) > 0
    assert not {one.name for one in lost} & {child.parent[0] for child in found.branched if child.parent}
    by_place: dict[Any, list[float]] = {}
    for child in found.branched:
        returns = by_place.setdefault(child.parent, [])
        if child.error is None:
            returns.append(child.total_reward)
    means = {place: np.mean(returns) if returns else np.nan for place, returns in by_place.items()}
    names = [(one.name, t) for one in found.learned if one.error is None for t in range(len(one.steps))]
    expected = [means[name] for name in names if name in means]
    given = [value for name, value in zip(names, experience.state_values, strict=True) if name in means]
    np.testing.assert_allclose(given, expected)
    assert np.isfinite(method.advantages(experience).values).all()


def step_number(experience: Experience, of: Trajectory, t: int) -> int:
    return next(number for number, step in enumerate(experience.steps) if step is of.steps[t])


@pytest.mark.parametrize("value", [0.1, 1 / 3, 8.573749542236328, 0.0])
def test_the_mean_of_equal_returns_is_exactly_that_return(value: float) -> None:
    table = np.array([[value] * 9, [np.nan] * 4 + [value] * 5, [np.nan] * 9])
    found = mean_known(table)
    assert found[:2].tolist() == [value, value]
    assert np.isnan(found[2])
    mixed = np.random.default_rng(0).normal(size=(5, 7))
    np.testing.assert_allclose(mean_known(mixed), mixed.mean(1))


# -- trees ------------------------------------------------------------------------------------------------------------------


def tokens(one: Trajectory) -> list[int]:
    return [token for step in one.steps for token in step.response_ids]


def check_trees(found: Collected) -> None:
    """Leaves are grouped by tree; they share the tokens of a segment and nothing after it; every step belongs to one leaf."""
    experience = experience_of(found)
    assert experience.tree is not None
    assert experience.segment is not None
    assert (np.diff(experience.tree) >= 0).all()
    steps = [id(step) for one in found.learned for step in one.steps]
    assert len(steps) == len(set(steps))
    paths = np.split(experience.segment, np.cumsum([len(tokens(one)) for one in found.learned])[:-1])
    for (mine, path), (other, way) in (
        (left, right)
        for number, left in enumerate(zip(found.learned, paths, strict=True))
        for right in list(zip(found.learned, paths, strict=True))[:number]
    ):
        same = min(len(path), len(way))
        shared = path[:same] == way[:same]
        until = int(shared.argmin()) if not shared.all() else same
        assert not shared[until:].any()
        assert not set(path[until:]) & set(way[until:])
        assert tokens(mine)[:until] == tokens(other)[:until]
        assert (until > 0) <= (mine.group_id == other.group_id)


@pytest.mark.parametrize("expansions", [0, 1, 3])
def test_trees_of_tree_grpo_grow_from_their_states(expansions: int) -> None:
    method = TreeGRPO(expansions=expansions, nodes=2, leaves=None)
    found, took = branched(method, SLIPPERY, groups=3, size=2)
    check_trees(found)
    assert found.grown is not None
    assert [len(group) for group in found.grown] == [2 * (1 + 2 * expansions)] * 3
    assert took["episodes"] == len(found.branched) == 3 * 2 * 2 * expansions
    assert [one.group_id for group in found.grown for one in group] == [
        f"g{number}" for number in range(3) for _ in found.grown[0]
    ]
    experience = experience_of(found)
    assert experience.tree is not None
    assert np.bincount(experience.tree).tolist() == [1 + 2 * expansions] * 6
    # What a leaf shares with another is as far as where it was branched.
    known = {one.name: one for one in found.learned}
    for child in found.branched:
        assert child.parent is not None
        parent, t = known[child.parent[0]], child.parent[1]
        assert 0 <= t < len(parent.steps)
        assert [s.response_ids for s in child.steps[:t]] == [s.response_ids for s in parent.steps[:t]]
        assert child.steps[t].state_key == parent.steps[t].state_key


def test_branches_of_one_round_and_of_the_next_are_played_differently_from_the_same_state() -> None:
    found, _ = branched(TreeGRPO(expansions=4, nodes=8, leaves=None), SLIPPERY, groups=1, size=2)
    from_the_start = [child for child in found.branched if child.parent and child.parent[1] == 0]
    assert len(from_the_start) > 4
    assert len({child.name for child in found.branched}) == len(found.branched)
    assert len({tuple(step.action for step in child.steps) for child in from_the_start}) > 1


def test_as_many_leaves_of_a_tree_are_learned_from_as_asked() -> None:
    found, _ = branched(TreeGRPO(expansions=2, nodes=2, leaves=3), SLIPPERY, groups=2, size=2)
    check_trees(found)
    assert found.grown is not None
    assert [len(group) for group in found.grown] == [6, 6]
    assert len(found.branched) == 2 * 2 * 4
    assert {one.name for one in found.learned} <= {one.name for one in (*found.branched, *found.sampled)}


@pytest.mark.parametrize(("unit", "segment"), [("tokens", 4), ("steps", 1)])
def test_an_spo_tree_has_all_leaves_of_its_levels(unit: Any, segment: int) -> None:
    method = SPOTree(branching=[3, 2], segment=segment, unit=unit, certain="credited")
    engine = HFEngine(corridor_policy(), max_batch=16)
    found, _ = branched(method, STRAIGHT, engine, groups=2, size=2, seed=2)
    check_trees(found)
    experience = experience_of(found)
    assert experience.segment is not None
    ends = np.cumsum([len(tokens(one)) for one in found.learned])
    firsts: dict[int, list[int]] = {}
    for one, path in zip(found.learned, np.split(experience.segment, ends[:-1]), strict=True):
        sizes = [len(step.response_ids) for step in one.steps]
        borders = [4, 8] if unit == "tokens" else [sizes[0], sum(sizes[:2])]
        expected = [0, *(border for border in borders if border < len(path))]
        starts = [0, *(np.flatnonzero(np.diff(path)) + 1).tolist()]
        assert starts == expected
        for before, after in pairwise(path[starts].tolist()):
            firsts.setdefault(before, []).append(after)
    assert firsts
    levels = dict.fromkeys(experience.segment[[0, *ends[:-1]]].tolist(), 3)
    for before, after in firsts.items():
        assert len(set(after)) == levels.get(before, 2)
    # Every token of every segment is learned from once.
    trained = method.advantages(experience).defined
    assert int(trained.sum()) == len({(s, i) for s, i in zip(experience.segment.tolist(), places(experience), strict=True)})


def places(experience: Experience) -> list[int]:
    """[T] 0, 1, ... within each trajectory."""
    counts = np.bincount(experience.token_episode.numpy())
    return [place for count in counts.tolist() for place in range(count)]


@pytest.mark.fault("an environment fails in a branch", lost="the branch, or its tree")
def test_a_leaf_that_a_fault_cut_off_is_none_and_a_tree_whose_root_one_cut_off_never_grows() -> None:
    def sometimes(request: Request) -> list[int]:
        draw = uniforms(np.array([request.seed], dtype=np.uint64), np.zeros(1, dtype=np.uint64))[0]
        return writes(("left", "right", "right", "raise")[int(4 * draw)])

    moody = partial(Moody, CorridorConfig(max_steps=4))
    found, took = branched(TreeGRPO(leaves=None), moody, ScriptedEngine(sometimes), groups=6, size=2, retries=0)
    assert took["faults"] > 0
    assert any(one.error is not None for one in found.sampled)
    assert all(one.error is None for one in found.learned)
    check_trees(found)
    assert {child.parent[0] for child in found.branched if child.parent} <= {one.name for one in found.learned}


# -- all of them ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method",
    [VinePPO(continuations=2), TreeGRPO(expansions=2), SPOTree(branching=[2], segment=4)],
    ids=lambda one: type(one).__name__,
)
def test_branches_are_a_function_of_the_episodes_and_the_root_seed(method: Algorithm) -> None:
    make: Callable[[], HFEngine] = lambda: HFEngine(corridor_policy(), max_batch=8)  # noqa: E731
    runs = [
        branched(method, SLIPPERY, make(), constrained=True, concurrency=concurrency, seed=seed)[0]
        for concurrency, seed in ((8, 0), (1, 0), (8, 1))
    ]
    ways = [[[step.response_ids for step in child.steps] for child in found.branched] for found in runs]
    assert ways[0] == ways[1] != ways[2]
    for name, values in runs[0].columns.items():
        np.testing.assert_array_equal(values, runs[1].columns[name])


def test_where_nothing_can_be_learned_from_nothing_is_branched() -> None:
    moody = partial(Moody, CorridorConfig(max_steps=4))
    for method in (VinePPO(), TreeGRPO()):
        found, took = branched(method, moody, ScriptedEngine(lambda request: writes("raise")), retries=0)
        assert not found.branched
        assert took["episodes"] == 0
        assert len(found.learned) == 6


def test_columns_are_in_the_order_of_the_episodes_that_are_learned_from() -> None:
    found, _ = branched(VinePPO(continuations=1), STRAIGHT, groups=1, size=3)
    batch = batch_of(found.learned)
    assert len(found.columns["state_values"]) == len(batch.tokens)
    assert replace(batch, state_values=found.columns["state_values"]).state_values is not None

"""The audited credit of methods on branches, in the world of tables: against exact advantages, and against leaves by hand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pytest
from rich.console import Console

from agents.auditing.branching import Continuing, branched
from agents.auditing.methods import Credited, collected, credit
from agents.auditing.playing import Store
from agents.auditing.valuing import Valued, valued
from agents.config.commands import AuditConfig
from agents.config.loading import load, load_audit
from agents.rollout.collect import Collected
from agents.runs.metrics import read_lines
from envs import trajectory_file
from envs.trajectory import Trajectory
from tests.agents.auditing.tabular import advantages, table_engine, values  # noqa: F401
from tests.agents.parts import Parts, opened

WORDS = ("env=table", "engine.name=table", "env.pool.mode=inline", "model.tiny.hidden=32", "rollout.group_size=4")


class Audited(NamedTuple):
    parts: Parts
    config: AuditConfig
    store: Store
    found: Valued

    def credited(self, *words: str) -> tuple[Credited, Collected, Continuing]:
        """Credit by the training that further words describe."""
        return self.parts.runner.run(self._credited(*words))

    async def _credited(self, *words: str) -> tuple[Credited, Collected, Continuing]:
        training, (parts, config, store, found) = load([*WORDS, *words]), self
        episodes = collected(found.trajectories, [])
        played, took = await branched(config, training, episodes, parts.sampler, store, lambda number: lambda one: None)
        made = await credit(training, parts.policy, parts.sampler, parts.env, played, took, NotImplemented)
        return made.credited, played, took


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Audited]:
    config = load_audit([*WORDS, "episodes=32", "continuations=8", "futures=0"])
    with opened(load([*WORDS, "warmstart.enabled=false"])) as parts:
        store = Store(tmp_path_factory.mktemp("audit"))
        found = parts.runner.run(valued(config, parts.sampler, parts.env, store, Console(quiet=True)))
        yield Audited(parts, config, store, found)


def test_the_more_continuations_vineppo_has_the_nearer_its_credit_comes_to_the_true_advantage(audited: Audited) -> None:
    truth, off, agreement = advantages(audited.found.trajectories), [], []
    for continuations in (2, 8, 32):
        credit = audited.credited("algo=vineppo", f"algo.continuations={continuations}")[0].values["advantage"]
        off.append(float(np.sqrt(np.mean((credit - truth) ** 2))))
        agreement.append(float(np.corrcoef(credit, truth)[0, 1]))
    assert agreement == sorted(agreement)
    assert agreement[-1] > 0.95
    assert off[0] > off[1] > off[2]
    assert off[2] < off[0] / 2


def test_branches_are_none_of_the_continuations_that_the_truth_is_measured_by(audited: Audited) -> None:
    credit, _, took = audited.credited("algo=vineppo", "algo.continuations=8")
    branches = {one.name for one in trajectory_file.read(audited.store.branches)}
    continuations = {line["name"] for line in read_lines(audited.store.continuations)}
    assert took.count <= len(branches)
    assert {name.rpartition("#")[0] for name in branches} <= {name.rpartition("#")[0] for name in continuations}
    assert not {name.rpartition("#")[2] for name in branches} & {name.rpartition("#")[2] for name in continuations}
    truth = advantages(audited.found.trajectories)
    errors = credit.values["advantage"] - truth, audited.found.steps.advantage - truth
    assert min(one.std() for one in errors) > 0.05
    assert abs(np.corrcoef(*errors)[0, 1]) < 0.5, "of the same continuations they would be the same"


def test_a_method_with_more_continuations_takes_those_that_are_there(audited: Audited) -> None:
    few, _, _ = audited.credited("algo=vineppo", "algo.continuations=3")
    before = audited.store.branches.read_bytes()
    again, played, _ = audited.credited("algo=vineppo", "algo.continuations=3")
    assert audited.store.branches.read_bytes() == before
    assert again.values["advantage"].tolist() == few.values["advantage"].tolist()
    assert all(len(one.steps) > one.parent[1] for one in played.branched if one.parent)
    _, played, _ = audited.credited("algo=vineppo_official", "algo.continuations=4", "algo.max_states=2")
    assert {one.name for one in few.branches if one.parent and one.parent[1] < 2} <= {one.name for one in played.branched}
    assert audited.store.branches.read_bytes()[: len(before)] == before


def test_a_chain_is_credited_by_the_values_at_its_cuts(audited: Audited) -> None:
    """With a cut at every uncertain token, one that begins a step has the value of the state before it."""
    settings = ("algo.continuations=16", "algo.interval=1", "algo.threshold=1.0", "algo.certain=credited")
    credit, played, took = audited.credited("algo=spo_chain", *settings)
    assert credit.level == "token"
    steps = [(t.task_id, n, step) for t in played.learned for n, step in enumerate(t.steps)]
    sizes = np.array([len(step.response_ids) for _, _, step in steps])
    begins = np.cumsum(sizes) - sizes
    found, known = played.columns["prefix_values"][begins], np.array([values(t)[n, int(s.state_key)] for t, n, s in steps])
    cut = ~np.isnan(found)
    assert cut.sum() > 50
    assert np.sqrt(np.mean((found[cut] - known[cut]) ** 2)) < 0.5 / 4
    assert np.corrcoef(found[cut], known[cut])[0, 1] > 0.8
    within = [one for one in credit.branches if "." in one.name.rpartition(">")[2]]
    assert within, "an action is two tokens, so chains are cut inside them too"
    assert took.sampled == sum(len(s.response_ids) for one in credit.branches for s in one.steps[one.parent[1] :]) - sum(
        int(one.name.rpartition(">")[2].partition("#")[0].partition(".")[2]) for one in within
    )


@pytest.mark.parametrize("leaves", ["null", "2"])
def test_an_audited_episode_is_credited_as_the_first_leaf_of_a_tree_that_grows_from_it(audited: Audited, leaves: str) -> None:
    credit, played, took = audited.credited("algo=tree_grpo", "algo.expansions=2", f"algo.leaves={leaves}")
    episodes = {one.name: one for one in audited.found.trajectories}
    assert [one.name for one in credit.trajectories] == [*episodes]
    assert took.count == len(credit.branches) == 4 * len(episodes)
    root: dict[str, str] = {name: name for name in episodes}
    for child in credit.branches:
        assert child.parent is not None
        root[child.name] = root[child.parent[0]]
    groups: dict[str, list[Trajectory]] = {}
    trees: dict[str, list[Trajectory]] = {}
    for leaf in played.learned:
        groups.setdefault(leaf.group_id, []).append(leaf)
        trees.setdefault(root[leaf.name], []).append(leaf)
    assert {len(tree) for tree in trees.values()} == {5 if leaves == "null" else 2}

    def among(leaf: Trajectory, others: list[Trajectory]) -> float:
        returns = np.array([one.total_reward for one in others])
        return float((leaf.total_reward - returns.mean()) / (returns.std(ddof=1) + 1e-6))

    learned = {leaf.name for leaf in played.learned}
    expected = [
        among(one, groups[one.group_id]) + among(one, trees[one.name]) if one.name in learned else np.nan
        for one in credit.trajectories
        for _ in one.steps
    ]
    np.testing.assert_allclose(credit.values["advantage"], expected, atol=1e-6)
    assert np.isnan(expected).any() == (leaves == "2")


def test_the_first_segment_of_an_audited_episode_is_credited_by_what_returned_below_it(audited: Audited) -> None:
    settings = ("algo.branching=[3,2]", "algo.segment=2", "algo.unit=steps", "algo.certain=credited")
    credit, _, _ = audited.credited("algo=spo_tree", *settings)
    children: dict[tuple[str, int], list[Trajectory]] = {}
    for child in credit.branches:
        assert child.parent is not None
        children.setdefault(child.parent, []).append(child)

    def value(one: Trajectory, border: int) -> float:
        """Of the segment that ends at a border, of the tree 3-2."""
        if border > 4 or len(one.steps) <= border:
            return one.total_reward
        return float(np.mean([value(leaf, border + 2) for leaf in (one, *children[one.name, border])]))

    firsts = [value(one, 2) for one in credit.trajectories]
    among: dict[str, list[float]] = {}
    for one, first in zip(credit.trajectories, firsts):
        among.setdefault(one.group_id, []).append(first)
    ends = np.cumsum([sum(len(step.response_ids) for step in one.steps) for one in credit.trajectories])
    begins = np.append(0, ends[:-1])
    expected = [first - np.mean(among[one.group_id]) for one, first in zip(credit.trajectories, firsts)]
    np.testing.assert_allclose(credit.values["advantage"][begins], expected, atol=1e-9)
    assert not np.isnan(credit.values["advantage"]).any(), "what leaves share is learned from in the first of them"
    spread = [np.ptp(values) for values in np.split(credit.values["advantage"], ends[:-1])]
    assert max(spread) > 0.1, "later segments have credit of their own"

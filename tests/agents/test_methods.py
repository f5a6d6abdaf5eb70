"""Every method of conf/algo, for real: it plays, credits, updates, is saved, and goes on after a stop as if there was none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer

import agents.train
from agents.config import loading
from agents.config.compose import groups
from agents.runs.metrics import read_metrics
from agents.training.spelling import spelled
from algorithms import base
from algorithms.parse import constituents, levels
from envs.trajectory import Trajectory
from envs.trajectory_file import read
from tests.agents.test_training import SMALL

METHODS = groups()["algo"]
FEW_BRANCHES = {
    "vineppo": ["algo.continuations=2", "algo.max_states=3"],
    "spo_chain": ["algo.continuations=2"],
    "spo_tree": ["algo.branching=[2,2]", "algo.segment=8", "rollout.group_size=2"],
    "tree_grpo": ["rollout.group_size=2"],
    "grounded_prm": ["algo.continuations=2", "rollout.group_size=2"],
}
"""Settings with which methods on branches play few of them."""
WEBSHOP = ["env=webshop", "env.max_steps=6", "warmstart.steps=20", "warmstart.demonstrations=24"]
ELSEWHERE = {name: WEBSHOP for name in METHODS if name.startswith("igpo")}
"""Methods that ask for what the usual environment lacks, and where they are tried."""
OF_PAIRS = ("aligndistil", "cdpo", "cdpo_official", "r_to_q", "rto", "t_reg", "tgdpo")
"""Methods that learn from pairs of a better and a worse episode."""
UNSURE = ["engine.temperature=2"]
"""With which there are some."""
CONSTANT = ["optim.warmup=0", "optim.schedule=constant", "critic.lr=1e-3", "evaluation.every=0", "evaluation.before=false"]


def settings(method: str) -> list[str]:
    """A small run with a method."""
    usual = [word for word in SMALL if method not in ELSEWHERE or not word.startswith(("env", "warmstart", "algo"))]
    few = [*FEW_BRANCHES.get(method.removesuffix("_official"), ()), *(UNSURE if method in OF_PAIRS else ())]
    return [*usual, *CONSTANT, *ELSEWHERE.get(method, ()), f"algo={method}", *few]


def train(out: Path, name: str, *arguments: str) -> list[dict[str, float]]:
    agents.train.train(loading.load([*arguments, f"out={out}", f"run={name}"]))
    return read_metrics(out / name / "metrics.jsonl")


def branches(run: Path, iteration: int) -> list[Trajectory]:
    path = run / "trajectories" / f"branches_{iteration:06d}.jsonl.gz"
    return list(read(path)) if path.exists() else []


def episodes(run: Path, iteration: int) -> list[Trajectory]:
    return list(read(run / "trajectories" / f"iteration_{iteration:06d}.jsonl.gz"))


@pytest.mark.parametrize("method", METHODS)
def test_it_trains(method: str, tmp_path: Path) -> None:
    rows = train(tmp_path, "run", *settings(method), "iterations=2", "evaluation.after=false")
    assert [row["iteration"] for row in rows] == [0, 1, 2]
    assert all(torch.isfinite(torch.tensor(row["update/loss"])) for row in rows[1:])
    played = episodes(tmp_path / "run", 2)
    begun = sum(len(t.steps) for i in (1, 2) for t in episodes(tmp_path / "run", i))
    gone_on = sum(len(t.steps) - t.parent[1] for i in (1, 2) for t in branches(tmp_path / "run", i) if t.parent)
    assert rows[-1]["env/steps"] == begun + gone_on
    credits = [step.credit["advantage"] for t in played for step in t.steps if step.credit is not None]
    flat = [value for one in credits for value in (one if isinstance(one, list) else [one])]
    assert credits
    # Pass@k credits only a group's one best episode, and in these few groups there may be none; a distillation credits none.
    silent = method in ("passk_grpo", "aligndistil") or rows[-1]["train/reward"] in (0.0, 10.0)
    assert any(value not in (None, 0.0) for value in flat) or silent
    assert method not in OF_PAIRS or sum(value for row in rows[1:] for key, value in row.items() if key.endswith("/pairs")) > 0


def test_macro_actions_follow_the_text_of_each_response(tmp_path: Path) -> None:
    chosen = [*settings("ma_ppo"), "algo.macro=parse", "algo.most=3", "algo.lam=0.5", "iterations=1", "evaluation.after=false"]
    train(tmp_path, "run", *chosen)
    spelling = AutoTokenizer.from_pretrained(tmp_path / "run" / "model")
    steps = [step for t in episodes(tmp_path / "run", 1) for step in t.steps if step.credit is not None]
    assert len(steps) > 0
    for step in steps:
        begins = constituents(levels(spelled([step], spelling)), 3)
        advantage = step.credit["advantage"] if step.credit else []
        changes = [i for i in range(1, len(advantage)) if advantage[i] != advantage[i - 1]]
        assert len(advantage) == len(begins)
        assert all(begins[changes])
    assert any(len({*step.credit["advantage"]}) > 1 for step in steps if step.credit)


@pytest.mark.parametrize("method", ["vineppo", "spo_chain", "spo_tree", "tree_grpo"])
def test_branches_are_on_disk_and_apart_in_every_count(method: str, tmp_path: Path) -> None:
    *_, row = train(tmp_path, "run", *settings(method), "iterations=2", "evaluation.after=false")
    begun, gone_on = episodes(tmp_path / "run", 2), branches(tmp_path / "run", 2)
    assert row["branch/episodes"] == len(gone_on) > 0
    assert row["branch/steps"] == sum(len(t.steps) - t.parent[1] for t in gone_on if t.parent)
    assert row["branch/success"] == pytest.approx(sum(t.success for t in gone_on) / len(gone_on))
    assert row["train/success"] == pytest.approx(sum(t.success for t in begun) / len(begun))
    assert row["tokens/sampled"] == sum(len(step.response_ids) for t in begun for step in t.steps)
    named = {t.name: t for t in (*begun, *gone_on)}
    for child in gone_on:
        assert child.parent is not None
        parent, step = named[child.parent[0]], child.parent[1]
        assert child.group_id == parent.group_id
        assert [s.response_ids for s in child.steps[:step]] == [s.response_ids for s in parent.steps[:step]]
    # Of what was branched only leaves are learned from: each has credit of its own, also for what it shares.
    assert ("branch/leaves" in row) == (method in ("spo_tree", "tree_grpo"))
    if method == "tree_grpo":
        assert row["branch/leaves"] == len(begun) + len(gone_on)
        assert all(len({str(step.credit["advantage"]) for step in t.steps if step.credit}) == 1 for t in (*begun, *gone_on))
        assert all(step.credit is not None for t in gone_on for step in t.steps)


def stopped_and_resumed(tmp_path: Path, small: list[str], iterations: int) -> list[dict[str, float]]:
    """The rows of a run, after one that was stopped at iteration 1 went on to the same numbers and weights."""
    whole = train(tmp_path, "whole", *small, f"iterations={iterations}")
    train(tmp_path, "stopped", *small, "iterations=1")
    agents.train.train(loading.load([f"resume={tmp_path / 'stopped'}", f"iterations={iterations}"]))
    resumed = read_metrics(tmp_path / "stopped" / "metrics.jsonl")
    for before, after in zip(whole, resumed, strict=True):
        same = {key for key in before if not key.startswith(("time/", "warmstart/", "tokens_per_s"))}
        assert {key: after[key] for key in same} == {key: before[key] for key in same}
    left, right = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("whole", "stopped"))
    assert all(torch.equal(left[name], right[name]) for name in left)
    return whole


@pytest.mark.parametrize("method", ["poad", "oprl", "spa", "hiper", "vineppo", "spo_tree", "tree_grpo"])
def test_what_learns_or_is_played_beside_goes_on_too(method: str, tmp_path: Path) -> None:
    stopped_and_resumed(tmp_path, [*settings(method), "evaluation.after=false"], iterations=3)


@pytest.mark.parametrize("method", ["gigpo", "ppo"])
def test_objectives_on_pairs_go_beside_a_method_and_each_other(method: str, tmp_path: Path) -> None:
    names = ["token_reward", "tgdpo", "cdpo", "t_reg", "aligndistil"]
    entering = [f"algo.shaped_at.{name}=advantage" for name in ("tgdpo", "cdpo", "t_reg")]
    chosen = [*settings(method), *UNSURE, f"shaping=[{','.join(names)}]", *entering, "evaluation.after=false"]
    rows = stopped_and_resumed(tmp_path, chosen, iterations=2)
    assert all(sum(row[f"{name}/pairs"] for row in rows[1:]) > 0 for name in names)
    assert all(row["update/distillation"] > 0 for row in rows[1:])
    steps = [step for t in episodes(tmp_path / "whole", 2) for step in t.steps if step.credit is not None]
    assert all(set(names[:4]) <= set(step.shaped_rewards) for step in steps)
    assert any(len(set(step.credit["shaped"])) > 1 for step in steps if step.credit), "tokens of a step differ"


def test_every_registered_method_has_settings_to_choose() -> None:
    used = {loading.load(settings(option)).algo["name"] for option in METHODS}
    assert used == set(base.names())

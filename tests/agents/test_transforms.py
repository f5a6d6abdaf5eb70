"""Transforms of advantages, for real: they are composed with a method, learned from, kept as parts, and go on after a stop."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import agents.train
from agents.config import loading
from agents.replay import __main__ as replay
from agents.runs import checkpoint
from agents.runs.metrics import read_metrics
from envs.common.structured import ConfigError
from tests.agents.test_audit import ENV, QUIET, audited, by_name
from tests.agents.test_methods import CONSTANT, episodes, train
from tests.agents.test_training import SMALL

FEW = [*SMALL, *CONSTANT, "warmstart.steps=80", "evaluation.after=false"]
TOGETHER: list[tuple[str, list[str], list[str]]] = [
    ("gigpo", ["hicra", "attention", "d3s"], []),
    ("ppo", ["tw_grpo", "thr", "forking"], []),
    ("gigpo", ["hapo", "spine"], ["loss.surrogate=hapo", "loss.entropy_band=0.01"]),
]
"""A method, transforms, and how the loss is set that reads what they give."""


@pytest.mark.parametrize(("method", "names", "loss"), TOGETHER)
def test_transforms_are_composed_with_any_method_in_the_order_given(
    method: str, names: list[str], loss: list[str], tmp_path: Path
) -> None:
    settings = [*FEW, f"algo={method}", f"algo.transforms=[{','.join(names)}]", *loss]
    rows = train(tmp_path, "run", *settings, "iterations=2")
    assert [row["iteration"] for row in rows] == [0, 1, 2]
    assert all(math.isfinite(row["update/loss"]) for row in rows[1:])
    changed = {name: max(row[f"credit/{name}_changed"] for row in rows[1:]) for name in names}
    assert {name for name, share in changed.items() if share == 0} <= {"hapo"}, "hapo changes the loss, not the advantage"
    credits = [step.credit for t in episodes(tmp_path / "run", 2) for step in t.steps if step.credit is not None]
    of_method = [name for name in credits[0] if name not in ("advantage", *names)]
    assert [*credits[0]] == ["advantage", *of_method, *names]
    # A part of each transform says what it added: with the others they are the advantage, and None where one took it out.
    total = [name for name in of_method if name in ("episode", "step", "gae", "shaped")]
    for credit in credits:
        for advantage, *parts in zip(*(credit[name] for name in ("advantage", *total, *names)), strict=True):
            assert (advantage is None) == any(part is None for part in parts)
            assert advantage is None or advantage == pytest.approx(sum(parts), abs=1e-9)


def test_what_a_transform_remembers_goes_on_after_a_stop(tmp_path: Path) -> None:
    small = (*FEW, "algo=gigpo", "algo.transforms=[{name: hicra, alpha: 0.9, least: 0.3}]")
    whole = train(tmp_path, "whole", *small, "iterations=3")
    train(tmp_path, "stopped", *small, "iterations=1")
    agents.train.train(loading.load([f"resume={tmp_path / 'stopped'}", "iterations=3"]))
    resumed = read_metrics(tmp_path / "stopped" / "metrics.jsonl")
    assert all(row["credit/hicra_changed"] > 0 for row in whole[1:])
    for before, after in zip(whole, resumed, strict=True):
        same = {key for key in before if not key.startswith(("time/", "warmstart/", "tokens_per_s"))}
        assert {key: after[key] for key in same} == {key: before[key] for key in same}
    left, right = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("whole", "stopped"))
    assert all(torch.equal(left[name], right[name]) for name in left)
    remembered = [checkpoint.of_run(tmp_path / name, None).state["update"]["transforms"] for name in ("whole", "stopped")]
    assert remembered[0] == remembered[1]
    assert remembered[0]["hicra"]["successes"] > 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["algo.transforms=[hicr]"], ["transforms[0] is 'hicr'", "Did you mean 'hicra'?"]),
        (["algo.transforms=[{name: d3s, share: 1}]"], ["unknown key 'transforms[0].share'", "task_share"]),
        (["algo.transforms=[thr,thr]"], ["transforms names thr twice"]),
        (["algo.transforms=[{name: spine, low: 0.9}]"], ["transforms[0]: low is 0.9", "at most high=0.5"]),
        (["algo.transforms=[{name: hicra, grams: ['?']}]"], ["grams holds '?', which has no word"]),
        (["algo.transforms=[hapo]"], ["algo.transforms=[hapo] gives entropy_score", "set loss.surrogate=hapo"]),
        (["algo.transforms=[spine]"], ["algo.transforms=[spine] gives entropy_high", "set loss.entropy_band above 0"]),
        (["loss.surrogate=hapo"], ["loss.surrogate=hapo reads entropy_score", "add algo.transforms=[hapo]"]),
        (["loss.entropy_band=0.1"], ["loss.entropy_band=0.1 reads", "add algo.transforms=[spine]"]),
        (["algo.transforms=[thr]", "engine.constrained=scored"], ["algo.transforms=[thr] looks at its single tokens"]),
        (
            ["algo.transforms=[tw_grpo]", "engine.constrained=none", "engine.top_p=0.9"],
            ["engine.top_p is 0.9, but algo.transforms=[tw_grpo] weighs tokens", "allowed with it: 1"],
        ),
        (["algo=ma_ppo", "algo.value=first", "algo.reward=mean"], ["reward is 'mean'", "allowed with it: sum"]),
    ],
)
def test_what_cannot_work_is_refused_in_words(words: list[str], said: list[str]) -> None:
    with pytest.raises(ConfigError) as refused:
        loading.load(words)
    for part in said:
        assert part in str(refused.value)


def test_an_audit_and_a_replay_show_what_transforms_added(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # hicra remembers what the run learned, and hapo's loss is not that of another method of the audit.
    transformed = "algo.transforms=[{name: hicra, alpha: 1, shortest: 1}, hapo, attention]"
    words = [*ENV, *QUIET, "warmstart.enabled=false", "rollout.groups=4", "rollout.group_size=4", "iterations=1"]
    words += ["algo=gigpo", transformed, "loss.surrogate=hapo"]
    agents.train.train(loading.load([*words, f"out={tmp_path}", "run=it"]))
    capsys.readouterr()
    assert replay.main([str(tmp_path / "it")]) == 0
    shown = capsys.readouterr().out
    assert "hicra" in shown
    assert "attention" in shown
    few = ["episodes=8", "continuations=4", "futures=4", "resamples=5", "gradients=false"]
    methods = by_name(audited(tmp_path / "audits", *few, f"run={tmp_path / 'it'}", "methods=[run,gigpo,gigpo+attention+spine]"))
    assert {"hicra", "attention"} <= set(methods["run"]["parts"])
    assert set(methods["gigpo"]["parts"]) == {"episode", "step"}
    assert set(methods["gigpo+attention+spine"]["parts"]) == {"episode", "step", "attention"}, "spine adds nothing to any token"
    assert methods["run"]["again"] is not None

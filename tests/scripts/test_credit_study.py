"""The credit study: what it does, what it keeps, and how it makes numbers of it."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from agents.runs.folder import RunFolder
from agents.runs.metrics import read_metrics

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import credit_study  # noqa: E402
from creditstudy import summary  # noqa: E402
from creditstudy.execute import Execution, chosen  # noqa: E402
from creditstudy.plan import METHODS, SMALL, WHOLE, Audit, Run, Setting, Study  # noqa: E402
from creditstudy.results import Results  # noqa: E402

TINY = Setting(
    "room",
    "A room",
    (
        *(
            "env=minihack/room",
            "env.levels=[Room-5x5]",
            "env.actions=[south,east,west]",
            "env.max_steps=10",
            "env.pool.mode=inline",
            "env.penalty_step=0",
        ),
        *("model.tiny.hidden=32", "model.tiny.layers=1", "rollout.groups=2", "rollout.group_size=4"),
        *("evaluation.episodes=4", "evaluation.temperature=[1.0]"),
    ),
    {"early": ("warmstart.enabled=false", "iterations=3", "evaluation.every=0", "checkpoint.every=1")},
    {"first": ("early", 0.0), "second": ("early", 0.5)},
)
"""A room in which random steps often find the stairs, so that there is something to measure."""
STUDY = Study(
    settings=(TINY,),
    seeds=(0,),
    audit=("episodes=8", "continuations=4", "futures=0", "fit=1", "resamples=20", "methods=[grpo,gigpo]"),
    learns="room",
    arms=("grpo", "gigpo"),
    arm_seeds=(0,),
)


def measured(plain: float, freed: float | None) -> dict[str, Any]:
    one = {"value": plain, "low": plain - 0.1, "high": plain + 0.1}
    return {"correlation": one, "correlation_corrected": {"value": freed, "low": None, "high": None}}


def audit(**methods: dict[str, Any]) -> dict[str, Any]:
    return {"methods": {name: {"steps": numbers, "cosine": None} for name, numbers in methods.items()}}


def of_run(steps: list[float], success: list[float], start: float = 0.1) -> dict[str, Any]:
    return {"steps": steps, "success": success, "evaluated": [[0, start]], "cpu": 1.0, "tokens": 10.0}


@pytest.mark.parametrize("study", [SMALL, WHOLE])
def test_the_studies_can_be_run_as_they_are_written(study: Study) -> None:
    from agents.audit import Asked
    from agents.config.loading import load

    for run in {*study.runs, *(one.run for one in study.audits)}:
        load([*run.words, "run=a", "out=b"])
    for setting in study.settings:
        Asked.of([*(word for word in setting.words if word.startswith("env")), *study.audit])
    assert {one.run.setting.name for one in study.audits} == {one.name for one in study.settings}


def test_every_method_with_a_credit_of_its_own_is_audited() -> None:
    """The others differ from one of them in the loss, need what the settings of the study lack, or came after its audits."""
    from agents.config import compose

    known = {name.removesuffix("_official") for name in compose.options("algo", compose.groups()["algo"])}
    known -= {"igpo_first_release"}
    in_the_loss = {"dapo", "dr_grpo", "gspo", "gpg", "gdpo", "reinforce_pp_baseline"}
    refused = {"igpo", "hiper", "twosome", "shaped"}
    later = {"hapo", "ma_ppo"}
    by_preference = {"rto", "r_to_q", "tgdpo", "cdpo", "t_reg", "aligndistil"}  # by models, from pairs of each iteration
    by_critique = {"capo", "pure", "lare", "brpo", "train_long_think_short", "grounded_prm"}
    assert known == {*METHODS} | in_the_loss | refused | later | by_preference | by_critique
    assert len(METHODS) == len({*METHODS})


def test_a_study_is_done_once_and_reported(tmp_path: Path) -> None:
    results = Results(tmp_path / "results")
    execution = Execution(STUDY, results, tmp_path / "runs", Console(quiet=True))
    pieces = [piece.name for piece in execution.missing()]
    assert pieces == ["room/early/grpo-seed0", "room/first-seed0", "room/second-seed0", "room/early/gigpo-seed0"]
    assert execution.run(jobs=2) == []
    assert execution.missing() == []
    (grpo, gigpo), audits = STUDY.runs, STUDY.audits
    rows = read_metrics(RunFolder(tmp_path / "runs" / grpo.name).metrics)[1:]
    kept = results.of_run(grpo)
    assert kept is not None
    assert kept["steps"] == [row["env/steps"] for row in rows]
    assert kept["success"] == pytest.approx([row["train/success"] for row in rows], rel=1e-3)
    found = [results.of_audit(one) for one in audits]
    assert [{*one["methods"]} for one in found if one] == [{"grpo", "gigpo"}] * 2
    credit_study.write(STUDY, results, tmp_path / "results", "the command")
    page = (tmp_path / "results" / "README.md").read_text()
    assert "2 of 2 audits, 2 of 2 trainings" in page
    assert page.count("`gigpo`") == 3, "of all stages, by stage, and how it learns"
    for name in ("truth-correlation", "truth-cosine", "learning", "against"):
        assert (tmp_path / "results" / f"{name}.png").stat().st_size > 10_000

    other = replace(STUDY, audit=(*STUDY.audit, "seed=1"))
    assert [piece.name for piece in Execution(other, results, tmp_path / "runs", Console(quiet=True)).missing()] == [
        "room/first-seed0",
        "room/second-seed0",
    ], "results of other settings count as missing, and the finished run is not trained again"
    assert gigpo.words != grpo.words


def test_what_waits_for_a_failure_is_left_and_the_rest_is_done(tmp_path: Path) -> None:
    broken = replace(STUDY, arms=("grpo",), audit=(*STUDY.audit, "episodes=0"))
    execution = Execution(broken, Results(tmp_path / "results"), tmp_path / "runs", Console(quiet=True))
    failed = execution.run(jobs=1)
    assert len(failed) == 2
    assert all("ended with code 2" in line for line in failed)
    assert "room/first-seed0" in failed[0]
    log = tmp_path / "runs" / "logs" / "room" / "first-seed0.log"
    assert "episodes" in log.read_text()


def test_a_stage_is_the_checkpoint_nearest_to_its_success(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    lines = [{"iteration": 0}, *({"iteration": at, "train/success": at / 10} for at in range(1, 9))]
    folder.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
    for at in (2, 4, 6):
        saved = folder.checkpoints / f"iteration_{at:06d}"
        saved.mkdir(parents=True)
        (saved / "manifest.json").write_text("{}")
    # Checkpoint 2 was played by iteration 3, and averaged with the two after it: 0.4.
    assert [chosen(folder, success) for success in (0.0, 0.45, 0.62, 1.0)] == [2, 2, 4, 6]


def test_pooling_takes_the_truths_error_out_of_the_mean() -> None:
    """In one audit the truth's error halves every correlation, in the other it quarters them."""
    first = audit(a=measured(0.4, 0.8), b=measured(0.2, 0.4))
    second = audit(a=measured(0.2, 0.8), b=measured(0.1, None))
    found = [summary.pooled([first, second], name, "correlation") for name in ("a", "b")]
    assert [one.value for one in found if one] == pytest.approx([0.8, 0.4])
    one = found[0]
    assert one is not None
    half = 1.96 * np.sqrt(2) * (0.2 / 3.92) / 2 / 0.375
    assert (one.low, one.high) == pytest.approx((0.8 - half, 0.8 + half), rel=1e-3)
    assert summary.pooled([first], "a", "cosine") is None
    assert summary.pooled([first], "c", "correlation") is None


def test_arms_are_held_against_the_reference_of_their_own_seed(tmp_path: Path) -> None:
    study, results = replace(STUDY, arm_seeds=(0, 1)), Results(tmp_path)
    success = {("grpo", 0): [0.0, 0.4], ("gigpo", 0): [0.2, 0.6], ("grpo", 1): [0.5, 0.5]}
    for run in study.runs:
        if (run.arm, run.seed) in success:
            found = of_run([100.0, 300.0], success[run.arm, run.seed])
            results._write(f"learning/{run.name}", run.words, found)
    arms = summary.learned(study, results)
    assert arms["grpo"].area == pytest.approx([(0.0 * 100 + 0.4 * 200) / 300, 0.5])
    assert summary.ahead(arms, "gigpo") == pytest.approx([0.2])
    assert summary.ahead(arms, "grpo") == pytest.approx([0.0, 0.0])
    assert summary.rank_correlation([1, 2, 3, 4], [1, 4, 9, 16]) == pytest.approx(1)
    assert summary.rank_correlation([1, 2, 3, 3], [4, 3, 1, 1]) == pytest.approx(-1)
    assert summary.rank_correlation([1, 2], [1, 2]) is None


def test_a_run_and_an_audit_have_names_of_their_own() -> None:
    names = [one.name for one in WHOLE.runs] + [one.name for one in WHOLE.audits]
    assert len(names) == len({*names})
    assert Run(TINY, "early", "grpo", 0).name != Audit(Run(TINY, "early", "grpo", 0), "first", ()).name


def test_of_audits_with_other_settings_the_one_that_has_just_ended_counts(tmp_path: Path) -> None:
    results = Results(tmp_path / "results")
    execution, piece = Execution(STUDY, results, tmp_path / "runs", Console(quiet=True)), STUDY.audits[0]
    for name, at in (("new", 2000), ("old", 1000)):
        file = tmp_path / "runs" / "audits" / piece.name / name / "audit.json"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps({"methods": [], "iteration": at, "success": 0.5, "truth": {}, "split_hash": ""}))
        os.utime(file, (at, at))
    execution._keep(piece)
    found = results.of_audit(piece)
    assert found is not None
    assert found["iteration"] == 2000

"""Comparisons: what is refused before a run begins, how numbers become means and intervals, what a cut-off command leaves."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from matplotlib.image import imread
from scipy.stats import trim_mean

from agents.config.differences import differences, settings
from agents.runs.folder import RunFolder
from envs.common.structured import ConfigError
from scripts.comparison import evidence, intervals, plan
from scripts.comparison.figure import draw
from scripts.comparison.page import page
from scripts.comparison.plan import Plan, Run
from scripts.comparison.summary import COVERAGE, summarize
from tests import injections

ROOT = Path(__file__).resolve().parents[2]
SMALL = ["env=alfworld", "warmstart.enabled=false", "rollout.groups=1", "rollout.group_size=2", "evaluation.episodes=6"]
scores = arrays(np.float64, st.tuples(st.integers(1, 5), st.integers(1, 6)), elements=st.floats(0, 1))


# -- intervals --------------------------------------------------------------------------------------------------------------


@given(scores)
def test_the_interquartile_mean_is_the_mean_without_a_quarter_at_each_end(values: np.ndarray) -> None:
    assert intervals.iqm(values) == pytest.approx(trim_mean(values, 0.25, axis=None))


@given(scores)
def test_a_stratified_resample_has_only_values_of_its_own_task_type(values: np.ndarray) -> None:
    resampled = intervals.stratified(values, repeats=20)
    assert resampled.shape == (20, *values.shape)
    for kind in range(values.shape[1]):
        assert np.isin(resampled[:, :, kind], values[:, kind]).all()


def test_stratified_resamples_mix_seeds_between_types_and_whole_seeds_do_not() -> None:
    values = np.array([[0.0, 0.0], [1.0, 1.0]])
    mixed, whole = (resample(values, 200) for resample in (intervals.stratified, intervals.whole_seeds))
    assert (mixed[..., 0] != mixed[..., 1]).any()
    assert (whole[..., 0] == whole[..., 1]).all()
    assert set(whole.mean(axis=(1, 2)).tolist()) == {0.0, 0.5, 1.0}


def test_equal_seeds_give_an_interval_without_width() -> None:
    values = np.tile([[0.2, 0.6, 0.9]], (4, 1))
    found = float(intervals.iqm(values))
    assert intervals.interval(intervals.iqm(intervals.stratified(values))) == pytest.approx((found, found))


def test_three_seeds_give_their_range() -> None:
    assert intervals.interval(intervals.whole_seeds(np.array([0.1, 0.4, 0.9])).mean(axis=1)) == pytest.approx((0.1, 0.9))


@given(scores, st.integers(1, 4), st.randoms())
def test_one_arm_improves_on_the_other_as_often_as_the_other_does_not(first: np.ndarray, seeds: int, chance) -> None:
    second = np.array([[chance.random() for _ in range(first.shape[1])] for _ in range(seeds)])
    assert intervals.improvement(first, second) + intervals.improvement(second, first) == pytest.approx(1)


def test_improvement_counts_types_alike_and_ties_half() -> None:
    assert intervals.improvement(np.array([[1.0, 0.5]]), np.array([[0.0, 0.5], [0.5, 0.5]])) == pytest.approx(0.75)


@pytest.mark.parametrize("seeds", COVERAGE)
def test_intervals_cover_as_often_as_the_report_says(seeds: int) -> None:
    draw_from = np.random.default_rng(1)
    samples = draw_from.normal(size=(1500, seeds))
    covered = 0
    for sample in samples:
        low, high = intervals.interval(intervals.whole_seeds(sample, 500).mean(axis=1))
        covered += low <= 0 <= high
    assert 100 * covered / len(samples) == pytest.approx(COVERAGE[seeds], abs=4)


# -- plans ------------------------------------------------------------------------------------------------------------------


def test_two_methods_and_three_seeds_are_six_runs_of_one_budget(tmp_path: Path) -> None:
    found = plan.read(["env=alfworld", "algos=[gigpo,rloo]", "seeds=3", f"out={tmp_path}"])
    assert [(run.arm, run.seed) for run in found] == [(arm, seed) for arm in ("gigpo", "rloo") for seed in range(3)]
    assert {run.config.algo["name"] for run in found.of("rloo")} == {"rloo"}
    first = found.runs[0].config
    episodes = first.rollout.groups * first.rollout.group_size
    assert {run.config.step_budget for run in found} == {found.budget} == {50 * episodes * 20 // 2}
    assert first.iterations * episodes * 20 / 4 >= found.budget  # no limit while an episode takes a quarter of its steps


def test_a_given_budget_counts_and_given_iterations_alone_count_instead(tmp_path: Path) -> None:
    assert plan.read([*SMALL, "budget=777", f"out={tmp_path}"]).runs[0].config.step_budget == 777
    by_iterations = plan.read([*SMALL, "iterations=40", f"out={tmp_path}"])
    assert by_iterations.budget is None
    assert {(run.config.step_budget, run.config.iterations) for run in by_iterations} == {(None, 40)}


def test_an_arm_has_settings_of_its_own(tmp_path: Path) -> None:
    found = plan.read([*SMALL, "algos=[grpo]", "arm.slow=algo=grpo optim.lr=1e-5", "seeds=[4]", f"out={tmp_path}"])
    assert [(run.folder.name, run.config.seed, run.config.optim.lr) for run in found][1] == ("slow-seed4", 4, 1e-5)
    assert found.runs[0].config.optim.lr != 1e-5
    rows = differences({run.arm: settings(run.config) for run in found})
    assert list(rows) == ["optim.lr"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["algo=grpo"], "algos="),
        (["seed=3"], "seeds="),
        (["step_budget=100"], "budget="),
        (["resume=runs/x"], "same command"),
        (["algos=[grpo,nonsense]"], "arm 'nonsense'"),
        (["algos=[grpo,grpo]"], "once"),
        (["algos=[grpo]", "arm.grpo=algo=grpo"], "two arms are named 'grpo'"),
        (["algos=[grpo]", "arm.x=algo=grpo seed=1"], "seeds="),
        (["algos=[grpo]", "arm.x=algo=grpo jobs=1"], "outside the arm"),
        (["algos=[grpo]", "arm.x/y=algo=grpo"], "name"),
        (["algos=[grpo]", "arm.x=algo=grpo env.max_steps=9"], "env.max_steps: grpo 20, x 9"),
        (["algos=[grpo]", "arm.x=algo=grpo warmstart.steps=9"], "warmstart.steps"),
        (["seeds=0"], "seeds is 0"),
        (["seeds=[1,1]"], "same seed twice"),
        (["budget=-1"], "budget is -1"),
        (["evaluation.before=false"], "evaluation.before=true"),
        (["--fast"], "unknown option --fast"),
        (["optim.learning=1"], "optim.learning"),
        (["algos=[grpo]", "arm.x=algo=grpo iterations=9"], "iterations= is the same for every arm"),
        (["arm.x="], "arm.x has no settings"),
        (["arm.x=algo=grpo", "arm.x=algo=gigpo"], "arm.x is given twice"),
        (["seeds=3", "seeds=5"], "seeds is given twice"),
        (["arm.x=algo='grpo"], "No closing quotation"),
        (["seeds=99999999999"], "at most 1000"),
        (["budget=1,2"], "budget is 1,2; give one value"),
        (["bugdet=100"], "Did you mean 'budget'?"),
        (["lr=1e-4"], "Did you mean 'optim.lr'"),
        (["seeds"], "cannot read 'seeds': write key=value"),
    ],
)
def test_what_cannot_be_compared_is_refused_with_what_to_write(tmp_path: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        plan.read(["env=alfworld", f"out={tmp_path}", *arguments])


def test_an_unknown_key_is_answered_with_keys_that_a_comparison_takes(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        plan.read(["bugdet=100", f"out={tmp_path}"])
    listed = str(refused.value).partition("keys: ")[2].split(", ")
    assert {"budget", "seeds", "optim", "iterations"} <= {*listed}
    assert not {*plan.FIXED} & {*listed}


@pytest.mark.parametrize("written", ["gigpo,grpo", "[gigpo,grpo]"])
def test_lists_may_do_without_brackets(tmp_path: Path, written: str) -> None:
    found = plan.read([*SMALL, f"algos={written}", "seeds=4,7", f"out={tmp_path}"])
    assert [run.folder.name for run in found] == ["gigpo-seed4", "gigpo-seed7", "grpo-seed4", "grpo-seed7"]
    assert list(plan.read([*SMALL, "algos=grpo", f"out={tmp_path}"]).arms) == ["grpo"]


def begin(run: Run, train_hash: str = "abc") -> RunFolder:
    folder = RunFolder.open(run.config)
    folder.begin(run.config, {"train": ["1"], "eval": ["2"], "test": ["3"]}, {"train": train_hash, "eval": "e", "test": "t"})
    return folder


def test_a_run_of_other_settings_is_refused_with_the_keys_that_differ(tmp_path: Path) -> None:
    asked = [*SMALL, "algos=[grpo]", "seeds=1", "budget=100", f"out={tmp_path}"]
    (run,) = plan.read(asked)
    begin(run)
    assert len(plan.read(asked).runs) == 1
    with pytest.raises(ConfigError) as refused:
        plan.read([*asked, "optim.lr=0.5", "loss.entropy=0.25"])
    assert "optim.lr: 0.0004 there, 0.5 asked" in str(refused.value)
    assert "loss.entropy: 0.005 there, 0.25 asked" in str(refused.value)


# -- what runs wrote --------------------------------------------------------------------------------------------------------


def write(run: Run, success: list[tuple[int, float, float]], train_hash: str = "abc", start: float = 0.25) -> None:
    """A finished run of two task types: (environment steps, success at either) of each evaluation."""
    folder = begin(run, train_hash)
    lines = []
    for number, (steps, pick, heat) in enumerate([(0, start, start), *success]):
        line = {"iteration": number, "env/steps": steps, "time/cpu": 5.0 + steps / 10, "time/wall": 7.0 + steps / 5}
        line |= {"tokens/rollout": 100 * number, "tokens/update": 10 * number, "eval/faults@1": 0.0}
        lines.append(line | {"eval/success@1": (pick + heat) / 2, "eval/pick@1": pick, "eval/heat@1": heat})
    folder.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
    folder.set_status("finished")


@pytest.fixture
def compared(tmp_path: Path) -> Plan:
    """Two arms, two seeds: steady is right at once, late only at the end."""
    found = plan.read([*SMALL, "arm.steady=algo=gigpo", "arm.late=algo=grpo", "seeds=2", "budget=100", f"out={tmp_path}"])
    for run in found.of("steady"):
        write(run, [(50, 0.75, 0.75), (110, 0.75, 0.75)])
    for run in found.of("late"):
        write(run, [(50, 0.25, 0.25), (100, 0.5, 1.0 if run.seed else 0.5)])
    return found


def test_a_curve_is_interpolated_between_evaluations_over_steps_and_over_seconds(compared: Plan) -> None:
    curves = summarize(compared)["temperatures"]["1"]["arms"]["steady"]["curves"]
    for x, last in (("env/steps", 110.0), ("time/cpu", 11.0)):
        curve = curves[x]
        assert (curve["x"][0], curve["x"][-1]) == (0.0, pytest.approx(last))
        at = np.interp(last * 25 / 110, curve["x"], curve["iqm"])
        assert at == pytest.approx(0.5, abs=0.02)  # halfway between 0.25 and 0.75
        assert curve["low"] == pytest.approx(curve["iqm"])  # both seeds are the same


def test_the_final_table_has_every_type_with_the_spread_over_seeds(compared: Plan) -> None:
    late = summarize(compared)["temperatures"]["1"]["arms"]["late"]
    assert late["types"]["heat"] == {"mean": 0.75, "low": 0.5, "high": 1.0, "seeds": [0.5, 1.0]}
    assert late["types"]["pick"]["low"] == late["types"]["pick"]["high"] == 0.5
    assert late["all"]["seeds"] == [0.5, 0.75]
    assert late["start"]["mean"] == 0.25


def test_arms_are_compared_seed_by_seed(compared: Plan) -> None:
    (pair,) = summarize(compared)["temperatures"]["1"]["pairs"]
    assert (pair["first"], pair["second"]) == ("steady", "late")
    assert pair["difference"]["seeds"] == [0.25, 0.0]
    assert pair["improvement"] == pytest.approx((1.0 + 0.5) / 2)  # pick: always; heat: against one seed of two


def test_costs_leave_the_warm_start_out(compared: Plan) -> None:
    cost = summarize(compared)["cost"]["steady"]
    assert cost["CPU s"]["mean"] == pytest.approx(11)
    assert cost["rollout tokens"]["seeds"] == [300.0, 300.0]
    assert cost["environment steps"]["mean"] == 110


def test_a_failed_run_is_named_with_its_reason_and_in_no_figure(compared: Plan) -> None:
    compared.of("late")[1].failed = "the disk <is> full"
    report = summarize(compared)
    assert report["failed"] == [{"arm": "late", "seed": 1, "reason": "the disk <is> full"}]
    assert report["temperatures"]["1"]["arms"]["late"]["all"]["seeds"] == [0.5]
    assert "the disk &lt;is&gt; full" in page(report)
    for run in compared.of("late"):
        run.failed = "all"
    assert list(summarize(compared)["cost"]) == ["steady"]


def test_a_run_that_fell_short_of_the_budget_is_noted(compared: Plan) -> None:
    compared.budget = 105
    notes = " ".join(summarize(compared)["notes"])
    assert "late, seed 0 ended after 2 iterations and 100 environment steps" in notes
    assert "steady, seed 0 ended" not in notes


def test_where_a_run_missed_the_budget_success_at_equal_steps_stands_beside_the_final_one(compared: Plan) -> None:
    arms = summarize(compared)["temperatures"]["1"]["arms"]  # steady ended 10% over
    assert arms["late"]["at_equal_steps"]["seeds"] == [0.5, 0.75]
    compared.budget = 75
    report = summarize(compared)
    assert "steady, seed 0 ended after 2 iterations and 110 environment steps, 47% over the budget of 75" in " ".join(
        report["notes"]
    )
    assert report["equal_steps"] == 75
    assert report["temperatures"]["1"]["arms"]["late"]["at_equal_steps"]["seeds"] == [0.375, 0.5]
    assert "all tasks at 75 steps" in page(report)
    compared.budget = 200
    assert summarize(compared)["equal_steps"] == 100  # what the shortest run reached
    compared.budget = 105
    assert summarize(compared)["equal_steps"] is None
    assert "all tasks at" not in page(summarize(compared)).lower()


def evaluate(run: Run, **types: float | None) -> None:
    """A final evaluation of its own."""
    found = {kind: {"success": value} for kind, value in types.items()}
    (run.folder.path / "final.json").write_text(json.dumps({"repeats": 4, "temperatures": {"1": {"types": found}}}))


@pytest.mark.parametrize("heat", [{}, {"heat": float("nan")}])
def test_a_type_that_one_final_evaluation_lacks_is_left_out_of_all(compared: Plan, heat: dict[str, float]) -> None:
    compared.repeats = 4
    first, *others = compared
    evaluate(first, all=0.5, pick=0.25, **heat)
    for run in others:
        evaluate(run, all=0.5, pick=0.25, heat=0.75)
    report = summarize(compared)
    assert report["temperatures"]["1"]["types"] == ["pick"]
    assert report["temperatures"]["1"]["arms"]["late"]["types"]["pick"]["seeds"] == [0.25, 0.25]
    assert any("task type heat is left out" in note for note in report["notes"])
    json.dumps(report, allow_nan=False)


def test_a_final_evaluation_of_faults_alone_is_an_error_that_names_it(compared: Plan) -> None:
    compared.repeats = 4
    for run in compared:
        evaluate(run, all=float("nan"))
    with pytest.raises(ConfigError, match=r"steady, seed 0: in .*final\.json no episode"):
        summarize(compared)


@pytest.mark.fault("a damaged file in a comparison", lost="that file, which is named")
@pytest.mark.parametrize("name", ["final.json", "splits.json", "metrics.jsonl"])
def test_a_damaged_file_is_named_with_what_to_do(compared: Plan, name: str, tmp_path: Path) -> None:
    compared.repeats = 4
    for run in compared:
        evaluate(run, all=0.5)
    file = tmp_path / "late-seed1" / name
    file.write_bytes(b"cut\n" + file.read_bytes())
    arms = ["arm.steady=algo=gigpo", "arm.late=algo=grpo", "seeds=2", "budget=100", "repeats=4", f"out={tmp_path}"]
    end = injections.ended(injections.start([sys.executable, "scripts/compare.py", *SMALL, *arms]))
    assert end.code == 1
    assert end.err.startswith(f"error: {file}")
    assert "delete" in end.err
    assert "Traceback" not in end.err


def note(run: Run, lines: slice, **more: float | None) -> None:
    """Add to what some lines of a run's metrics say."""
    rows = [json.loads(line) for line in run.folder.metrics.read_text().splitlines()]
    for row in rows[lines]:
        row |= more
    run.folder.metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_episodes_that_were_cut_off_are_counted_and_are_no_task_type(compared: Plan) -> None:
    first, *others = compared
    for run in compared:
        note(run, slice(None), **{"eval/cut_off/context@1": 0.0, "eval/random_success": 0.125})
    note(first, slice(-1, None), **{"eval/cut_off/context@1": 7.0, "eval/faults@1": 2.0})
    note(first, slice(1, None), **{"train/cut_off/context": 5.0, "train/greedy_faults": 1.0})
    report = summarize(compared)
    assert report["temperatures"]["1"]["types"] == ["heat", "pick"]
    assert report["cost"]["steady"]["out of context"]["seeds"] == [17.0, 0.0]
    assert report["cost"]["steady"]["faults"]["seeds"] == [4.0, 0.0]
    notes = "\n".join(report["notes"])
    assert f"episodes of the final evaluation of {first.name}, temperature 1, 2 were cut off by a fault" in notes
    assert "7 outgrew the context (model.max_length=2048) and count as lost" in notes
    assert "actions drawn at random win 0.125 of the episodes" in notes
    assert f"final evaluation of {others[0].name}" not in notes


@pytest.mark.parametrize("line", [0, -1])
def test_an_evaluation_of_faults_alone_is_an_error_and_no_earlier_one_stands_in_for_it(compared: Plan, line: int) -> None:
    first = compared.runs[0]
    note(first, slice(line, None if line else 1), **{"eval/success@1": None})
    with pytest.raises(ConfigError, match=rf"{first.name}: in the evaluation after iteration \d.* every episode was cut"):
        summarize(compared)


def test_random_actions_say_nothing_of_how_a_run_starts(compared: Plan) -> None:
    note(compared.runs[0], slice(0, 1), **{"eval/random_success": 0.5})
    evidence.refuse_unequal(compared)


def test_equal_numbers_give_equal_pages(compared: Plan) -> None:
    report = summarize(compared)
    assert page(report) == page(report)


def test_the_page_needs_nothing_else_and_says_how_arms_differ(compared: Plan, tmp_path: Path) -> None:
    report = summarize(compared)
    text = page(json.loads(json.dumps(report)))
    assert "default-src 'none'" in text
    assert "<script" not in text
    assert "http://" not in text.partition("data:image")[0]
    assert "algo.omega" in report["settings"]["differing"]  # GiGPO's own
    assert "optim.lr" in report["settings"]["common"]
    assert all(line in text for line in ("seed=0 run=steady-seed0", "seed=1 run=late-seed1"))
    draw(report).savefig(tmp_path / "it.png")
    assert 0.005 < float(np.mean(np.any(imread(tmp_path / "it.png")[..., :3] < 0.95, axis=-1))) < 0.5


def begun(tmp_path: Path, *arguments: str) -> tuple[Plan, Run, Run]:
    found = plan.read([*SMALL, "arm.one=algo=grpo", *arguments, "seeds=1", "budget=100", f"out={tmp_path}"])
    return found, *found.runs


def test_runs_of_other_tasks_are_an_error_that_names_them(tmp_path: Path) -> None:
    found, one, two = begun(tmp_path, "arm.two=algo=gigpo")
    write(one, [], train_hash="abc")
    evidence.refuse_unequal(found)
    write(two, [], train_hash="abd")
    with pytest.raises(ConfigError, match=r"one, seed 0 and two, seed 0 have other tasks: split 'train' is abc and abd"):
        evidence.refuse_unequal(found)


def test_runs_of_another_start_are_an_error_that_names_them(tmp_path: Path) -> None:
    found, one, two = begun(tmp_path, "arm.two=algo=gigpo")
    write(one, [])
    write(two, [], start=0.5)
    with pytest.raises(ConfigError, match="one, seed 0 and two, seed 0 do not start from the same model"):
        evidence.refuse_unequal(found)


def test_an_arm_that_samples_differently_may_start_differently_and_that_is_noted(tmp_path: Path) -> None:
    found, one, two = begun(tmp_path, "arm.two=algo=gigpo engine.temperature=0.7")
    write(one, [(100, 1.0, 1.0)])
    write(two, [(100, 1.0, 1.0)], start=0.5)
    evidence.refuse_unequal(found)
    assert any("sample differently" in note for note in summarize(found)["notes"])


@pytest.mark.parametrize("other_first", [True, False])
def test_an_arm_that_samples_differently_hides_no_other_start_of_the_rest(tmp_path: Path, other_first: bool) -> None:
    arms = ["arm.two=algo=grpo", "arm.three=algo=gigpo"]
    arms.insert(0 if other_first else 2, "arm.other=algo=gigpo engine.temperature=0.7")
    found = plan.read([*SMALL, *arms, "seeds=1", "budget=100", f"out={tmp_path}"])
    for run in found:
        write(run, [], start={"other": 0.5, "two": 0.25, "three": 0.25}[run.arm])
    evidence.refuse_unequal(found)
    assert [{one.arm, other.arm} for one, other, _ in evidence.starts(found)] == [{"other", "two"}]
    (three,) = found.of("three")
    three.folder.metrics.write_text(three.folder.metrics.read_text().replace("0.25", "0.75"))
    with pytest.raises(ConfigError, match="two, seed 0 and three, seed 0 do not start from the same model"):
        evidence.refuse_unequal(found)


# -- the command itself -----------------------------------------------------------------------------------------------------


def start(out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "scripts/compare.py", *SMALL, "algos=[grpo]", "arm.blocked=algo=gigpo", "seeds=1", "jobs=2"]
    command += ["budget=400", "evaluation.every=0", f"out={out}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_help_may_be_read_in_part() -> None:
    command = f"{sys.executable} scripts/compare.py --help | true"
    done = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True)
    assert done.stderr == ""


@pytest.mark.fault("a comparison is ended by a cluster, or killed")
@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGKILL], ids=["SIGUSR1", "kill -9"])
def test_a_comparison_that_a_cluster_ends_or_that_is_killed_saves_its_runs(tmp_path: Path, number: int) -> None:
    run = tmp_path / "grpo-seed0"
    command = [sys.executable, "scripts/compare.py", *SMALL, "algos=[grpo]", "seeds=1", "budget=10000000", f"out={tmp_path}"]
    end = injections.signalled([*command, "evaluation.every=0"], injections.has_done(run, 1), number)
    while injections.lives((status := RunFolder(run).get_status())["pid"]):  # the parent that is killed does not wait
        time.sleep(0.05)
    assert end.code == (130 if number == signal.SIGUSR1 else -signal.SIGKILL)
    assert status["status"] == "interrupted"
    assert (run / "checkpoints" / f"iteration_{status['iteration']:06d}" / "manifest.json").exists()


@pytest.mark.fault("Ctrl-C in a comparison, of which a run fails", lost="the failed run")
def test_a_stopped_comparison_goes_on_by_the_same_command_and_one_failure_does_not_stop_the_others(tmp_path: Path) -> None:
    (tmp_path / "blocked-seed0").write_text("a file where the run's folder should be")
    first = start(tmp_path)
    metrics = tmp_path / "grpo-seed0" / "metrics.jsonl"
    while not (metrics.exists() and len(metrics.read_text().splitlines()) > 1):
        assert first.poll() is None, first.communicate()
        time.sleep(0.05)
    first.send_signal(signal.SIGINT)
    _, errors = first.communicate()
    assert first.returncode == 130
    assert "Go on with the same command" in errors
    assert "Traceback" not in errors
    folder = RunFolder(tmp_path / "grpo-seed0")
    status = folder.get_status()
    assert status["status"] == "interrupted"

    second = start(tmp_path)
    said, errors = second.communicate()
    assert second.returncode == 1, errors
    assert "blocked, seed 0 failed" in errors
    assert folder.get_status()["status"] == "finished"
    assert folder.get_status()["iteration"] > status["iteration"]
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["cost"]["grpo"]["environment steps"]["seeds"][0] >= 400
    assert "cannot be written" in report["failed"][0]["reason"]
    assert (tmp_path / "report.html").exists()
    assert (tmp_path / "report.png").exists()
    assert "written:" in said

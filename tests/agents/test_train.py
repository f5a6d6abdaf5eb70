"""The commands around trainer and evaluation: what they refuse, where results go, and how a run ends that is terminated."""

import hashlib
import io
import json
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from agents import evaluate, report
from agents.replay import __main__ as replay
from agents.rollout.build import open_sampler
from agents.rollout.sampler import Sampler
from agents.runs.folder import RunFolder
from agents.runs.metrics import read_metrics
from agents.train import main
from envs import registry
from envs.base import Unsolvable
from tests.agents.models.models_for_tests import small_policy
from tests.envs import toys

ROOT = Path(__file__).resolve().parents[2]
SMALL = [
    "env=hallway",
    "warmstart.enabled=false",
    "rollout.groups=2",
    "rollout.group_size=4",
    "evaluation.every=2",
    "evaluation.episodes=4",
    "checkpoint.every=2",
    "threads=1",
]
COMMAND = "import sys; from tests.agents import test_train; from agents.train import main;sys.exit(main(sys.argv[1:]))"


class Locked(toys.Corridor):
    """Has demonstrations of some tasks, as far as one can tell without asking for one."""

    name = "locked"

    def demonstration(self, task_id: str, rng: np.random.Generator) -> list[str]:
        raise Unsolvable(f"nobody gets out of {task_id}")


registry.register("locked", "tests/Locked-v0", Locked, toys.CorridorConfig, toys.CorridorPrompt)
registry.register("hallway", "tests/Hallway-v0", "tests.envs.toys:Corridor", toys.CorridorConfig, toys.CorridorPrompt)


@pytest.mark.fault("SIGTERM in a training")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_terminated_run_is_saved_and_says_how_to_go_on(tmp_path: Path, number: int) -> None:
    command = [sys.executable, "-c", COMMAND, *SMALL, f"out={tmp_path}", "run=it", "iterations=100000"]
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout is not None
    while not child.stdout.readline().startswith("[3/"):
        assert child.poll() is None
    child.send_signal(number)
    _, errors = child.communicate()
    folder = RunFolder(tmp_path / "it")
    assert child.returncode == 130
    assert folder.resume_command in errors
    assert errors.rstrip().endswith(folder.last_lines())
    assert f"python -m agents.replay {folder.path}" in errors
    assert "Traceback" not in errors
    status = folder.get_status()
    assert (status["status"], status["reason"]) == ("interrupted", f"asked to stop by {signal.Signals(number).name}")
    assert (folder.checkpoints / f"iteration_{status['iteration']:06d}").is_dir()


@pytest.mark.fault("an environment cannot be made", lost="nothing: no run begins")
def test_an_environment_that_cannot_begin_ends_the_command_before_a_folder_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SMALL, f"out={tmp_path}/runs", "env.max_steps=0"]) == 2
    assert "max_steps is 0" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


@pytest.mark.fault("a start fails", lost="nothing: no run begins")
@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["model=hub", "model.name={tmp}/model", "model.max_length=128", "engine.max_tokens=8"], "chat template"),
        (["model=hub", "model.name={tmp}/cut", "model.max_length=128", "engine.max_tokens=8"], "error: "),
        (["env=locked", "warmstart.enabled=true"], "nobody gets out of length-"),  # found out by the run itself
    ],
)
def test_a_start_that_fails_leaves_no_folder_and_advises_no_resume(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], wrong: list[str], said: str
) -> None:
    small_policy().save(tmp_path / "model")  # whose tokenizer has no chat template
    weights = Path(shutil.copytree(tmp_path / "model", tmp_path / "cut")) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert main([*SMALL, f"out={tmp_path}/runs", "run=it", *(line.format(tmp=tmp_path) for line in wrong)]) != 0
    shown = capsys.readouterr().err
    assert said in shown
    assert "resume=" not in shown
    assert not list(tmp_path.glob("runs/*"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that is over, with checkpoints of iterations 2 and 4."""
    out = tmp_path_factory.mktemp("runs")
    before = signal.getsignal(signal.SIGTERM)
    assert main([*SMALL, f"out={out}", "run=it", "iterations=4"]) == 0
    signal.signal(signal.SIGTERM, before)
    return out / "it"


def test_the_last_lines_of_a_run_say_where_everything_is_and_what_to_type(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SMALL, f"out={tmp_path}", "run=it", "iterations=1", "evaluation.every=0"]) == 0
    said = capsys.readouterr().out.splitlines()
    last = dict(line.split(maxsplit=1) if line[14:] == "" else (line[:14].rstrip(), line[14:]) for line in said[-7:])
    run = tmp_path / "it"
    for name, place in {"model": "model", "plots": "plots", "table": "metrics.jsonl", "trajectories": "trajectories"}.items():
        assert last[name] == str(run / place)
        assert Path(last[name]).exists()
    reporting = shlex.split(last["report on it"])
    assert reporting[:3] == ["python", "-m", "agents.report"]
    assert report.main(reporting[3:]) == 0
    assert (run / "report.html").exists()
    evaluation = shlex.split(last["evaluate it"])
    assert evaluation[:3] == ["python", "-m", "agents.evaluate"]
    assert evaluate.main([*evaluation[3:], "evaluation.episodes=2"]) == 0
    assert list(run.glob("evaluation-test-*.json"))
    replaying = shlex.split(last["replay it"])
    assert replaying[:3] == ["python", "-m", "agents.replay"]
    assert replay.main(replaying[3:]) == 0


@pytest.mark.parametrize("budget", ["step_budget=60", "time_budget_s=0.001"])
def test_a_budget_holds_over_resumes(tmp_path: Path, capsys: pytest.CaptureFixture[str], budget: str) -> None:
    assert main([*SMALL, f"out={tmp_path}", "run=it", "iterations=50", budget]) == 0
    run, name = tmp_path / "it", budget.partition("=")[0]
    done = read_metrics(run / "metrics.jsonl")
    assert 1 < len(done) < 10
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    capsys.readouterr()
    for asked in ([], ["iterations=100"]):
        assert main([f"resume={run}", *asked]) == 2
        said = capsys.readouterr().err
        assert f"nothing is left to do: {run} has spent its {budget}" in said
        assert f"resume={run} {name}=" in said
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    # Stopped after its last iteration, before it had finished: it finishes, and trains no more.
    shutil.rmtree(run / "model")
    RunFolder(run).set_status("failed", "the disk is full")
    assert main([f"resume={run}"]) == 0
    assert f"its {name} is spent" in capsys.readouterr().out
    assert read_metrics(run / "metrics.jsonl") == done
    assert (run / "model" / "model.safetensors").read_bytes() == before[run / "model" / "model.safetensors"]
    assert main([f"resume={run}", f"{name}=1000", f"iterations={len(done)}"]) == 0
    assert len(read_metrics(run / "metrics.jsonl")) == len(done) + 1


@pytest.mark.parametrize("iterations", [3, 4])
def test_a_finished_run_says_that_nothing_is_left_to_do(
    finished: Path, capsys: pytest.CaptureFixture[str], iterations: int
) -> None:
    before = [path.read_bytes() for path in (finished / "status.json", finished / "config.yaml")]
    assert main([f"resume={finished}", f"iterations={iterations}"]) == 2
    shown = capsys.readouterr().err
    assert "nothing is left to do" in shown
    assert f"resume={finished} iterations=" in shown
    assert [path.read_bytes() for path in (finished / "status.json", finished / "config.yaml")] == before


def test_evaluations_of_one_run_stand_side_by_side(finished: Path) -> None:
    for choice in (["evaluation.episodes=3"], ["evaluation.episodes=2"], ["evaluation.split=test"]):
        assert evaluate.main([f"run={finished}", "evaluation.temperature=[1.0]", *choice]) == 0
    written = {path.stem: json.loads(path.read_text()) for path in finished.glob("evaluation-*.json")}
    assert sorted((r["split"], r["tasks"]) for r in written.values()) == [("eval", 2), ("eval", 3), ("test", 3)]
    for stem, results in written.items():
        assert stem.startswith(f"evaluation-{results['split']}-")
        assert len((finished / f"{stem}.episodes.jsonl").read_text().splitlines()) == 3 * results["tasks"], "repeats"
    assert not list(finished.glob(".*"))
    assert {(r["checkpoint"]["iteration"], r["checkpoint"]["sha256"]) for r in written.values()} == {
        (4, hashlib.sha256((finished / "checkpoints/iteration_000004/manifest.json").read_bytes()).hexdigest())
    }


def test_an_evaluation_is_written_where_out_says(finished: Path, tmp_path: Path) -> None:
    assert evaluate.main([f"run={finished}", "evaluation.episodes=2", f"out={tmp_path}/mine.json"]) == 0
    assert json.loads((tmp_path / "mine.json").read_text())["tasks"] == 2


@pytest.mark.fault("a checkpoint is written while an evaluation begins")
def test_an_evaluation_names_the_checkpoint_that_it_loaded(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not a newer one that is damaged, nor one that a training writes meanwhile."""
    run = Path(shutil.copytree(finished, tmp_path / "it"))
    checkpoints = run / "checkpoints"
    shutil.copytree(checkpoints / "iteration_000004", checkpoints / "iteration_000006")
    (checkpoints / "iteration_000006" / "state.json").write_text("")
    for foreign in ("iteration_best", "iteration_3 (copy)", "iteration_000005.damaged"):
        (checkpoints / foreign).mkdir()

    def opened_late(*arguments: object) -> Sampler:
        shutil.copytree(checkpoints / "iteration_000002", checkpoints / "iteration_000008")
        return open_sampler(*arguments)  # type: ignore[arg-type]

    def evaluated(*more: str) -> tuple[int, str]:
        asked = [f"run={run}", "evaluation.episodes=2", "evaluation.temperature=[1.0]", f"out={tmp_path}/it.json", *more]
        assert evaluate.main(asked) == 0
        named = json.loads((tmp_path / "it.json").read_text())["checkpoint"]
        assert f"checkpoint: {run}, iteration {named['iteration']}\n" in capsys.readouterr().out
        return named["iteration"], named["sha256"]

    def sha256(iteration: int) -> str:
        return hashlib.sha256((checkpoints / f"iteration_{iteration:06d}" / "manifest.json").read_bytes()).hexdigest()

    with monkeypatch.context() as patch:
        patch.setattr("agents.rollout.build.open_sampler", opened_late)
        assert evaluated() == (4, sha256(4))
    assert evaluated() == (8, sha256(2))
    assert evaluated("checkpoint=2") == (2, sha256(2))


def test_a_checkpoint_that_does_not_exist_is_answered_with_those_that_do(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate.main([f"run={finished}", "checkpoint=77"]) == 1
    shown = capsys.readouterr().err
    assert "no checkpoint of iteration 77; there are: " in shown
    assert "2, 4" in shown


def test_a_task_types_name_stays_on_one_line_of_80_columns() -> None:
    shown = io.StringIO()
    row = {"success": 0.5, "interval95": (0.25, 0.75), "episodes": 1000, "faults": 0, "score": 0.5, "steps": 30.5}
    kinds = {"pick_cool_then_place_in_recep": row, "all": row}
    results = {"environment": "alfworld", "split": "test", "repeats": 1, "temperatures": {"1": {"types": kinds}}}
    evaluate.show(results, Console(file=shown, width=80))
    (line,) = [line for line in shown.getvalue().splitlines() if line.startswith("pick")]
    assert line.split() == ["pick_cool_then_place_in_recep", "0.500", "0.250", "-", "0.750", "1000", "0", "0.500", "30.5"]

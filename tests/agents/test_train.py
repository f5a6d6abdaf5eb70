"""The command around the trainer: what it refuses before it starts, and how it ends when the machine is taken away."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.runfolder import RunFolder
from agents.train import main
from envs import registry
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

registry.register("hallway", "tests/Hallway-v0", "tests.envs.toys:Corridor", toys.CorridorConfig, toys.CorridorPrompt)


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def test_a_terminated_run_is_saved_and_says_how_to_go_on(tmp_path: Path) -> None:
    command = [sys.executable, "-c", COMMAND, *SMALL, f"out={tmp_path}", "run=it", "iterations=100000"]
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout is not None
    while not child.stdout.readline().startswith("[3/"):
        assert child.poll() is None
    child.send_signal(signal.SIGTERM)
    _, errors = child.communicate(timeout=60)
    folder = RunFolder(tmp_path / "it")
    assert child.returncode == 130
    assert folder.resume_command in errors
    assert "Traceback" not in errors
    status = folder.get_status()
    assert status["status"] == "interrupted"
    assert (folder.checkpoints / f"iteration_{status['iteration']:06d}").is_dir()


def test_an_environment_that_cannot_begin_ends_the_command_before_a_folder_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SMALL, f"out={tmp_path}/runs", "env.max_steps=0"]) == 2
    assert "max_steps is 0" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()

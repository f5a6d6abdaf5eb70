"""Killed trainings: the script kills, goes on and compares, and finds whatever differs afterwards."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from agents.runs import checkpoint
from scripts.faults.sameness import differences

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts/faults/kills.py"


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """What the script leaves in its folder, and what it says."""
    folder = tmp_path_factory.mktemp("kills")
    words = ["--kills", "2", "--only", "gigpo alfworld", "--keep", folder, "--json", folder / "kills.json"]
    done = subprocess.run([sys.executable, SCRIPT, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done.stdout


@pytest.mark.fault("kill -9 at random moments of trainings", lost="what came after the newest checkpoint, done again alike")
def test_trainings_that_were_killed_at_random_moments_end_as_if_they_had_not(killed: tuple[Path, str]) -> None:
    folder, said = killed
    runs = json.loads((folder / "kills.json").read_text())["runs"]
    kills = [kill for run in runs for kill in run["kills"]]
    assert len(kills) == 2
    assert not [run["problems"] for run in runs if run["problems"]]
    assert said.endswith(f"2 kills of {len(runs)} runs: all equal\n")


def _changed(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def _weights(run: Path) -> None:
    _changed(run / "model" / "model.safetensors")


def _optimizer(run: Path) -> None:
    saved = checkpoint.of_run(run, None)
    average = saved.state["update"]["learner"]["optimizer"]["adamw"]["state"][0]["exp_avg"]
    average.copy_(torch.nextafter(average, torch.ones(())))
    checkpoint.save(saved.folder, saved.tensors, saved.state, keep=2)


def _numbers(run: Path) -> None:
    metrics = run / "metrics.jsonl"
    rows = [json.loads(line) for line in metrics.read_text().splitlines()]
    rows[2]["train/reward"] += 1e-9
    metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _episodes(run: Path) -> None:
    file = run / "trajectories" / "iteration_000003.jsonl.gz"
    file.write_bytes(gzip.compress(gzip.decompress(file.read_bytes()).replace(b'"advantage":', b'"advantage":1', 1)))


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (_weights, "the final weights differ"),
        (_optimizer, "the newest checkpoints differ"),
        (_numbers, "the numbers differ"),
        (_episodes, "the episodes differ"),
    ],
)
def test_whatever_differs_is_found(
    killed: tuple[Path, str], tmp_path: Path, change: Callable[[Path], None], found: str
) -> None:
    whole = killed[0] / "whole-gigpo-alfworld" / "runs" / "it"
    other = Path(shutil.copytree(whole, tmp_path / "it"))
    assert differences(whole, other) == []
    change(other)
    assert differences(whole, other) == [found]


ITS_OWN = """
import sys
from pathlib import Path
sys.path.insert(0, {faults!r})
import kills
from envs import register
from envs.common import seeding
from tests.envs import toys
register("unseeded", "tests/Unseeded-v0", "tests.envs.toys:LeaksRandomness", toys.CorridorConfig, toys.CorridorPrompt)
settings = "env=unseeded env.max_steps=8 algo=gigpo iterations=2 threads=1 warmstart.enabled=false evaluation.every=0"
settings += " rollout.groups=6 rollout.group_size=4 engine.constrained=admissible"
kills.shapes = lambda: {{"it": settings.split()}}
sys.exit(kills.main(["--kills", "1"]))
"""


def test_a_training_that_does_not_repeat_itself_is_told() -> None:
    program = ITS_OWN.format(faults=str(SCRIPT.parent))
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "the episodes differ" in done.stdout
    assert done.stdout.endswith("1 runs did not end as they should\n")

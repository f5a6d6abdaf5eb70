"""`--help`: values in force and where they come from, options with and without a file, and readers who leave early."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from agents.config import compose, loading
from agents.config import help as usage
from agents.config.loading import Job
from envs.common.structured import ConfigError

ROOT = Path(__file__).resolve().parents[3]


def run(*command: str, path: str = "", **options: Any) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), path]), "COLUMNS": "80"}
    options = {"capture_output": True} | options
    return subprocess.run([sys.executable, *command], text=True, env=environment, check=False, timeout=120, cwd=ROOT, **options)


def leaves(values: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(values, dict) and values:
        for key, value in values.items():
            yield from leaves(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, values


COMMANDS: list[tuple[Job, list[str]]] = [
    ("train", []),
    ("train", ["env=webshop", "algo=ppo"]),
    ("train", ["+experiment=calm_keyroom", "rollout.groups=3"]),
    ("train", ["algo=oprl", "model=smollm2", "optim.betas=[0.5,0.6]", "rollout.groups=${engine.max_tokens}"]),
    ("train", ["tracker=[wandb,tensorboard]", "shaping=[calm,invalid_action]", "judge=smollm2", "loss.kl={kind: k3}"]),
    ("evaluate", ["model=smollm2", "env=minihack/room", "evaluation.repeats=2"]),
    ("judge", ["judge=endpoint", "judge.model=m", "forms.map=[crop]"]),
    ("audit", ["env=webshop", "methods=[grpo,poad]", "shaping=invalid_action", "continuations=16"]),
]


@pytest.mark.parametrize(("job", "overrides"), COMMANDS)
def test_help_shows_every_value_as_the_command_would_have_it(job: Job, overrides: list[str]) -> None:
    load: dict[Job, Any] = {
        "train": loading.load,
        "evaluate": loading.load_evaluate,
        "judge": loading.load_judge,
        "audit": loading.load_audit,
    }
    in_force = dict(leaves(loading.to_dict(load[job](overrides))))
    shown = {key.name: key.value for key in usage.keys(job, overrides)}
    off = {name for name, value in shown.items() if name.startswith("tracker.") and value is None}
    for name, value in shown.items():
        if not any(name.startswith(f"{section}.") for section in off):
            for leaf, one in leaves({name: value}):
                assert in_force[leaf] == one, leaf
    missing = {name for name in in_force if not any(name == one or name.startswith(f"{one}.") for one in shown)}
    assert missing <= {"shaping", "tracker.console"}


@pytest.mark.parametrize(("job", "overrides"), COMMANDS)
def test_a_value_that_is_not_the_default_names_the_file_that_has_it(job: Job, overrides: list[str]) -> None:
    found = set()
    for key in usage.keys(job, overrides):
        if not key.source:
            assert key.value == key.default or key.name == "algo.shaped_at"  # which every method completes
        elif key.source.startswith("conf/"):
            file = ROOT / key.source
            written = yaml.safe_load(file.read_text())
            if "# @package _global_" not in file.read_text() and key.source.count("/") > 1:
                written = {file.parent.name: written}
            for name, value in leaves({key.name: key.value}):
                assert loading.plain(dict(leaves(written))[name]) == value
            found.add(key.name)
        else:
            assert key.source.startswith("the command line")
            assert any(key.name.startswith(override.lstrip("+").partition("=")[0]) for override in overrides)
    assert found


def test_plain_help_is_that_of_the_command_in_the_readme() -> None:
    assert usage.text("train") == usage.text("train", ["env=alfworld", "algo=gigpo"])
    assert usage.text("train") != usage.text("train", ["env=webshop", "algo=gigpo"])


def test_help_of_a_section_says_value_source_default_and_meaning() -> None:
    shown = run("-m", "agents.train", "--help", "warmstart", "env", "warmstart.batch=9", "warmstart.lr=${critic.lr}")
    assert shown.returncode == 0, shown.stderr
    assert "  warmstart.steps = 3300    from conf/model/tiny.yaml, default 1400\n      Optimizer steps." in shown.stdout
    assert "  env.max_steps = 20    from conf/env/alfworld.yaml, default 50\n" in shown.stdout
    assert "  warmstart.batch = 9    from the command line, default 8\n" in shown.stdout
    assert "  warmstart.lr = 0.001    from the command line, ${critic.lr}, default 0.002\n" in shown.stdout
    assert "  env.thinking = false\n" in shown.stdout


def test_help_of_a_run_shows_what_the_run_was_given(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(loading.to_yaml(loading.load(["algo=grpo", "rollout.groups=5"])))
    for job in ("train", "evaluate", "judge", "audit"):
        named: list[str] = [f"{'resume' if job == 'train' else 'run'}={tmp_path}"]
        keys = {key.name: key for key in usage.keys(job, named)}  # type: ignore[arg-type]
        assert keys["env.max_steps"].source == f"{tmp_path}/config.yaml"
        assert keys["env.history"].source == ""
        if job == "train":
            assert (keys["rollout.groups"].value, keys["algo.name"].value) == (5, "grpo")


@pytest.mark.parametrize("job", ["train", "evaluate", "judge", "audit"])
def test_no_line_of_a_help_is_wider_than_80_columns(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert max(map(len, usage.text(job).splitlines())) <= 80
    sections = {key.name.partition(".")[0] for key in usage.keys(job)}
    assert max(map(len, usage.text(job, sorted(sections)).splitlines())) <= 80


def test_help_marks_the_options_in_force() -> None:
    marked = [line.split()[1] for line in usage.text("train", ["algo=ppo", "tracker=wandb"]).splitlines() if line[:4] == "  * "]
    assert marked == ["ppo", "hf", "alfworld", "rules", "here", "tiny", "none", "wandb"]


def test_help_of_a_command_that_cannot_run_says_why() -> None:
    assert "this command is refused: model.name has no value" in usage.text("train", ["model=hub"])
    assert "is refused" not in usage.text("train", ["model=smollm2"])


def test_help_says_that_a_time_limit_of_steps_needs_workers() -> None:
    limit = usage.text("train", ["env.pool"]).partition("env.pool.step_timeout")[2].partition("env.pool.retries")[0]
    assert "not enforced with mode=inline" in " ".join(limit.split())


@pytest.mark.parametrize(("section", "meant"), [("optm", "optim"), ("loss.kll", "loss.kl"), ("optim.lrr", "optim.lr")])
def test_help_on_a_section_that_does_not_exist_names_the_nearest(section: str, meant: str) -> None:
    with pytest.raises(ConfigError, match=f"no section '{section}'.*Did you mean '{meant}'"):
        usage.text("train", [section])


@pytest.mark.parametrize(
    "command",
    [
        ("-m", "agents.train", "--help"),
        ("-m", "agents.train", "--help", "optim"),
        ("-m", "agents.train", "--cfg", "job"),
        ("-m", "agents.evaluate", "--help"),
        ("-m", "agents.judge", "--help"),
        ("-m", "agents.replay", "--help"),
        ("-m", "agents.report", "--help"),
        ("-m", "envs.checker", "--help"),
        ("-m", "envs.webshop", "--help"),
        ("scripts/compare.py", "--help"),
    ],
)
def test_a_reader_of_help_may_leave_at_any_time(command: tuple[str, ...]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    left = run(*command, capture_output=False, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert left.stderr == ""
    assert left.returncode == 0


# -- plug-ins ---------------------------------------------------------------------------------------------------------------

CODE = '''"""A plug-in without any YAML file."""
from dataclasses import dataclass

from algorithms import base, shaping
from algorithms.grpo import GRPO
from envs import registry
from tests.envs.toys import Corridor, CorridorConfig


@dataclass
class LastStep(GRPO):
    """Credits nothing but the last step.

    And more.
    """

    scale: float = 1.5
    """Factor of the reward."""


@dataclass
class Silent(GRPO):
    scale: float = 1.5


@dataclass
class Curious(shaping.Shaping):
    """Pays for states not seen before."""

    bonus: float = 0.25
    """Reward of a new state."""

    async def shape(self, batch):
        return batch.reward * 0


class Maze(Corridor):
    """Find the way out of a maze."""

    name = "maze"


registry.register("maze", "mine/Maze-v0", "mine:Maze", CorridorConfig)
registry.register("broken", "mine/Broken-v0", "mine.nowhere:Maze", "mine.nowhere:Config")
base.register("silent", Silent)
'''


@pytest.fixture(scope="module")
def plugins(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder to import from, with a package whose environment, method and shaping ship no YAML file."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "mine").mkdir()
    (folder / "mine/__init__.py").write_text(CODE)
    (folder / "mine-1.0.dist-info").mkdir()
    (folder / "mine-1.0.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    points = {"envs": "mine = mine", "algorithms": "last_step = mine:LastStep", "shaping": "curious = mine:Curious"}
    lines = "".join(f"[stepcredit.{group}]\n{point}\n" for group, point in points.items())
    (folder / "mine-1.0.dist-info/entry_points.txt").write_text(lines)
    return str(folder)


def test_what_is_registered_without_a_file_is_listed_with_the_first_line_of_its_docstring(plugins: str) -> None:
    lines = run("-m", "agents.train", "--help", path=plugins).stdout.splitlines()
    assert "    last_step           Credits nothing but the last step" in lines
    assert "    silent" in lines
    assert "    curious             Pays for states not seen before" in lines
    assert "    maze                Find the way out of a maze" in lines
    assert "    broken" in lines


@pytest.mark.parametrize(
    ("override", "listed"),
    [("algo=last_stepp", "last_step"), ("env=maaze", "maze"), ("shaping=curios", "curious"), ("shaping=[calm,x]", "curious")],
)
def test_a_refusal_lists_what_is_registered_without_a_file(plugins: str, override: str, listed: str) -> None:
    refused = run("-m", "agents.train", override, path=plugins)
    assert refused.returncode == 2
    allowed = refused.stderr.partition("allowed: ")[2]
    assert listed in allowed
    assert "gigpo" in allowed or "alfworld" in allowed or "none" in allowed


def test_what_is_registered_without_a_file_is_chosen_like_the_others(plugins: str) -> None:
    chosen = ["env=maze", "algo=last_step", "shaping=[curious,invalid_action]", "algo.scale=3", "shaping.curious.bonus=2"]
    done = run("-m", "agents.train", "--cfg", "job", *chosen, path=plugins)
    assert done.returncode == 0, done.stderr
    printed = yaml.safe_load(done.stdout)
    assert (printed["env"]["name"], printed["algo"]["name"], printed["algo"]["scale"]) == ("maze", "last_step", 3.0)
    assert printed["shaping"] == {"curious": {"bonus": 2.0}, "invalid_action": {"coefficient": 0.1}}
    alone = yaml.safe_load(run("-m", "agents.train", "--cfg", "job", "shaping=curious", path=plugins).stdout)
    assert alone["shaping"] == {"curious": {"bonus": 0.25}}
    shown = run("-m", "agents.train", "--help", "algo", "shaping", *chosen, path=plugins).stdout
    assert "algo.name = last_step    from algo=last_step\n" in shown
    assert "algo.scale = 3.0    from the command line, default 1.5\n      Factor of the reward." in shown
    assert "shaping.curious.bonus = 2.0    from the command line, default 0.25\n" in shown


ON_PAIRS = ("cdpo", "t_reg", "tgdpo")


def test_every_name_that_can_be_chosen_is_an_option() -> None:
    available = compose.groups()
    for group in ("env", "algo", "shaping"):
        for option in compose.options(group, available[group]):
            knowing = ["env=webshop"] if option.startswith("igpo") else []
            knowing += ["rollout.curriculum.unit=turns", "rollout.curriculum.last=9"] if option == "length" else []
            knowing += ["algo=grounded_prm"] if group == "shaping" and option == "grounded_prm" else []
            knowing += [f"algo.shaped_at.{option}=advantage"] if group == "shaping" and option in ON_PAIRS else []
            knowing += ["shaping=aligndistil"] if option == "shaped" else []
            loading.load([f"{group}={option}", *knowing])

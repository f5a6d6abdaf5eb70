"""Every YAML file that ships composes into a configuration that passes all checks."""

from pathlib import Path

import pytest

from agents.config import loading
from agents.config.commands import TrainConfig
from agents.config.compose import ROOT, groups
from agents.config.training_checks import EXTRAS
from envs.common.structured import ConfigError

NEEDS = {
    **{f"shaping={name}": [f"algo.shaped_at.{name}=advantage"] for name in ("cdpo", "t_reg", "tgdpo")},
    "model=hub": ["model.name=some/model"],
    "shaping=grounded_prm": ["algo=grounded_prm"],
    "shaping=length": ["rollout.curriculum.unit=turns", "rollout.curriculum.last=9"],
    **{f"algo={name}": ["env=webshop"] for name in ("igpo", "igpo_official", "igpo_first_release")},
}
OPTIONS = [f"{group}={option}" for group, options in groups([ROOT]).items() for option in options]


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_of_every_group_composes(option: str) -> None:
    group, _, name = option.partition("=")
    if group == "tracker" and name in EXTRAS:
        pytest.importorskip(name)
    prefix = "+" if option.startswith("experiment=") else ""
    loaded = loading.load([f"{prefix}{option}", *NEEDS.get(option, [])])
    assert loading.finish(TrainConfig, loading.to_dict(loaded)) == loaded


@pytest.mark.parametrize("option", [one for one in OPTIONS if one.split("=")[0] in ("env", "engine", "model")])
def test_every_option_of_an_evaluation_composes(option: str) -> None:
    loading.load_evaluate([option, *NEEDS.get(option, [])])


def test_an_evaluation_refuses_what_only_training_has() -> None:
    with pytest.raises(ConfigError, match=r"unknown key 'optim\.lr'"):
        loading.load_evaluate(["optim.lr=1"])


def test_an_evaluation_of_a_run_takes_the_runs_own_choices(tmp_path: Path) -> None:
    trained = loading.load(["env.max_steps=7", "engine.max_tokens=9", "evaluation.temperature=[0.4]", "seed=3"])
    (tmp_path / "config.yaml").write_text(loading.to_yaml(trained))
    loaded = loading.load_evaluate([f"run={tmp_path}", "evaluation.split=test"])
    assert (loaded.env, loaded.model, loaded.engine, loaded.seed) == (trained.env, trained.model, trained.engine, 3)
    assert (loaded.evaluation.split, loaded.evaluation.temperature, loaded.out) == ("test", [0.4], None)


def test_an_experiment_and_what_is_typed_after_it_both_count() -> None:
    loaded = loading.load(["+experiment=gigpo_alfworld_qwen2.5_1.5b", "seed=3", "rollout.groups=4"])
    assert (loaded.model.name, loaded.rollout.groups, loaded.seed) == ("Qwen/Qwen2.5-1.5B-Instruct", 4, 3)
    assert (loaded.env.context, loaded.env.settings.max_steps, loaded.loss.kl.kind) == ("window", 50, "k3")


def test_every_file_begins_with_what_it_is() -> None:
    for path in Path(ROOT).rglob("*.yaml"):
        lines = [line for line in path.read_text().splitlines() if "@package" not in line]
        assert lines[0].startswith("# "), path

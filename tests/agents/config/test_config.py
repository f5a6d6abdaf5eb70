"""The configuration: what it accepts, what it refuses, and in which words."""

import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import yaml

from agents.config import loading
from agents.config.commands import TrainConfig
from agents.runs import sweep
from algorithms import base
from envs.common.structured import ConfigError

ROOT = Path(__file__).resolve().parents[3]


def train(*arguments: str, path: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), path, os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-m", "agents.train", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def refusal(*overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        loading.load(overrides)
    return str(caught.value)


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("optim.lrr=1e-4", ["unknown key 'optim.lrr'", "Did you mean 'optim.lr'", "grad_clip"]),
        ("lr=1e-4", ["unknown key 'lr'", "'optim.lr'"]),
        ("env.mxa_steps=3", ["unknown key 'env.mxa_steps'", "env.max_steps"]),
        ("optim.lr=fast", ["optim.lr is 'fast'", "a number"]),
        ("optim.epochs=1.5", ["optim.epochs is 1.5", "a whole number"]),
        ("optim.epochs=true", ["optim.epochs is True", "a whole number"]),
        ("env.thinking=1", ["env.thinking is 1", "true or false"]),
        ("env.context=ful", ["env.context is 'ful'", "full, window", "Did you mean 'full'"]),
        ("env.pool.mode=thread", ["env.pool.mode", "inline, threads, processes", "'threads'"]),
        ("evaluation.temperature=0.4", ["evaluation.temperature is 0.4", "list", "brackets"]),
        ("evaluation.temperature=[]", ["evaluation.temperature is an empty list"]),
        ("evaluation.temperature=[0]", ["evaluation.temperature", "more than 0"]),
        ("engine.top_p=1.5", ["engine.top_p is 1.5", "at most 1"]),
        ("iterations=null", ["iterations is nothing", "a whole number"]),
        ("optim=3", ["optim is 3", "lr"]),
        ("env=alfwold", ["env is 'alfwold'", "Did you mean 'alfworld'"]),
        ("algo=gigppo", ["algo is 'gigppo'", "gigpo, gigpo_official, gpg", "Did you mean 'gigpo'"]),
        ("model=hub", ["model.name has no value"]),
        ("model.tiny.heads=3", ["model.tiny.hidden is 128", "heads"]),
        ("model.prompt=chat", ["model.prompt is 'chat'", "plain"]),
        ("model.system=hello", ["model.system is for chat templates", "'plain'"]),
        ("engine.stop=[done,'']", ["engine.stop holds an empty string", "leave it out"]),
        ("model.dtype=bfloat16", ["model.dtype is 'bfloat16'", "allowed with model=tiny: float32, auto"]),
        ("engine.max_tokens=5000", ["engine.max_tokens is 5000", "model.max_length"]),
        ("algo.gama=1", ["unknown key 'algo.gama'", "'algo.gamma'"]),
        ("algo.gamma=2", ["algo", "gamma is 2"]),
        ("algo.normalize=var", ["algo.normalize is 'var'", "std, mean"]),
        ("algo.shaped_at.subgoal=reward", ["unknown key 'algo.shaped_at.subgoal'", "invalid_action"]),
        ("shaping.invalid=1", ["unknown key 'shaping.invalid'", "shaping.invalid_action"]),
        ("rollout.group_size=1", ["rollout.group_size is 1", "algo.name=gigpo", "at least 2"]),
        ("seed=1,2", ["--multirun"]),
        ("seed", ["cannot read 'seed'", "key=value"]),
        ("resume=runs/no-such-run", ["runs/no-such-run", "config.yaml"]),
    ],
)
def test_a_mistake_is_named_with_what_is_allowed(override: str, parts: list[str]) -> None:
    message = refusal(override)
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (
            ["model=smollm2", "env.thinking=true", "model.chat_template_kwargs.enable_thinking=false"],
            ["without thoughts invalid", "leave one of them away"],
        ),
        (
            ["loss.surrogate=gmpo", "env.context=window"],
            ["loss.surrogate is 'gmpo'", "loss.sequence=row", "env.context=window"],
        ),
        (
            ["algo=poad", "rollout.dynamic_sampling.rounds=2"],
            ["rollout.dynamic_sampling.rounds is 2", "algo.name=poad", "allowed with it: 0"],
        ),
        (
            ["algo=tree_grpo", "rollout.dynamic_sampling.rounds=2"],
            ["rollout.dynamic_sampling.rounds is 2", "algo.name=tree_grpo compares leaves", "allowed with it: 0"],
        ),
        (
            ["algo=vineppo", "rollout.overlap=1"],
            ["rollout.overlap is 1", "algo.name=vineppo has finished episodes played on", "allowed with it: 0"],
        ),
        (
            ["algo=spo_chain", "engine.constrained=scored"],
            ["engine.constrained is 'scored'", "algo.name=spo_chain looks at its single tokens"],
        ),
        (
            ["algo=vineppo", "shaping=calm"],
            ["algo.shaped_at.calm is reward", "allowed with this method: return, advantage, none"],
        ),
        (["algo=poad", "engine.constrained=scored"], ["algo.name=poad looks at its single tokens", "algo.level=action"]),
        (["algo=ppo", "engine.constrained=scored"], ["algo.name=ppo looks at its single tokens"]),
        (["algo=otb", "engine.constrained=none", "engine.top_p=0.9"], ["engine.top_p is 0.9", "algo.name=otb"]),
        (
            ["algo=empg", "engine.constrained=none", "engine.top_p=0.9"],
            ["engine.top_p is 0.9", "algo.name=empg", "allowed with it: 1"],
        ),
        (["algo=tempo", "engine.constrained=scored"], ["algo.name=tempo looks at its single tokens"]),
        (["algo=empg", "engine.constrained=scored"], ["algo.name=empg looks at its single tokens"]),
        (["algo=hcapo", "engine.constrained=scored"], ["algo.name=hcapo looks at its single tokens"]),
        (["algo=bi_level_gae", "engine.constrained=scored"], ["algo.name=bi_level_gae looks at its single tokens"]),
        (
            ["algo=maxrl", "shaping=invalid_action", "algo.shaped_at.invalid_action=reward"],
            ["algo.shaped_at.invalid_action is 'reward'", "allowed: advantage, none"],
        ),
        (["algo=maxrl", "env=minihack"], ["env.penalty_step is -0.01 (allowed: 0)", "algo.name=maxrl", "at least 0"]),
        (["algo=hcapo", "algo.ratio_max=0.5"], ["algo", "ratio_min is 0.8", "ratio_max=0.5"]),
        (["algo=gdpo", "algo.weights={envrionment: 5}"], ["algo.weights.envrionment", "environment"]),
        (["algo=ppo", "model.lora.enabled=true"], ["critic.trains is 'head'", "critic.trains=all"]),
        (
            ["algo=gigpo", "shaping=progress", "model.lora.enabled=true"],
            ["shaping.progress.trains is 'head'", "shaping.progress.trains=all"],
        ),
        (
            ["algo=spa", "algo.shaped_at.progress=advantage"],
            ["shaping.progress.replaces is true", "algo.shaped_at.progress is 'advantage'", "allowed with it: reward"],
        ),
        (
            ["algo=pure", "~shaping.implicit_prm"],
            ["algo.shaped_at lets no shaping", "shaping=implicit_prm", "shaping=critique"],
        ),
        (["algo=pure", "shaping=progress"], ["shaping.progress.replaces is true", "replaces=false", "algo.name=pure"]),
        (["algo=gigpo", "shaping=grounded_prm"], ["plays no branches", "algo=grounded_prm", "algo=vineppo", "algo.name=gigpo"]),
        (["algo=grounded_prm", "~shaping.grounded_prm"], ["algo.name=grounded_prm", "shaping=grounded_prm"]),
        (["algo=brpo", "algo.budgets=[5,5]"], ["budgets is [5, 5]", "rise", "[5, 10, 15]"]),
        (
            ["algo=lare", "shaping.latent.factors=null"],
            ["judge.kind is 'rules'", "set judge=smollm2", "shaping.latent.factors=["],
        ),
        (["algo=lare", "shaping.latent.factors=[time**2]"], ["shaping.latent", "factors[0]", "a value should stand"]),
        (["algo=capo", "judge=policy"], ["judge.kind is 'policy'", "no chat template", "allowed with it: rules"]),
        (["shaping=length"], ["shaping.length", "set rollout.curriculum.unit=turns"]),
        (["rollout.curriculum.last=5"], ["rollout.curriculum.last is set", "unit is 'none'"]),
        (["rollout.curriculum.unit=turns"], ["rollout.curriculum.last has no value"]),
        (
            ["rollout.curriculum.unit=turns", "rollout.curriculum.last=60"],
            ["rollout.curriculum.last is 60", "env.max_steps=20"],
        ),
        (
            ["rollout.curriculum.unit=tokens", "rollout.curriculum.last=4"],
            ["unit is 'tokens'", "engine.constrained=admissible", "enforced=false"],
        ),
        (
            ["algo=vineppo", "rollout.curriculum.unit=turns", "rollout.curriculum.last=9"],
            ["algo.name=vineppo", "no budget", "enforced=false"],
        ),
        (["env=alfworld", "algo=igpo"], ["algo.name=igpo", "env.name=alfworld have none", "webshop"]),
        (["algo=hiper", "engine.constrained=admissible"], ["engine.constrained is 'admissible'", "env.hierarchy=true", "none"]),
        (["rollout.temperature_tau=1"], ["rollout.temperature_tau is 1", "at most 0.9"]),
        (["rollout.temperature_tau=0.1", "engine.temperature=0"], ["engine.temperature is 0", "more than 0"]),
        (
            ["algo=hapo", "engine=vllm"],
            ["rollout.temperature_tau is 0.05", "engine.name=vllm", "set engine.name=hf, or rollout.temperature_tau=0"],
        ),
        (
            ["algo=grpo", "rollout.temperature_tau=0.1", "engine.constrained=scored"],
            ["rollout.temperature_tau is 0.1", "engine.constrained=scored no token is drawn", "admissible or none"],
        ),
        (["algo=hapo", "rollout.overlap=1"], ["rollout.temperature_tau is 0.05", "rollout.overlap=1", "set rollout.overlap=0"]),
        (
            ["algo.transforms=[spine]", "loss.entropy_band=0.1", "rollout.temperature_tau=0.1"],
            ["rollout.temperature_tau is 0.1", "loss.entropy_band=0.1", "set loss.entropy_band=0"],
        ),
        (["algo=hiper", "env.hierarchy=false"], ["env.hierarchy is false", "algo.name=hiper", "true"]),
        (["algo=tgdpo", "rollout.group_size=1"], ["rollout.group_size is 1", "shaping.tgdpo compares", "at least 2"]),
        (["algo=rto", "rollout.group_size=1"], ["rollout.group_size is 1", "shaping.token_reward", "at least 2"]),
        (["algo=gigpo", "shaping=cdpo"], ["algo.shaped_at.cdpo is 'reward'", "set algo.shaped_at.cdpo=advantage"]),
        (["algo=r_to_q", "algo.shaped_at.token_reward=reward"], ["'shaped'", "set algo.shaped_at.token_reward=advantage"]),
        (["algo=t_reg", "~shaping.t_reg"], ["algo.name is 'shaped'", "algo=tgdpo", "algo=gigpo"]),
        (
            ["algo=t_reg", "model.lora.enabled=true"],
            ["shaping.t_reg compares with the policy before RL", "warmstart.enabled=false"],
        ),
        (["algo=rto", "engine.constrained=scored"], ["engine.constrained is 'scored'", "admissible"]),
        (["algo=gigpo", "shaping=aligndistil", "engine.constrained=scored"], ["'scored'", "shaping.aligndistil"]),
        (["algo=rto", "shaping.token_reward.against=rollout"], ["shaping.token_reward", "kl is 0.01", "allowed with it: 0"]),
        (["algo=oprl", "model.lora.enabled=true"], ["shaping.implicit_prm.kind is 'adapter'", "kind=copy"]),
        (
            ["+experiment=gigpo_alfworld_qwen2.5_1.5b", "algo=poad"],
            ["undoes what algo=poad sets", "optim.epochs=5", "loss.entropy=0.0001"],
        ),
        (["critic.hidden=[0]"], ["critic.hidden", "at least 1"]),
        (
            ["algo=grpo", "engine.constrained=scored", "loss.surrogate=sequence_ppo"],
            ["loss.surrogate is 'sequence_ppo'", "scored"],
        ),
        (["algo=otb", "engine.constrained=scored"], ["engine.constrained is 'scored'", "algo.name=otb looks", "admissible"]),
        (["algo=gigpo", "shaping=implicit_prm", "engine.constrained=scored"], ["'scored'", "shaping.implicit_prm"]),
        (["algo=grpo", "engine.constrained=scored", "engine.top_p=0.9"], ["engine.top_p is 0.9", "allowed with it: 1"]),
        (["algo=oprl", "~shaping.implicit_prm"], ["algo.name=oprl", "shaping=implicit_prm"]),
        (["loss.correction.floor=3"], ["loss.correction.floor is 3", "loss.correction.cap=2"]),
        (["env.thinking=true"], ["engine.constrained is 'admissible'", "none"]),
        (["engine.ignore_end=true"], ["engine.ignore_end=true", "engine.constrained=admissible", "none"]),
        (["model.lora.enabled=true", "loss.kl.kind=k3"], ["loss.kl.kind is 'k3'", "warmstart.enabled=false"]),
    ],
)
def test_what_cannot_go_together_is_refused(overrides: list[str], parts: list[str]) -> None:
    message = refusal(*overrides)
    for part in parts:
        assert part in message


def test_an_evaluation_of_a_run_takes_no_other_model() -> None:
    with pytest.raises(ConfigError, match=r"model\.dtype cannot be given together with run="):
        loading.load_evaluate(["run=runs/x", "model.dtype=bfloat16"])


def test_a_mistake_ends_the_command_with_code_2_and_without_a_traceback() -> None:
    done = train("optim.lrr=1e-4")
    assert done.returncode == 2
    assert done.stderr.startswith("error: unknown key 'optim.lrr'")
    assert "Traceback" not in done.stderr


def test_an_option_that_does_not_exist_ends_the_command_with_code_2() -> None:
    done = train("--lr", "3")
    assert done.returncode == 2
    assert "optim.lr" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_configuration_is_checked_without_torch() -> None:
    code = (
        "import sys; from agents.config import loading; loading.load(['algo=grpo', 'env.max_steps=7']);"
        "assert not {'torch', 'transformers', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_the_environments_own_keys_stand_beside_the_common_ones() -> None:
    loaded = loading.load(["env.max_steps=7", "env.context=window"])
    assert loaded.env.settings.max_steps == 7
    assert loaded.env.context == "window"


def test_a_saved_configuration_reads_back_equal(tmp_path: Path) -> None:
    loaded = loading.load(["env.max_steps=7", "tracker=[wandb,tensorboard]", "shaping=invalid_action", "optim.betas=[0.8,0.9]"])
    (tmp_path / "config.yaml").write_text(loading.to_yaml(loaded))
    again = loading.finish(TrainConfig, yaml.safe_load((tmp_path / "config.yaml").read_text()))
    assert again == loaded


def test_resume_takes_the_runs_own_configuration_and_single_values(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(loading.to_yaml(loading.load(["algo=grpo", "seed=5"])))
    resumed = loading.load([f"resume={tmp_path}", "iterations=300"])
    assert (resumed.algo["name"], resumed.seed, resumed.iterations, resumed.resume) == ("grpo", 5, 300, str(tmp_path))
    assert "(iterations=300) may be changed" in refusal(f"resume={tmp_path}", "algo=gigpo")


@pytest.mark.parametrize("override", ["run=other", "out=elsewhere", "seed=3"])
def test_what_makes_a_run_the_one_it_is_cannot_be_given_with_resume(tmp_path: Path, override: str) -> None:
    (tmp_path / "config.yaml").write_text(loading.to_yaml(loading.load(["run=it", "seed=5"])))
    message = refusal(f"resume={tmp_path}", override)
    for part in (f"'{override}' together with resume={tmp_path}", "Leave it away", "start a new run"):
        assert part in message


@pytest.mark.parametrize("override", ["shaping.progress.hidden=[16]", "shaping.progress.trains=all"])
def test_nor_can_what_shapes_the_progress_estimator(tmp_path: Path, override: str) -> None:
    (tmp_path / "config.yaml").write_text(loading.to_yaml(loading.load(["algo=spa"])))
    assert "the weights that were saved have another shape" in refusal(f"resume={tmp_path}", override)


@pytest.mark.parametrize("override", ["shaping.implicit_prm.rank=4", "shaping.implicit_prm.kind=copy", "critic.hidden=[16]"])
def test_what_gives_saved_weights_their_shape_cannot_be_given_with_resume(tmp_path: Path, override: str) -> None:
    (tmp_path / "config.yaml").write_text(loading.to_yaml(loading.load(["algo=oprl"])))
    assert "the weights that were saved have another shape" in refusal(f"resume={tmp_path}", override)
    assert loading.load([f"resume={tmp_path}", "shaping.implicit_prm.lr=0.01"]).shaping["implicit_prm"]["lr"] == 0.01


def test_printed_configuration_is_complete_yaml() -> None:
    done = train("--cfg", "job", "env.max_steps=9")
    assert done.returncode == 0
    printed = yaml.safe_load(done.stdout)
    assert loading.finish(TrainConfig, printed) == loading.load(["env.max_steps=9"])


def test_a_plugin_brings_its_environment_and_its_yaml_file(tmp_path: Path) -> None:
    package = tmp_path / "gridworlds"
    (package / "conf/env").mkdir(parents=True)
    (package / "conf/env/grid.yaml").write_text("name: grid\nside: 7\n")
    (package / "__init__.py").write_text(
        "from dataclasses import dataclass\n"
        "from envs import registry\n"
        "@dataclass\n"
        "class GridConfig:\n    side: int = 3\n    max_steps: int = 10\n"
        "registry.register('grid', 'gridworlds/Grid-v0', 'gridworlds:Grid', GridConfig)\n"
        "registry.register('maze', 'gridworlds/Maze-v0', 'gridworlds:Maze', GridConfig)\n"
    )
    distribution = tmp_path / "gridworlds-1.0.dist-info"
    distribution.mkdir()
    (distribution / "METADATA").write_text("Metadata-Version: 2.1\nName: gridworlds\nVersion: 1.0\n")
    (distribution / "entry_points.txt").write_text("[stepcredit.envs]\ngridworlds = gridworlds\n")

    with_file = train("--cfg", "job", "env=grid", "env.max_steps=4", path=str(tmp_path))
    assert with_file.returncode == 0, with_file.stderr
    assert yaml.safe_load(with_file.stdout)["env"]["side"] == 7
    without_file = train("--cfg", "job", "env=maze", path=str(tmp_path))
    assert without_file.returncode == 0, without_file.stderr
    assert yaml.safe_load(without_file.stdout)["env"]["side"] == 3
    wrong = train("env=grid", "env.size=4", path=str(tmp_path))
    assert wrong.returncode == 2
    assert "unknown key 'env.size'. Did you mean 'env.side'?" in wrong.stderr


def test_multirun_is_every_combination_in_order() -> None:
    assert sweep.combinations(["algo=gigpo,grpo", "iterations=3", "seed=0,1"]) == [
        ["algo=gigpo", "iterations=3", "seed=0"],
        ["algo=gigpo", "iterations=3", "seed=1"],
        ["algo=grpo", "iterations=3", "seed=0"],
        ["algo=grpo", "iterations=3", "seed=1"],
    ]


def test_multirun_starts_nothing_if_one_combination_is_wrong(tmp_path: Path) -> None:
    done = train("--multirun", "seed=0,1", "algo=gigpo,gippo", f"out={tmp_path}/runs")
    assert done.returncode == 2
    assert "algo is 'gippo'" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_an_engine_that_does_not_exist_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"engine\.name is 'hff'; allowed: hf, scripted, vllm. Did you mean 'hf'"):
        loading.load(["env=alfworld", "engine.name=hff"])


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["engine.temperature=0.001"], "engine.temperature is 0.001, which vLLM would raise to 0.01"),
        (["evaluation.temperature=[0.002,1]"], "evaluation.temperature is 0.002, which vLLM would raise to 0.01"),
        (["engine.vllm.where=here", "engine.vllm.gpu=1"], "engine.vllm.gpu is 1 with engine.vllm.where=here"),
        (["engine.vllm.where=there"], "engine.vllm.where is 'there'"),
        (["engine.vllm.gpu_memory=1.5"], "engine.vllm.gpu_memory is 1.5"),
    ],
)
def test_what_vllm_cannot_do_is_refused(overrides: list[str], words: str) -> None:
    assert words in refusal("env=alfworld", "engine=vllm", *overrides)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("loss.kl_stop=0.1", "loss.target_kl"),
        ("rollout.resample=2", "rollout.dynamic_sampling.rounds"),
        ("evaluation.panel=test", "evaluation.split"),
        ("optim.minibatch=8", "optim.minibatch_episodes"),
        ("algo.norm=mean", "algo.normalize"),
        ("loss.surrogate=joint", "loss.surrogate=sequence_ppo"),
        ("algo.shaped_at.invalid_action=after", "algo.shaped_at.invalid_action=advantage"),
    ],
)
def test_a_name_of_an_earlier_version_is_refused_with_the_present_one(old: str, new: str) -> None:
    assert f"is called {new} now" in refusal("env=alfworld", "algo=gigpo", "shaping=invalid_action", old)


def test_a_run_of_an_earlier_version_is_resumed_under_the_present_names(tmp_path: Path) -> None:
    config = loading.load(["env=alfworld", "algo=gigpo", "loss.target_kl=0.3", f"out={tmp_path}", "run=it"])
    values = loading.to_dict(config)
    values["loss"]["kl_stop"] = values["loss"].pop("target_kl")
    values["rollout"]["resample"] = values["rollout"].pop("dynamic_sampling")["rounds"]
    values["evaluation"]["panel"] = values["evaluation"].pop("split")
    values["warmstart"]["dawdling"] = values["warmstart"].pop("suboptimal_share")
    values["algo"]["shaped"] = {"invalid_action": "after"}
    del values["algo"]["shaped_at"]
    values["algo"]["norm"] = values["algo"].pop("normalize")
    (tmp_path / "it").mkdir()
    (tmp_path / "it" / "config.yaml").write_text(yaml.safe_dump(values))
    resumed = loading.load([f"resume={tmp_path / 'it'}"])
    assert isinstance(resumed, TrainConfig)
    assert replace(resumed, resume=None) == config


def test_a_plug_in_methods_own_setting_of_an_old_name_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass
    class Own(base.Algorithm):
        norm: float = 1.0

    monkeypatch.setattr(base._registry, "_known", dict(base._registry._known))
    base.register("own", Own)
    run = loading.load(["env=alfworld", "algo.name=own", "algo.norm=2"])
    assert isinstance(run, TrainConfig)
    assert run.algo["norm"] == 2


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("ntpo", {"name": "poad", "inner": None, "next_value": "token"}),
        ("archer", {"name": "poad", "inner": None, "next_value": "action"}),
    ],
)
def test_a_method_that_is_a_setting_of_another_one_now_is_resumed_as_that(tmp_path: Path, old: str, new: dict) -> None:
    config = loading.load(["env=alfworld", f"algo={old}", f"out={tmp_path}", "run=it"])
    assert new.items() <= config.algo.items()
    values = loading.to_dict(config)
    values["algo"] = {"name": old, "gamma": 0.95, "lam": 0.95, "whiten": False, "shaped": {"invalid_action": "after"}}
    (tmp_path / "it").mkdir()
    (tmp_path / "it" / "config.yaml").write_text(yaml.safe_dump(values))
    resumed = loading.load([f"resume={tmp_path / 'it'}"])
    assert resumed.algo == config.algo | {"shaped_at": {"invalid_action": "advantage"}}
    assert loading.load_evaluate([f"run={tmp_path / 'it'}"]).env == config.env
    assert f"write algo={old} instead" in refusal("env=alfworld", "algo=poad", f"algo.name={old}")

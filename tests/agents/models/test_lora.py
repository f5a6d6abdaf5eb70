"""LoRA: which layers get an adapter, and that an adapter's folder is a model that can be trained on, evaluated and merged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from agents import evaluate, export
from agents.config.sections import LoraConfig, ModelConfig
from agents.models import lora
from agents.models.policy import Policy, PolicyError
from agents.models.sources import load_policy
from agents.train import main
from envs.alfworld.prompt import ALFWorldPrompt
from tests.agents.models.families import folder, training, updates

IDS = torch.arange(40, 70)[None]


def load(path: Path, **settings: Any) -> Policy:
    return load_policy(ModelConfig(str(path), dtype="float32", max_length=256, **settings), ALFWorldPrompt(), (), "cpu", 0)


def adapted(path: Path, **settings: Any) -> Policy:
    return load(path, lora=LoraConfig(enabled=True, r=4, **settings))


def logits(policy: Policy) -> torch.Tensor:
    with torch.no_grad():
        return policy.forward(IDS, None, None, torch.arange(IDS.shape[1]))


def layers_with_adapters(policy: Policy) -> set[str]:
    return {name.split(".lora_")[0].rpartition(".")[2] for name, _ in policy.trainable()}


def moved(policy: Policy, by: float = 0.05) -> Policy:
    """As after some training."""
    with torch.no_grad():
        for _, p in policy.trainable():
            p.add_(by * torch.sin(torch.arange(p.numel())).reshape(p.shape))
    return policy


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return folder(tmp_path / "base", "qwen2")


@pytest.fixture
def trained(base: Path, tmp_path: Path) -> tuple[Path, torch.Tensor]:
    """An adapter as a run leaves it, and what the policy said then."""
    policy = moved(adapted(base))
    policy.save(tmp_path / "adapter")
    return tmp_path / "adapter", logits(policy)


@pytest.mark.parametrize(
    ("kind", "wanted", "found"),
    [
        ("qwen2", "attention", {"q_proj", "k_proj", "v_proj", "o_proj"}),
        ("phi3", "attention", {"qkv_proj", "o_proj"}),
        ("gpt2", "attention", {"c_attn", "c_proj"}),
        ("gpt_neox", "attention", {"query_key_value", "dense"}),
        ("phi3", "all-linear", {"qkv_proj", "o_proj", "gate_up_proj", "down_proj"}),
        ("gpt2", "all-linear", {"c_attn", "c_proj", "c_fc"}),
        ("qwen2", ["q_proj", "mlp.down_proj"], {"q_proj", "down_proj"}),
    ],
)
def test_adapters_are_on_the_layers_that_targets_mean(kind: str, wanted: Any, found: set[str], tmp_path: Path) -> None:
    policy = adapted(folder(tmp_path, kind), targets=wanted)
    assert layers_with_adapters(policy) == found
    before = logits(policy)
    assert not torch.allclose(before, logits(moved(policy)))


def test_attention_leaves_the_feed_forward_alone_where_names_are_the_same(tmp_path: Path) -> None:
    names = [name for name, _ in adapted(folder(tmp_path, "gpt2")).trainable()]
    assert any(".attn.c_proj." in name for name in names)
    assert not any(".mlp." in name for name in names)


@pytest.mark.parametrize(
    ("kind", "wanted", "message"),
    [
        ("qwen2", ["q_proj", "v_pro"], r"is named 'v_pro'\. Did you mean 'v_proj'\? There are: .*down_proj, .*q_proj"),
        ("phi3", ["q_proj", "k_proj"], r"is named 'q_proj'.*qkv_proj.*all-linear names them all"),
        ("gpt2", ["q_proj"], r"is named 'q_proj'.*c_attn"),
    ],
)
def test_a_target_that_names_nothing_is_refused_with_the_layers_that_exist(
    kind: str, wanted: list[str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(PolicyError, match=message):
        adapted(folder(tmp_path, kind), targets=wanted)


def test_an_adapters_folder_is_trained_on_from_where_it_was(trained: tuple[Path, torch.Tensor]) -> None:
    path, said = trained
    policy = load(path, lora=LoraConfig(enabled=True, r=99))
    torch.testing.assert_close(logits(policy), said)
    assert policy.model.peft_config["default"].r == 4  # its own, not the setting's
    assert {"lora_A", "lora_B"} == {name.split(".")[-3] for name, _ in policy.trainable()}
    assert all(".default." in name for name, _ in policy.trainable())


def test_the_reference_of_a_continued_adapter_is_what_it_was_at_first(trained: tuple[Path, torch.Tensor]) -> None:
    path, said = trained
    policy = load(path, lora=LoraConfig(enabled=True))
    before = [name for name, _ in policy.trainable()]
    moved(policy, by=0.2)
    after = logits(policy)
    assert not torch.allclose(after, said, atol=1e-2)
    with policy.reference():
        torch.testing.assert_close(logits(policy), said)
    torch.testing.assert_close(logits(policy), after)
    assert [name for name, _ in policy.trainable()] == before


def test_a_continued_adapter_is_saved_over_the_same_base(
    trained: tuple[Path, torch.Tensor], base: Path, tmp_path: Path
) -> None:
    policy = moved(load(trained[0], lora=LoraConfig(enabled=True)))
    policy.save(tmp_path / "more")
    settings = json.loads((tmp_path / "more" / "adapter_config.json").read_text())
    assert Path(settings["base_model_name_or_path"]) == base.resolve()
    assert not (tmp_path / "more" / "reference").exists()
    torch.testing.assert_close(logits(load(tmp_path / "more")), logits(policy), atol=1e-4, rtol=1e-4)


def test_without_lora_an_adapter_is_merged_and_every_weight_is_trained(trained: tuple[Path, torch.Tensor]) -> None:
    path, said = trained
    policy = load(path)
    torch.testing.assert_close(logits(policy), said, atol=1e-4, rtol=1e-4)
    assert policy.model is policy.causal
    assert len(policy.trainable()) == len(list(policy.causal.parameters()))


def test_an_exported_adapter_is_a_model_of_its_own(
    trained: tuple[Path, torch.Tensor], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, said = trained
    assert export.main([f"model={path}", f"out={tmp_path}/whole"]) == 0
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "whole")
    torch.testing.assert_close(model(input_ids=IDS).logits[0].detach(), said, atol=1e-4, rtol=1e-4)
    assert export.main([f"model={path}", f"out={tmp_path}/whole"]) == 2
    assert "there already" in capsys.readouterr().err


def test_an_adapter_of_the_tiny_model_is_saved_whole(tmp_path: Path) -> None:
    config = ModelConfig("tiny", prompt="plain", lora=LoraConfig(enabled=True, r=4))
    policy = moved(load_policy(config, ALFWorldPrompt(), ["go to cabinet 1"], "cpu", 0))
    said = logits(policy)
    policy.save(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    torch.testing.assert_close(model(input_ids=IDS).logits[0].detach(), said, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(logits(policy), said)  # which merging did not touch


@pytest.mark.parametrize("place", ["../base", "base-inside", "{absolute}"])
def test_a_base_is_found_beside_inside_or_anywhere(
    place: str, trained: tuple[Path, torch.Tensor], base: Path, tmp_path: Path
) -> None:
    path, said = trained
    if place == "base-inside":
        base.rename(path / place)
    file = path / lora.FILE
    settings = json.loads(file.read_text()) | {"base_model_name_or_path": place.format(absolute=base)}
    file.write_text(json.dumps(settings))
    torch.testing.assert_close(logits(load(path)), said, atol=1e-4, rtol=1e-4)


def test_an_adapter_whose_base_is_gone_says_where_it_was(trained: tuple[Path, torch.Tensor], base: Path) -> None:
    base.rename(base.with_name("elsewhere"))
    with pytest.raises(
        PolicyError, match=r"was in .*base, where no folder is: set base_model_name_or_path in .*adapter_config"
    ):
        load(trained[0])


def test_an_adapter_over_smollm2s_cache_finds_it_again(tmp_path: Path) -> None:
    file = tmp_path / lora.FILE
    file.write_text(json.dumps({"base_model_name_or_path": "/nowhere/stepcredit/smollm2-b179c9523d0e6a0f"}))
    assert lora.base_of(file) == "smollm2"


@pytest.mark.parametrize("what", ["lacks", "holds", "shape"])
def test_an_adapter_that_does_not_fit_its_base_is_refused(what: str, trained: tuple[Path, torch.Tensor]) -> None:
    file = trained[0] / "adapter_model.safetensors"
    weights = load_file(file)
    first = sorted(weights)[0]
    if what == "lacks":
        del weights[first]
    elif what == "holds":
        weights[first.replace("layers.0", "layers.7")] = weights[first].clone()
    else:
        weights[first] = weights[first][:, :-1].contiguous()
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(PolicyError, match=r"does not fit its base .*"):
        load(trained[0])


def test_what_a_run_leaves_is_trained_on_resumed_and_evaluated_by_the_commands(base: Path, tmp_path: Path) -> None:
    def train(*more: str) -> int:
        return main([*training(base, tmp_path), "model.lora.enabled=true", "loss.kl.kind=k3", "loss.kl.coefficient=0.1", *more])

    assert train("run=first") == 0
    first = tmp_path / "first" / "model"
    assert train("run=second", f"model.name={first}") == 0
    assert main([f"resume={tmp_path}/second", "iterations=2"]) == 0
    metrics = updates(tmp_path / "second")
    assert [row["iteration"] for row in metrics] == [1, 2]
    assert metrics[0]["update/kl_to_reference"] == pytest.approx(0, abs=1e-6)  # its reference is where it began
    assert metrics[1]["update/kl_to_reference"] > 0
    policy = load(tmp_path / "second" / "model")
    assert not torch.allclose(logits(policy), logits(load(first)), atol=1e-5)
    given = ["env=hallway", "model=hub", f"model.name={tmp_path}/second/model", "model.max_length=1024", "engine.max_tokens=6"]
    out = tmp_path / "evaluation.json"
    assert evaluate.main([*given, "env.max_steps=2", "evaluation.episodes=1", "threads=1", f"out={out}"]) == 0
    assert json.loads(out.read_text())["model"] == f"{tmp_path}/second/model"


def test_an_adapter_trained_with_dropout_is_trained_on(tmp_path: Path) -> None:
    base = folder(tmp_path / "base", "qwen2")
    settings = peft.LoraConfig(r=4, target_modules=["q_proj"], lora_dropout=0.1, init_lora_weights=False, task_type="CAUSAL_LM")
    peft.get_peft_model(AutoModelForCausalLM.from_pretrained(base), settings).save_pretrained(tmp_path / "adapter")
    policy = load(tmp_path / "adapter", lora=LoraConfig(enabled=True))
    assert {name.rpartition(".lora_")[2][0] for name, _ in policy.trainable()} == {"A", "B"}


@pytest.mark.parametrize("name", ["/nowhere/smollm2-mine", "somebody/smollm2-135m-tuned"])
def test_a_base_that_is_called_like_smollm2_is_not_replaced_by_it(tmp_path: Path, name: str) -> None:
    (tmp_path / lora.FILE).write_text(json.dumps({"base_model_name_or_path": name}))
    if name.startswith("/"):
        with pytest.raises(PolicyError, match=name):
            lora.base_of(tmp_path / lora.FILE)
    else:
        assert lora.base_of(tmp_path / lora.FILE) == name

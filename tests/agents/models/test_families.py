"""Real families of models: what was sampled turn by turn is what one pass of the learner computes, whatever the layers are."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from agents import judge as judging
from agents.config.sections import ModelConfig
from agents.models.policy import Policy, PolicyError
from agents.models.probe import probe
from agents.models.sources import load_policy, shape_of
from agents.rollout.engines.base import Completion, Request, Sampling
from agents.rollout.engines.hf import HFEngine
from agents.train import main
from envs.alfworld.prompt import ALFWorldPrompt
from tests.agents.models.families import FAMILIES, OTHERS, SIZE, WINDOW, folder, tokenizer, training, updates

OWN = {"qwen3_5_text", "gemma2", "gemma3_text", "phi3", "mistral", "gpt_oss"}
"""Families whose layers no slot holds: they are sampled through their own cache."""


def load(path: Path, max_length: int = 1024) -> Policy:
    return load_policy(ModelConfig(str(path), dtype="float32", max_length=max_length), ALFWorldPrompt(), (), "cpu", 0)


def difference(policy: Policy, sessions: int = 2, turns: int = 4) -> float:
    """Largest difference of log-probabilities between conversations as they were sampled and one pass in training."""
    engine = HFEngine(policy, max_batch=sessions)

    async def talk(number: int) -> tuple[list[int], list[tuple[int, Completion]]]:
        generator, ids, said = torch.Generator().manual_seed(number), [], []
        for turn in range(turns):
            ids += torch.randint(3, 250, (20 + number,), generator=generator).tolist()
            done = await engine.generate(Request(str(number), list(ids), Sampling(max_tokens=6 + number), seed=turn))
            said.append((len(ids), done))
            ids += done.ids
        engine.release(str(number))
        return ids, said

    async def both() -> list[tuple[list[int], list[tuple[int, Completion]]]]:
        return await asyncio.gather(*map(talk, range(sessions)))

    worst = 0.0
    for ids, said in asyncio.run(both()):
        with policy.training(), torch.no_grad():
            logp = torch.log_softmax(policy.forward(torch.tensor([ids]), None, None, torch.arange(len(ids))), -1)
        for start, done in said:
            own = logp[torch.arange(start - 1, start - 1 + len(done.ids)), torch.tensor(done.ids)]
            worst = max(worst, float((own - torch.tensor(done.logprobs)).abs().max()))
    return worst


@pytest.mark.parametrize("kind", FAMILIES)
def test_an_iteration_trains_on_what_was_sampled(kind: str, tmp_path: Path) -> None:
    model = folder(tmp_path / "model", kind)
    assert main([*training(model, tmp_path), "run=it"]) == 0
    (metrics,) = updates(tmp_path / "it")
    assert metrics["train/steps"] == 3
    assert metrics["tokens/update"] > 2 * WINDOW  # of two conversations: windows were left behind
    assert metrics["update/mismatch_max"] < 1e-4
    assert metrics["update/grad_norm"] > 0
    saved = load(tmp_path / "it" / "model")
    assert saved.kept == ("chunks" if kind in OWN else "slots")
    assert difference(saved) < 1e-3


@pytest.mark.parametrize(
    "method",
    [
        ["algo=ppo", "critic.hidden=[8]"],
        ["algo=ppo", "critic.hidden=[8]", "critic.trains=all", "model.lora.enabled=true"],
        ["algo=oprl", "shaping.implicit_prm.rank=2"],
        ["algo=otb", "loss.kl.kind=k3", "loss.kl.coefficient=0.1", "model.gradient_checkpointing=true"],
    ],
    ids=lambda method: " ".join(method),
)
def test_all_that_reads_rows_reads_them_as_such_a_model_does(method: list[str], tmp_path: Path) -> None:
    """Prompts that begin alike would share a row, and its mask, if the model took masks."""
    model = folder(tmp_path / "model", "gemma3_text")
    assert main([*training(model, tmp_path), *method, "env.context=window", "engine.constrained=admissible", "run=it"]) == 0
    (metrics,) = updates(tmp_path / "it")
    assert metrics["update/mismatch_max"] < 1e-4
    assert metrics["update/grad_norm"] > 0
    assert metrics["update/rows"] == 6  # one a step


@pytest.mark.parametrize("kind", OTHERS)
def test_every_kind_of_layer_is_sampled_as_it_is_trained(kind: str, tmp_path: Path) -> None:
    assert difference(load(folder(tmp_path, kind))) < 1e-2


def test_a_window_as_long_as_the_context_needs_no_cache_of_its_own(tmp_path: Path) -> None:
    assert load(folder(tmp_path, "mistral"), max_length=WINDOW).kept == "slots"


def test_a_way_of_reading_that_gives_other_numbers_is_found_and_left(tmp_path: Path) -> None:
    policy = load(folder(tmp_path, "mistral", sliding_window=4))
    policy.kept = "slots"  # wrong: slots show every token
    probe(policy, "it")
    assert policy.kept == "chunks"


def test_what_sees_takes_no_part_in_a_model_that_also_reads(tmp_path: Path) -> None:
    text = {**SIZE, **FAMILIES["gemma3_text"], "vocab_size": 300, "pad_token_id": 0, "model_type": "gemma3_text"}
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28}
    vision |= {"patch_size": 14, "model_type": "siglip_vision_model"}
    shape = CONFIG_MAPPING["gemma3"](text_config=text, vision_config=vision, mm_tokens_per_image=4)
    AutoModelForCausalLM.from_config(shape).save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    policy = load(tmp_path)
    assert difference(policy) < 1e-3
    assert policy.vocabulary == 300
    assert not any("vision" in name or "projector" in name for name, _ in policy.trainable())
    assert {"embed_tokens", "q_proj"} <= {name.split(".")[-2] for name, _ in policy.trainable()}


@pytest.mark.parametrize(
    ("kind", "attention", "taken"),
    [("qwen2", "auto", "sdpa"), ("gemma2", "auto", "eager"), ("gpt_oss", "auto", "eager"), ("qwen2", "eager", "eager")],
)
def test_attention_is_what_the_setting_and_the_model_allow(kind: str, attention: Any, taken: str, tmp_path: Path) -> None:
    policy = load_policy(
        ModelConfig(str(folder(tmp_path, kind)), dtype="float32", max_length=1024, attention=attention),
        ALFWorldPrompt(),
        (),
        "cpu",
        0,
    )
    assert policy.attention == policy.causal.config._attn_implementation == taken
    assert difference(policy) < 1e-3


@pytest.mark.parametrize(
    ("kind", "attention", "message"),
    [
        ("gemma2", "sdpa", r"attention is 'sdpa', .*caps scores, which sdpa leaves out: set model\.attention=eager"),
        ("gpt_oss", "sdpa", r"attention is 'sdpa', .*it has no sdpa"),
        ("qwen2", "flash_attention_2", r"needs a CUDA GPU and the package flash-attn"),
        ("bloom", "flash_attention_2", r"it has no flash attention"),
    ],
)
def test_attention_that_a_model_cannot_use_is_refused_by_name(kind: str, attention: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=message):
        shape_of(ModelConfig(str(folder(tmp_path, kind)), dtype="float32", max_length=1024, attention=attention))


def test_candidates_are_not_scored_side_by_side_where_masks_are_not_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [*training(folder(tmp_path / "model", "mistral"), tmp_path), "algo=twosome", "engine.constrained=scored"]
    for more in (["run=it"], ["--dry-run"]):
        assert main([*command, *more]) == 2
        assert not (tmp_path / "it").exists()
        assert re.search(
            r"constrained is 'scored', but .*last 48 tokens only.*allowed with it: none, admissible", capsys.readouterr().err
        )


def test_a_dry_run_refuses_what_a_run_would_refuse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = folder(tmp_path / "model", "phi3")
    assert main([*training(model, tmp_path), "--dry-run"]) == 0
    assert main([*training(model, tmp_path), "model.lora.enabled=true", "model.lora.targets=[q_proj]", "--dry-run"]) == 2
    assert "is named 'q_proj'" in capsys.readouterr().err
    (model / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")
    assert main([*training(model, tmp_path), "--dry-run"]) == 2
    assert "pointer of git-lfs" in capsys.readouterr().err


def test_a_model_that_reads_in_both_directions_is_refused(tmp_path: Path) -> None:
    bert = folder(tmp_path, "bert", max_position_embeddings=512)
    with pytest.raises(PolicyError, match=r"not causal: tokens that come later change its logits by .* of their spread"):
        load(bert, max_length=128)


@pytest.mark.fault("sampling and training differ", lost="the iteration: the run stops before it is saved")
def test_a_run_whose_sampling_is_not_its_training_stops_with_the_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As if nobody had found out that layers of the model see less than slots show them."""
    monkeypatch.setattr("agents.models.sources.probe", lambda policy, name: setattr(policy, "kept", "slots"))
    monkeypatch.setattr(Policy, "sharing", None)  # tokens that share a pass are seen as slots show them
    model = folder(tmp_path / "model", "mistral", sliding_window=4)
    assert main([*training(model, tmp_path), "run=it"]) == 1
    said = capsys.readouterr().err
    assert re.search(r"sampling and training differ by 0\.\d+ on average .* loss\.mismatch_stop allows 0\.001", said)
    assert re.search(r"resume=\S+ loss\.correction\.kind=token", said)  # as it is, it would fail alike
    assert json.loads((tmp_path / "it" / "status.json").read_text())["status"] == "failed"
    assert main([*training(model, tmp_path), "run=on", "loss.mismatch_stop=null"]) == 0


FACTORS = {"short_factor": [1.0] * 4, "long_factor": [4.0] * 4, "original_max_position_embeddings": 1024}
LONG = {"rope_parameters": {"rope_type": "longrope", "rope_theta": 1e4, **FACTORS}, "original_max_position_embeddings": 1024}


@pytest.mark.parametrize(("kind", "settings"), [("mistral", {}), ("phi3", {"sliding_window": None, **LONG})])
def test_a_judge_is_read_as_far_as_its_layers_and_positions_bear(kind: str, settings: dict[str, Any], tmp_path: Path) -> None:
    model = folder(tmp_path / "model", kind, max_position_embeddings=16384, **settings)
    assert judge(tmp_path, model) == 0
    (results,) = tmp_path.glob("judge/*/results.json")
    (form,) = json.loads(results.read_text())["forms"]
    assert form["cost"]["calls"] > 0


def test_a_judge_that_cannot_be_loaded_is_refused_by_the_judges_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = folder(tmp_path / "model", "qwen2")
    (model / "tokenizer.json").unlink()
    assert judge(tmp_path, model) == 1
    assert re.search(r"judge\.model=\S+model.* tokenizer", capsys.readouterr().err)


def judge(out: Path, model: Path) -> int:
    return judging.main(
        [
            *("env=alfworld", "judge=smollm2", f"judge.model={model}", "judge.max_tokens=2", "episodes=2", "env.max_steps=6"),
            *("forms.subgoals=[preset]", "forms.actions=[true]", "threads=1", f"out={out}/judge"),
        ]
    )

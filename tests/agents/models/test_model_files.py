"""A model's files: whatever is wrong with them is said by the name of the file or key, and nothing is replaced in silence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken
from transformers import PreTrainedTokenizerFast

from agents.config.sections import ModelConfig
from agents.models.policy import Policy, PolicyError
from agents.models.sources import load_policy, shape_of
from envs.alfworld.prompt import ALFWorldPrompt
from tests.agents.models.families import folder, tokenizer

Tensors = dict[str, torch.Tensor]


def load(path: Path, **settings: Any) -> Policy:
    return load_policy(ModelConfig(str(path), dtype="float32", max_length=256, **settings), ALFWorldPrompt(), (), "cpu", 0)


def rewrite(path: Path, change: Callable[[Tensors], Tensors]) -> None:
    file = path / "model.safetensors"
    changed = {name: tensor.clone().contiguous() for name, tensor in change(load_file(file)).items()}
    save_file(changed, file, metadata={"format": "pt"})


def settings(path: Path, name: str = "config.json", **changed: Any) -> None:
    values = json.loads((path / name).read_text()) | changed
    (path / name).write_text(json.dumps(values))


def without(part: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {name: tensor for name, tensor in tensors.items() if part not in name}


def prefixed(prefix: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {prefix + name: tensor for name, tensor in tensors.items()}


def put(name: str, tensor: torch.Tensor) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {**tensors, name: tensor}


def spoilt(name: str, value: float) -> Callable[[Tensors], Tensors]:
    def change(tensors: Tensors) -> Tensors:
        tensors[name].view(-1)[3] = value
        return tensors

    return change


K = "model.layers.1.self_attn.k_proj.weight"


@pytest.mark.fault("weights that are not the model's", lost="nothing: no run begins")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            prefixed("module."),
            r"files lack lm_head\.weight and \d+ more, .*begin with 'module\.', which a data-parallel",
        ),
        (prefixed("_orig_mod."), r"begin with '_orig_mod\.', which torch\.compile leaves"),
        (prefixed("base_model.model."), r"begin with 'base_model\.model\.', which peft leaves"),
        (prefixed("something.else."), r"files lack .* they hold something\.else\..*of another architecture"),
        (without("layers.1."), r"files lack model\.layers\.1\.input_layernorm\.weight and \d+ more, which would be random"),
        (without("embed_tokens"), r"files lack .*embed_tokens\.weight"),
        (put("model.layers.2.mlp.up_proj.weight", torch.zeros(48, 32)), r"hold model\.layers\.2\.mlp.*fewer layers"),
        (put("score.weight", torch.zeros(1, 32)), r"hold score\.weight, which this model has no place for"),
        (put(K, torch.zeros(16, 31)), r"k_proj\.weight is 16 x 31 in the file and 16 x 32 by config\.json"),
        (spoilt(K, float("nan")), r"k_proj\.weight holds values that are not finite"),
        (spoilt("model.norm.weight", float("inf")), r"model\.norm\.weight holds values that are not finite"),
    ],
)
def test_weights_that_are_not_the_models_are_refused_by_key(
    change: Callable[[Tensors], Tensors], message: str, tmp_path: Path
) -> None:
    rewrite(folder(tmp_path, "qwen2"), change)
    with pytest.raises(PolicyError, match=message):
        load(tmp_path)


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("llama", put("model.layers.0.self_attn.rotary_emb.inv_freq", torch.zeros(4))),
        ("gpt2", put("transformer.h.0.attn.bias", torch.ones(1, 1, 8, 8))),
        ("qwen3_5_text", put("mtp.layers.0.weight", torch.zeros(2, 2))),
    ],
)
def test_keys_that_the_architecture_itself_leaves_out_do_no_harm(
    kind: str, change: Callable[[Tensors], Tensors], tmp_path: Path
) -> None:
    rewrite(folder(tmp_path, kind), change)
    load(tmp_path)


def test_a_tied_head_need_not_be_in_the_file(tmp_path: Path) -> None:
    folder(tmp_path, "qwen2", tie_word_embeddings=True)
    rewrite(tmp_path, without("lm_head"))
    load(tmp_path)


def cut(path: Path, name: str = "model.safetensors") -> None:
    data = (path / name).read_bytes()
    (path / name).write_bytes(data[: len(data) // 2])


def pointer(path: Path, name: str = "model.safetensors") -> None:
    (path / name).write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 1234\n")


def remove(path: Path, *names: str) -> None:
    for name in names:
        (path / name).unlink()


def quantized(path: Path, method: str) -> None:
    settings(path, quantization_config={"quant_method": method, "bits": 4, "load_in_4bit": True})


def add_token(path: Path, token: str, special: bool) -> None:
    fast = tokenizer()
    fast.add_tokens([AddedToken(token, special=special)])
    fast.save_pretrained(path)


TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


@pytest.mark.fault("a damaged model", lost="nothing: no run begins")
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (cut, r"model\.safetensors is damaged or was cut off .*download it again"),
        (lambda path: (path / "model.safetensors").write_bytes(b""), r"model\.safetensors is empty"),
        (lambda path: (path / "model.safetensors").write_bytes(b"\x07" * 5000), r"model\.safetensors is damaged"),
        (pointer, r"model\.safetensors is a pointer of git-lfs.*git lfs pull"),
        (lambda path: pointer(path, "tokenizer.json"), r"tokenizer\.json is a pointer of git-lfs"),
        (lambda path: cut(path, "tokenizer.json"), r"tokenizer\.json cannot be read as JSON .*copy or download it again"),
        (lambda path: cut(path, "config.json"), r"config\.json cannot be read as JSON .*copy or download it again"),
        (lambda path: remove(path, "config.json"), r"has no config\.json.*there are: .*model\.safetensors"),
        (lambda path: remove(path, "model.safetensors"), r"cannot be loaded.*no file named.* model\.safetensors"),
        (lambda path: remove(path, *TOKENIZER), r"has no tokenizer"),
        (lambda path: settings(path, model_type="qwen9"), r"`?qwen9`? but Transformers does not recognize"),
        (lambda path: settings(path, model_type=None), r"cannot be loaded.*model type `None`"),
        (lambda path: settings(path, hidden_size="wide"), r"cannot be loaded.*hidden_size"),
        (lambda path: settings(path, num_attention_heads=5), r"model\.name=.* (cannot be loaded|in the file and)"),
        (lambda path: quantized(path, "gptq"), r"weights are quantized \(gptq\).*float32, bfloat16"),
        (lambda path: quantized(path, "bitsandbytes"), r"weights are quantized \(bitsandbytes\)"),
        (lambda path: quantized(path, "fp8"), r"weights are quantized \(fp8\)"),
        (
            lambda path: add_token(path, "household", special=False),
            r"the model 259 embeddings: 'household' \(259\)",
        ),
    ],
)
def test_a_folder_that_holds_no_usable_model_is_refused_in_words(
    spoil: Callable[[Path], Any], message: str, tmp_path: Path
) -> None:
    folder(tmp_path, "qwen2")
    spoil(tmp_path)
    with pytest.raises(PolicyError, match=message):
        load(tmp_path)


def test_a_token_without_an_embedding_is_left_alone_only_if_nothing_brings_it(tmp_path: Path) -> None:
    folder(tmp_path, "qwen2")
    add_token(tmp_path, "<|image|>", special=True)
    load(tmp_path)
    fast = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    fast.chat_template += "<|image|>"
    fast.save_pretrained(tmp_path)
    with pytest.raises(PolicyError, match=r"'<\|image\|>' \(259\) has none"):
        load(tmp_path)


def test_a_folder_with_a_gguf_file_only_and_a_gguf_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF" * 500)
    for name in (tmp_path, tmp_path / "model.gguf"):
        with pytest.raises(PolicyError, match=r"GGUF file.*safetensors"):
            load(name)


@pytest.mark.fault("a damaged model", lost="nothing: no run begins")
def test_a_shard_that_is_missing_is_named(tmp_path: Path) -> None:
    folder(tmp_path, "qwen2")
    tensors = load_file(tmp_path / "model.safetensors")
    names = sorted(tensors)
    remove(tmp_path, "model.safetensors")
    first = "model-00001-of-00002.safetensors"
    save_file({name: tensors[name] for name in names[::2]}, tmp_path / first, metadata={"format": "pt"})
    where = {name: first if i % 2 == 0 else first.replace("1-of", "2-of") for i, name in enumerate(names)}
    index = {"metadata": {"total_size": 1}, "weight_map": where}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(PolicyError, match=r"model-00002-of-00002\.safetensors"):
        load(tmp_path)


def test_code_of_a_model_is_run_only_if_it_is_said(tmp_path: Path) -> None:
    folder(tmp_path, "qwen2")
    (tmp_path / "own.py").write_text(
        "from transformers import Qwen2Config, Qwen2ForCausalLM\n"
        "class Own(Qwen2Config):\n    model_type = 'own'\n"
        "class OwnForCausalLM(Qwen2ForCausalLM):\n    config_class = Own\n"
    )
    settings(tmp_path, model_type="own", auto_map={"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.OwnForCausalLM"})
    with pytest.raises(PolicyError, match=r"own Python code.*model\.trust_remote_code=true if you trust"):
        load(tmp_path)
    policy = load(tmp_path, trust_remote_code=True)
    assert type(policy.causal).__name__ == "OwnForCausalLM"
    assert policy.kept == "slots"


@pytest.mark.parametrize(
    ("kind", "known", "message"),
    [
        ("t5", {}, r"'t5' is an encoder and a decoder"),
        ("vit", {}, r"no causal language model of type 'vit'"),
        ("mamba", {}, r"'mamba' keeps its state in no cache"),
        ("phi3", {"rope": "longrope"}, r"rotary positions \(longrope\).*beyond 64 tokens.*model\.max_length=64"),
        ("llama", {"rope": "dynamic"}, r"rotary positions \(dynamic\).*beyond 64 tokens"),
    ],
)
def test_what_cannot_work_is_refused_by_the_configuration_alone(
    kind: str, known: dict[str, str], message: str, tmp_path: Path
) -> None:
    from transformers import CONFIG_MAPPING

    rope: dict[str, Any] = {}
    if known.get("rope") == "longrope":
        factors = {"short_factor": [1.0] * 16, "long_factor": [4.0] * 16, "original_max_position_embeddings": 64}
        rope = {"rope_parameters": {"rope_type": "longrope", "rope_theta": 1e4, **factors}, "hidden_size": 64}
        rope |= {"num_attention_heads": 2, "original_max_position_embeddings": 64, "num_key_value_heads": 2}
    elif known.get("rope") == "dynamic":
        rope = {"rope_parameters": {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 1e4}, "max_position_embeddings": 64}
    CONFIG_MAPPING[kind](**rope).save_pretrained(tmp_path)
    with pytest.raises(PolicyError, match=message):  # there are no weights in the folder
        shape_of(ModelConfig(str(tmp_path), max_length=256))


@pytest.mark.fault("a damaged model", lost="nothing: no run begins")
@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "JSON"),
        ("[1]", "JSON"),
        ('{"eos_token_id": "x"}', "eos_token_id"),
        ('{"eos_token_id": [1, null]}', "eos_token_id"),
    ],
)
def test_broken_settings_for_generation_are_named(content: str, said: str, tmp_path: Path) -> None:
    path = folder(tmp_path, "qwen2")
    (path / "generation_config.json").write_text(content)
    with pytest.raises(PolicyError, match=rf"{said}.*generation_config|generation_config.*{said}"):
        load(path)
    (path / "generation_config.json").write_text('{"eos_token_id": [1, 2]}')
    assert load(path).end_ids == (1, 2)


def test_a_shard_that_is_missing_is_named_before_anything_is_loaded(tmp_path: Path) -> None:
    path = folder(tmp_path, "qwen2")
    (path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model-00001-of-00002.safetensors"}}')
    with pytest.raises(
        PolicyError, match=r"model-00001-of-00002\.safetensors is missing, one of 1 that model\.safetensors\.index"
    ):
        shape_of(ModelConfig(str(path), max_length=256))

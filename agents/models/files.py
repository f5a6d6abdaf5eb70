"""What can be wrong with a model's files and weights, said by the name of the file or key: nothing is replaced in silence."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import PreTrainedTokenizerBase

POINTER = b"version https://git-lfs.github.com/spec/v1"
PREFIXES = {
    "_orig_mod.": "torch.compile",
    "module.": "a data-parallel wrapper",
    "base_model.model.": "peft",
    "model._orig_mod.": "torch.compile",
    "policy.": "a trainer's wrapper",
}
"""Prefixes of keys that wrappers leave behind."""
READ = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "adapter_config.json",
    "model.safetensors.index.json",
    "pytorch_model.bin.index.json",
)
"""Files that hold an object in JSON; transformers goes on without some that are broken, and fails without naming others."""


def wrong_file(folder: Path) -> str | None:
    """The first file of a model's folder that holds no data or was cut off, and what to do about it."""
    for path in sorted(folder.iterdir()):
        if not path.is_file():
            continue
        if path.stat().st_size == 0 and path.suffix in (".json", ".safetensors", ".bin", ".model"):
            return f"{path.name} is empty: copy or download it again"
        if path.stat().st_size < 1024 and path.read_bytes().startswith(POINTER):
            return f"{path.name} is a pointer of git-lfs, not the file itself: run `git lfs pull` in {folder}"
        if path.name in READ and (wrong := _wrong_settings(path)):
            return wrong
        if path.suffix == ".safetensors":
            try:
                with safe_open(path, framework="pt"):
                    pass
            except SafetensorError as error:
                return f"{path.name} is damaged or was cut off ({error}): copy or download it again"
    if (folder / "config.json").is_file() or (folder / "adapter_config.json").is_file():
        return None
    if any(folder.glob("*.gguf")):
        return "it holds a GGUF file only: convert it, or take the model's safetensors"
    return f"it has no config.json; a model's folder holds that, the weights as safetensors and a tokenizer ({_there(folder)})"


def _wrong_settings(path: Path) -> str | None:
    """What is wrong with one of the files in READ."""
    try:
        found = json.loads(path.read_bytes())
        if not isinstance(found, dict):
            raise ValueError("no object")
    except (ValueError, RecursionError) as error:
        return f"{path.name} cannot be read as JSON ({error}): copy or download it again"
    if path.name == "generation_config.json":
        ends = found.get("eos_token_id")
        if not all(type(one) is int for one in (ends if isinstance(ends, list) else [] if ends is None else [ends])):
            return f"eos_token_id in {path.name} is {ends!r}; it must be the number of a token, or a list of numbers"
    shards = sorted(set(found["weight_map"].values())) if isinstance(found.get("weight_map"), dict) else []
    if missing := [name for name in shards if not (path.parent / name).is_file()]:
        return f"{missing[0]} is missing, one of {len(shards)} that {path.name} names: copy or download it again"
    return None


def wrong_keys(info: dict[str, Any]) -> str | None:
    """What transformers' report on loading says of weights that are not the file's, and what to do about it."""
    missing, unexpected = sorted(info["missing_keys"]), sorted(info["unexpected_keys"])
    if info["error_msgs"]:
        return str(info["error_msgs"][0]).splitlines()[0]
    if mismatched := sorted(info["mismatched_keys"]):
        _, in_file, wanted = mismatched[0]
        return (
            f"{_keys([key for key, *_ in mismatched])} is {_shape(in_file)} in the file and {_shape(wanted)} by config.json: "
            "the two are not of the same model"
        )
    if not missing and not unexpected:
        return None
    found = []
    if missing:
        found.append(f"the files lack {_keys(missing)}, which would be random")
    if unexpected:
        found.append(f"they hold {_keys(unexpected)}, which this model has no place for")
    prefix = next((one for one in PREFIXES if unexpected and all(key.startswith(one) for key in unexpected)), None)
    if prefix:
        advice = (
            f"The keys begin with '{prefix}', which {PREFIXES[prefix]} leaves: save the inner model by its save_pretrained, or "
            "take the prefix off the keys"
        )
    elif missing and unexpected:
        advice = "The files are of another architecture than config.json says"
    elif missing:
        advice = "Complete the files, or correct config.json"
    else:
        advice = "Correct config.json (fewer layers than the files have?), or remove the keys"
    return f"{'; '.join(found)}. {advice}"


def not_finite(model: Any) -> str | None:
    """The first weight that holds NaN or infinity."""
    for name, p in model.named_parameters():
        if p.is_floating_point() and p.numel() and not all(map(torch.isfinite, torch.aminmax(p.detach()))):
            return f"{name} holds values that are not finite: the training that wrote it went wrong; take an earlier checkpoint"
    return None


def unread_tokens(tokenizer: PreTrainedTokenizerBase, embeddings: int) -> str | None:
    """A token that has no embedding, though it can stand in a prompt; or that there are none.

    Special tokens that neither the template nor the text of an environment can bring are left alone (an image's in Gemma 3).
    """
    vocabulary = tokenizer.get_vocab()
    if len(vocabulary) <= len(tokenizer.added_tokens_decoder):  # one that transformers makes up where there are no files
        return "it has no tokenizer: its files (tokenizer.json, or those of its kind) are missing"
    beyond = {token: i for token, i in vocabulary.items() if i >= embeddings}
    if not beyond:
        return None
    special = {added.content for added in tokenizer.added_tokens_decoder.values() if added.special}
    template = str(tokenizer.chat_template or "")
    named = {tokenizer.eos_token, tokenizer.bos_token, tokenizer.pad_token}
    if reached := [token for token in beyond if token not in special or token in named or token in template]:
        return (
            f"its tokenizer has {len(tokenizer)} tokens and the model {embeddings} embeddings: {reached[0]!r} "
            f"({beyond[reached[0]]}) has none. Take the tokenizer that belongs to the model, or resize the embeddings and "
            "train them"
        )
    return None


def _keys(keys: Iterable[str]) -> str:
    first, *others = keys
    return f"{first} and {len(others)} more" if others else first


def _shape(size: Iterable[int]) -> str:
    return " x ".join(map(str, size))


def _there(folder: Path) -> str:
    names = sorted(path.name for path in folder.iterdir())
    return f"there are: {', '.join(names[:6])}{', ...' if len(names) > 6 else ''}" if names else "it is empty"

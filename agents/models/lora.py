"""Low-rank adapters: which layers get one, adapters that were trained before, and names of the base that stay valid.

An adapter's folder (what a run with LoRA leaves) is a model like any other: with model.lora.enabled=true it is trained on, on
top of its base; without, it is merged into the base. Its own rank, scale and layers count then.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D
from transformers.utils import find_adapter_config_file

from agents.config.sections import LoraConfig
from agents.models.files import wrong_keys
from agents.models.policy import REFERENCE, PolicyError
from envs.common.seeding import derive
from envs.common.structured import suggestion
from envs.common.text import first_line

FILE = "adapter_config.json"
CONVERTED = re.compile(r"smollm2-[0-9a-f]{16}")
"""The name of the cache's folder with SmolLM2 (agents.models.sources)."""


def layers_of(model: Any) -> dict[str, nn.Module]:
    """Linear layers by path of what reads text, without the output head."""
    reader = set(model.get_decoder().modules())
    head = model.get_output_embeddings()
    return {
        path: layer
        for path, layer in model.named_modules()
        if isinstance(layer, (nn.Linear, Conv1D)) and layer in reader and layer is not head
    }


def targets(model: Any, wanted: str | Sequence[str]) -> list[str]:
    """Ends of paths of the layers that `wanted` (model.lora.targets) names. Raises PolicyError for a name of none."""
    layers = layers_of(model)
    if wanted == "all-linear":
        chosen = list(layers)
    elif wanted == "attention":
        chosen = [path for path in layers if any("att" in part for part in path.split(".")[:-1])]
    else:
        names = sorted({path.rpartition(".")[2] for path in layers})
        for one in wanted:
            if not any(path == one or path.endswith(f".{one}") for path in layers):
                raise PolicyError(
                    f"model.lora.targets: no linear layer of the model is named '{one}'.{suggestion(one, names)} There are: "
                    f"{', '.join(names)}; all-linear names them all, attention those of the attention, whatever they are called"
                )
        return list(wanted)
    if not chosen:
        raise PolicyError(
            f"model.lora.targets={wanted} finds no layer in this model; its linear layers: "
            f"{', '.join(sorted({path.rpartition('.')[2] for path in layers})) or 'none'}"
        )
    return sorted({".".join(path.split(".")[-2:]) for path in chosen})


def with_new_adapter(model: Any, config: LoraConfig, base: str, seed: int) -> Any:
    """The model with an adapter that changes nothing yet. `base` names the model in what is saved; "" if nothing can."""
    from peft import LoraConfig as Settings
    from peft import get_peft_model

    settings = Settings(
        r=config.r,
        lora_alpha=config.alpha,  # peft says int and only divides it by r
        target_modules=targets(model, config.targets),
        fan_in_fan_out=any(isinstance(layer, Conv1D) for layer in layers_of(model).values()),
        task_type="CAUSAL_LM",
    )
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(seed, "lora", "weights"))
            wrapped = get_peft_model(model, settings)
    except ValueError as error:  # peft knows layers that bear no adapter (of Mamba)
        raise PolicyError(f"model.lora.targets={config.targets}: {error}") from error
    wrapped.peft_config["default"].base_model_name_or_path = base
    return wrapped


def with_adapter_of(model: Any, name: str, base: str, trained: bool) -> Any:
    """The model with the adapter of a folder or hub name: on top and trained on, or merged into it. Raises PolicyError."""
    from peft import PeftConfig, get_peft_model

    try:
        settings = PeftConfig.from_pretrained(name)
        if settings.peft_type != "LORA":
            raise PolicyError(f"model.name={name} is an adapter of type {settings.peft_type}; only LoRA can be used here")
        settings.inference_mode, settings.base_model_name_or_path = not trained, None
        with torch.random.fork_rng(devices=[]):
            wrapped = get_peft_model(model, settings)
        report = wrapped.load_adapter(name, adapter_name="default", is_trainable=trained)
        silence(wrapped)
        if trained:
            # What the policy was before this run: without any adapter it would be the base.
            wrapped.load_adapter(name, adapter_name=REFERENCE)
            silence(wrapped)
    except (PolicyError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # whatever is wrong with its files
        raise PolicyError(
            f"model.name={name}: the adapter does not fit its base {base} ({type(error).__name__}: {first_line(error)})"
        ) from error
    if wrong := wrong_keys({"mismatched_keys": (), "error_msgs": (), **_lists(report)}):
        raise PolicyError(f"model.name={name}: the adapter does not fit its base {base}: {wrong}")
    if not trained:
        return wrapped.merge_and_unload().requires_grad_(True)
    wrapped.peft_config["default"].base_model_name_or_path = base
    return wrapped


def silence(model: Any) -> None:
    """Switch off the dropout of adapters (lora_dropout): what is trained would not be what sampled."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0


def adapter_file(name: str) -> Path | None:
    """The settings of an adapter, if `name` (a folder, or a name on the hub) is one."""
    if Path(name).is_dir():
        return Path(name) / FILE if (Path(name) / FILE).is_file() else None
    try:
        found = find_adapter_config_file(name)
    except (OSError, ValueError):  # no name of the hub, or no way there: whoever loads the model says so
        return None
    return Path(found) if found else None


def base_of(file: Path) -> str:
    """The name of the model that an adapter was trained on, from its settings. Raises PolicyError."""
    try:
        name = str(json.loads(file.read_text(encoding="utf-8"))["base_model_name_or_path"] or "")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PolicyError(f"{file} cannot be read ({type(error).__name__}: {first_line(error)})") from error
    if not name:
        raise PolicyError(f"{file} names no base model: set base_model_name_or_path in it")
    for place in (file.parent / name, Path(name)):
        if place.is_dir():
            return str(place.resolve())
    if name == "smollm2" or CONVERTED.fullmatch(Path(name).name):
        return "smollm2"  # a folder of the cache, which is made again
    if Path(name).is_absolute() or name.startswith("."):
        raise PolicyError(
            f"the base model of the adapter {file.parent} was in {name}, where no folder is: set base_model_name_or_path in "
            f"{file} to where it is now"
        )
    return name


def _lists(report: Any) -> dict[str, list[str]]:
    return {"missing_keys": list(report.missing_keys), "unexpected_keys": list(report.unexpected_keys)}

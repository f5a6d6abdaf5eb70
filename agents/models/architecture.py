"""What a model's configuration tells before any weight is read: whether it can be sampled and trained here, and how.

Sampling keeps keys and values of all sessions in slots of its own (models.cache), and texts that begin alike share tokens in
training (models.blocks). Both need layers that attend to everything before them. A model with other layers is sampled through
its own cache and trained on rows side by side; where neither is right it is refused. models.probe measures what is said here.
"""

from __future__ import annotations

import inspect
from typing import Any, Literal

from transformers import AutoModelForCausalLM
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer
from transformers.utils import is_flash_attn_2_available

Kept = Literal["slots", "chunks", "tokens"]
"""What keeps a session while it is sampled: the engine's slots, or the model's own cache, which is fed with all new tokens at
once or token by token."""

NOISE = ("drop", "jitter_noise")
"""Parts of the names of settings that make a model random in training."""


def text(shape: Any) -> Any:
    """The configuration of what reads text: of a model that also sees or hears, a part of it."""
    return shape.get_text_config(decoder=True)


def silence(shape: Any) -> None:
    """Switch off what is random in training only: the policy that is trained would not be the one that sampled."""
    for part in {id(one): one for one in (shape, text(shape))}.values():
        for key, value in part.to_dict().items():
            if any(name in key for name in NOISE) and isinstance(value, float):
                setattr(part, key, 0.0)


def refusal(shape: Any, max_length: int) -> str | None:
    """Why a model of this shape cannot be used with contexts of `max_length`, and what to do; None if it can."""
    kind = shape.model_type
    if method := _quantized(shape):
        return (
            f"its weights are quantized ({method}), which cannot be trained here: name the model in float32, bfloat16 or "
            "float16 (most makers publish both), or dequantise it first"
        )
    if getattr(shape, "is_encoder_decoder", False):
        return f"'{kind}' is an encoder and a decoder; choose a causal language model"
    own_code = "AutoModelForCausalLM" in (getattr(shape, "auto_map", None) or {})
    cls = None if own_code else AutoModelForCausalLM._model_mapping.get(type(shape), None)
    if cls is None and not own_code:
        return f"transformers has no causal language model of type '{kind}'; choose a model that writes text"
    if cls is not None and "past_key_values" not in inspect.signature(cls.forward).parameters:
        return f"'{kind}' keeps its state in no cache that this engine can hold; choose another model"
    if (limit := changing_rotation(shape)) and max_length > limit[1]:
        return (
            f"its rotary positions ({limit[0]}) change with the length of the context beyond {limit[1]} tokens, so that what "
            "was sampled turn by turn cannot be computed again in one pass: set "
            f"model.max_length={limit[1]}, or choose another model"
        )
    if cls is not None:
        try:
            DynamicCache(config=shape)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            return f"transformers has no cache for the layers of '{kind}' ({error}); choose another model"
    return None


def own_cache(shape: Any, max_length: int, attention: str) -> str | None:
    """Why slots and shared tokens do not suit a model, so that its own cache is used; None if they do."""
    if attention.startswith("flash"):
        return f"attention={attention} takes no masks but its own"
    try:
        layers = DynamicCache(config=shape).layers
    except (AttributeError, KeyError, TypeError, ValueError):
        return "its layers are of unknown kinds"
    if getattr(text(shape), "num_kv_shared_layers", None):
        return "some of its layers share their keys"
    for layer in layers:
        if type(layer) is DynamicSlidingWindowLayer:
            if layer.sliding_window < max_length:
                return f"some of its layers see the last {layer.sliding_window} tokens only"
        elif type(layer) is not DynamicLayer:
            return "some of its layers keep a state instead of keys, or choose what they see"
    return None


def attention_of(shape: Any, wanted: str) -> tuple[str, str | None]:
    """The implementation of attention that `wanted` (model.attention) means for a model; and why, if not what is usual.

    Raises ValueError for one that would compute something else than the model.
    """
    cls = AutoModelForCausalLM._model_mapping.get(type(shape), None)
    capped = getattr(text(shape), "attn_logit_softcapping", None) is not None
    without_sdpa = cls is not None and not cls._supports_sdpa
    why = "its attention caps scores, which sdpa leaves out" if capped else "it has no sdpa" if without_sdpa else None
    if wanted == "auto":
        return ("eager", why) if why else ("sdpa", None)
    if wanted == "sdpa" and why:
        raise ValueError(f"{why}: set model.attention=eager or auto")
    if wanted == "flash_attention_2":
        if cls is not None and not getattr(cls, "_supports_flash_attn", False):
            raise ValueError("it has no flash attention: set model.attention=auto")
        if not is_flash_attn_2_available():
            raise ValueError("it needs a CUDA GPU and the package flash-attn, which are not here: set model.attention=auto")
    return wanted, None


def changing_rotation(shape: Any) -> tuple[str, int] | None:
    """Kind and original length of rotary positions whose factors depend on the length of what is read."""
    part = text(shape)
    rotary = getattr(part, "rope_parameters", None) or {}
    longest = getattr(part, "max_position_embeddings", None)
    for one in (rotary, *rotary.values()):
        if isinstance(one, dict) and one.get("rope_type") in ("longrope", "dynamic"):
            original = one.get("original_max_position_embeddings") or getattr(part, "original_max_position_embeddings", None)
            limit = original or longest
            return (one["rope_type"], int(limit)) if limit else None
    return None


def _quantized(shape: Any) -> str | None:
    found = getattr(shape, "quantization_config", None) or getattr(text(shape), "quantization_config", None)
    if not found:
        return None
    settings = found if isinstance(found, dict) else found.to_dict()
    return str(settings.get("quant_method", "unknown method"))

"""Whether a model computes here what it computes by itself, measured on a few tokens before an episode is played.

A configuration does not tell everything: code that came with a model may ignore masks, look ahead, or be random in training.
Three short passes find that out when it is loaded, and a few more whether the lean pass may stand in for its modules.
"""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from agents.models.architecture import Kept
from agents.models.lean import Decoder
from agents.models.lean_slots import LeanSlots
from agents.models.memory import Memory, OwnCaches, Part, Slots, memory_for
from agents.models.policy import Policy, PolicyError
from agents.models.recorded import cuda_recorder

CHUNKS = (10, 1, 1, 5, 1, 6)
"""How many tokens the engine's way of reading is given at a time."""
BOUNDS = {torch.float32: 5e-3}
"""Largest difference of logits, as a share of their spread, by number format: far above rounding, far below a wrong cache."""
COARSE = 0.1
"""The bound of coarser formats."""
EXACT = 1e-4
"""Difference that the lean pass may have besides four times that of the modules, which is what the format rounds; in a coarser
format at least what one number of it is rounded by, since modules may happen to round alike in chunks and in one pass."""

log = logging.getLogger("stepcredit.models")


@torch.no_grad()
def probe(policy: Policy, name: str) -> None:
    """Set `policy.kept` to what samples this model rightly. Raises PolicyError, with what was measured, if nothing does."""
    ids, others = _ordinary(policy, 2 * sum(CHUNKS)).to(policy.device).chunk(2)
    places = torch.arange(len(ids), device=policy.device)
    bound = BOUNDS.get(policy.dtype, COARSE)
    try:
        whole = policy.forward(ids[None], None, None, places)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # code of any model
        raise PolicyError(
            f"model.name={name} cannot read {len(ids)} tokens: {type(error).__name__}: {str(error)[:200]}"
        ) from error
    if not bool(torch.isfinite(whole).all()):
        raise PolicyError(
            f"model.name={name} gives logits that are not finite: its weights are damaged, or model.dtype is too coarse"
        )
    half = len(ids) // 2
    changed = torch.cat([ids[:half], others[half:]])
    if (gap := _gap(policy.forward(changed[None], None, None, places[:half]), whole[:half])) > bound:
        raise PolicyError(
            f"model.name={name} is not causal: tokens that come later change its logits by {gap:.2g} of their spread. It reads "
            "in both directions, and cannot write step by step; choose a causal language model"
        )
    with policy.training():
        noisy = policy.forward(ids[None], None, None, places)
    if (gap := _gap(noisy, whole)) > bound:
        raise PolicyError(
            f"model.name={name} computes something else in training than in sampling (logits differ by {gap:.2g} of their "
            "spread): it drops out or adds noise by a setting that is not known here. Set that to 0 in its config.json"
        )
    ways: tuple[Kept, ...] = ("slots", "chunks", "tokens")
    said: list[str] = []
    for kept in ways[ways.index(policy.kept) :]:
        try:
            gap = _gap(_in_chunks(policy, memory_for(kept, 1), ids.tolist()), whole[torch.tensor(CHUNKS).cumsum(0) - 1])
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # code of any model
            said.append(f"{kept}: {type(error).__name__}: {str(error)[:200]}")
            continue
        if gap <= bound:
            if kept != policy.kept:
                log.warning("model.name=%s is sampled through its own cache (%s)", name, "; ".join(said))
            policy.kept = kept
            return
        said.append(f"{kept}: logits differ by {gap:.2g} of their spread")
    raise PolicyError(
        f"model.name={name} ({policy.causal.config.model_type}) gives other numbers when it is read in parts than in one pass "
        f"({'; '.join(said)}), so that it can be sampled by no engine here; choose another model"
    )


@torch.inference_mode()
def memory_of(policy: Policy, capacity: int, lean: bool = True) -> Slots | LeanSlots | OwnCaches:
    """The memory of an engine with `capacity` sessions: the lean pass where the model's shape allows it and its numbers are the
    model's own; `lean=False`: never."""
    usual = memory_for(policy.kept, capacity)
    if not lean or policy.kept != "slots":
        return usual
    ids = _ordinary(policy, sum(CHUNKS))
    places = torch.tensor(CHUNKS).cumsum(0) - 1
    try:
        found = LeanSlots(Decoder(policy), cuda_recorder() if policy.device.type == "cuda" else None)
        whole = policy.forward(ids[None].to(policy.device), None, None, places.to(policy.device))
        gap = _gap(_in_chunks(policy, found, ids.tolist()), whole)
        noise = _gap(_in_chunks(policy, memory_for(policy.kept, 1), ids.tolist()), whole)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # a model of another shape
        log.debug("no lean pass for this model: %s: %s", type(error).__name__, error)
        return usual
    if gap > max(EXACT, torch.finfo(policy.dtype).eps) + 4 * noise:
        log.debug("no lean pass for this model: logits differ by %.2g of their spread", gap)
        return usual
    found.clear()
    return found


def _ordinary(policy: Policy, count: int) -> Tensor:
    """Ids [count] of ordinary tokens, always the same ones."""
    special = set(policy.tokenizer.added_tokens_decoder) | set(policy.tokenizer.all_special_ids)
    ids = [i for i in range(min(policy.vocabulary, len(policy.tokenizer))) if i not in special] or [0]
    return torch.tensor([ids[(1 + 7919 * i) % len(ids)] for i in range(count)])


def _in_chunks(policy: Policy, memory: Memory, ids: list[int]) -> Tensor:
    """Logits [chunks, V] after each chunk, by the engine's way of reading."""
    found, start = [], 0
    for size in CHUNKS:
        found.append(memory.read(policy, [Part(0, start, ids[start : start + size])]))
        start += size
    return torch.cat(found)


def _gap(one: Tensor, other: Tensor) -> float:
    """Mean difference of log-probabilities, as a share of their spread."""
    one, other = torch.log_softmax(one, -1), torch.log_softmax(other, -1)
    return float((one - other).abs().mean() / other.std(-1).mean().clamp_min(1e-6))

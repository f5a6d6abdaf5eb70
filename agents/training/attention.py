"""What the policy attends to, read off its attention maps (arXiv 2510.13554): how far back, and what later tokens come back to.

Maps are computed by eager attention, over the same weights, a row at a time, in five layers of the middle third. Heads that
attend to what is near on average are local, those that attend to what is far are global: 30% each. A map is of everything that
stands in the row: prompts and observations are attended to, and attend, like sampled tokens.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents.models.policy import Policy
from agents.training.experience import Experience
from algorithms.base import Floats

WINDOW = 10
"""Distances backwards are cut off here (paper)."""
LATER = (10, 50)
"""How many tokens later a token looks back that counts as coming back (paper)."""
LAYERS = 5
"""Whose maps are read (paper)."""
HEADS = 0.3
"""Share of the heads that are local, and that are global (paper)."""


@torch.no_grad()
def attention(experience: Experience, policy: Policy) -> tuple[Floats, Floats]:
    """WAAD and FAI [T] of the sampled tokens."""
    model: Any = policy.twin().causal
    model.set_attn_implementation("eager")
    layers = middle(int(model.config.get_text_config().num_hidden_layers))
    distance: Tensor | float = 0.0
    places = 0
    back = later = torch.zeros(0)
    for row in experience.plain_rows():
        ids = torch.from_numpy(row.ids.astype(np.int64))[None].to(policy.device)
        maps = model(input_ids=ids, use_cache=False, output_attentions=True).attentions
        read = torch.cat([maps[layer][0] for layer in layers]).float()  # [heads, L, L]
        if not len(back):
            back, later = (torch.zeros(experience.sampled, len(read)) for _ in range(2))
        back[row.tokens] = backward(read, WINDOW)[:, row.targets].T.cpu()
        later[row.tokens] = future(read, *LATER)[:, row.targets].T.cpu()
        distance = distance + backward(read, read.shape[1]).sum(1).cpu()
        places += read.shape[1]
    if not places or not isinstance(distance, Tensor):
        return np.zeros(experience.sampled), np.zeros(experience.sampled)
    order = (distance / places).argsort(stable=True)
    number = max(1, round(HEADS * len(order)))
    near, far = order[:number], order[-number:]
    return back[:, near].mean(1).double().numpy(), later[:, far].mean(1).double().numpy()


def middle(layers: int) -> list[int]:
    """Numbers of at most five layers of the middle third, evenly spaced."""
    first, last = layers // 3, -(-2 * layers // 3) - 1
    return sorted({round(one) for one in np.linspace(first, last, LAYERS)})


def backward(maps: Tensor, window: int) -> Tensor:
    """[heads, L] mean distance, at most `window`, of what each token attends to; maps: [heads, L, L], rows sum to 1."""
    place = torch.arange(maps.shape[1], device=maps.device)
    return (maps * (place[:, None] - place).clamp(0, window)).sum(-1)


def future(maps: Tensor, nearest: int, farthest: int) -> Tensor:
    """[heads, L] mean attention that a token gets from those that come `nearest` to `farthest` tokens later; 0 without any."""
    place = torch.arange(maps.shape[1], device=maps.device)
    gap = place[:, None] - place
    counts = (gap >= nearest) & (gap <= farthest)
    return (maps * counts).sum(1) / counts.sum(0).clamp(min=1)

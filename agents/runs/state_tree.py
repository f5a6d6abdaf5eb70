"""Nested Python state as named tensors plus JSON, and back without loss: tuples, number keys, NaN and big integers included.

Used for optimizer and random-generator states in checkpoints; nothing is pickled, so loading one cannot run code.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor


def flatten(tree: Any) -> tuple[dict[str, Tensor], Any]:
    """Tensors by their path in `tree`, and the rest as JSON that refers to them. Raises TypeError for anything else."""
    tensors: dict[str, Tensor] = {}
    return tensors, _flatten(tree, "", tensors)


def _flatten(node: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    if node is None or isinstance(node, (bool, int, str)):
        return node
    if isinstance(node, float):
        return node if math.isfinite(node) else {"$": "float", "value": repr(node)}
    if isinstance(node, np.generic):
        return _flatten(node.item(), path, tensors)
    if isinstance(node, (Tensor, np.ndarray)):
        name = f"{len(tensors)}{path}"  # numbered, because keys may hold slashes too
        # A copy: tensors of a state may share memory, which the file format refuses.
        tensors[name] = node.detach().clone().contiguous() if isinstance(node, Tensor) else torch.from_numpy(node.copy())
        return {"$": "tensor" if isinstance(node, Tensor) else "array", "name": name}
    if isinstance(node, (list, tuple)):
        items = [_flatten(item, f"{path}/{i}", tensors) for i, item in enumerate(node)]
        return items if isinstance(node, list) else {"$": "tuple", "items": items}
    if isinstance(node, Mapping):
        pairs = [(key, _flatten(value, f"{path}/{key}", tensors)) for key, value in node.items()]
        if all(isinstance(key, str) for key, _ in pairs) and "$" not in node:
            return dict(pairs)
        return {"$": "dict", "items": [[_flatten(key, "", tensors), value] for key, value in pairs]}
    raise TypeError(
        f"{path or 'the state'} is a {type(node).__name__}; a checkpoint holds tensors, arrays and plain values only"
    )


def unflatten(tensors: Mapping[str, Tensor], node: Any) -> Any:
    """The tree that `flatten` took apart."""
    if isinstance(node, list):
        return [unflatten(tensors, item) for item in node]
    if not isinstance(node, dict):
        return node
    kind = node.get("$")
    if kind is None:
        return {key: unflatten(tensors, value) for key, value in node.items()}
    if kind == "float":
        return float(node["value"])
    if kind == "tensor":
        return tensors[node["name"]]
    if kind == "array":
        return tensors[node["name"]].numpy()
    if kind == "tuple":
        return tuple(unflatten(tensors, item) for item in node["items"])
    if kind == "dict":
        return {unflatten(tensors, key): unflatten(tensors, value) for key, value in node["items"]}
    raise ValueError(f"unknown kind '{kind}' in a checkpoint's state")

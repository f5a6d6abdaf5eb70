"""Transforms: what is done to the advantages of any method before they are learned from. Plug-ins: `stepcredit.transforms`.

A transform says how much each sampled token counts, by what is known of the token and not of its reward: what it says, how
uncertain the policy was, how it is attended to. `algo.transforms` is a list, applied in the order given. There are three
mechanisms: a weight (hicra, attention, tw_grpo, thr), a choice of the tokens that are trained on (forking, spine, d3s, thr),
and a number that the loss reads beside the advantage (hapo, spine).

Like methods, transforms read flat arrays over the sampled tokens [T]; what a model must compute for them they declare in
`needs`, and the trainer fills it in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np

from algorithms.batch import Batch, Bools, Floats, Ints, Need
from envs.common.registry import Registry
from envs.common.structured import ConfigError, build, check, not_among

Left = Literal["masked", "zero"]
"""What becomes of tokens that are not chosen. masked: not trained on; zero: their advantage is 0, and they count in the loss's
mean."""


@dataclass(eq=False)
class Changed:
    """Advantages after a transform, all [T]."""

    values: Floats
    defined: Bools
    """False: not trained on."""
    beside: Mapping[str, Floats] = field(default_factory=dict)
    """What the loss reads beside the advantage: the columns named in `Transform.gives`."""


@dataclass
class Transform:
    """A subclass adds its settings as fields, and implements `apply`. Raises ConfigError for a wrong setting."""

    needs: ClassVar[frozenset[Need]] = frozenset()
    """Fields of the batch that the trainer must fill."""
    gives: ClassVar[frozenset[str]] = frozenset()
    """Columns that it gives to the loss."""

    def __post_init__(self) -> None:
        check(self)

    def apply(self, batch: Batch, values: Floats, defined: Bools, done: float) -> Changed:
        """Hook: the advantages `values` [T] changed. defined [T]: those that are trained on; done: share of the run's
        iterations before this one."""
        raise NotImplementedError(f"{type(self).__name__} does not define apply(batch, values, defined, done)")

    def learn(self, batch: Batch) -> None:
        """Hook of transforms that remember: called once for each iteration's episodes, before `apply`."""

    def state(self) -> dict[str, Any]:
        """Hook of transforms that remember: what a resumed run must go on with."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Hook of transforms that remember."""


_registry: Registry[type[Transform]] = Registry("transform", "stepcredit.transforms", base=Transform)
register, names, get = _registry.register, _registry.names, _registry.get
register("attention", "algorithms.transforms.attention:Attention")
register("d3s", "algorithms.transforms.d3s:D3S")
register("forking", "algorithms.transforms.forking:Forking")
register("hapo", "algorithms.transforms.hapo:HAPO")
register("hicra", "algorithms.transforms.hicra:HICRA")
register("spine", "algorithms.transforms.forking:SPINE")
register("thr", "algorithms.transforms.thr:THR")
register("tw_grpo", "algorithms.transforms.tw_grpo:TWGRPO")


def built(entries: Sequence[Any]) -> dict[str, Transform]:
    """Transforms by name, in their order, from names and from mappings that hold a `name` beside settings.

    Raises ConfigError.
    """
    found: dict[str, Transform] = {}
    for number, entry in enumerate(entries):
        path = f"transforms[{number}]"
        settings = dict(entry) if isinstance(entry, Mapping) else {"name": entry}
        name = settings.pop("name", None)
        if name not in names():
            raise not_among(f"{path}.name" if isinstance(entry, Mapping) else path, name, names())
        if name in found:
            raise ConfigError(f"transforms names {name} twice; each may be applied once")
        found[name] = build(get(name), settings, path)
    return found


def column(batch: Batch, name: str, of: object) -> Floats:
    """[T] a field of the batch that a transform needs. Raises ValueError where it was not filled in."""
    values: Floats | None = getattr(batch, name)
    if values is None:
        raise ValueError(f"{type(of).__name__} needs batch.{name}, which is not there")
    return values


def highest(score: Floats, share: float, group: Ints) -> Bools:
    """[P] whether a score [P] is among the highest `share` of its group [P], of equal ones the first; at least one of each.

    The number is rounded, half up.
    """
    order = np.lexsort((-score, group))
    first = np.flatnonzero(np.diff(group[order], prepend=-1))
    size = np.diff(first, append=len(order))
    most = np.maximum(1, np.floor(share * size + 0.5).astype(np.int64))
    found = np.zeros(len(score), dtype=bool)
    found[order] = np.arange(len(order)) - np.repeat(first, size) < np.repeat(most, size)
    return found


def kept(values: Floats, defined: Bools, chosen: Bools, left: Left) -> Changed:
    """Advantages [T] of which those `chosen` [T] stay as they are."""
    if left == "zero":
        return Changed(np.where(chosen, values, 0.0), defined)
    return Changed(values, defined & chosen)


def of_token(batch: Batch, of_step: Ints) -> Ints:
    """[S] -> [T]"""
    return np.repeat(of_step, batch.tokens)

"""The processes (ranks) that train one model together: who they are, what they join, and how rank 0 leads the others.

Rank 0 does all that one process alone does: it plays, credits, evaluates, saves. What computes with the learner's models it
does by a `Led` object: every rank then carries out the same method with the same arguments, each on its part of the rows, and
all come to the same numbers. Without torch.distributed there is one rank, and nothing here costs anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, OffloadPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from envs.common.text import first_line

T = TypeVar("T")
PATIENCE = timedelta(days=30)
"""Of ranks that wait for rank 0, which may play for hours. A rank that died is noticed by its connections, not by this."""
_orders: Any = None
"""The group by which rank 0 tells the others what to do."""


LOST = re.compile(r"gloo|nccl|connection|timed? ?out|peer", re.IGNORECASE)
"""What torch.distributed says where another rank does not answer."""


class RankError(RuntimeError):
    """A rank was lost; the message says what to do."""


@contextmanager
def together(what: str) -> Iterator[None]:
    """Within: ranks do something together. Raises RankError where one does not answer."""
    try:
        yield
    except RuntimeError as error:
        if size() == 1 or not LOST.search(str(error)):
            raise
        raise RankError(
            f"another rank was lost during {what} ({first_line(error)}). Its own output says why; what was saved before is "
            "whole"
        ) from error


def join(device: torch.device, timeout_s: float) -> None:
    """Meet the other ranks, as the environment variables of torchrun say (RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT)."""
    global _orders
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=timedelta(seconds=timeout_s))
    _orders = dist.new_group(backend="gloo", timeout=PATIENCE)


def release() -> None:
    """Rank 0 tells those who `follow` that nothing comes any more."""
    if rank() == 0:
        told(None)


def leave() -> None:
    """The end, after nothing went wrong and nobody follows any more."""
    global _orders
    _orders = None
    dist.destroy_process_group()


def size() -> int:
    """Number of ranks."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Number of this one."""
    return dist.get_rank() if dist.is_initialized() else 0


# -- joining --------------------------------------------------------------------------------------------------------------


def added_up(values: Tensor) -> Tensor:
    """The sum over all ranks, of a tensor of one shape."""
    if size() > 1:
        values = values.clone()
        dist.all_reduce(values)
    return values


def largest(value: float) -> float:
    """Over all ranks."""
    if size() == 1:
        return value
    found = torch.tensor(value, dtype=torch.float64)
    dist.all_reduce(found, dist.ReduceOp.MAX)
    return float(found)


def added_up_number(value: float) -> float:
    """The sum over all ranks."""
    return float(added_up(torch.tensor(value, dtype=torch.float64)))


def added_up_numbers(numbers: Mapping[str, float], names: Sequence[str]) -> dict[str, float]:
    """Sums over all ranks of the numbers of these names; 0 where one is missing."""
    return dict(zip(names, added_up(torch.tensor([numbers.get(name, 0.0) for name in names], dtype=torch.float64)).tolist()))


def dealt(items: Sequence[T], costs: Sequence[float]) -> list[T | None]:
    """This rank's share of some items, so that all ranks have about the same to do, and equally many: None stands for one that
    is missing."""
    ranks, own = size(), rank()
    if ranks == 1:
        return [*items]
    order = sorted(range(len(items)), key=lambda at: (-costs[at], at))
    mine: list[T | None] = []
    for turn, start in enumerate(range(0, len(order), ranks)):
        place = start + (own if turn % 2 == 0 else ranks - 1 - own)  # to and fro: who got the largest gets the smallest next
        mine.append(items[order[place]] if place < len(order) else None)
    return mine


def told(value: T) -> T:
    """Rank 0's value, which all others get from it."""
    if size() == 1:
        return value
    held = [value]
    dist.broadcast_object_list(held, 0, group=_orders)
    return value if rank() == 0 else held[0]


def alike(module: nn.Module) -> None:
    """Give all ranks the weights and buffers that rank 0 has, which may take long to get them: a warm start."""
    if size() > 1:
        told(None)
        for tensor in (*module.parameters(), *module.buffers()):
            dist.broadcast(tensor.detach(), 0)


# -- sharded weights ------------------------------------------------------------------------------------------------------


def shard(root: nn.Module, layers: Iterable[nn.Module], kept: set[nn.Parameter], offload: bool) -> None:
    """Deal a module's weights out to the ranks (FSDP2), layer by layer; forward passes must go through `root`.

    kept: weights that every rank holds whole, adapters for example. They, and all else, are moved to the ranks' device.
    """
    if size() == 1:
        return
    device = next(root.parameters()).device.type
    settings: dict[str, Any] = {
        "mesh": _mesh(device),
        "ignored_params": kept,
        "mp_policy": MixedPrecisionPolicy(reduce_dtype=torch.float32),
        "offload_policy": CPUOffloadPolicy() if offload else OffloadPolicy(),
        # The root as well: what it gathered for a pass without gradients would be old after the next step.
        "reshard_after_forward": True,
    }
    for layer in layers:
        fully_shard(layer, **settings)
    fully_shard(root, **settings)


def _mesh(device: str) -> DeviceMesh:
    return init_device_mesh(device, (size(),))


def full(tensor: Tensor) -> Tensor:
    """A sharded tensor gathered, which all ranks must do together; any other as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def full_tree(tree: Any) -> Any:
    """The same of all tensors in dicts and lists."""
    if isinstance(tree, Tensor):
        return full(tree.detach())
    if isinstance(tree, dict):
        return {key: full_tree(value) for key, value in tree.items()}
    return [full_tree(value) for value in tree] if isinstance(tree, list) else tree


def like(tensor: Tensor, model: Tensor) -> Tensor:
    """A whole tensor, sharded as `model` is."""
    if not isinstance(model, DTensor):
        return tensor
    return distribute_tensor(tensor.to(model.device), model.device_mesh, model.placements, src_data_rank=None)


@torch.no_grad()
def put(tensors: Mapping[str, Tensor], into: Mapping[str, Tensor]) -> None:
    """Write whole tensors into those of the same names, sharded or not. Raises RuntimeError for other names or shapes."""
    if tensors.keys() != into.keys():
        raise RuntimeError(f"other weights: {', '.join(sorted(tensors.keys() ^ into.keys())[:3])}")
    for name, tensor in tensors.items():
        into[name].detach().copy_(like(tensor, into[name]))


# -- leading --------------------------------------------------------------------------------------------------------------


class Led:
    """An object of rank 0 whose methods all ranks carry out together: each on the object that `follow` has under that name."""

    def __init__(self, path: Sequence[str], target: Any) -> None:
        """path: a name that `follow` knows, then attributes, or keys of dicts."""
        self._path, self._target = path, target

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)
        return partial(self._lead, name) if callable(found) else found

    def _lead(self, name: str, *arguments: Any, **named: Any) -> Any:
        # A function of rank 0 stays there: who takes one asks rank 0 for what it says (`told`).
        sent = [None if callable(one) else one for one in arguments]
        with together(f"{'.'.join(self._path)}.{name}"):
            told((self._path, name, sent, {key: None if callable(one) else one for key, one in named.items()}))
            return getattr(self._target, name)(*arguments, **named)


def led(path: Sequence[str], target: T) -> T:
    """The object, led by rank 0 where there are others."""
    return target if size() == 1 else Led(path, target)  # type: ignore[return-value]


def follow(known: Mapping[str, Any]) -> None:
    """Carry out what rank 0 does by objects that are `led`, until it lets go."""
    order: Any
    while (order := told(None)) is not None:
        path, name, arguments, named = order
        target = known[path[0]]
        for step in path[1:]:
            target = target[step] if isinstance(target, dict) else getattr(target, step)
        getattr(target, name)(*arguments, **named)

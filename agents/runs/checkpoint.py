"""Checkpoints that survive a kill at any moment: safetensors and JSON only, written aside, synced, then renamed into place.

A checkpoint is a folder `iteration_000010/` with model.safetensors (the weights), state.safetensors and state.json (all else)
and manifest.json (size and SHA-256 of each). It exists under its name only when it is complete. What belongs into it is the
trainer's business.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import random
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from agents.config.overrides import assignment, command_line
from agents.runs.state_tree import flatten, unflatten

FORMAT = "stepcredit.checkpoint/1"
FILES = ("model.safetensors", "state.safetensors", "state.json")
SPARE = 1 << 20
"""Bytes beyond the tensors themselves that a checkpoint may need."""

log = logging.getLogger("stepcredit.checkpoint")


class CheckpointError(RuntimeError):
    """A checkpoint could not be written or read. The message says what happened, what is intact, and how to go on."""


class Checkpoint(NamedTuple):
    """What a checkpoint folder holds."""

    folder: Path
    tensors: dict[str, Tensor]
    """The weights, on the CPU."""
    state: Any
    """The tree that was saved, tensors, tuples and number-keyed dicts included."""


def folder_of(checkpoints: Path, iteration: int) -> Path:
    """The folder of an iteration's checkpoint."""
    return checkpoints / f"iteration_{iteration:06d}"


def iteration_of(folder: Path) -> int:
    """The iteration a checkpoint folder's name tells."""
    return int(folder.name.removeprefix("iteration_"))


def complete(checkpoints: Path) -> list[Path]:
    """Checkpoint folders, oldest first. One that was being replaced when the process died is put back first."""
    if not checkpoints.is_dir():
        return []
    for aside in checkpoints.glob(".replaced-iteration_*"):
        original = checkpoints / aside.name.removeprefix(".replaced-")
        if not original.exists():
            aside.rename(original)
    return sorted(path for path in checkpoints.glob("iteration_*") if path.is_dir())


def latest(run: Path) -> Path | None:
    """The newest checkpoint folder of a run, or None."""
    found = complete(run / "checkpoints")
    return found[-1] if found else None


def chosen(run: Path, iteration: int | None) -> Path:
    """The folder of a run's checkpoint of that iteration, or its newest. Raises CheckpointError, with those that exist."""
    found = {iteration_of(folder): folder for folder in complete(run / "checkpoints")}
    if not found:
        raise CheckpointError(f"{run} has no checkpoint yet: train it first, or take another run")
    wanted = max(found) if iteration is None else iteration
    if wanted not in found:
        raise CheckpointError(
            f"{run} has no checkpoint of iteration {wanted}; there are: {', '.join(map(str, found))}. A training keeps "
            "the newest ones, as many as its checkpoint.keep says"
        )
    return found[wanted]


def save(folder: Path, tensors: Mapping[str, Tensor], state: Any, keep: int) -> None:
    """Write a checkpoint as `folder`, then delete all but the newest `keep` beside it.

    `state` is any tree of dicts, lists, tuples, numbers, strings, arrays and tensors. Raises CheckpointError; whatever was
    there before is then still there, and nothing half-written is.
    """
    parent = folder.parent
    temporary = parent / f".writing-{folder.name}"
    weights, aliases = _without_aliases(tensors)
    state_tensors, tree = flatten(state)
    needed = sum(t.nbytes for t in weights.values()) + sum(t.nbytes for t in state_tensors.values()) + SPARE
    try:
        parent.mkdir(parents=True, exist_ok=True)
        for stale in (*parent.glob(".writing-*"), *parent.glob(".deleting-*")):
            shutil.rmtree(stale)
        temporary.mkdir()
        save_file(weights, temporary / FILES[0], metadata={"format": "pt"})
        save_file(state_tensors, temporary / FILES[1], metadata={"format": "pt"})
        (temporary / FILES[2]).write_text(json.dumps({"aliases": aliases, "state": tree}), encoding="utf-8")
        manifest = {"format": FORMAT, "files": {name: _fingerprint(temporary / name) for name in FILES}}
        (temporary / "manifest.json").write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        for path in (*temporary.iterdir(), temporary):
            _sync(path)
        _put_in_place(temporary, folder)
    except (OSError, SafetensorError) as exc:
        shutil.rmtree(temporary, ignore_errors=True)
        raise CheckpointError(_what_happened(folder, needed, exc)) from exc
    for old in complete(parent)[:-keep]:
        _delete(old)


def load(folder: Path) -> Checkpoint:
    """Read a checkpoint after comparing every file with the manifest. Raises CheckpointError if one differs or is missing."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        if manifest.get("format") != FORMAT:
            raise CheckpointError(f"{folder}: format is {manifest.get('format')!r}; this version reads {FORMAT!r}")
        for name in FILES:
            found, expected = _fingerprint(folder / name), manifest["files"][name]
            if found != expected:
                raise CheckpointError(f"{folder / name} is damaged: {found}, expected {expected}")
        stored = json.loads((folder / FILES[2]).read_text(encoding="utf-8"))
        tensors = load_file(folder / FILES[0])
        state = unflatten(load_file(folder / FILES[1]), stored["state"])
    except (OSError, ValueError, KeyError, AttributeError, SafetensorError) as exc:
        raise CheckpointError(f"{folder} cannot be read: {exc}") from exc
    tensors.update({alias: tensors[original] for alias, original in stored["aliases"].items()})
    return Checkpoint(folder, tensors, state)


def load_latest(run: Path) -> Checkpoint | None:
    """The newest checkpoint of a run that is intact, with a warning for each damaged one; None if there is no checkpoint.

    Raises CheckpointError if there are checkpoints and all of them are damaged.
    """
    found = complete(run / "checkpoints")
    for folder in reversed(found):
        try:
            return load(folder)
        except CheckpointError as exc:
            log.warning("%s; going back to the checkpoint before it", exc)
    if found:
        raise CheckpointError(f"no checkpoint of {run} is intact ({', '.join(path.name for path in found)}); start a new run")
    return None


def random_states() -> dict[str, Any]:
    """The state of python's, numpy's and torch's global generators, for `save`."""
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(legacy=False),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_states(states: Mapping[str, Any]) -> None:
    """Put back what `random_states` took. GPUs that are not there any more are left out."""
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
    torch.set_rng_state(states["torch"])
    if states["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(states["cuda"][: torch.cuda.device_count()])


def _without_aliases(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors safetensors can hold, and which names are the same tensor (tied embeddings are stored once)."""
    kept: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    seen: dict[tuple[Any, ...], str] = {}
    storages: set[int] = set()
    for name, tensor in tensors.items():
        tensor = tensor.detach()
        identity = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype, tensor.device)
        if tensor.numel() and identity in seen:
            aliases[name] = seen[identity]
            continue
        seen[identity] = name
        storage = tensor.untyped_storage().data_ptr()
        # Views of one storage and non-contiguous tensors are what safetensors refuses.
        kept[name] = tensor.clone().contiguous() if storage in storages else tensor.contiguous()
        storages.add(storage)
    return kept, aliases


def _fingerprint(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _put_in_place(temporary: Path, folder: Path) -> None:
    aside = folder.parent / f".replaced-{folder.name}"
    if folder.exists():
        folder.rename(aside)
    temporary.rename(folder)
    _sync(folder.parent)
    shutil.rmtree(aside, ignore_errors=True)


def _delete(folder: Path) -> None:
    """Delete a checkpoint; renamed first, so that a kill on the way leaves no half of one under its name."""
    doomed = folder.with_name(f".deleting-{folder.name}")
    try:
        folder.rename(doomed)
    except OSError as exc:
        log.warning("the old checkpoint %s could not be deleted: %s", folder, exc)
        return
    shutil.rmtree(doomed, ignore_errors=True)


def _what_happened(folder: Path, needed: int, exc: Exception) -> str:
    run = folder.parent.parent
    there = next(parent for parent in folder.parents if parent.exists())
    try:
        free = f"{shutil.disk_usage(there).free / 1e6:.1f} MB free"
    except OSError:
        free = "free space unknown"
    intact = latest(run)
    kept = f"{intact.name} is intact" if intact else "there is no earlier checkpoint"
    return (
        f"checkpoint {folder} was not written: {exc} (needs about {needed / 1e6:.1f} MB, {free} at {there}). {kept}. "
        f"Make room or give permission, then: {command_line('agents.train', assignment('resume', run))}"
    )

"""Checkpoints that survive a kill or a power cut at any moment: safetensors and JSON only, put in place once they are on disk.

A checkpoint is a folder `iteration_000010/` with model.safetensors (the weights), state.safetensors and state.json (all else)
and manifest.json (size and SHA-256 of each). It exists under its name only when it is complete; folders of any other name are
no checkpoints, and nobody's business here. What belongs into one is the trainer's.
"""

from __future__ import annotations

import hashlib
import json
import logging
import random
import re
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
from envs.common import disk
from envs.common.text import first_line

FORMAT = "stepcredit.checkpoint/1"
FILES = ("model.safetensors", "state.safetensors", "state.json")
NAME = re.compile(r"iteration_(\d{6,})")
PASSED = ".passed"
"""End of the name of a checkpoint that could not be read when its run went on from one before it."""
ODD = (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, SafetensorError)
"""What reading raises of files that are damaged, or were edited by hand."""
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
    digest: str
    """SHA-256 of the manifest, and so of all that it holds."""

    @property
    def iteration(self) -> int:
        """The iteration after which it was saved."""
        found = iteration_of(self.folder)
        assert found is not None
        return found


def folder_of(checkpoints: Path, iteration: int) -> Path:
    """The folder of an iteration's checkpoint."""
    return checkpoints / f"iteration_{iteration:06d}"


def iteration_of(folder: Path) -> int | None:
    """The iteration that the name of a checkpoint's folder tells; None for any other name."""
    found = NAME.fullmatch(folder.name)
    return int(found[1]) if found and folder_of(folder.parent, int(found[1])).name == folder.name else None


def complete(checkpoints: Path) -> dict[int, Path]:
    """Checkpoint folders by iteration, oldest first. One that was being replaced when the process died is put back first."""
    if not checkpoints.is_dir():
        return {}
    for replaced in checkpoints.glob(f"{disk.REPLACED}*"):
        original = checkpoints / replaced.name.removeprefix(disk.REPLACED)
        if iteration_of(original) is not None and not original.exists():
            replaced.rename(original)
    found = {
        iteration: path for path in checkpoints.iterdir() if (iteration := iteration_of(path)) is not None and path.is_dir()
    }
    return dict(sorted(found.items()))


def latest(run: Path) -> Path | None:
    """The newest checkpoint folder of a run, damaged or not, or None."""
    return next(reversed(complete(run / "checkpoints").values()), None)


def of_run(run: Path, iteration: int | None) -> Checkpoint:
    """A run's checkpoint of that iteration, or its newest that is intact. Raises CheckpointError, with those that exist."""
    if iteration is None:
        newest = load_latest(run)
        if newest is None:
            raise CheckpointError(f"{run} has no checkpoint yet: train it first, or take another run")
        return newest
    found = complete(run / "checkpoints")
    if iteration not in found:
        raise CheckpointError(
            f"{run} has no checkpoint of iteration {iteration}; there are: {', '.join(map(str, found)) or 'none'}. A training "
            "keeps the newest ones, as many as its checkpoint.keep says"
        )
    return load(found[iteration])


def save(folder: Path, tensors: Mapping[str, Tensor], state: Any, keep: int) -> None:
    """Write a checkpoint as `folder`, then delete those before it but for the newest, so that `keep` are left.

    `state` is any tree of dicts, lists, tuples, numbers, strings, arrays and tensors. Raises CheckpointError; whatever was
    there before is then still there, and nothing half-written is. Newer ones can only be those that could not be read when
    the run went on from one before them: they do not count, and get another name.
    """
    parent = folder.parent
    weights, aliases = _without_aliases(tensors)
    state_tensors, tree = flatten(state)
    needed = sum(t.nbytes for t in weights.values()) + sum(t.nbytes for t in state_tensors.values()) + SPARE
    try:
        for pattern in (f".*{disk.PARTIAL}", ".deleting-*", ".writing-*"):  # a run has one writer: these are of dead ones
            for stale in parent.glob(pattern):
                disk.remove(stale)
        disk.folder(parent, above=False)  # not again a run's, which somebody may have renamed
        with disk.aside(folder) as temporary:
            temporary.mkdir()
            save_file(weights, temporary / FILES[0], metadata={"format": "pt"})
            save_file(state_tensors, temporary / FILES[1], metadata={"format": "pt"})
            (temporary / FILES[2]).write_text(json.dumps({"aliases": aliases, "state": tree}), encoding="utf-8")
            manifest = {"format": FORMAT, "files": {name: _fingerprint(temporary / name) for name in FILES}}
            (temporary / "manifest.json").write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    except (OSError, SafetensorError) as exc:
        raise CheckpointError(_what_happened(folder, needed, exc)) from exc
    found, written = complete(parent), iteration_of(folder)
    assert written is not None
    for old in [path for iteration, path in found.items() if iteration <= written][:-keep]:
        _delete(old)
    for newer in [path for iteration, path in found.items() if iteration > written]:
        _pass(newer)


def load(folder: Path) -> Checkpoint:
    """Read a checkpoint after comparing every file with the manifest. Raises CheckpointError if one differs or is missing."""
    try:
        written = (folder / "manifest.json").read_bytes()
        manifest = json.loads(written)
        if manifest.get("format") != FORMAT:
            raise CheckpointError(f"{folder}: format is {manifest.get('format')!r}; this version reads {FORMAT!r}")
        for name in FILES:
            found, expected = _fingerprint(folder / name), manifest["files"][name]
            if found != expected:
                raise CheckpointError(f"{folder / name} is damaged: {found}, expected {expected}")
        stored = json.loads((folder / FILES[2]).read_text(encoding="utf-8"))
        tensors = load_file(folder / FILES[0])
        state = unflatten(load_file(folder / FILES[1]), stored["state"])
        tensors.update({alias: tensors[original] for alias, original in stored["aliases"].items()})
    except ODD as exc:
        raise CheckpointError(f"{folder} cannot be read: {type(exc).__name__}: {first_line(exc)}") from exc
    return Checkpoint(folder, tensors, state, hashlib.sha256(written).hexdigest())


def load_latest(run: Path) -> Checkpoint | None:
    """The newest checkpoint of a run that is intact, with a warning for each damaged one; None if there is no checkpoint.

    Raises CheckpointError if there are checkpoints and none of them can be read.
    """
    while found := list(complete(run / "checkpoints").values()):
        for folder in reversed(found):
            try:
                return load(folder)
            except CheckpointError as exc:
                if not folder.exists():  # a training that is going on has deleted it, and has newer ones
                    break
                log.warning("%s; going back to the checkpoint before it", exc)
        else:
            names = ", ".join(path.name for path in found)
            raise CheckpointError(
                f"no checkpoint of {run} is intact and may be read ({names}): mend what is said above, such as who may read "
                "them, or start a new run"
            )
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


def _delete(folder: Path) -> None:
    """Delete a checkpoint; renamed first, so that a kill on the way leaves no half of one under its name."""
    doomed = folder.with_name(f".deleting-{folder.name}")
    try:
        folder.rename(doomed)
    except OSError as exc:
        log.warning("the old checkpoint %s could not be deleted: %s", folder, exc)
        return
    disk.remove(doomed)


def _pass(folder: Path) -> None:
    """Give a checkpoint that its run could not read a name that is no checkpoint's."""
    passed = folder.with_name(f"{folder.name}{PASSED}")
    try:
        disk.remove(passed)
        folder.rename(passed)
        log.warning("%s could not be read when the run went on: it is kept as %s", folder, passed.name)
    except OSError as exc:
        log.warning("%s could not be read when the run went on, and cannot be renamed: %s", folder, exc)


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

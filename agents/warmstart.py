"""Warm start: behaviour cloning of the environment's oracle, so that reinforcement learning begins with some successes.

Demonstrations are played through the real environment and laid out by the same prompter and packing as rollouts. The result is
cached by a hash of everything it depends on, the token rows included.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional

from agents.config import TrainConfig, WarmstartConfig
from agents.optimizer import Optimizer
from agents.packing import Row, collate, rows
from agents.policy import Policy
from agents.prompting import Prompter
from envs.base import NoOracle, TextEnv, Unsolvable
from envs.cache import cache_folder
from envs.prompt import Prompt, Window
from envs.seeding import derive, generator
from envs.trajectory import Step, Trajectory

if TYPE_CHECKING:
    from agents.assembly import Assembly

CLONING = 3
"""Part of the cache's key: to be raised whenever `clone` gives other weights for the same input."""

PATIENCE = 200
"""Tasks that are tried in vain before a warm start gives up."""

Demonstration = list[tuple[str, list[str] | None, bool, str]]
"""(observation, admissible actions, whether the last action was valid, action) of each step."""


def demonstrate(env: TextEnv, task_id: str, seed: int, detours: float, dawdling: bool) -> Demonstration:
    """One oracle episode through the real environment. It wins, or dawdles until its time is over.

    Raises Unsolvable if the time is too short for one who does not dawdle, RuntimeError if the oracle is wrong.
    """
    rng = generator(seed, "demonstration", task_id)
    actions = env.demonstration(task_id, rng, detours, dawdling)
    observation, info = env.reset(seed=derive(seed, "demonstration", "environment", task_id), options={"task": task_id})
    played: Demonstration = []
    terminated = truncated = False
    for action in actions:
        played.append((observation, info["admissible_actions"], info["valid"], action))
        observation, _, terminated, truncated, info = env.step(action)
        if terminated or truncated:
            break
    if truncated and not dawdling and not info["success"]:
        raise Unsolvable(
            f"task {task_id} takes its oracle {len(actions)} steps with warmstart.detours={detours:g}, more than "
            f"env.max_steps={env.max_steps}: raise env.max_steps, or lower warmstart.detours"
        )
    if not (info["success"] or truncated):
        raise RuntimeError(f"the oracle of {env.name} does not win task {task_id} within {env.max_steps} steps")
    return played


def as_trajectory(
    demonstration: Demonstration,
    prompter: Prompter,
    prompt: Prompt,
    context: str,
    history: int,
) -> Trajectory:
    """A demonstration as the model would have read and written it."""
    trajectory = Trajectory("", "", "", 0, "train", context=context)
    task = prompt.task(demonstration[0][0])
    past: list[tuple[str, str]] = []
    response: list[int] = []
    for t, (observation, admissible, valid, action) in enumerate(demonstration):
        if context == "window":
            ids = prompter.window(Window(task, past[-history:] if history else [], t, observation, admissible, valid))
        elif t == 0:
            ids = prompter.opening(observation, admissible)
        else:
            ids = prompter.turn(observation, admissible, valid, response)
        response = [*prompter.spell(action, admissible), prompter.stop_ids[0]]
        trajectory.steps.append(Step(observation, action, prompt_ids=ids, response_ids=response))
        past.append((observation, prompter.said(action, admissible)))
    return trajectory


def demonstrations(
    parts: Assembly,
    config: TrainConfig,
    panel: Sequence[str],
    count: int,
    seed: int | None = None,
    on_made: Callable[[int], None] | None = None,
) -> list[Trajectory]:
    """`count` demonstrations on the tasks of `panel`, careful ones first, in the layout of rollouts.

    Tasks that cannot be won or have no oracle are passed over; Unsolvable or NoOracle if no task of the panel, or of its first
    PATIENCE, is any better.
    """
    root = config.seed if seed is None else seed
    careful = round(count * (1 - config.warmstart.dawdling))
    made: list[Trajectory] = []
    tried = 0
    while len(made) < count:
        turn, place = divmod(tried, len(panel))
        tried += 1
        dawdles = len(made) >= careful
        try:
            played = demonstrate(parts.env, panel[place], derive(root, "warmstart", turn), config.warmstart.detours, dawdles)
        except (Unsolvable, NoOracle):  # other tasks of the panel may have an oracle, and be winnable
            if not made and (turn or tried >= PATIENCE):
                raise
            continue
        made.append(as_trajectory(played, parts.prompter, parts.prompt, config.env.context, config.env.history))
        if on_made:
            on_made(len(made))
    return made


def clone(
    policy: Policy,
    packed: Sequence[Row],
    config: WarmstartConfig,
    seed: int,
    on_step: Callable[[int, float], None] | None = None,
) -> float:
    """Supervised training on demonstration rows; returns the mean loss of the last tenth of the steps.

    The rows are a curriculum: a step draws from as large a part of them as of all steps it has reached. Poor examples among the
    first would hide what a task's words have to do with its observations, and that is then never learned.
    Action tokens weigh 1, the others `observation_weight` (rows without branches only). Learning rate: 5% linear warm-up,
    then cosine to a tenth.
    """
    optimizer = Optimizer(policy.trainable(), config.lr, betas=(0.9, 0.98), weight_decay=0.01)
    draw = generator(seed, "warmstart", "batches")
    losses: list[float] = []
    for step in range(config.steps):
        scale = min(1.0, (step + 1) / max(1, config.steps // 20))
        scale *= 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * step / config.steps))
        optimizer.lr = config.lr * scale
        reached = max(math.ceil(len(packed) * (step + 1) / config.steps), min(config.batch, len(packed)))
        chosen = [packed[i] for i in draw.choice(reached, size=min(config.batch, reached), replace=False)]
        optimizer.clear()
        with policy.training():
            loss = _supervised_loss(policy, chosen, config.observation_weight)
            loss.backward()
        optimizer.collect()
        optimizer.step(clip=1.0)
        losses.append(float(loss.detach()))
        if on_step:
            on_step(step + 1, losses[-1])
    return float(np.mean(losses[-max(1, len(losses) // 10) :]))


def _supervised_loss(policy: Policy, chosen: Sequence[Row], observation_weight: float) -> torch.Tensor:
    batch = collate(chosen, pad=0, device=policy.device)
    length = batch.ids.shape[1]
    weight = torch.zeros(batch.ids.shape, device=policy.device)
    for i, row in enumerate(chosen):
        if observation_weight and not row.segments:
            weight[i, 1 : len(row)] = observation_weight
    weight.view(-1)[batch.before + 1] = 1.0
    places = weight.view(-1).nonzero()[:, 0]
    places = places[places % length != 0]
    logits = policy.forward(batch.ids, batch.positions, batch.mask, places - 1)
    loss = functional.cross_entropy(logits, batch.ids.view(-1)[places], reduction="none")
    weights = weight.view(-1)[places]
    return (loss * weights).sum() / weights.sum()


def fingerprint(policy: Policy, packed: Sequence[Row], config: WarmstartConfig, seed: int) -> str:
    """Hash of all that a warm start depends on: initial weights, demonstrations as ids, settings."""
    digest = hashlib.sha256(json.dumps([CLONING, asdict(config), seed, torch.__version__], sort_keys=True).encode())
    for name, p in policy.trainable():
        digest.update(name.encode())
        digest.update(p.detach().float().cpu().numpy().tobytes())
    for row in packed:
        digest.update(np.asarray(row.ids, dtype=np.int64).tobytes())
        digest.update(np.asarray(row.targets, dtype=np.int64).tobytes())
    return digest.hexdigest()


def warm_start(
    policy: Policy,
    demonstrations: Sequence[Trajectory],
    config: WarmstartConfig,
    seed: int,
    on_step: Callable[[int, float], None] | None = None,
    cache: Path | None = None,
) -> dict[str, float | str | bool]:
    """Clone the demonstrations into `policy`, or load the cached result. Returns what was done."""
    packed = rows(demonstrations, [0] * len(demonstrations), longest_row=0)
    key = fingerprint(policy, packed, config, seed)
    file = (cache or cache_folder() / "warmstart") / f"{key[:32]}.safetensors"
    names = [name for name, _ in policy.trainable()]
    if file.exists():
        saved = load_file(file)
        if set(saved) == set(names):
            with torch.no_grad():
                for name, p in policy.trainable():
                    p.copy_(saved[name])
            return {"cached": True, "hash": key}
    loss = clone(policy, packed, config, seed, on_step)
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(f".{os.getpid()}.partial")  # another run may be at the same warm start
    save_file({name: p.detach().cpu().contiguous() for name, p in policy.trainable()}, partial)
    partial.replace(file)
    return {"cached": False, "hash": key, "loss": loss}

"""Warm start: behavior cloning of the environment's oracle, so that reinforcement learning begins with some successes.

Demonstrations (`agents.training.demonstrations`) are laid out by the same dialogue and packing as rollouts. The result is
cached by a hash of everything it depends on, the token rows included.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict

import numpy as np
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch.nn import functional

from agents.config.commands import TrainConfig
from agents.config.sections import WarmstartConfig
from agents.models.policy import Policy
from agents.rollout.dialogue import Dialogue
from agents.rollout.turns import Plan
from agents.training.demonstrations import Demonstration, demonstrated
from agents.training.optimizer import Optimizer
from agents.training.packing import Row, laid_out
from agents.training.prefix_tree import padded
from envs.base import TextEnv
from envs.common.cache import cache_folder, keep, kept
from envs.common.seeding import generator
from envs.prompt import Prompt, Window
from envs.trajectory import Step, Trajectory

CLONING = 3
"""Part of the cache's key: to be raised whenever `clone` gives other weights for the same input."""


def as_trajectory(
    demonstration: Demonstration,
    dialogue: Dialogue,
    prompt: Prompt,
    context: str,
    history: int,
) -> Trajectory:
    """A demonstration as the model would have read and written it."""
    trajectory = Trajectory("", "", "", 0, "train", context=context)
    task = prompt.task(demonstration[0][0])
    past: list[tuple[str, str]] = []
    response: list[int] = []
    pursued = ""
    for t, (observation, admissible, valid, action, subgoal) in enumerate(demonstration):
        if context == "window":
            recent = past[-history:] if history else []
            ids = dialogue.window(Window(task, recent, t, observation, admissible, valid, pursued))
        elif t == 0:
            ids = dialogue.opening(observation, admissible)
        else:
            ids = dialogue.turn(observation, admissible, valid, response)
        plan = Plan(subgoal != pursued, subgoal) if prompt.hierarchy else None
        response = [*dialogue.spell(action, admissible, plan), dialogue.stop_ids[0]]
        pursued = subgoal if prompt.hierarchy else ""
        trajectory.steps.append(Step(observation, action, prompt_ids=ids, response_ids=response))
        past.append((observation, dialogue.said(action, admissible)))
    return trajectory


def demonstrations(
    env: TextEnv,
    dialogue: Dialogue,
    prompt: Prompt,
    config: TrainConfig,
    tasks: Sequence[str],
    count: int,
    on_made: Callable[[int], None] | None = None,
) -> list[Trajectory]:
    """`count` demonstrations on `tasks`, careful ones first, in the layout of rollouts.

    Raises Unsolvable or NoOracle if they have none.
    """
    shown = demonstrated(env, config.env, config.warmstart, tasks, count, config.seed, on_made)
    return [as_trajectory(one, dialogue, prompt, config.env.context, config.env.history) for one in shown]


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
    Action tokens weigh 1, the others `observation_weight`. Learning rate: 5% linear warm-up,
    then cosine to a tenth.
    """
    optimizer = Optimizer(policy.trainable, config.lr, betas=(0.9, 0.98), weight_decay=0.01)
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
    ids = torch.from_numpy(padded([row.ids for row in chosen])).long().to(policy.device)
    weight = torch.zeros(ids.shape, device=policy.device)
    for line, row in enumerate(chosen):
        weight[line, 1 : len(row)] = observation_weight
        weight[line, row.targets] = 1.0
    weight[:, 0] = 0.0  # nothing stands before it
    places = weight.view(-1).nonzero()[:, 0]
    logits = policy.forward(ids, None, None, places - 1)
    loss = functional.cross_entropy(logits, ids.view(-1)[places], reduction="none")
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
) -> dict[str, float | str | bool]:
    """Clone the demonstrations into `policy`, or load the cached result. Returns what was done."""
    packed = [row for one in demonstrations for row in laid_out(one)]
    key = fingerprint(policy, packed, config, seed)
    file = cache_folder() / "warmstart" / f"{key[:32]}.weights"
    names = [name for name, _ in policy.trainable()]
    content = kept(file)
    if content is not None:
        saved = load_tensors(content)
        if set(saved) == set(names):
            with torch.no_grad():
                for name, p in policy.trainable():
                    p.copy_(saved[name])
            return {"cached": True, "hash": key}
    loss = clone(policy, packed, config, seed, on_step)
    keep(file, save_tensors({name: p.detach().cpu().contiguous() for name, p in policy.trainable()}))
    return {"cached": False, "hash": key, "loss": loss}


def warm_up(
    policy: Policy,
    env: TextEnv,
    dialogue: Dialogue,
    prompt: Prompt,
    config: TrainConfig,
    progress: Callable[..., None],
) -> bool:
    """The warm start of a training, on its train tasks; returns whether it came from the cache.

    progress: told (stage, done, total), and `loss` where there is one.
    """
    wanted, steps = config.warmstart.demonstrations, config.warmstart.steps

    def made(n: int) -> None:
        if n % 50 == 0 or n == wanted:
            progress("demonstrations", n, wanted)

    shown = demonstrations(env, dialogue, prompt, config, env.tasks("train"), wanted, on_made=made)
    done = warm_start(
        policy,
        shown,
        config.warmstart,
        config.seed,
        lambda step, loss: progress("warm start", step, steps, loss=loss),
    )
    return bool(done["cached"])

"""Updates of the learner by some ranks: `python -m tests.agents.training.ranked FILE RANKS [CASE ...]`; rank 0 writes the file.

The same is done in one process by calling `updated`.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from agents.config.loading import load
from agents.models import ranks
from agents.training.credit import Credit
from agents.training.experience import Experience
from agents.training.learner import Learner
from envs import registry
from tests.agents.parts import opened
from tests.envs import toys

registry.register("hallway", "tests/Hallway-v0", "tests.envs.toys:Corridor", toys.CorridorConfig, toys.CorridorPrompt)

UPDATES = 3
LORA = ("model.lora.enabled=true", "model.lora.r=4", "optim.lr=1e-2")
CASES: dict[str, tuple[str, ...]] = {
    "grpo": ("algo=grpo", "loss.kl.kind=k3", "loss.kl.coefficient=0.1"),
    "gigpo": ("algo=gigpo", "env.context=window"),
    "gigpo, lora": ("algo=gigpo", *LORA),
    "ppo": ("algo=ppo",),
    "ppo, lora": ("algo=ppo", *LORA),
    "ppo, whole critic": ("algo=ppo", "critic.trains=all", "loss.target_kl=10"),
    "oprl": ("algo=oprl",),
    "oprl, lora": ("algo=oprl", *LORA),
    "oprl, copy": ("algo=oprl", "shaping.implicit_prm.kind=copy"),
    "poad": ("algo=poad",),
    "spa": ("algo=spa", "shaping.progress.epochs=2"),
    "hapo": ("algo=hapo", "rollout.temperature_tau=0.3"),
    "gspo": ("algo=gspo", "loss.correction.kind=token"),
}
USUAL = (
    *("env=hallway", "env.max_steps=6", "model.tiny.hidden=32", "model.tiny.intermediate=32", "device=cpu", "threads=1"),
    *("warmstart.enabled=false", "evaluation.episodes=4", "evaluation.repeats=4", "optim.minibatch_episodes=8"),
    *("optim.tokens_per_microbatch=200", "optim.warmup=0", "loss.mismatch_stop=null", "critic.hidden=[16]"),
)


def updated(words: tuple[str, ...]) -> dict[str, Any]:
    """What some updates on the same episodes come to: their metrics, the weights, and all else that the next one depends on."""
    with opened(load([*USUAL, *words])) as parts:
        ranks.alike(parts.policy.model)
        policy, learner = ranks.led(["policy"], parts.policy), ranks.led(["learner"], Learner(parts.policy, parts.config))
        dialogue = parts.sampler.player.dialogue
        credit = Credit(learner, parts.config, lambda: None, dialogue.noted)  # type: ignore[arg-type, return-value]
        learner.shard(False)
        tries = dialogue.tries if parts.config.engine.constrained == "admissible" else None
        experience = Experience.of(parts.evaluation(), tries)
        metrics = []
        for number in range(1, UPDATES + 1):
            shaped = asyncio.run(credit.assign(experience))
            metrics.append(shaped | learner.update(experience, number))
        found = {"metrics": metrics, "weights": policy.weights(), "state": learner.state(), "published": policy.named_tensors()}
        learner.load_state(found["state"])  # each its own part of it
        again = learner.state()
        ranks.release()
        return found | {"again": again}


def follow(words: tuple[str, ...]) -> None:
    """What the other ranks do meanwhile."""
    with opened(load([*USUAL, *words])) as parts:
        ranks.alike(parts.policy.model)
        ranks.follow({"policy": parts.policy, "learner": Learner(parts.policy, parts.config)})


def main(file: Path, count: int, cases: Sequence[str]) -> int:
    """Fork the ranks, when all is imported; returns the exit code."""
    torch.set_num_threads(1)
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    os.environ |= {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    children = []
    for number in range(count):
        if not (child := os.fork()):
            os.environ["RANK"] = str(number)
            _be_rank(file, cases)
            return 0
        children.append(child)
    return max(os.waitpid(child, 0)[1] for child in children) and 1


def _be_rank(file: Path, cases: Sequence[str]) -> None:
    ranks.join(torch.device("cpu"), timeout_s=120)
    found = {}
    for name in cases:
        if ranks.rank() == 0:
            found[name] = updated(CASES[name])
        else:
            follow(CASES[name])
    if ranks.rank() == 0:
        torch.save(found, file)
    ranks.leave()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:] or [*CASES]))

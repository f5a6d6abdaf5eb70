"""Small runs whose credit is known, written as a training writes them, for the tests of the replay."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agents.models import tokenizer
from agents.runs.folder import RunFolder
from envs.trajectory import Step, Trajectory

WORDS = ("open door", "wait", "look", "think", "hard")
SPELLED = tokenizer.build(WORDS)


def step(action: str, credit: dict[str, Any] | None = None, observation: str = "A room with a door.", **more: Any) -> Step:
    """A step whose response are the words of its action and the end token."""
    ids = [*SPELLED(action, add_special_tokens=False).input_ids, SPELLED.eos_token_id]
    values: dict[str, Any] = {"response_ids": ids, "rollout_logprobs": [-0.5] * len(ids), "state_key": "room", **more}
    return Step(observation, action, credit=credit, **values)


def episode(steps: Sequence[Step], group: str = "g0", **more: Any) -> Trajectory:
    """An episode of the task that all of these have."""
    return Trajectory("tests/Room-v0", "task-1", group, seed=0, split="train", steps=list(steps), **more)


def write_run(
    folder: Path, trajectories: Sequence[Trajectory], iteration: int = 1, config: str = "", finished: bool = True
) -> RunFolder:
    """A run's folder with one iteration; an unfinished one has no tokenizer."""
    run = RunFolder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    run.config.write_text(config or "algo:\n  name: method\nenv:\n  name: room\n")
    run.write_trajectories(iteration, trajectories)
    if finished:
        SPELLED.save_pretrained(run.model)
    return run

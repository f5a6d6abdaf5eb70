"""Play an episode with seeded actions, and play it again: here, or in a fresh process."""

from __future__ import annotations

import copy
import json
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from envs.base import SPLITS, TextEnv
from envs.common.seeding import generator

STEPS = 40
"""Longest episode that is played, in steps."""
PROCESS_TIMEOUT = 600.0
"""Seconds for the episodes of a fresh process."""


@dataclass(frozen=True)
class Play:
    """One episode that can be played again: a reset and the actions that follow."""

    seed: int
    task: str | None
    actions: tuple[str, ...] | None = None

    def __str__(self) -> str:
        return f"task {self.task!r}, seed {self.seed}"


Record = dict[str, Any]
"""What one reset or step answered."""


def explore(env: TextEnv, play: Play) -> list[Record]:
    """Play with seeded actions: admissible ones where they are listed, else words of the observation."""
    rng = generator(play.seed, "actions")
    observation, info = env.reset(seed=play.seed, options=None if play.task is None else {"task": play.task})
    records = [{"observation": observation, "info": copy.deepcopy(info)}]
    for _ in range(STEPS):
        allowed = info.get("admissible_actions")
        if allowed is not None and not allowed:
            break
        action = str(rng.choice(np.array(allowed or observation.split() or ["look"], dtype=object)))
        observation, reward, terminated, truncated, info = env.step(action)
        records.append(_record(action, observation, reward, terminated, truncated, info))
        if terminated or truncated:
            break
    return records


def replay(env: TextEnv, play: Play) -> list[Record]:
    """Play the same actions again, until the end of either."""
    return list(replaying(env, play))


def replaying(env: TextEnv, play: Play, given: list[tuple[dict[str, Any], dict[str, Any]]] | None = None) -> Iterator[Record]:
    """The same one by one. `given` gets each info as it was handed out, and a copy of it from then."""
    observation, info = env.reset(seed=play.seed, options=None if play.task is None else {"task": play.task})
    record: Record = {"observation": observation, "info": copy.deepcopy(info)}
    for action in (*(play.actions or ()), None):
        if given is not None:
            given.append((info, record["info"]))
        yield record
        if action is None:
            return
        observation, reward, terminated, truncated, info = env.step(action)
        record = _record(action, observation, reward, terminated, truncated, info)
        if terminated or truncated:
            if given is not None:
                given.append((info, record["info"]))
            yield record
            return


def _record(action: str, observation: Any, reward: Any, terminated: Any, truncated: Any, info: Any) -> Record:
    return {
        "action": action,
        "observation": observation,
        "reward": reward,
        "terminated": terminated,
        "truncated": truncated,
        "info": copy.deepcopy(info),
    }


def spread(tasks: Any, count: int) -> list[str]:
    """`count` tasks spread over a split."""
    return [tasks[n * len(tasks) // count] for n in range(count)]


def in_fresh_process(luggage: bytes) -> str | tuple[dict[str, list[str]], list[list[Record]]]:
    """Splits and episodes as another process sees them, with another order of sets; a text if it fails."""
    program = (
        "import json, sys; sys.path[:] = json.loads(sys.argv[2]); from envs.checker.playing import _child; _child(sys.argv[1])"
    )
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "plan").write_bytes(luggage)
        command = [sys.executable, "-P", "-c", program, folder, json.dumps(sys.path)]
        environment = {**os.environ, "PYTHONHASHSEED": "4711"}
        try:
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PROCESS_TIMEOUT)
        except subprocess.TimeoutExpired:
            return f"it took more than {PROCESS_TIMEOUT:g} s"
        if done.returncode:
            return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        # Pickle is safe here: both processes are ours, and the folder is readable by this user only.
        answer: tuple[dict[str, list[str]], list[list[Record]]] = pickle.loads(Path(folder, "answer").read_bytes())
        return answer


def _child(folder: str) -> None:
    maker, plays = pickle.loads(Path(folder, "plan").read_bytes())
    env = maker()
    splits = {split: list(env.tasks(split)) for split in SPLITS}
    Path(folder, "answer").write_bytes(pickle.dumps((splits, [replay(env, play) for play in plays])))

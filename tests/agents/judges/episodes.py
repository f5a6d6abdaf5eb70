"""Episodes made by hand: a room with a key and a door."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from envs.prompt import Prompt
from envs.trajectory import Step, Trajectory

SUBGOALS = ("pick up the key", "open the door")
TASK = "Your task is to: leave the room."
PROMPT = Prompt()
"""Takes the last line of the first observation for the task."""


def step(observation: str, action: str, reached: Sequence[str] = (), changed: bool = True, **more: Any) -> Step:
    return Step(observation, action, subgoals=list(reached), changed=changed, **{"state_key": observation, **more})


def episode(*steps: Step, final: str | None = "You are outside.", task_id: str = "room-1") -> Trajectory:
    """`final`: the observation after the last step; None: nobody saw it."""
    return Trajectory("tests/Room-v0", task_id, "g0", seed=0, split="train", steps=list(steps), final_observation=final)


def walk() -> Trajectory:
    """Four steps: a key, nothing, a door, the way out."""
    key, both = SUBGOALS[:1], SUBGOALS
    return episode(
        step(f"You see a key.\n{TASK}", "pick up", key),
        step("You carry a key.", "wait", key, changed=False),
        step("You carry a key. A door is closed.", "open", both),
        step("A door is open.", "go", both, terminated=True),
    )


def rooms(count: int) -> list[Trajectory]:
    """Episodes of one step, each with a question of its own."""
    return [episode(step(f"Room {number}.\n{TASK}", "open", SUBGOALS[1:])) for number in range(count)]


def all_moves(count: int) -> list[Trajectory]:
    """`count` different single steps that achieve the key, over and over again different states and actions."""
    states = itertools.islice(itertools.product(range(count), ("north", "south")), count)
    return [episode(step(f"place {place}", action, SUBGOALS[:1])) for place, action in states]

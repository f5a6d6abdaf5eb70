"""Puts an environment where a branch begins: the parent's actions are taken again, and every state must be the parent's.

A replay costs what the environment costs, which is little beside the tokens of one step; no environment needs to be copied.
Where chance decides, it goes on by the branch's own seed from there.
"""

from __future__ import annotations

from typing import Any

from agents.rollout.planner import Branch
from envs.common.seeding import derive
from envs.pool import Slot
from envs.trajectory import Trajectory

Standing = tuple[str, dict[str, Any]]
"""Observation and info with which an environment waits for the next action."""


class BranchError(RuntimeError):
    """An episode cannot be continued from a step: which environment, where, why, and what to do. Ends the run."""


async def begin(slot: Slot, trajectory: Trajectory, branch: Branch | None) -> Standing:
    """Reset, and take the actions of the steps that `trajectory` has already.

    Raises BranchError where the environment does something else than it did, or cannot draw chance anew; EpisodeError.
    """
    observation, info = await slot.reset(seed=trajectory.seed, task=trajectory.task_id)
    if branch is None:
        return observation, info
    seeds = dict(branch.parent.reseeded)
    for number, step in enumerate(trajectory.steps):
        _compare(branch, number, observation, info)
        if number in seeds:
            await _reseed(slot, trajectory, branch, number, seeds[number])
        observation, _, terminated, truncated, info = await slot.step(step.action)
        if terminated or truncated:
            raise _mismatch(branch, number, "the episode ended with this step")
    _compare(branch, branch.step, observation, info)
    if branch.chance:
        await _reseed(slot, trajectory, branch, branch.step, derive(branch.sample_seed, "chance"))
    elif branch.step in seeds:
        await _reseed(slot, trajectory, branch, branch.step, seeds[branch.step])
    return observation, info


async def _reseed(slot: Slot, trajectory: Trajectory, branch: Branch, number: int, seed: int) -> None:
    changed = await slot.reseed(seed)
    if changed == "fixed":
        raise BranchError(
            f"environment {trajectory.env_id} is stochastic and cannot draw chance anew in the middle of an episode: a mean "
            "over continuations would not be one over chance. Implement `chance(rng)` in its class "
            "(docs/add-an-environment.md), or branch with chance=False"
        )
    if changed == "anew":
        trajectory.reseeded.append((number, seed))


def _compare(branch: Branch, number: int, observation: str, info: dict[str, Any]) -> None:
    """Whether the environment stands where the parent did before step `number`."""
    steps, parent = branch.parent.steps, branch.parent
    known = number < len(steps)
    key = steps[number].state_key if known else parent.final_state_key
    seen = steps[number].observation if known else parent.final_observation
    if key and info["state_key"] != key:
        raise _mismatch(branch, number, f"its state is {info['state_key']!r}, and was {key!r}")
    if seen is not None and observation != seen:
        raise _mismatch(branch, number, f"it shows {observation[:200]!r}, and showed {seen[:200]!r}")


def _mismatch(branch: Branch, number: int, how: str) -> BranchError:
    parent = branch.parent
    return BranchError(
        f"environment {parent.env_id}, task {parent.task_id}, seed {parent.seed}: when the actions of {parent.called} were "
        f"taken again it went another way; at step {number} {how}. Continue episodes with the environment's settings that they "
        "were played with; if those are the same, `python -m envs.checker` tells what in the environment is not repeatable"
    )

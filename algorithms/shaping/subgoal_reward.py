"""Rewards for subgoals: the additive form of CALM (arXiv 2409.12798), a potential-based form, and the released code's table."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from algorithms.base import Bools, Floats

Key = TypeVar("Key", bound=Hashable)


def additive(achieved: Bools, coefficient: float, once: bool = True) -> Floats:
    """coefficient * subgoals achieved at each step (the paper's augmented reward). achieved [steps, subgoals] -> [steps].

    once: a subgoal pays only the first time in the episode; without it an agent can be paid for doing one over and over.
    """
    achieved = np.asarray(achieved, bool)
    if once:
        achieved = achieved & (np.cumsum(achieved, axis=0) == 1)
    return coefficient * achieved.sum(axis=1).astype(np.float64)


def potential(achieved: Bools, coefficient: float) -> Floats:
    """Phi = coefficient * subgoals achieved so far: before each step and after the last. [steps, subgoals] -> [steps + 1]."""
    so_far = np.logical_or.accumulate(np.asarray(achieved, bool), axis=0)
    return coefficient * np.append(0.0, so_far.sum(axis=1))


def potential_based(achieved: Bools, coefficient: float, gamma: float, complete: bool = True) -> Floats:
    """F = gamma * Phi(s') - Phi(s) (Ng, Harada and Russell 1999). achieved [steps, subgoals] -> [steps].

    complete: nothing is bootstrapped after the last step, so Phi is 0 there. Then the discounted sum of F from any step on is
    -Phi of its state, whatever is done: the optimal policy stays what it was, if gamma is the discount of the returns.
    """
    phi = potential(achieved, coefficient)
    if complete:
        phi[-1] = 0.0
    return gamma * phi[1:] - phi[:-1]


# -- the released code's reward ---------------------------------------------------------------------------------------------


def count_table(annotations: Iterable[Mapping[Key, Sequence[str]]]) -> dict[Key, float]:
    """How often each (observation, action) was flagged in a data set (answers as `attach` gives them), scaled to 0..1.

    As released: the minimum is over the running counts while the table is built, the maximum over the final ones. Where the
    two are equal (the released code divides by zero) every key gets 1, which is what the largest count always gets.
    """
    counts: dict[Key, int] = {}
    running: list[int] = []
    for annotation in annotations:
        for key, subgoals in annotation.items():
            counts[key] = counts.get(key, 0) + len(subgoals)
            running.append(counts[key])
    low, high = min(running, default=0), max(running, default=0)
    return {key: (count - low) / (high - low) if high > low else 1.0 for key, count in counts.items()}


def table_reward(table: Mapping[Key, float], steps: Sequence[Key], beta: float = 0.1) -> Floats:
    """[S] beta * table entry of each step, 0 for a step without one; every visit pays. beta: the released code's default."""
    return beta * np.array([table.get(step, 0.0) for step in steps], dtype=np.float64)

"""Rewards for subgoals: the additive form of CALM (arXiv 2409.12798), and a potential-based form."""

from __future__ import annotations

import numpy as np

from algorithms.base import Bools, Floats


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

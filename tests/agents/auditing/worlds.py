"""Chains of states whose values are known, and returns drawn from them, for the tests of what an audit computes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from agents.auditing import allocation
from agents.auditing.allocation import Plan
from agents.auditing.states import END, Decisions
from agents.auditing.truth import Returns, Truth, Values
from algorithms.base import Floats, Ints


@dataclass
class Chains:
    """Episodes; those of a group begin in one state. A state's continuations return 1 with its value as chance, else 0."""

    value: Floats
    """[V]"""
    decisions: Decisions

    @classmethod
    def drawn(cls, rng: np.random.Generator, groups: int = 8, size: int = 8, length: int = 12) -> Chains:
        """Values that walk at random within 0 and 1; a third of the steps change nothing."""
        values: list[float] = []
        rows: list[tuple[int, int, int, float]] = []
        for group in range(groups):
            values.append(rng.uniform(0.2, 0.8))
            shared = len(values) - 1
            for member in range(size):
                here = shared
                for t in range(length):
                    last = t == length - 1
                    if last:
                        rows.append((group * size + member, here, END, float(rng.random() < values[here])))
                        break
                    change = 0.0 if rng.random() < 1 / 3 else rng.normal(0, 0.2)
                    values.append(float(np.clip(values[here] + change, 0, 1)))
                    rows.append((group * size + member, here, len(values) - 1, 0.0))
                    here = len(values) - 1
        episode, before, after, reward = (np.array(column) for column in zip(*rows))
        number = np.arange(len(rows))
        tokens = np.stack([number, number + 1], axis=1)
        decisions = Decisions(episode, number, tokens, before, after, reward, np.ones(len(rows)))
        return cls(np.array(values), decisions)

    @property
    def episodes(self) -> int:
        return int(self.decisions.episode.max()) + 1

    @property
    def advantage(self) -> Floats:
        """[D] the true one."""
        decision, state, factor = self.decisions.entries
        return self.decisions.reward + np.bincount(decision, factor * self.value[state], len(self.decisions))

    def audited(self, rng: np.random.Generator, continuations: int = 8, two_stage: bool = True) -> Truth:
        """What so many continuations of a state say."""
        plan, states = Plan.of(continuations), len(self.value)
        uses = self.decisions.uses(states)
        counts = allocation.first_round(uses, plan)
        first = self.played(rng, counts)
        if two_stage:
            left = int(counts.sum() / plan.share - counts.sum())
            counts = allocation.second_round(uses, np.sqrt(first.moderate(states)), left)
        return Truth(self.decisions, Values.of(first, self.played(rng, counts), plan.share, states))

    def played(self, rng: np.random.Generator, counts: Ints) -> Returns:
        """So many continuations of each state."""
        state = np.repeat(np.arange(len(counts)), counts)
        return Returns(state, (rng.random(len(state)) < self.value[state]).astype(np.float64))

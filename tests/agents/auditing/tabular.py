"""A small world of tables: an environment of numbered states, an engine that acts by a table, and the exact values."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest

from agents.config import engines
from agents.config.sections import EngineConfig
from agents.models.policy import Policy
from agents.rollout.constraint import Node
from agents.rollout.engines.base import Completion, Request, uniforms
from agents.rollout.engines.scripted import ScriptedEngine
from algorithms.base import Floats, Ints
from envs import registry
from envs.base import Split, StepResult, TaskError, TextEnv
from envs.common.seeding import generator
from envs.trajectory import Trajectory

STATES, GOAL, PIT = 7, 5, 6
ACTIONS = ("go on", "go back", "rest")
"""Two of them begin alike, so that the first token decides a part."""


@dataclass
class TableConfig:
    max_steps: int = 7
    slips: float = 0.0
    """Probability that a step leads where another action leads."""


@cache
def transitions(task: str) -> Ints:
    """[S, A] the state that each action leads to."""
    draw = generator(0, "table", task)
    found = draw.integers(STATES - 2, size=(STATES, len(ACTIONS)))
    found[draw.integers(STATES - 2, size=2), draw.integers(len(ACTIONS), size=2)] = GOAL
    found[draw.integers(STATES - 2, size=2), draw.integers(len(ACTIONS), size=2)] = PIT
    found[0, 0] = 1  # not all is over with the first step
    return found


@cache
def policy() -> Floats:
    """[S, A] how probable each action is."""
    logits = generator(0, "table", "policy").normal(0, 1.2, size=(STATES, len(ACTIONS)))
    weights = np.exp(logits)
    return weights / weights.sum(axis=1, keepdims=True)


def reward(state: int) -> float:
    """For coming to a state."""
    return 1.0 if state == GOAL else 0.25 if state == 2 else 0.0


class Table(TextEnv):
    """States 0 .. 4, a goal and a pit, in which an episode ends; rewards are at the goal and, every time, in state 2."""

    name = "table"

    def __init__(self, config: TableConfig) -> None:
        super().__init__(config.max_steps)
        self.config = config
        self.stochastic = config.slips > 0  # type: ignore[misc]

    def tasks(self, split: Split) -> Sequence[str]:
        return [f"{split}-{number}" for number in range(40)]

    def start(self, task_id: str, rng: np.random.Generator) -> StepResult:
        if not re.fullmatch(r"(train|eval|test)-\d+", task_id):
            raise TaskError(f"unknown task '{task_id}'")
        self.table, self.rng, self.state = transitions(task_id), rng, 0
        return self._turn()

    def act(self, action: str) -> StepResult:
        if action not in ACTIONS:
            return self._turn(valid=False)
        chosen = ACTIONS.index(action)
        if self.config.slips and self.rng.random() < self.config.slips:
            chosen = int(self.rng.integers(len(ACTIONS)))
        self.state = int(self.table[self.state, chosen])
        return self._turn(came=True)

    def _turn(self, valid: bool = True, came: bool = False) -> StepResult:
        over = self.state in (GOAL, PIT)
        return StepResult(
            observation=f"state {self.state}",
            state_key=self.state,
            reward=reward(self.state) if came else 0.0,
            terminated=over,
            valid=valid,
            success=self.state == GOAL,
            score=float(self.state == GOAL),
            admissible_actions=[] if over else list(ACTIONS),
        )


class TableEngine(ScriptedEngine):
    """Acts by `policy`, token by token, in the state that it read last."""

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self._tokenizer = policy.tokenizer
        self._known: dict[tuple[int, tuple[int, ...]], Floats] = {}

    @classmethod
    def open(cls, policy: Policy, config: EngineConfig) -> TableEngine:
        return cls(policy)

    async def generate(self, request: Request) -> Completion:
        assert request.trie is not None
        text = self._tokenizer.decode(list(request.ids[-12:]), skip_special_tokens=True)
        state = int(re.findall(r"state\s*(\d)", text)[-1])
        ids, logprobs, node = list(request.written), [], request.trie.root
        for token in ids:
            node = node[token]
        while node:
            share = self._shares(state, tuple(ids), node)
            draw = uniforms(np.array([request.seed], np.uint64), np.array([len(ids)], np.uint64))[0]
            place = min(int(np.searchsorted(np.cumsum(share), draw, side="right")), len(node) - 1)
            token = list(node)[place]
            logprobs.append(float(np.log(share[place])))
            ids.append(token)
            node = node[token]
        new = ids[len(request.written) :]
        self._apart.get(request.session, self.stats).sampled_tokens += len(new)
        return Completion(new, logprobs, "stop", [self.weights_version] * len(new))

    def _shares(self, state: int, ids: tuple[int, ...], node: Node) -> Floats:
        """How probable each token of a node is; every state lists the same actions."""
        if (state, ids) not in self._known:
            ways = np.array([sum(self._ways(state, [*ids, token], below)) for token, below in node.items()])
            self._known[state, ids] = ways / ways.sum()
        return self._known[state, ids]

    def _ways(self, state: int, ids: list[int], node: Node) -> list[float]:
        """Probabilities of the actions that can still be said."""
        if not node:
            said = self._tokenizer.decode(ids, skip_special_tokens=True).strip()
            return [float(policy()[state, ACTIONS.index(said)])]
        return [p for token, below in node.items() for p in self._ways(state, [*ids, token], below)]


@cache
def values(task: str, max_steps: int = TableConfig.max_steps, slips: float = 0.0) -> Floats:
    """[max_steps + 1, S] value of each state after so many steps, by dynamic programming."""
    found = np.zeros((max_steps + 1, STATES))
    for t in range(max_steps - 1, -1, -1):
        found[t] = (policy() * action_values(task, t, found, slips)).sum(axis=1)
        found[t, [GOAL, PIT]] = 0.0
    return found


def action_values(task: str, t: int, value: Floats, slips: float = 0.0) -> Floats:
    """[S, A] Q of each action in each state after `t` steps; value: [.., S] of states after more steps."""
    led = transitions(task)
    certain = np.vectorize(reward)(led) + value[t + 1][led]
    return (1 - slips) * certain + slips * certain.mean(axis=1, keepdims=True)


def advantages(trajectories: Sequence[Trajectory], slips: float = 0.0) -> Floats:
    """[S] the true advantage of each step."""
    found = []
    for trajectory in trajectories:
        value, keys = values(trajectory.task_id, slips=slips), [int(step.state_key) for step in trajectory.steps]
        after = [*(value[t + 1, key] for t, key in enumerate(keys[1:])), 0.0]
        found += [s.reward + later - value[t, key] for t, (s, key, later) in enumerate(zip(trajectory.steps, keys, after))]
    return np.array(found)


registry.register("table", "tests/Table-v0", f"{__name__}:Table", TableConfig)


@pytest.fixture(scope="module", autouse=True)
def table_engine() -> Iterator[None]:
    """For a module that imports it: `engine.name=table`."""
    engines.register("table", f"{__name__}:TableEngine")
    yield
    del engines._registry._known["table"]

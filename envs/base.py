"""The contract of a text environment: text in, text out, and per step what credit assignment needs to know.

An environment says what happened in a `StepResult`; `TextEnv` turns that into the gymnasium protocol, counts steps, and keeps
the time limit, so that every environment reports a cut-off in the same way: `truncated`, never `terminated`, never a success.
Nothing here knows of tokens or models.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import gymnasium
import numpy as np
from gymnasium.spaces import Text

from envs.common.seeding import generator
from envs.state_key import state_key

Split = Literal["train", "eval", "test"]
SPLITS: tuple[Split, ...] = ("train", "eval", "test")
Reseeded = Literal["no chance", "anew", "fixed"]
"""What a new seed changed: nothing, as there is no chance; what chance does from now on; nothing, though chance decides."""


class TaskError(ValueError):
    """A task cannot be played: unknown id, or a broken or truncated file. The message names file and place."""


class Unsolvable(TaskError):
    """A task can be played, but its oracle cannot win it. The message says why."""


class NoOracle(NotImplementedError):
    """An environment has no way to demonstrate how its tasks are won."""


class _FreeText(Text):
    """Any string: models write what they like, and an environment must answer it."""

    def __init__(self) -> None:
        super().__init__(max_length=1 << 20, min_length=0)

    def contains(self, x: object) -> bool:
        return isinstance(x, str)


@dataclass(slots=True)
class StepResult:
    """What an environment answers to one action (or to a reset)."""

    observation: str
    state_key: Any
    """Names the underlying state: within a task, equal keys mean that equal actions lead to equal futures. A text; or numbers,
    lists, arrays and dictionaries, which `envs.state_key` turns into one."""
    reward: float = 0.0
    terminated: bool = False
    valid: bool = True
    """False if the action was not understood or not possible; the episode goes on."""
    success: bool = False
    score: float = 0.0
    """Graded outcome in 0..1."""
    admissible_actions: list[str] | None = None
    """Actions that are possible now, or None where they cannot be listed."""
    subgoals: tuple[str, ...] = ()
    """Names of the subgoals achieved so far, by the environment's own rules."""
    changed: bool | None = None
    """False if the action changed nothing that a subgoal depends on (the agent only moved, for example): no judge is asked
    about the step. None: it changed something if the state key changed."""
    frame: str | None = None
    """The state drawn in characters, for people who look at an episode; None if the observation is such a picture itself."""

    def __post_init__(self) -> None:
        self.state_key = state_key(self.state_key)


class TextEnv(gymnasium.Env[str, str]):
    """Base of all environments. A subclass gives `name`, `tasks`, `start` and `act`; nothing else is needed.

    `reset(seed=, options={"task": id})` starts the named task; without one, a task of the train split is drawn from `seed`.
    `step(action)` returns observation, reward, terminated, truncated, info; info holds `task_id`, `state_key`,
    `admissible_actions`, `valid`, `success`, `score`, `subgoals`, `changed` (after a step), `frame` where there is one and,
    when the episode was cut off, `reason`.
    """

    name: ClassVar[str]
    max_steps: int
    """Steps after which an episode is cut off."""
    stochastic: ClassVar[bool] = False
    """True if chance decides what an action does, so that equal states and actions may go on differently."""

    def __init__(self, max_steps: int) -> None:
        if max_steps < 1:
            raise ValueError(f"max_steps is {max_steps}; it must be at least 1")
        self.max_steps = max_steps
        self.observation_space = _FreeText()
        self.action_space = _FreeText()
        self._task_id: str | None = None
        self._rng: np.random.Generator | None = None
        self._state_key = ""
        self._steps = 0
        self._over = True

    # -- what a subclass gives ------------------------------------------------------------------------------------------

    @abstractmethod
    def tasks(self, split: Split) -> Sequence[str]:
        """Task ids of a split, the same on every machine; splits are disjoint."""

    @abstractmethod
    def start(self, task_id: str, rng: np.random.Generator) -> StepResult:
        """Begin `task_id`. All randomness of the episode comes from `rng`. Raises TaskError."""

    @abstractmethod
    def act(self, action: str) -> StepResult:
        """Execute one action; an impossible one is answered with `valid=False`, never with an exception."""

    def chance(self, rng: np.random.Generator) -> None:
        """Let `rng` decide what chance decides from now on; what it has decided before stays. Asked of stochastic environments,
        where an episode is continued in several ways.

        By default the generator that `start` got goes on with the draws of `rng`. An environment that has its chance from
        elsewhere (a library's own dice, numbers drawn in `start`) does it its own way, or raises NotImplementedError.
        """
        assert self._rng is not None
        self._rng.bit_generator.state = rng.bit_generator.state

    def demonstration(self, task_id: str, rng: np.random.Generator) -> list[str]:
        """Actions of an oracle that win `task_id` within the time limit; optional, needed for a warm start only.

        Raises Unsolvable where the task is known not to be winnable.
        """
        raise NoOracle(f"{self.name} has no oracle to clone: set warmstart.enabled=false")

    def imperfect_demonstration(self, task_id: str, rng: np.random.Generator, detours: float, suboptimal: bool) -> list[str]:
        """Actions of a worse demonstrator; optional, for a warm start that leaves something to be learned.

        With probability `detours` a search looks in wrong places first, as an agent does that does not know the answer; one
        that is `suboptimal` does needless things on its way and may run out of time.
        """
        return self.demonstration(task_id, rng)

    def split_hash(self, split: Split) -> str:
        """A hash of a split's tasks: equal hashes mean equal tasks in equal order. A subclass whose tasks depend on more than
        their ids (on the content of a file) hashes that too."""
        return hashlib.sha256("\n".join(self.tasks(split)).encode()).hexdigest()[:16]

    def subgoals(self, task_id: str) -> Sequence[str]:
        """Names of all subgoals of a task that the environment's rules detect, in their usual order; () if there are none."""
        return ()

    def answer(self, task_id: str) -> str | None:
        """The text of a task's true answer: what the agent has to find out, not what it has to do. None: it has none.

        Optional, for methods that follow how likely the policy finds it (igpo)."""
        return None

    def task_type(self, task_id: str) -> str:
        """Kind of a task; success is also reported by kind. The default is one kind, "all"."""
        return "all"

    # -- gymnasium protocol ---------------------------------------------------------------------------------------------

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)
        options = dict(options or {})
        task_id = options.pop("task", None)
        if options:
            raise ValueError(f"unknown reset options {sorted(options)}; allowed: 'task'")
        if task_id is None:
            tasks = self.tasks("train")
            task_id = tasks[int(self.np_random.integers(len(tasks)))]
        rng = generator(seed, self.name, task_id) if seed is not None else self.np_random
        self._rng = rng
        self._over = True  # if the task cannot be started, the episode before is not to be gone on with
        turn = self.start(task_id, rng)
        self._task_id, self._state_key, self._steps, self._over = task_id, turn.state_key, 0, False
        return turn.observation, self._info(turn, truncated=False)

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        if self._over:
            raise RuntimeError(f"{self.name}: step() after the end of the episode; call reset() first")
        turn = self.act(action)
        self._steps += 1
        truncated = not turn.terminated and self._steps >= self.max_steps
        self._over = turn.terminated or truncated
        info = self._info(turn, truncated)
        info["changed"] = turn.success or (turn.state_key != self._state_key if turn.changed is None else turn.changed)
        self._state_key = turn.state_key
        return turn.observation, turn.reward, turn.terminated, truncated, info

    def reseed(self, seed: int) -> Reseeded:
        """In the middle of an episode: what chance does from now on is a function of `seed`, and what has happened stays."""
        if self._over:
            raise RuntimeError(f"{self.name}: reseed() outside of an episode; call reset() first")
        if not self.stochastic:
            return "no chance"
        try:
            self.chance(generator(seed, self.name, "chance"))
        except NotImplementedError:
            return "fixed"
        return "anew"

    def _info(self, turn: StepResult, truncated: bool) -> dict[str, Any]:
        info: dict[str, Any] = {
            "task_id": self._task_id,
            "state_key": turn.state_key,
            "admissible_actions": turn.admissible_actions,
            "valid": turn.valid,
            "success": turn.success and not truncated,
            "score": turn.score,
            "subgoals": turn.subgoals,
        }
        if turn.frame is not None:
            info["frame"] = turn.frame
        if truncated:
            info["reason"] = "time_limit"
        return info

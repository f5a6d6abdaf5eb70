"""Small real environments for the tests: a corridor to walk along, and variants that misbehave in one way each."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from envs.base import Split, StepResult, TaskError, TextEnv
from envs.common.seeding import generator
from envs.prompt import Prompt


@dataclass
class CorridorConfig:
    max_steps: int = 20
    slippery: float = 0.0
    """Probability that a step goes nowhere."""


class Corridor(TextEnv):
    """A corridor of cells; the exit is at one end, and you start somewhere (drawn from the episode's seed)."""

    name = "corridor"

    def __init__(self, config: CorridorConfig) -> None:
        super().__init__(config.max_steps)
        self.config = config

    def tasks(self, split: Split) -> Sequence[str]:
        first = {"train": 3, "eval": 8, "test": 11}[split]
        return [f"length-{n}" for n in range(first, first + 3)]

    def start(self, task_id: str, rng: np.random.Generator) -> StepResult:
        kind, _, number = task_id.partition("-")
        if kind != "length" or not number.isdigit():
            raise TaskError(f"unknown task '{task_id}'; tasks are named length-N")
        self.length, self.rng = int(number), rng
        self.cell = int(rng.integers(1, self.length))
        return self._turn(f"Your task is to leave the corridor of {self.length} cells.")

    def act(self, action: str) -> StepResult:
        move = {"left": -1, "right": 1, "wait": 0}.get(action)
        if move is None:
            return self._turn("Nothing happens.", valid=False)
        if self.rng.random() >= self.config.slippery:
            self.cell = max(0, min(self.length, self.cell + move))
        return self._turn(f"You go {action}." if move else "You wait.")

    def _turn(self, text: str, valid: bool = True) -> StepResult:
        out = self.cell == self.length
        return StepResult(
            observation=f"{text} You are in cell {self.cell}.",
            state_key=f"{self.length}:{self.cell}",
            reward=float(out),
            terminated=out,
            valid=valid,
            success=out,
            score=float(out),
            admissible_actions=[] if out else ["left", "right", "wait"],
            subgoals=("out",) if out else (),
        )


class CorridorPrompt(Prompt):
    def role(self) -> str:
        return "You are walking along a corridor."


class End(BaseException):
    """Nothing that programs catch."""


class Speechless(Exception):
    """Cannot say what it is."""

    def __str__(self) -> str:
        raise ValueError("no words")


class Moody(Corridor):
    """Answers "hang", "die", "raise", "exit", "interrupt", "garbage" and others by doing so."""

    name = "moody"

    def act(self, action: str) -> StepResult:
        if action == "hang":
            time.sleep(3600)
        if action.startswith("nap "):
            time.sleep(float(action[4:]))
        if action == "die":
            os._exit(3)
        if action == "raise":
            raise ZeroDivisionError("the corridor has no end")
        if action == "exit":
            sys.exit(0)
        if action == "end":
            raise End("all")
        if action == "cancel":
            raise asyncio.CancelledError
        if action == "speechless":
            raise Speechless
        if action == "shout":
            raise ValueError("\x1b[2J" + "a" * 1_000_000)
        if action == "interrupt":
            raise KeyboardInterrupt
        if action == "fork" and os.fork() == 0:
            sys.exit(0)
        turn = super().act(action)
        if action == "nan":
            turn.reward = float("nan")
        if action == "garbage":
            turn.observation = type("Local", (str,), {})(turn.observation)  # cannot be pickled
        if action.startswith("child "):
            import subprocess

            Path(action[6:]).write_text(str(subprocess.Popen(["sleep", "3600"]).pid))
        return turn


@dataclass
class MinedConfig(CorridorConfig):
    mine: str = ""
    """What happens at the second step of the mined tasks, as Moody does it."""
    mined: int = 1
    """How many tasks of the train split are mined."""
    train: int = 12
    """Tasks of the train split."""


class Mined(Moody):
    """A corridor some of whose train tasks go wrong; those that would take the training program along go wrong in workers."""

    name = "mined"
    config: MinedConfig

    def tasks(self, split: Split) -> Sequence[str]:
        if split != "train":
            return super().tasks(split)
        return [f"mined-{n}" if n < self.config.mined else f"length-{n + 3}" for n in range(self.config.train)]

    def start(self, task_id: str, rng: np.random.Generator) -> StepResult:
        self.mined = task_id.startswith("mined-")
        return super().start("length-9" if self.mined else task_id, rng)

    def act(self, action: str) -> StepResult:
        spared = "agents" in sys.modules and threading.current_thread() is threading.main_thread()
        goes_off = self.mined and self._steps == 1 and not (spared and self.config.mine in ("die", "hang"))
        return super().act(self.config.mine if goes_off else action)


class HangsAtReset(Corridor):
    name = "hangs-at-reset"

    def start(self, task_id: str, rng: np.random.Generator) -> StepResult:
        if task_id == "length-5":
            time.sleep(3600)
        return super().start(task_id, rng)


class Broken(Corridor):
    """Cannot be made."""

    name = "broken"

    def __init__(self, config: CorridorConfig) -> None:
        raise FileNotFoundError("the map of the corridor is missing")


# -- breaches of the contract, for the checker ------------------------------------------------------------------------------


class LeaksRandomness(Corridor):
    """Slips by a generator that the episode's seed does not reach."""

    name = "leaks-randomness"

    def act(self, action: str) -> StepResult:
        self.rng = np.random.default_rng()
        self.config.slippery = 0.5
        return super().act(action)


class HashOrder(Corridor):
    """Its observation follows the order of a set of strings, which differs between processes."""

    name = "hash-order"

    def _turn(self, text: str, valid: bool = True) -> StepResult:
        turn = super()._turn(text, valid)
        turn.observation += " You see " + ", ".join({"a lamp", "a chair", "a table", "a door", "a window", "a rug"})
        return turn


class LeaksState(Corridor):
    """Counts steps over all episodes of the instance."""

    name = "leaks-state"
    steps = 0

    def act(self, action: str) -> StepResult:
        self.steps += 1
        turn = super().act(action)
        turn.observation += f" ({self.steps} steps)"
        return turn


class NoKey(Corridor):
    name = "no-key"

    def _turn(self, text: str, valid: bool = True) -> StepResult:
        turn = super()._turn(text, valid)
        turn.state_key = ""
        return turn


class HalfACharacter(Corridor):
    """Cuts an observation in the middle of a pair."""

    def start(self, task_id: str, rng: np.random.Generator) -> StepResult:
        turn = super().start(task_id, rng)
        turn.observation += " \ud83d"
        return turn


class CoarseKey(Corridor):
    """Its key does not tell states apart that have different futures."""

    name = "coarse-key"

    def _turn(self, text: str, valid: bool = True) -> StepResult:
        turn = super()._turn(text, valid)
        turn.state_key = "corridor"
        return turn


class Overlapping(Corridor):
    name = "overlapping"

    def tasks(self, split: Split) -> Sequence[str]:
        return ["length-3", "length-4"]


class ShufflesPanels(Corridor):
    """Its splits differ between two instances."""

    name = "shuffles-splits"
    instances = itertools.count()

    def __init__(self, config: CorridorConfig) -> None:
        super().__init__(config)
        self.number = next(self.instances)

    def tasks(self, split: Split) -> Sequence[str]:
        tasks = super().tasks(split)
        return tasks if self.number % 2 else tasks[::-1]


class EarlySuccess(Corridor):
    name = "early-success"

    def _turn(self, text: str, valid: bool = True) -> StepResult:
        turn = super()._turn(text, valid)
        turn.success = True
        return turn


class BigScore(Corridor):
    name = "big-score"

    def _turn(self, text: str, valid: bool = True) -> StepResult:
        turn = super()._turn(text, valid)
        turn.score = 10.0
        return turn


class RefusesItsOwnActions(Corridor):
    name = "refuses"

    def _turn(self, text: str, valid: bool = True) -> StepResult:
        turn = super()._turn(text, valid)
        turn.admissible_actions = ["left", "right", "wait", "fly"]
        return turn


class EndsOnNonsense(Corridor):
    name = "ends-on-nonsense"

    def act(self, action: str) -> StepResult:
        turn = super().act(action)
        turn.terminated = turn.terminated or not turn.valid
        return turn


class RaisesOnNonsense(Corridor):
    name = "raises-on-nonsense"

    def act(self, action: str) -> StepResult:
        if action not in ("left", "right", "wait"):
            raise ValueError(f"what is {action!r}?")
        return super().act(action)


class TimesOutAsTerminated(Corridor):
    """Keeps its own time limit and reports it as an end."""

    name = "times-out-as-terminated"

    def step(self, action: str) -> tuple[str, float, bool, bool, dict]:  # type: ignore[type-arg]
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, reward, terminated or truncated, False, info


class GoesOnAfterTheEnd(Corridor):
    name = "goes-on"

    def step(self, action: str) -> tuple[str, float, bool, bool, dict]:  # type: ignore[type-arg]
        self._over = False
        return super().step(action)


class Slippery(Corridor):
    name = "slippery"
    stochastic = True


class Planned(Slippery):
    """Draws all its chance when it begins."""

    def start(self, task_id: str, rng: np.random.Generator) -> StepResult:
        turn = super().start(task_id, rng)
        self.rng = np.random.default_rng(int(rng.integers(1 << 32)))
        return turn


class Unseeded(Slippery):
    """Draws chance anew by no seed."""

    def chance(self, rng: np.random.Generator) -> None:
        self.rng = np.random.default_rng()


class Shaken(Slippery):
    """Fails when it is to draw chance anew."""

    def chance(self, rng: np.random.Generator) -> None:
        raise ZeroDivisionError("the dice are gone")


class Fixed(Slippery):
    """Cannot draw chance anew."""

    def chance(self, rng: np.random.Generator) -> None:
        raise NotImplementedError


class DrawsGlobalRandom(Corridor):
    name = "draws-global-random"

    def start(self, task_id: str, rng: np.random.Generator) -> StepResult:
        turn = super().start(task_id, rng)
        turn.observation += f" The walls are {random.choice(['red', 'green', 'blue', 'grey', 'white'])}."
        return turn


class DrawsGlobalNumpy(Corridor):
    name = "draws-global-numpy"

    def act(self, action: str) -> StepResult:
        turn = super().act(action)
        turn.observation += f" You hear {np.random.randint(1000)} mice."
        return turn


class DrawsGlobalTorch(Corridor):
    name = "draws-global-torch"

    def act(self, action: str) -> StepResult:
        import torch

        torch.rand(1)
        return super().act(action)


class ConsumesGlobalRandom(Corridor):
    """Its episodes do not depend on what it draws; those of others do."""

    name = "consumes-global-random"

    def act(self, action: str) -> StepResult:
        random.random()
        return super().act(action)


class SeedsGlobalRandom(Corridor):
    """As some libraries do at a reset: reproducible alone, and never beside another."""

    name = "seeds-global-random"

    def start(self, task_id: str, rng: np.random.Generator) -> StepResult:
        random.seed(task_id)
        return super().start(task_id, rng)


class PanelsByGlobalRandom(Corridor):
    name = "splits-by-global-random"
    said: ClassVar[list[str]] = []

    def tasks(self, split: Split) -> Sequence[str]:
        whole = super().tasks(split)
        while (tasks := random.sample(whole, len(whole))) == self.said:
            pass  # one order in six comes twice in a row
        self.said[:] = tasks
        return tasks


class EndsAtOnce(Corridor):
    name = "ends-at-once"

    def act(self, action: str) -> StepResult:
        turn = super().act(action)
        turn.terminated, turn.success, turn.score, turn.reward = turn.valid, False, 0.0, 0.0
        return turn


class NothingToDo(Corridor):
    name = "nothing-to-do"

    def _turn(self, text: str, valid: bool = True) -> StepResult:
        turn = super()._turn(text, valid)
        turn.admissible_actions = []
        return turn


class StopsOnThirdNonsense(Corridor):
    name = "stops-on-third-nonsense"

    def start(self, task_id: str, rng: np.random.Generator) -> StepResult:
        self.nonsense = 0
        return super().start(task_id, rng)

    def act(self, action: str) -> StepResult:
        turn = super().act(action)
        self.nonsense += not turn.valid
        turn.terminated = turn.terminated or self.nonsense == 2
        return turn


class GoesOnAfterTheTimeLimit(Corridor):
    """Nobody ever gets out of it, and nobody is refused."""

    name = "goes-on-after-the-time-limit"

    def __init__(self, config: CorridorConfig) -> None:
        super().__init__(CorridorConfig(max_steps=1000))

    def step(self, action: str) -> tuple[str, float, bool, bool, dict]:  # type: ignore[type-arg]
        self._over = False
        return super().step("wait" if action in ("left", "right") else action)


class SharesItsPlace(Corridor):
    """Where it is, all are."""

    name = "shares-its-place"

    @property
    def cell(self) -> int:
        return SharesItsPlace.place

    @cell.setter
    def cell(self, value: int) -> None:  # type: ignore[override]
        SharesItsPlace.place = value

    place = 0


class RacesInThreads(Corridor):
    """Steps through a note that all instances use, one after another."""

    name = "races-in-threads"
    note = 0

    def act(self, action: str) -> StepResult:
        RacesInThreads.note = self.cell
        time.sleep(0.001)
        self.cell = RacesInThreads.note
        return super().act(action)


class ChangesWhenRead(Corridor):
    name = "changes-when-read"
    read = 0

    def start(self, task_id: str, rng: np.random.Generator) -> StepResult:
        self.read = 0
        return super().start(task_id, rng)

    def task_type(self, task_id: str) -> str:
        self.read += 1
        return "all"

    def _turn(self, text: str, valid: bool = True) -> StepResult:
        turn = super()._turn(text, valid)
        turn.observation += f" {self.read} people know of you."
        return turn


class ReusesItsList(Corridor):
    name = "reuses-its-list"

    def start(self, task_id: str, rng: np.random.Generator) -> StepResult:
        self.actions: list[str] = []
        return super().start(task_id, rng)

    def _turn(self, text: str, valid: bool = True) -> StepResult:
        turn = super()._turn(text, valid)
        self.actions.clear()
        self.actions += turn.admissible_actions or []
        if self.cell == 0 and "left" in self.actions:
            self.actions.remove("left")
        turn.admissible_actions = self.actions
        return turn


class HasALockedTask(Corridor):
    name = "has-a-locked-task"

    def start(self, task_id: str, rng: np.random.Generator) -> StepResult:
        if task_id == "length-9":
            raise TaskError("length-9 is locked")
        return super().start(task_id, rng)


class AnswersText(Corridor):
    name = "answers-text"

    def act(self, action: str) -> StepResult:
        return "You go."  # type: ignore[return-value]


class ListsTuples(Corridor):
    name = "lists-tuples"

    def _turn(self, text: str, valid: bool = True) -> StepResult:
        turn = super()._turn(text, valid)
        turn.admissible_actions = tuple(turn.admissible_actions or ())  # type: ignore[assignment]
        return turn


class WrongFrame(Corridor):
    name = "wrong-frame"

    def _turn(self, text: str, valid: bool = True) -> StepResult:
        turn = super()._turn(text, valid)
        turn.frame = ["#@#"]  # type: ignore[assignment]
        return turn


class WrongChanged(Corridor):
    name = "wrong-changed"

    def act(self, action: str) -> StepResult:
        turn = super().act(action)
        turn.changed = "no"  # type: ignore[assignment]
        return turn


class Lists(Corridor):
    """Lists one more action than there is."""

    name = "lists"
    more = ""

    def _turn(self, text: str, valid: bool = True) -> StepResult:
        turn = super()._turn(text, valid)
        turn.admissible_actions = [*(turn.admissible_actions or []), self.more]
        return turn


class Generous(Corridor):
    """Has every optional part of an environment."""

    name = "generous"

    def __init__(self, config: CorridorConfig) -> None:
        super().__init__(config)
        self.stochastic = config.slippery >= 0  # type: ignore[misc]

    def demonstration(self, task_id: str, rng: np.random.Generator) -> list[str]:
        return ["right"] * 12

    def imperfect_demonstration(self, task_id: str, rng: np.random.Generator, detours: float, suboptimal: bool) -> list[str]:
        return ["left", *self.demonstration(task_id, rng)]

    def answer(self, task_id: str) -> str | None:
        return "right"

    def task_type(self, task_id: str) -> str:
        return "long" if len(task_id) > 8 else "short"

    def subgoals(self, task_id: str) -> Sequence[str]:
        return ("out",)

    def split_hash(self, split: Split) -> str:
        return super().split_hash(split)

    def chance(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def _turn(self, text: str, valid: bool = True) -> StepResult:
        turn = super()._turn(text, valid)
        turn.frame, turn.changed = "." * self.cell + "@", valid
        return turn


class GenerousPrompt(Prompt):
    """Has every optional part of a prompt."""

    stop = ("</do>",)
    answer_lead = "The exit is "

    def parse(self, text: str) -> str | None:
        return text.strip() or None

    def plain(self, observation: str) -> str:
        return observation.lower()

    def legend(self, observation: str) -> str:
        return "@ you"

    def lexicon(self) -> tuple[Sequence[str], Sequence[str]]:
        return ["You are in cell"], []


@dataclass
class DrawersConfig:
    max_steps: int = 6


class Drawers(TextEnv):
    """A question with an answer that has to be found: which color the ball has that lies in one of three drawers."""

    name = "drawers"
    colors = ("red", "green", "blue", "white")

    def __init__(self, config: DrawersConfig) -> None:
        super().__init__(config.max_steps)

    def tasks(self, split: Split) -> Sequence[str]:
        first = {"train": 0, "eval": 64, "test": 96}[split]
        return [f"ball-{n}" for n in range(first, first + (64 if split == "train" else 32))]

    def answer(self, task_id: str) -> str:
        return self._ball(task_id)[0]

    def demonstration(self, task_id: str, rng: np.random.Generator) -> list[str]:
        color, drawer = self._ball(task_id)
        return [*(f"open drawer {n}" for n in range(1, drawer + 1)), f"answer {color}"]

    def start(self, task_id: str, rng: np.random.Generator) -> StepResult:
        self.ball = self._ball(task_id)
        self.opened: tuple[int, ...] = ()
        return self._turn("Your task is to say which color the ball has.")

    def act(self, action: str) -> StepResult:
        kind, _, what = action.partition(" ")
        if kind == "answer" and what in self.colors:
            return self._turn("So it was." if what == self.ball[0] else "It was not.", over=True, won=what == self.ball[0])
        if action not in self._drawers():
            return self._turn("Nothing happens.", valid=False)
        drawer = int(action[-1])
        self.opened = tuple(sorted({*self.opened, drawer}))
        here = drawer == self.ball[1]
        return self._turn(f"In drawer {drawer} lies a {self.ball[0]} ball." if here else f"Drawer {drawer} is empty.")

    def _ball(self, task_id: str) -> tuple[str, int]:
        kind, _, number = task_id.partition("-")
        if kind != "ball" or not number.isdigit() or int(number) >= 128:
            raise TaskError(f"unknown task '{task_id}'; tasks are named ball-0 to ball-127")
        color, drawer = generator(0, "drawers", task_id).integers([len(self.colors), 3])
        return self.colors[color], int(drawer) + 1

    def _drawers(self) -> list[str]:
        return [f"open drawer {n}" for n in (1, 2, 3)]

    def _turn(self, text: str, valid: bool = True, over: bool = False, won: bool = False) -> StepResult:
        return StepResult(
            observation=text,
            state_key=f"{self.ball} {self.opened} {over}",
            reward=float(won),
            terminated=over,
            valid=valid,
            success=won,
            score=float(won),
            admissible_actions=[] if over else [*self._drawers(), *(f"answer {color}" for color in self.colors)],
        )


class AnswersInNumbers(Drawers):
    """Gives an answer that is no text."""

    def answer(self, task_id: str) -> str:
        return 7  # type: ignore[return-value]


class DrawersPrompt(Prompt):
    answer_lead = "answer "

    def role(self) -> str:
        return "You look for a ball."

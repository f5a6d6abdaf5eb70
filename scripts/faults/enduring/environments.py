"""The built-in environments, which fail on request: what is asked for goes wrong at the next step of a training episode.

Importing this registers them as disturbed/alfworld, disturbed/webshop and disturbed/minihack.
"""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import numpy as np

from envs import StepResult, TextEnv, register
from envs.alfworld.env import ALFWorldEnv
from envs.minihack.env import MiniHackEnv
from envs.webshop.env import WebShopEnv

FOLDER = "STEPCREDIT_DISTURBANCES"
"""Environment variable: the folder with the request."""


def ask(folder: Path, failure: str) -> Path:
    """Have the next step fail; the file that is returned exists until then."""
    (folder / "asking").write_text(failure)
    return (folder / "asking").rename(folder / "asked")


def _asked() -> str | None:
    """The failure that is asked for, told to the first who looks."""
    folder = Path(os.environ[FOLDER])
    try:
        return (folder / "asked").rename(folder / "given").read_text()
    except FileNotFoundError:
        return None


def _raise() -> None:
    raise ZeroDivisionError("the floor gives way")


def _exit() -> None:
    raise SystemExit("the game is over")


FAILURES: dict[str, Callable[[], None]] = {
    "exception": _raise,
    "exit": _exit,
    "crash": lambda: os._exit(3),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "hang": lambda: time.sleep(3600),
}
NOT_FINITE = "reward"


class Disturbed(TextEnv):
    """Fails when it is asked to."""

    @cached_property
    def _trained(self) -> frozenset[str]:
        return frozenset(self.tasks("train"))

    def start(self, task_id: str, rng: np.random.Generator) -> StepResult:
        self._training = task_id in self._trained
        return super().start(task_id, rng)

    def act(self, action: str) -> StepResult:
        failure = _asked() if self._training else None
        if failure in FAILURES:
            FAILURES[failure]()
        turn = super().act(action)
        if failure == NOT_FINITE:
            turn.reward = math.inf
        return turn


class Household(Disturbed, ALFWorldEnv):
    name = "disturbed/alfworld"


class Shop(Disturbed, WebShopEnv):
    name = "disturbed/webshop"


class Dungeon(Disturbed, MiniHackEnv):
    name = "disturbed/minihack"


for kind, module, prefix in (
    (Household, "alfworld", "ALFWorld"),
    (Shop, "webshop", "WebShop"),
    (Dungeon, "minihack", "MiniHack"),
):
    register(
        name=kind.name,
        id=f"disturbed/{prefix}-v0",
        env=kind,
        config=f"envs.{module}.config:{prefix}Config",
        prompt=f"envs.{module}.prompt:{prefix}Prompt",
    )

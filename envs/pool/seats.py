"""The environments that one worker holds, by seat number, and how a command to one of them is answered.

Runs inside a worker (thread or process) or, for `inline`, right in the rollout. Which worker and for how long is left
to `envs.pool`.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

from envs import answers
from envs.answers import Reset, Result
from envs.base import Reseeded, TextEnv
from envs.common.text import printable, said

Command = tuple[Any, ...]
"""("reset", seat, seed, task), ("step", seat, action), ("reseed", seat, seed) or ("release", seat)."""
Outcome = tuple[bool, Any]
"""(True, answer) or (False, (message, traceback))."""
LONGEST = 20_000
"""Characters of a traceback that are kept, its last ones."""


class Seats:
    """Environments in use and spare ones; a spare one is used again, one that raised is not."""

    def __init__(self, make: Callable[[], TextEnv]) -> None:
        self._make = make
        self._used: dict[int, TextEnv] = {}
        self._spare: list[TextEnv] = []

    def warm_up(self) -> None:
        """Make the first environment, so that imports and data are there before an episode's clock runs."""
        self._spare.append(self._make())

    def reset(self, seat: int, seed: int | None, task: str | None) -> Reset:
        """Begin an episode in `seat`; whatever the environment raises is raised, and the environment dropped."""
        env = self._used.get(seat)
        if env is None:
            env = self._used[seat] = self._spare.pop() if self._spare else self._make()
        try:
            return answers.reset(env, seed, task)
        except BaseException:
            self.drop(seat)
            raise

    def step(self, seat: int, action: str) -> Result:
        """One step of the episode in `seat`; whatever the environment raises is raised, and the environment dropped."""
        try:
            return answers.step(self._used[seat], action)
        except BaseException:
            self.drop(seat)
            raise

    def reseed(self, seat: int, seed: int) -> Reseeded:
        """New chance for the episode in `seat`; whatever the environment raises is raised, and the environment dropped."""
        try:
            return self._used[seat].reseed(seed)
        except BaseException:
            self.drop(seat)
            raise

    def release(self, seat: int) -> None:
        """Give the seat up; its environment becomes a spare one."""
        env = self._used.pop(seat, None)
        if env is not None:
            self._spare.append(env)

    def drop(self, seat: int) -> None:
        """Forget the environment in `seat`: after an exception its state is unknown."""
        self._used.pop(seat, None)

    def hand_over(self, kept: set[int], hung: int) -> Seats:
        """The same environments for another worker, save the one in seat `hung`; used ones outside `kept` become spare."""
        other = Seats(self._make)
        other._used = {number: env for number, env in self._used.items() if number in kept}
        given_up = [env for number, env in self._used.items() if number not in kept and number != hung]
        other._spare = [*self._spare, *given_up]
        return other

    def run(self, command: Command) -> Outcome:
        """Carry out a command; whatever the environment raises is an outcome: in a worker nobody else has anything to raise."""
        operation, *arguments = command
        try:
            return True, getattr(self, operation)(*arguments)
        except BaseException as error:
            return False, describe(error)

    def close(self) -> None:
        """Close every environment; one that cannot be closed keeps no other from it."""
        for env in [*self._used.values(), *self._spare]:
            answers.close(env)
        self._used.clear()
        self._spare.clear()


def describe(error: BaseException) -> tuple[str, str]:
    """Message and traceback of an exception, as text that can travel and be written."""
    trace = "".join(traceback.format_exception(error))
    return f"{type(error).__name__}: {said(error)}".removesuffix(": "), printable(trace[-LONGEST:])

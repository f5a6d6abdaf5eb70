"""Which tasks fail again and again: they are set aside, so that the run does not go on losing time and neighbors to them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

log = logging.getLogger("stepcredit.rollout")


@dataclass(slots=True)
class Faults:
    """Holds how often in a row each task's environment failed by the task's own fault, and the tasks that are set aside."""

    limit: int
    """Faults in a row after which a task is set aside; 0: never."""
    say: Callable[[str], None] = log.warning
    """Told once of each task that is set aside."""
    set_aside: dict[str, str] = field(default_factory=dict)
    """Each such task, and its last fault."""
    _in_a_row: Counter[str] = field(default_factory=Counter)

    def failed(self, task_id: str, error: str) -> None:
        """Count a fault of the task's own."""
        self._in_a_row[task_id] += 1
        if self.limit and self._in_a_row[task_id] >= self.limit and task_id not in self.set_aside:
            self.set_aside[task_id] = error
            self.say(
                f"task {task_id} is set aside for the rest of the run: its environment failed {self.limit} times in a row, the "
                f"last time with {error}. Mend or leave out that task; env.pool.set_aside says after how many faults"
            )

    def ended(self, task_id: str) -> None:
        """Note that an episode of the task ended without a fault."""
        self._in_a_row.pop(task_id, None)

    def state(self) -> dict[str, Any]:
        """What a resumed run goes on with."""
        return {"set_aside": dict(self.set_aside), "in_a_row": dict(self._in_a_row)}

    def load_state(self, state: dict[str, Any]) -> None:
        self.set_aside, self._in_a_row = dict(state["set_aside"]), Counter(state["in_a_row"])

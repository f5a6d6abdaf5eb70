"""What an environment reports of each step, as numbers that written reward factors (`expressions`) may speak of.

Neither reward nor outcome is among it: a factor that knew them would explain a return by itself.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from functools import cached_property

import numpy as np

from algorithms.batch import Batch, Floats
from algorithms.segments import reached
from envs.trajectory import Step

LONGEST_READ = 10_000
"""Characters of an observation in which texts are looked for."""

NAMES = {
    "time": "steps taken before this one",
    "valid": "1 if the action was accepted, else 0",
    "changed": "1 if the step changed anything, else 0",
    "subgoals": "subgoals achieved so far, by this step too",
    "new_subgoals": "subgoals that this step achieved first",
    "actions": "actions that were possible, 0 if they cannot be listed",
    "visits": "how often this state was met before in the episode",
    "returned": "1 if the step led to a state that was met before in the episode, else 0",
    "repeats": "how often this action was taken before in the episode",
    "words": "words of what was seen before the action",
}
"""Names, and what they mean."""
ASKED = {
    "seen": "how often the text stands in what was seen before the action",
    "found": "how often the text stands in what was seen after the action",
    "did": "how often the text stands in the action",
    "reached": "1 if the subgoal of this name is achieved by now, else 0",
    "number": "the first number behind the text in what was seen before the action, 0 if there is none",
}
"""Functions of a text in quotes, and what they give. Capitals do not matter."""


class Facts:
    """The facts of a batch's steps, each computed once, when it is first asked for. Needs `batch.trajectories`."""

    def __init__(self, batch: Batch) -> None:
        self.steps = len(batch.reward)
        """S"""
        self._batch = batch
        self._known: dict[tuple[str, str], Floats] = {}

    def column(self, name: str) -> Floats:
        """[S] the fact of a name of NAMES."""
        return self._kept((name, ""), lambda: self._columns[name])

    def ask(self, function: str, text: str) -> Floats:
        """[S] what a function of ASKED says of a text."""
        return self._kept((function, text.casefold()), lambda: self._asked(function, text.casefold()))

    def _kept(self, key: tuple[str, str], make: Callable[[], Floats]) -> Floats:
        if key not in self._known:
            self._known[key] = make()
        return self._known[key]

    @cached_property
    def _all(self) -> list[Step]:
        return [step for trajectory in self._batch.trajectories for step in trajectory.steps]

    @cached_property
    def _texts(self) -> dict[str, list[str]]:
        """[S] what was seen before and after each step, and what was done."""
        seen, found = [], []
        for trajectory in self._batch.trajectories:
            observations = [step.observation[:LONGEST_READ].casefold() for step in trajectory.steps]
            seen += observations
            found += [*observations[1:], (trajectory.final_observation or "")[:LONGEST_READ].casefold()]
        return {"seen": seen, "found": found, "did": [step.action[:LONGEST_READ].casefold() for step in self._all]}

    @cached_property
    def _columns(self) -> dict[str, Floats]:
        rows: dict[str, list[float]] = {name: [] for name in NAMES}
        for trajectory in self._batch.trajectories:
            states: Counter[str] = Counter()
            actions: Counter[str] = Counter()
            after = [*(step.state_key for step in trajectory.steps[1:]), trajectory.final_state_key]
            for t, (step, new, key) in enumerate(zip(trajectory.steps, reached(trajectory.steps, "subgoals"), after)):
                rows["time"].append(t)
                rows["valid"].append(step.valid)
                rows["changed"].append(step.changed)
                rows["subgoals"].append(len(step.subgoals))
                rows["new_subgoals"].append(len(new))
                rows["actions"].append(len(step.admissible_actions or ()))
                rows["visits"].append(states[step.state_key] if step.state_key else 0)
                states[step.state_key] += 1
                rows["returned"].append(bool(key) and states[key] > 0)
                rows["repeats"].append(actions[step.action])
                actions[step.action] += 1
                rows["words"].append(len(step.observation[:LONGEST_READ].split()))
        return {name: np.array(values, dtype=np.float64) for name, values in rows.items()}

    def _asked(self, function: str, text: str) -> Floats:
        if function == "reached":
            found = [any(name.casefold() == text for name in step.subgoals) for step in self._all]
        elif function == "number":
            behind = re.compile(re.escape(text) + r"\W{0,3}?(-?\d{1,9}(?:\.\d{1,9})?)")
            matches = map(behind.search, self._texts["seen"])
            return np.array([float(match[1]) if match else 0.0 for match in matches], dtype=np.float64)
        else:
            found = [one.count(text) for one in self._texts[function]]  # type: ignore[misc]
        return np.array(found, dtype=np.float64)

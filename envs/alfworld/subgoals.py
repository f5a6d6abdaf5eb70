"""Milestones of an ALFWorld task, by rules on the engine's state: what shaping and reports call progress.

They are monotone: what was once reached stays reached, even if it is undone. The last one is the win itself, so that all are
reached exactly in games that were won. They never change a reward.
"""

from __future__ import annotations

from envs.alfworld.engine import Engine
from envs.alfworld.game import Game
from envs.alfworld.goals import CHANGES, TaskType

NAMES: dict[TaskType, tuple[str, ...]] = {
    "pick_and_place_simple": ("hold target", "place target"),
    "look_at_obj_in_light": ("hold target", "lamp on", "target in light"),
    "pick_clean_then_place_in_recep": ("hold target", "clean target", "place target"),
    "pick_heat_then_place_in_recep": ("hold target", "heat target", "place target"),
    "pick_cool_then_place_in_recep": ("hold target", "cool target", "place target"),
    "pick_two_obj_and_place": ("hold first", "place first", "hold second", "place second"),
}


class Subgoals:
    """The milestones of one episode; make a new one at a reset."""

    def __init__(self, game: Game) -> None:
        goal = game.goal
        self.names = NAMES[goal.task_type]
        ability, self._state = CHANGES.get(goal.task_type, ("", ""))
        self._two = goal.task_type == "pick_two_obj_and_place"
        self._targets = frozenset(
            i for i, item in enumerate(game.objects) if item.type == goal.object and (not ability or ability in item.abilities)
        )
        self._lamps = frozenset(i for i, item in enumerate(game.objects) if item.type == goal.lamp)
        self._ends = frozenset(i for i, receptacle in enumerate(game.receptacles) if receptacle.type == goal.receptacle)
        self._reached = [False] * len(self.names)

    def update(self, engine: Engine) -> tuple[str, ...]:
        """Names of the milestones reached so far, in the task's order; to be called after the reset and after every step."""
        reached = self._reached
        if engine.won:
            reached[:] = [True] * len(reached)
        elif self._two:
            placed = any(not self._ends.isdisjoint(engine.places[i]) for i in self._targets)
            if placed:
                reached[0] = reached[1] = True
            if engine.held in self._targets:
                reached[2 if placed else 0] = True
        else:
            if engine.held in self._targets:
                reached[0] = True
            if self._changed(engine):
                reached[1] = True
        return tuple(name for name, done in zip(self.names, reached) if done)

    def _changed(self, engine: Engine) -> bool:
        """Whether the middle milestone of three holds now: target clean, hot or cool, or lamp on."""
        if self._state:
            marks = {"isClean": engine.clean, "isHot": engine.hot, "isCool": engine.cool}[self._state]
            return not self._targets.isdisjoint(marks)
        return not self._lamps.isdisjoint(engine.toggled)

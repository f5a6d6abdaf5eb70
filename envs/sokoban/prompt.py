"""How a model sees Sokoban: the role, what can be done, and a short form of observations for a model made for them."""

from __future__ import annotations

from collections.abc import Sequence

from envs.prompt import Prompt, Window
from envs.sokoban import observation as o
from envs.sokoban.board import ACTIONS, WAYS, Room, cells
from envs.sokoban.config import SIZES


class SokobanPrompt(Prompt):
    """Texts of Sokoban."""

    refusal = "That was none of the possible actions."

    def role(self) -> str:
        """What the agent is, and the rules."""
        return (
            "You play Sokoban: push every box onto a target. You move up, down, left or right by one cell; moving into a box "
            "pushes it one cell further, if the cell behind it is free. You cannot pull, push two boxes at once, or pass "
            "walls. A box in a corner stays there, so look ahead before you push."
        )

    def task(self, observation: str) -> str:
        """The task's own words, out of the first observation."""
        first = observation.partition("\n")[0]
        return first.removeprefix(f"{o.TASK}: ") if first.startswith(f"{o.TASK}: ") else ""

    def window(self, now: Window) -> str:
        """The whole prompt, rebuilt for one step: task, last turns, the level, what can be done."""
        return self.rebuilt(now, "The task", "what you saw and what you did", "you see now:\n", _untold)

    def listing(self, admissible: Sequence[str] | None) -> str:
        """The possible actions on one line, or nothing where the episode is over."""
        return f"\nPossible actions: {', '.join(admissible)}" if admissible else ""

    def plain(self, observation: str) -> str:
        """Each box as seen from the player, the nearest free target as seen from the box, and in which ways a wall or a box is
        beside them. Walls further away are left out; an observation without a level stays as it is."""
        level = o.read(observation)
        if level is None:
            return observation
        room, (player, boxes) = level.room, level.start
        parts = [f"you {_barred(room, boxes, player)}"]
        for box in cells(boxes):
            on_target = room.targets >> box & 1
            target = (
                box if on_target else min(cells(room.targets & ~boxes), key=lambda cell: sum(map(abs, _apart(room, box, cell))))
            )
            parts.append(f"box {_way(room, player, box)} {_barred(room, boxes, box)} target {_way(room, box, target)}")
        return "\n".join(parts)

    def legend(self, observation: str) -> str:
        """What the symbols of the map mean, unless the observation says it itself."""
        return o.SYMBOLS if f"{o.BOARD}:" in observation and f"{o.LEGEND}:" not in observation else ""

    def lexicon(self) -> tuple[Sequence[str], Sequence[str]]:
        """(stock phrases, further words): ways with distances are most of the language."""
        ways = [f"{way} {distance}" for way in WAYS for distance in range(1, SIZES[-1])]
        return (), [*ACTIONS, *ways, "you", "box", "target", "beside", "nothing", "here"]


def _barred(room: Room, boxes: int, cell: int) -> str:
    """In which ways a wall or a box stands next to a cell."""
    ways = [way for way, ahead in room.ahead.items() if ahead[cell] < 0 or boxes >> ahead[cell] & 1]
    return f"beside {' '.join(ways) or 'nothing'}"


def _apart(room: Room, one: int, other: int) -> tuple[int, int]:
    (row, column), (to_row, to_column) = room.place(one), room.place(other)
    return to_row - row, to_column - column


def _way(room: Room, one: int, other: int) -> str:
    down, right = _apart(room, one, other)
    words = [f"{'down' if down > 0 else 'up'} {abs(down)}"] if down else []
    words += [f"{'right' if right > 0 else 'left'} {abs(right)}"] if right else []
    return " ".join(words) or "here"


def _untold(observation: str) -> str:
    """An observation for a prompt that states the task by itself."""
    first, _, rest = observation.partition("\n")
    return rest if first.startswith(f"{o.TASK}:") else observation

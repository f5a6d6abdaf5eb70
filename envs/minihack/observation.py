"""A scene in words: one line or block each for message, map, legend, surroundings, things in sight, inventory, status.

    Message: You see here a key.
    Next to you: north wall, east floor, south closed door, west unknown
    You see: staircase down north 2 east 1; boulder west 3

Which of them are said is chosen in the settings. The lines that `prompt` reads back begin with the names given here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

from envs.minihack.config import MiniHackConfig
from envs.minihack.game import End
from envs.minihack.looks import BLANK, LOOKS
from envs.minihack.scene import WAYS, Item, Scene

TASK, MESSAGE, MAP, LEGEND, AROUND, UNDER = "Task", "Message", "Map", "Legend", "Next to you", "Under you"
THINGS, CARRIED, PICKED_UP, STATUS, LAST = "You see", "You carry", "Picked up", "Status", "Last action"
CROP = 4
"""Cells that a cropped map shows on each side of the agent."""
SHOWN_OF_A_KIND = 3
"""Things of one description that are listed, the nearest; of the others only the number is told."""
YOU = "you"
HERE = -1
"""No look's number: that of the agent, whatever it looks like."""
SHORT = {"floor of a room": "floor", "dark part of a room": "dark floor", "": "unknown"}
_ARTICLE = re.compile(r"^(?:an?|the) ")
_HUNGER = {0: "satiated", 2: "hungry", 3: "weak with hunger", 4: "fainting", 5: "fainted", 6: "starved"}
_CONDITIONS = (
    *("turning to stone", "turning to slime", "strangled", "food poisoned", "terminally ill", "blind", "deaf", "stunned"),
    *("confused", "hallucinating", "levitating", "flying", "riding"),
)
"""By the bits of the status line's mask, the lowest first."""


def render(scene: Scene, config: MiniHackConfig, actions: Iterable[str], last_action: str | None, end: End | None) -> str:
    """The text of a scene. actions: names of the level's, whose directions are described; last_action: None after a reset.

    When a game has ended, NetHack shows neither map nor message nor status any more, only what is carried.
    """
    lines: list[str] = []
    if config.message and scene.message:
        lines.append(f"{MESSAGE}: {' '.join(scene.message.split())}")
    if end is not None:
        lines.append(f"The game is over: you have {end}.")
        return "\n".join(lines + _carried(scene, config) + _done(config, last_action))
    if config.map != "none":
        cells = cropped(scene) if config.map == "crop" else known(scene)
        lines += [f"{MAP}:", *drawn(scene, cells)]
        if config.legend:
            lines.append(f"{LEGEND}: {legend(scene, cells)}")
    if config.surroundings:
        lines.append(f"{AROUND}: {', '.join(f'{way} {word}' for way, word in around(scene, actions).items())}")
        lines += [f"{UNDER}: {_word(scene.beneath)}"] if scene.beneath else []
    if config.objects:
        lines.append(f"{THINGS}: {'; '.join(things(scene)) or 'nothing'}")
    lines += _carried(scene, config)
    if config.status:
        lines.append(f"{STATUS}: {status(scene)}")
    return "\n".join(lines + _done(config, last_action))


def _carried(scene: Scene, config: MiniHackConfig) -> list[str]:
    if not config.inventory:
        return []
    lines = [f"{CARRIED}: {_listed(scene.inventory) or 'nothing'}"]
    return [*lines, f"{PICKED_UP}: {_listed(scene.picked_up)}"] if scene.picked_up else lines


def _listed(items: Iterable[Item]) -> str:
    return "; ".join(f"{letter}: {text}" for letter, text in items)


def _done(config: MiniHackConfig, last_action: str | None) -> list[str]:
    return [f"{LAST}: {last_action}"] if config.last_action and last_action is not None else []


Cells = tuple[slice, slice]
"""Rows and columns of a part of the map; may reach beyond its edge."""


def cropped(scene: Scene) -> Cells:
    """The part of the map around the agent."""
    row, column = scene.place
    return slice(row - CROP, row + CROP + 1), slice(column - CROP, column + CROP + 1)


def known(scene: Scene) -> Cells:
    """The smallest part of the map that holds all that is known of it."""
    there = scene.chars != ord(BLANK)
    (rows,), (columns,) = there.any(axis=1).nonzero(), there.any(axis=0).nonzero()
    if not len(rows):
        return slice(0, 0), slice(0, 0)
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def drawn(scene: Scene, cells: Cells) -> list[str]:
    """The rows of a part of the map, in NetHack's characters."""
    rows, columns = cells
    top, left = max(rows.start, 0), max(columns.start, 0)
    part = scene.chars[top : rows.stop, left : columns.stop]
    shown, width, beyond = part.tobytes().decode("latin-1"), part.shape[1], " " * (left - columns.start)
    lines = [(beyond + shown[at : at + width]).rstrip() for at in range(0, len(shown), width or 1)]
    return [""] * (top - rows.start) + lines + [""] * (rows.stop - top - len(lines))


def legend(scene: Scene, cells: Cells) -> str:
    """What the characters of a part of the map mean there: "@ you, + closed door"."""
    rows, columns = cells
    top, left = max(rows.start, 0), max(columns.start, 0)
    part = scene.looks[top : rows.stop, left : columns.stop]
    numbers = part.ravel().tolist()
    row, column = scene.place
    if top <= row < rows.stop and left <= column < columns.stop:
        numbers[(row - top) * part.shape[1] + column - left] = HERE
    return _meanings(tuple(dict.fromkeys(numbers)), chr(scene.chars[row, column]))


@lru_cache(maxsize=4096)
def _meanings(looks: tuple[int, ...], you: str) -> str:
    meanings: dict[str, dict[str, None]] = {}
    for number in looks:
        character, word = LOOKS.of[number] if number != HERE else (you, YOU)
        if character != BLANK:
            meanings.setdefault(character, {})[_word(word)] = None
    return ", ".join(f"{character} {' or '.join(words)}" for character, words in meanings.items())


def around(scene: Scene, actions: Iterable[str]) -> Mapping[str, str]:
    """What is on each neighboring cell that an action leads to."""
    row, column = scene.place
    return {way: _word(scene.described(row + down, column + right)) for way, (down, right) in WAYS.items() if way in actions}


def things(scene: Scene) -> list[str]:
    """Things, creatures, doors and stairs in sight or remembered, the nearest first, with the way: "boulder north 2 east 1"."""
    row, column = place = scene.place
    found = [
        (max(abs(r - row), abs(c - column)), r, c, _word(word)) for (r, c), word in scene.things.items() if (r, c) != place
    ]
    listed: list[str] = []
    count: dict[str, int] = {}
    for _, r, c, word in sorted(found):
        count[word] = count.get(word, 0) + 1
        if count[word] <= SHOWN_OF_A_KIND:
            listed.append(f"{word} {_way(r - row, c - column)}")
    return listed + [f"{n - SHOWN_OF_A_KIND} more of {word}" for word, n in count.items() if n > SHOWN_OF_A_KIND]


def status(scene: Scene) -> str:
    """Hit points, and what ails the agent."""
    said = [f"hit points {scene.stats[10]} of {scene.stats[11]}"]
    said += [_HUNGER[hunger] for hunger in [int(scene.stats[21])] if hunger in _HUNGER]
    said += [word for bit, word in enumerate(_CONDITIONS) if int(scene.stats[25]) >> bit & 1]
    return ", ".join(said)


def frame(scene: Scene) -> str:
    """The scene as people look at it: message, map, status."""
    return "\n".join([scene.message, *drawn(scene, known(scene)), status(scene)])


@lru_cache(maxsize=4096)
def _word(description: str) -> str:
    return SHORT.get(description) or _ARTICLE.sub("", description)


@lru_cache(maxsize=4096)
def _way(down: int, right: int) -> str:
    """How far and which way: "north 2 east 1"."""
    parts = [f"{'south' if down > 0 else 'north'} {abs(down)}"] if down else []
    parts += [f"{'east' if right > 0 else 'west'} {abs(right)}"] if right else []
    return " ".join(parts)

"""The words of ALFWorld's texts: every `type n` that an official or a generated game can name, for word-level tokenizers."""

from __future__ import annotations

from envs.alfworld.catalogue import KINDS, LAMP, ROOMS
from envs.alfworld.household import MOST_OF_A_KIND, Size

RECEPTACLES: dict[str, int] = {
    "armchair": 3,
    "bathtubbasin": 1,
    "bed": 2,
    "cabinet": 27,
    "cart": 1,
    "coffeemachine": 1,
    "coffeetable": 2,
    "countertop": 4,
    "desk": 2,
    "diningtable": 3,
    "drawer": 27,
    "dresser": 2,
    "fridge": 1,
    "garbagecan": 1,
    "handtowelholder": 4,
    "laundryhamper": 1,
    "microwave": 1,
    "ottoman": 1,
    "safe": 1,
    "shelf": 14,
    "sidetable": 5,
    "sinkbasin": 2,
    "sofa": 2,
    "stoveburner": 6,
    "toaster": 1,
    "toilet": 1,
    "toiletpaperhanger": 1,
    "towelholder": 2,
    "tvstand": 2,
}
"""Receptacle types, as texts write them, with the highest number of any official or generated game."""

_OFTEN = """
    alarmclock apple book bowl bread butterknife candle cd cellphone cloth creditcard cup dishsponge egg fork glassbottle
    handtowel kettle keychain knife ladle laptop lettuce mug newspaper peppershaker pen pencil pillow plate potato remotecontrol
    saltshaker soapbar soapbottle spatula spoon spraybottle tissuebox toiletpaper tomato watch winebottle
"""
_SINGLE = "bathtub curtains mirror papertowelroll showerglass teddybear television"
LAMPS: dict[str, int] = {"desklamp": 2, "floorlamp": 2}
OBJECTS: dict[str, int] = {
    **dict.fromkeys(_OFTEN.split(), 4),
    **dict.fromkeys(_SINGLE.split(), 1),
    "box": 3,
    "houseplant": 2,
    "pan": 3,
    "pot": 3,
    "sink": 2,
    "statue": 7,
    "towel": 3,
    "vase": 6,
    "wateringcan": 3,
    "window": 3,
    **LAMPS,
}
"""Object types that can lie in or on something, with the highest number of any official or generated game."""

_ALONE = "basketball boots footstool laundryhamperlid lightswitch plunger scrubbrush showerdoor tennisracket"
SCENERY: dict[str, int] = {
    **dict.fromkeys(_ALONE.split(), 1),
    "baseballbat": 2,
    "blinds": 4,
    "chair": 8,
    "painting": 4,
    "poster": 4,
    "stoveknob": 6,
}
"""Types of official games that stand by themselves; no text of a game names one, so no tokenizer needs them."""


def names(size: Size) -> list[str]:
    """Every `type n` in a text of a generated game of that size; "full" covers official games as well. Sorted."""
    if size == "full":
        counts = RECEPTACLES | OBJECTS
    else:
        counts = {kind.lower(): MOST_OF_A_KIND for room in ROOMS.values() for kind in room.small_objects} | {LAMP.lower(): 1}
        for room in ROOMS.values():
            for kind, (_, most) in room.small_receptacles.items():
                counts[kind.lower()] = max(most, counts.get(kind.lower(), 0))
    return [f"{kind} {n + 1}" for kind in sorted(counts) for n in range(counts[kind])]


def types() -> list[str]:
    """Every type that a task's line can name, as texts write it. Sorted."""
    return sorted({*RECEPTACLES, *OBJECTS, *(kind.lower() for kind in KINDS)})

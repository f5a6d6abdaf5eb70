"""What a household of the generated games is made of: receptacles, objects, where they belong, and rooms.

Types are written as in game files (`CounterTop`); what a text calls them is their lower case. How a game is drawn from these
tables is left to `generator`, the words a tokenizer must know to `vocabulary`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple


class Kind(NamedTuple):
    """A type of object that can be carried, or a lamp."""

    abilities: tuple[str, ...]
    """What can be done with it: cleanable, heatable, coolable, sliceable, toggleable."""
    found: tuple[str, ...]
    """Receptacle types in or on which a game may begin with it."""
    accepted: tuple[str, ...]
    """Receptacle types that take it: those where it is found, and more."""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _kind(abilities: str, found: str, also: str = "") -> Kind:
    return Kind(_words(abilities), _words(found), _words(f"{found} {also}"))


OPENABLE = frozenset({"Cabinet", "Drawer", "Fridge", "Microwave", "Safe"})

_FOOD = "cleanable heatable coolable sliceable"
_CROCKERY = "cleanable heatable coolable"
_CUTLERY = _kind("cleanable", "CounterTop DiningTable Drawer SinkBasin", "SideTable")
_SHAKER = _kind("", "Cabinet CounterTop DiningTable Drawer", "Shelf SideTable")

KINDS: dict[str, Kind] = {
    # kitchen
    "Apple": _kind(_FOOD, "Fridge CounterTop DiningTable GarbageCan Microwave SinkBasin", "SideTable"),
    "Bowl": _kind(
        "cleanable coolable", "Cabinet Fridge CounterTop DiningTable Desk", "CoffeeTable Dresser Microwave Shelf SideTable"
    ),
    "Bread": _kind("heatable coolable sliceable", "CounterTop DiningTable Fridge", "GarbageCan Microwave SideTable"),
    "ButterKnife": _CUTLERY,
    "Cup": _kind(_CROCKERY, "Fridge Cabinet CounterTop DiningTable SinkBasin Microwave", "Shelf SideTable"),
    "DishSponge": _kind(
        "cleanable", "CounterTop Cabinet Drawer DiningTable SinkBasin", "GarbageCan BathtubBasin Cart Shelf Toilet"
    ),
    "Egg": _kind(_FOOD, "CounterTop Fridge SinkBasin GarbageCan DiningTable Microwave", "SideTable"),
    "Fork": _CUTLERY,
    "Glassbottle": _kind("", "Cabinet CounterTop DiningTable SinkBasin Fridge", "Shelf Microwave"),
    "Kettle": _kind("cleanable", "StoveBurner CounterTop Cabinet DiningTable", "Shelf SideTable SinkBasin"),
    "Knife": _CUTLERY,
    "Ladle": _kind("cleanable", "CounterTop Cabinet DiningTable Drawer", "SinkBasin"),
    "Lettuce": _kind("cleanable coolable sliceable", "CounterTop DiningTable Fridge SinkBasin", "GarbageCan SideTable"),
    "Mug": _kind(
        _CROCKERY, "CounterTop Cabinet CoffeeMachine Fridge DiningTable Microwave Desk", "Dresser Shelf SideTable SinkBasin"
    ),
    "Pan": _kind("cleanable coolable", "StoveBurner CounterTop Cabinet", "DiningTable Fridge SideTable SinkBasin"),
    "PepperShaker": _SHAKER,
    "Plate": _kind(
        _CROCKERY, "Cabinet CounterTop DiningTable Fridge", "CoffeeTable Dresser Microwave Shelf SideTable SinkBasin"
    ),
    "Pot": _kind("cleanable coolable", "StoveBurner CounterTop DiningTable", "Cabinet Fridge Shelf SideTable SinkBasin"),
    "Potato": _kind(_FOOD, "CounterTop Fridge DiningTable SinkBasin Microwave GarbageCan", "SideTable"),
    "SaltShaker": _SHAKER,
    "SoapBottle": _kind("", "CounterTop Cabinet DiningTable GarbageCan Toilet", "Cart Drawer Shelf SideTable"),
    "Spatula": _CUTLERY,
    "Spoon": _CUTLERY,
    "Tomato": _kind(_FOOD, "Fridge CounterTop DiningTable GarbageCan SinkBasin", "Microwave SideTable"),
    "WineBottle": _kind("coolable", "CounterTop DiningTable Cabinet GarbageCan", "Fridge Shelf SideTable"),
    # bathroom
    "Candle": _kind("", "CounterTop Toilet Cabinet Drawer Shelf", "Cart CoffeeTable DiningTable Dresser SideTable"),
    "Cloth": _kind(
        "cleanable", "BathtubBasin Cabinet CounterTop Drawer SinkBasin", "Cart GarbageCan LaundryHamper Shelf Toilet"
    ),
    "HandTowel": _kind("", "HandTowelHolder", "BathtubBasin Cabinet CounterTop Drawer GarbageCan Shelf SinkBasin Toilet"),
    "SoapBar": _kind("cleanable", "CounterTop SinkBasin Drawer Toilet Cabinet BathtubBasin GarbageCan", "Cart Shelf SideTable"),
    "SprayBottle": _kind("", "CounterTop Toilet Cabinet GarbageCan Shelf", "Cart DiningTable Drawer Dresser SideTable"),
    "ToiletPaper": _kind("", "CounterTop Toilet ToiletPaperHanger Cabinet GarbageCan Drawer", "Cart Dresser Shelf SideTable"),
    "Towel": _kind("", "TowelHolder"),
    # bedroom and living room
    "AlarmClock": _kind("", "Desk SideTable Shelf Dresser DiningTable", "CounterTop"),
    "Book": _kind("", "Bed Desk Drawer Dresser Shelf", "ArmChair Cabinet CoffeeTable DiningTable Ottoman SideTable Sofa"),
    "Box": _kind("", "Sofa DiningTable CoffeeTable SideTable Desk Shelf", "ArmChair Cabinet Dresser Ottoman"),
    "CD": _kind("", "Drawer Desk SideTable Dresser GarbageCan Safe", "Cabinet CounterTop DiningTable Shelf"),
    "CellPhone": _kind("", "Drawer Bed Desk Dresser SideTable DiningTable Shelf", "ArmChair CoffeeTable Ottoman Safe Sofa"),
    "CreditCard": _kind("", "Drawer Shelf SideTable Desk Dresser ArmChair Sofa DiningTable", "CoffeeTable Ottoman Safe"),
    "KeyChain": _kind("", "Drawer SideTable Dresser Shelf Desk CoffeeTable Safe", "ArmChair DiningTable Ottoman Sofa"),
    "Laptop": _kind("", "Bed Sofa Desk CoffeeTable DiningTable", "ArmChair Dresser Ottoman SideTable"),
    "Newspaper": _kind(
        "", "DiningTable Sofa CoffeeTable SideTable Shelf Dresser", "ArmChair Cabinet Drawer GarbageCan Ottoman"
    ),
    "Pen": _kind("", "Desk Dresser Drawer SideTable Shelf", "CoffeeTable DiningTable GarbageCan"),
    "Pencil": _kind("", "SideTable Drawer Desk Shelf Dresser GarbageCan", "CoffeeTable DiningTable"),
    "Pillow": _kind("", "Bed Sofa ArmChair", "Ottoman"),
    "RemoteControl": _kind("", "CoffeeTable SideTable Sofa Dresser ArmChair Drawer", "DiningTable Desk Ottoman Shelf TVStand"),
    "Statue": _kind("", "Shelf CoffeeTable SideTable DiningTable Dresser", "Desk"),
    "TissueBox": _kind("", "Shelf Drawer CoffeeTable DiningTable SideTable Desk", "Cabinet Cart Dresser TVStand Toilet"),
    "Vase": _kind("", "Shelf CoffeeTable Cabinet DiningTable Dresser SideTable", "Desk"),
    "Watch": _kind("", "Drawer CoffeeTable DiningTable SideTable Dresser Shelf", "Desk"),
    "WateringCan": _kind("", "CoffeeTable Shelf SideTable", "Cabinet DiningTable Drawer Dresser"),
    # lamps: they stay where they are
    "DeskLamp": _kind("toggleable", "SideTable Desk Dresser Shelf"),
}

LAMP = "DeskLamp"
CONTAINERS = frozenset({"Bowl", "Box", "Cup", "Mug", "Pan", "Plate", "Pot"})
"""Objects that could hold others; a text about one of them says what is in it, which is always nothing."""


@dataclass(frozen=True)
class Room:
    """One sort of room. Counts are (least, most)."""

    receptacles: dict[str, tuple[int, int]]
    objects: tuple[str, ...]
    scenery: dict[str, tuple[int, int]]
    """Things that nobody can use; they stand by themselves, and no text speaks of them."""
    small_receptacles: dict[str, tuple[int, int]] = field(default_factory=dict)
    small_objects: tuple[str, ...] = ()
    """Of small games: few kinds, so that a tiny model meets each of them often. Empty where no small game takes place."""


ROOMS: dict[str, Room] = {
    "kitchen": Room(
        receptacles={
            "Cabinet": (4, 23),
            "CoffeeMachine": (1, 1),
            "CounterTop": (1, 4),
            "DiningTable": (0, 2),
            "Drawer": (1, 13),
            "Fridge": (1, 1),
            "GarbageCan": (1, 1),
            "Microwave": (1, 1),
            "Shelf": (0, 3),
            "SideTable": (0, 1),
            "SinkBasin": (1, 1),
            "StoveBurner": (4, 4),
            "Toaster": (1, 1),
        },
        objects=_words(
            "Apple Bowl Bread ButterKnife Cup DishSponge Egg Fork Glassbottle Kettle Knife Ladle Lettuce Mug Pan PepperShaker "
            "Plate Pot Potato SaltShaker SoapBottle Spatula Spoon Tomato WineBottle"
        ),
        scenery={"StoveKnob": (4, 4), "Chair": (0, 3), "Window": (1, 2), "LightSwitch": (1, 1)},
        small_receptacles={
            "Cabinet": (1, 3),
            "CoffeeMachine": (0, 1),
            "CounterTop": (1, 2),
            "DiningTable": (0, 1),
            "Drawer": (0, 2),
            "Fridge": (1, 1),
            "GarbageCan": (0, 1),
            "Microwave": (1, 1),
            "SinkBasin": (1, 1),
            "StoveBurner": (0, 2),
        },
        small_objects=_words("Apple Cup Egg Mug Plate Potato Spoon Tomato"),
    ),
    "bathroom": Room(
        receptacles={
            "BathtubBasin": (0, 1),
            "Cabinet": (1, 6),
            "Cart": (0, 1),
            "CounterTop": (1, 1),
            "Drawer": (0, 6),
            "GarbageCan": (1, 1),
            "HandTowelHolder": (1, 2),
            "Shelf": (0, 3),
            "SinkBasin": (1, 2),
            "Toilet": (1, 1),
            "ToiletPaperHanger": (1, 1),
            "TowelHolder": (1, 2),
        },
        objects=_words("Candle Cloth HandTowel SoapBar SoapBottle SprayBottle ToiletPaper Towel DishSponge"),
        scenery={"Mirror": (1, 1), "ScrubBrush": (1, 1), "Plunger": (1, 1), "ShowerDoor": (0, 1), "LightSwitch": (1, 1)},
    ),
    "bedroom": Room(
        receptacles={
            "ArmChair": (0, 1),
            "Bed": (1, 2),
            "Desk": (1, 2),
            "Drawer": (2, 12),
            "Dresser": (0, 1),
            "GarbageCan": (1, 1),
            "LaundryHamper": (0, 1),
            "Safe": (0, 1),
            "Shelf": (0, 6),
            "SideTable": (1, 2),
        },
        objects=_words("AlarmClock Book CD CellPhone CreditCard KeyChain Laptop Mug Pen Pencil Pillow TissueBox Box Bowl"),
        scenery={"Chair": (0, 1), "Window": (1, 2), "Blinds": (0, 2), "Mirror": (1, 1), "LightSwitch": (1, 1)},
        small_receptacles={
            "Bed": (1, 1),
            "Desk": (1, 1),
            "Drawer": (1, 3),
            "Dresser": (0, 1),
            "GarbageCan": (0, 1),
            "Safe": (0, 1),
            "Shelf": (0, 2),
            "SideTable": (0, 2),
        },
        small_objects=_words("AlarmClock Book CD CellPhone KeyChain Pen"),
    ),
    "living room": Room(
        receptacles={
            "ArmChair": (1, 2),
            "Cabinet": (0, 4),
            "CoffeeTable": (1, 2),
            "DiningTable": (0, 1),
            "Drawer": (0, 8),
            "Dresser": (0, 1),
            "GarbageCan": (1, 1),
            "Ottoman": (0, 1),
            "Shelf": (0, 5),
            "SideTable": (1, 3),
            "Sofa": (1, 2),
            "TVStand": (0, 1),
        },
        objects=_words(
            "Book Box CreditCard KeyChain Laptop Newspaper Pillow RemoteControl Statue TissueBox Vase Watch WateringCan"
        ),
        scenery={"Chair": (0, 4), "Window": (1, 4), "Painting": (0, 3), "Television": (1, 1), "LightSwitch": (1, 1)},
    ),
}

"""Tiny hand-written ALFWorld games for tests, and where the official data lies if it is there."""

import os
from pathlib import Path
from typing import Any

import pytest

from envs.alfworld.engine import Engine
from envs.alfworld.game import parse_game
from envs.alfworld.generator import package_text

OFFICIAL = Path(os.environ.get("ALFWORLD_DATA") or Path(__file__).parents[4] / "shared/data/alfworld")
TRANSCRIPTS = OFFICIAL / "golden_valid_seen_60.jsonl.gz"
needs_data = pytest.mark.skipif(not OFFICIAL.is_dir(), reason=f"no official games at {OFFICIAL} (set ALFWORLD_DATA)")
needs_transcripts = pytest.mark.skipif(not TRANSCRIPTS.is_file(), reason=f"no recorded transcripts at {TRANSCRIPTS}")

PICK = (
    "(exists (?r - receptacle) (exists (?o - object) (and (inReceptacle ?o ?r) (objectType ?o {o}) (receptacleType ?r {r}))))"
)
# A kitchen: fridge and drawer (shut) and counter each at a spot of their own; sink and microwave share one.
KITCHEN = """
    (receptacleType Fridge_bar_1 FridgeType) (receptacleAtLocation Fridge_bar_1 loc_bar_1) (openable Fridge_bar_1)
    (receptacleType Drawer_bar_1 DrawerType) (receptacleAtLocation Drawer_bar_1 loc_bar_2) (openable Drawer_bar_1)
    (receptacleType CounterTop_bar_1 CounterTopType) (receptacleAtLocation CounterTop_bar_1 loc_bar_3)
    (receptacleType Sink_bar_1_bar_SinkBasin SinkBasinType) (receptacleAtLocation Sink_bar_1_bar_SinkBasin loc_bar_4)
    (receptacleType Microwave_bar_1 MicrowaveType) (receptacleAtLocation Microwave_bar_1 loc_bar_4) (openable Microwave_bar_1)
    (objectType Apple_bar_1 AppleType) (inReceptacle Apple_bar_1 CounterTop_bar_1) (objectAtLocation Apple_bar_1 loc_bar_3)
    (objectType Apple_bar_2 AppleType) (inReceptacle Apple_bar_2 Fridge_bar_1) (objectAtLocation Apple_bar_2 loc_bar_1)
    (objectType Knife_bar_1 KnifeType) (inReceptacle Knife_bar_1 CounterTop_bar_1) (objectAtLocation Knife_bar_1 loc_bar_3)
    (objectType Lamp_bar_1 LampType) (inReceptacle Lamp_bar_1 Drawer_bar_1) (objectAtLocation Lamp_bar_1 loc_bar_2)
    (toggleable Lamp_bar_1)
    (pickupable Apple_bar_1) (pickupable Apple_bar_2) (pickupable Knife_bar_1)
    (cleanable Apple_bar_1) (heatable Apple_bar_1) (coolable Apple_bar_1) (sliceable Apple_bar_1)
    (canContain FridgeType AppleType) (canContain CounterTopType AppleType) (canContain SinkBasinType AppleType)
    (canContain MicrowaveType AppleType) (canContain DrawerType KnifeType) (canContain CounterTopType KnifeType)
    (atLocation agent1 loc_bar_0)
"""
_DECLARED = """
    agent1 - agent
    loc_bar_0 loc_bar_1 loc_bar_2 loc_bar_3 loc_bar_4 - location
    Fridge_bar_1 Drawer_bar_1 CounterTop_bar_1 Sink_bar_1_bar_SinkBasin Microwave_bar_1 - receptacle
    Apple_bar_1 Apple_bar_2 Knife_bar_1 Lamp_bar_1 - object
    FridgeType DrawerType CounterTopType SinkBasinType MicrowaveType - rtype
    AppleType KnifeType ButterKnifeType LampType - otype
"""


def problem(goal: str = PICK.format(o="AppleType", r="SinkBasinType"), more: str = "", kitchen: str = KITCHEN) -> str:
    """PDDL of the kitchen with a goal and more facts."""
    return f"(define (problem kitchen)\n(:domain alfred)\n(:objects {_DECLARED})\n(:init {kitchen} {more})\n(:goal {goal}))\n"


def contents(task: str = "put a apple in sinkbasin.", **changes: Any) -> dict[str, Any]:
    """What stands in the kitchen's game file."""
    grammar = package_text("grammar.twl2").replace("UNKNOWN GOAL", task)
    text = problem(**{key: changes.pop(key) for key in ("goal", "more", "kitchen") if key in changes})
    return {"pddl_domain": package_text("domain.pddl"), "grammar": grammar, "pddl_problem": text, "walkthrough": []} | changes


def engine(**changes: Any) -> Engine:
    """The kitchen in play, reset."""
    playing = Engine(parse_game(contents(**changes), "kitchen"))
    playing.reset()
    return playing


def play(playing: Engine, *commands: str) -> str:
    """Execute commands, all of which must be possible; returns the last observation."""
    observation = ""
    for command in commands:
        observation, valid = playing.step(command)
        assert valid, f"{command!r} is not possible: {playing.admissible}"
    return observation

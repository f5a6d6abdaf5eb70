"""Which levels can be played: every id of MiniHack is supported or refused with a reason, and one's own are checked first."""

from __future__ import annotations

import os
import re
import warnings
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from envs.base import TaskError
from envs.minihack.config import MiniHackConfig
from envs.minihack.env import MiniHackEnv
from envs.minihack.levels import FAMILIES, SUPPORTED, UNSUPPORTED, chosen, family

ROOM = """LEVEL: "mylevel"
ROOM: "ordinary" , lit, (3,3), (center,center), (4,3) {
    STAIR: (0,0), down
    OBJECT:('%',"apple"),(3,2)
    }
"""


def own(folder: Path, text: str) -> dict[str, str]:
    (folder / "mine.des").write_text(text)
    return {"mine": str(folder / "mine.des")}


def test_every_id_of_minihack_is_supported_or_told_why_not() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import gymnasium
        import minihack  # noqa: F401
    ids = {re.sub(r"^MiniHack-|-v\d$", "", id) for id in gymnasium.registry if id.startswith("MiniHack-")}
    refused = {id for id in ids if any(fnmatchcase(id, pattern) for pattern in UNSUPPORTED)}
    assert len(SUPPORTED) == len(set(SUPPORTED)) == 122
    assert set(SUPPORTED) == ids - refused


def test_levels_are_chosen_by_name_pattern_and_family_and_each_once() -> None:
    names = [level.name for level in chosen(["Room-Dark-5x5", "Room-*", "quest"], {})]
    assert names[0] == "Room-Dark-5x5"
    assert names[-3:] == ["Quest-Easy", "Quest-Medium", "Quest-Hard"]
    assert len(names) == len(set(names)) == 15
    assert family("Quest-Easy") == "quest"
    assert all(len(names) for names in FAMILIES.values())


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        ("MultiRoom-N2", "not supported: its maps come from minigrid"),
        ("MultiRoom-*", "not supported: its maps come from minigrid"),
        ("Boxoban-Hard", "not supported: its maps are a download"),
        ("Skill-Custom", "name a des file in env.custom"),
        ("KeyRom-S5", "Did you mean 'KeyRoom-S5'"),
        ("quests", "Did you mean 'quest'"),
    ],
)
def test_what_cannot_be_played_is_told_why(asked: str, answer: str) -> None:
    with pytest.raises(TaskError, match=re.escape(answer)):
        chosen([asked], {})


def test_no_levels_are_none() -> None:
    with pytest.raises(TaskError, match="levels is empty"):
        chosen([], {})


def test_a_level_of_ones_own_is_played(tmp_path: Path) -> None:
    env = MiniHackEnv(MiniHackConfig(["mine", "Room-5x5"], own(tmp_path, ROOM), map="full"))
    observation, info = env.reset(options={"task": "mine/train/000000"})
    assert "apple" in observation
    assert env.subgoals("mine/train/000000") == ("reach the stairs",)
    rows = observation.partition("Map:\n")[2].partition("\nLegend")[0].splitlines()
    assert (len(rows), max(map(len, rows))) == (5, 6)
    assert {"north", "eat"} <= set(info["admissible_actions"])


def test_its_split_is_another_when_its_file_says_something_else(tmp_path: Path) -> None:
    first = MiniHackEnv(MiniHackConfig(["mine"], own(tmp_path, ROOM))).split_hash("train")
    second = MiniHackEnv(MiniHackConfig(["mine"], own(tmp_path, ROOM.replace("apple", "pear")))).split_hash("train")
    assert first != second


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (ROOM.replace("ROOM", "ROMO"), "syntax error"),
        (ROOM.replace('"apple"', '"aple"'), "aple"),
        (ROOM.replace("mylevel", "yours"), "it must make a level called 'mylevel'"),
        ("", "it makes: none"),
    ],
)
def test_a_broken_one_is_refused_with_what_the_compiler_says(tmp_path: Path, text: str, answer: str) -> None:
    with pytest.raises(TaskError, match=re.escape(answer)):
        MiniHackEnv(MiniHackConfig(["mine"], own(tmp_path, text)))


def test_a_level_of_ones_own_that_is_not_played_is_named(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"custom level 'mine' is played by nobody: .*env\.levels=\[mine\]"):
        MiniHackEnv(MiniHackConfig(["Room-5x5"], own(tmp_path, ROOM)))


def test_a_missing_file_and_a_taken_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"cannot read .*nowhere\.des: No such file"):
        chosen(["mine"], {"mine": str(tmp_path / "nowhere.des")})
    os.mkfifo(tmp_path / "pipe.des")
    with pytest.raises(TaskError, match=r"cannot read .*pipe\.des: it is a pipe, socket or device, and no file"):
        chosen(["mine"], {"mine": str(tmp_path / "pipe.des")})
    for name in ("KeyRoom-S5", "quest", "a/b"):
        with pytest.raises(TaskError, match="choose a name"):
            chosen([name], {name: str(tmp_path / "mine.des")})

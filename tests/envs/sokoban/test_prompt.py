"""What a model reads: the whole level in each form of observation, the task once, and a short form for a model made for it."""

from __future__ import annotations

from typing import Any

import pytest

from envs.prompt import Window
from envs.sokoban.board import Level
from envs.sokoban.config import SokobanConfig
from envs.sokoban.env import SokobanEnv
from envs.sokoban.observation import read, render
from envs.sokoban.prompt import SokobanPrompt
from tests.envs.sokoban.test_env import wandering

LEVEL = Level.read("######\n#_#@.#\n#_$__#\n#_*__#\n######")
PROMPT = SokobanPrompt()


def said(**settings: Any) -> str:
    return render(LEVEL.room, LEVEL.start, SokobanConfig(**settings), None, None)


def test_a_level_is_drawn_and_explained() -> None:
    assert said() == (
        "Board:\n# # # # # #\n# _ # @ . #\n# _ $ _ _ #\n# _ * _ _ #\n# # # # # #\n"
        "Legend: # wall, _ floor, . target, $ box, * box on a target, @ you, + you on a target"
    )


def test_a_level_is_told_by_rows_and_columns() -> None:
    assert said(observation="coordinates") == (
        "Size: 5 rows, 6 columns; row 1 is the top, column 1 the left; the border is wall\n"
        "You: row 2 column 4\n"
        "Boxes: row 3 column 3; row 4 column 3\n"
        "Targets: row 2 column 5; row 4 column 3\n"
        "Walls inside: row 2 column 3"
    )
    assert said(observation="both", legend=False).count("\n") == 10


@pytest.mark.parametrize("observation", ["grid", "coordinates", "both"])
@pytest.mark.parametrize("legend", [True, False])
def test_every_form_says_the_whole_level(observation: str, legend: bool) -> None:
    env = SokobanEnv(SokobanConfig(observation=observation, legend=legend, boxes=2, longest=15, max_steps=40))  # type: ignore[arg-type]
    for number in range(8):
        text, _ = env.reset(options={"task": f"6x6-2/train/{number:06d}"})
        room = env._task.level.room  # type: ignore[union-attr]
        assert read(text) == Level(room, env._task.level.start)  # type: ignore[union-attr]
        for text, *_ in wandering(env, number, steps=40):
            assert read(text) == Level(room, env._position)


def test_the_task_is_said_at_the_start_and_not_twice_in_a_window() -> None:
    text, info = SokobanEnv().reset(options={"task": "6x6-1/train/000000"})
    task = PROMPT.task(text)
    assert task == "push the box onto the target"
    assert PROMPT.task(text.partition("\n")[2]) == ""
    shown = PROMPT.window(Window(task, [], 0, text, info["admissible_actions"]))
    assert shown.count("push the box onto the target") == 1
    assert f"Possible actions: {', '.join(info['admissible_actions'])}" in shown
    assert (
        SokobanEnv(SokobanConfig(boxes=2, longest=15))
        .reset(options={"task": "6x6-2/train/000000"})[0]
        .startswith("Task: push all 2 boxes onto targets\n")
    )


def test_the_short_form_is_the_same_whatever_the_form_of_the_observation() -> None:
    texts = {PROMPT.plain(said(observation=form)) for form in ("grid", "coordinates", "both")}
    assert texts == {
        "you beside up left\nbox down 1 left 1 beside up down target up 1 right 2\nbox down 2 left 1 beside up down target here"
    }
    assert PROMPT.plain("Nothing to see.") == "Nothing to see."


def test_the_legend_is_told_to_judges_only_where_the_observation_does_not() -> None:
    assert PROMPT.legend(said()) == ""
    assert PROMPT.legend(said(legend=False)).startswith("# wall, _ floor")
    assert PROMPT.legend(said(observation="coordinates")) == ""


@pytest.mark.parametrize(
    ("answer", "action"),
    [("<action>up</action>", "up"), ("I push. <action> Down </action>", "Down"), ("left", None), ("<action></action>", None)],
)
def test_an_answer_is_the_action_in_its_tags(answer: str, action: str | None) -> None:
    assert PROMPT.parse(answer) == action

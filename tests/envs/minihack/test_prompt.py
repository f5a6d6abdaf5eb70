"""How a model reads MiniHack: the task once, everything it needs to act, and short for a model that was made for it."""

from __future__ import annotations

import re

import numpy as np

from agents.models import tokenizer
from envs.minihack.config import MiniHackConfig
from envs.minihack.env import MiniHackEnv
from envs.minihack.prompt import MiniHackPrompt
from envs.prompt import Window

TASK = "KeyRoom-S5/train/000000"
PROMPT = MiniHackPrompt()


def texts(**settings: object) -> list[str]:
    """The observations of a won episode."""
    env = MiniHackEnv(MiniHackConfig(actions=["north", "east", "south", "west", "pickup", "apply"], **settings))  # type: ignore[arg-type]
    seen = [env.reset(options={"task": TASK})[0]]
    return seen + [env.step(action)[0] for action in env.demonstration(TASK, np.random.default_rng(0))]


def test_the_task_is_stated_once() -> None:
    first, second, *_ = texts()
    task = PROMPT.task(first)
    assert task == "reach the stairs"
    assert PROMPT.task(second) == ""
    window = PROMPT.window(Window(task, [(first, "east")], 1, second, ["north", "apply"]))
    assert window.count(task) == 1
    assert "   > east" in window
    assert "The last 1 of them, what you saw and what you did:\n1. " in window
    assert "Step 2, you see now" in window
    assert "Possible actions: north, apply" in window
    assert PROMPT.opening(first, ["north"]).count(task) == 1


def test_an_answer_that_was_no_action_is_mentioned() -> None:
    first, *_ = texts()
    note = "none of the possible actions"
    assert note in PROMPT.turn(first, None, valid=False)
    assert note not in PROMPT.turn(first, None, valid=True)
    assert note in PROMPT.window(Window("", [], 1, first, None, valid=False))


def test_the_short_form_says_what_matters_in_few_tokens_that_are_all_known() -> None:
    seen = texts()
    phrases, words = PROMPT.lexicon()
    made = tokenizer.build([], phrases, words)
    for text in seen[1:-1]:
        short = PROMPT.plain(text)
        ids = made(short.partition("\n")[2] if "Message" in text else short, add_special_tokens=False).input_ids
        assert len(ids) < 40
        assert made.unk_token_id not in ids
    assert "key south 1 east 2" in PROMPT.plain(seen[0])
    assert "beside north closed door" in PROMPT.plain(seen[0])
    assert "have a key" in PROMPT.plain(seen[-2])
    assert "have" not in PROMPT.plain(seen[0]).split()


def test_the_short_form_keeps_where_things_are_and_leaves_out_how_they_are_called() -> None:
    env = MiniHackEnv(MiniHackConfig(actions=["north", "east", "south", "west", "pickup", "apply"]))
    named = 0
    for number, task in enumerate(env.tasks("train")[:15]):
        rng = np.random.default_rng(number)
        observation, info = env.reset(options={"task": task})
        for _ in range(50):
            short = PROMPT.plain(observation)
            assert "Thievery" not in short
            things = next(line for line in observation.splitlines() if line.startswith("You see: "))
            ways = re.findall(r"(?:(?:north|south|east|west) \d+)", things)
            named += "Thievery" in things
            assert re.findall(r"(?:(?:north|south|east|west) \d+)", short) == ways
            actions = info["admissible_actions"]
            observation, _, terminated, _, info = env.step(actions[int(rng.integers(len(actions)))])
            if terminated:
                break
    assert named > 50


def test_an_observation_without_the_lines_that_it_is_made_of_stays_as_it_is() -> None:
    text = texts(message=False, objects=False, surroundings=False, inventory=False)[1]
    assert PROMPT.plain(text) == text


def test_the_legend_is_told_only_where_the_map_has_none() -> None:
    assert PROMPT.legend(texts()[0]) == ""
    assert PROMPT.legend(texts(legend=False)[0]).startswith("@ you")
    assert PROMPT.legend(texts(map="none")[0]) == ""

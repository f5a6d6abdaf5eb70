"""CALM: what can be read out of an answer, what never can, and what the shaping rewards do to the optimal policy."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from algorithms.base import Bools, Floats
from algorithms.shaping import answers
from algorithms.shaping.answers import parse_answer
from algorithms.shaping.calm import Calm
from algorithms.shaping.subgoal_reward import additive, potential, potential_based

quick = settings(max_examples=60, deadline=None)
episodes = st.tuples(st.integers(0, 12), st.integers(0, 4)).flatmap(lambda shape: arrays(bool, shape))
"""achieved [steps, subgoals]"""

# -- reading an answer ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ('First {"key": 1}, no: {"key": 2}', {"key": 2}),
        ('{"key": {"at": [1, (2, 3)]}}', {"key": {"at": [1, (2, 3)]}}),
        (
            'It\'s done: {"a } in a name": 1, # don\'t count }\n"it\'s \\" {": 2}. That\'s it }',
            {"a } in a name": 1, "it's \" {": 2},
        ),
        ("{'key':\n -3,\n}", {"key": -3}),
        ("{}", {}),
        ('{"key": true, "door": false, "chest": null}', {"key": True, "door": False, "chest": None}),
        ("{'key': true, 'door': [True, null], }  # mixed", {"key": True, "door": [True, None]}),
        (r'{"key \u00e9 \/": 1}', {"key é /": 1}),
        ('```json\n{\n  "key": 1\n}\n```\nHere {key} was taken, of the set {1, 2}, in {door: open}, \\frac{a}{b}.', {"key": 1}),
        ('{"key": 1} and the set {1, 2}', {"key": 1}),
        ('{{"key": 1}}', {"key": 1}),
        ('<think>Is it {"key": 2}? Or {"door": broken</think>\n{"key": 1}', {"key": 1}),
        ('It may be {"key": 2}.</think>{"key": 1}', {"key": 1}),
        ('{"key": 1} <think>or {"key": 2}', {"key": 1}),
    ],
)
def test_the_last_dictionary_of_the_text_is_the_answer(text: str, answer: dict[str, Any]) -> None:
    assert parse_answer(text) == answer


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I cannot tell.",
        'Example: {"key": True}. Answer: {"key": perhaps}',
        'Example: {"key": True}. Answer: {"key": Fal',
        '{"key": 1}; or {"door',
        '{"key": 1}; or {"door"',
        '{"key": 1}; or {1',
        '<think>{"key": 1}',
        '<think>It is {"key": 1}.</think> I do not know.',
        "{'key', 'door'}",
        "{true, null}",
        '{"key": 1]',
        "{[1]: 2}",
        '{"key": 1 + 2}',
        "} {",
    ],
)
def test_a_broken_last_dictionary_is_no_answer_and_an_earlier_one_does_not_replace_it(text: str) -> None:
    assert parse_answer(text) is None


pieces = st.sampled_from(
    [*"{}[]()'\"`\\#:,-\n\x00", "```", "True", "None", "key", "1", "1e999", "\ud800", "'k': ", "0x" + "f" * 4000]
)
texts = st.text() | st.lists(pieces, max_size=40).map("".join)


@settings(max_examples=400, deadline=None)
@given(text=texts)
def test_no_text_raises_and_what_is_read_is_times_and_names(text: str) -> None:
    reading = answers.read(parse_answer(text))
    assert all(type(time) is int and type(subgoal) is str for time, subgoal in reading)


@pytest.mark.parametrize(
    "inside",
    [
        "[" * 5_000 + "]" * 5_000,
        "{1:" * 1_500 + "1" + "}" * 1_500,
        "(" * 150 + ")" * 150,
        "-" * 9_000 + "1",
        "not " * 2_400 + "1",
        "lambda:" * 1_400 + "1",
        "+".join("1" * 4_900),
        "1" + ".x" * 4_900,
        "9" * 9_000,
        "1" + "0" * 2_000_000,
        "'" + "\\'" * 4_000,
        "*".join(["9**999999999"] * 700),
    ],
    ids=lambda inside: inside[:8],
)
def test_hostile_dictionaries_are_broken_even_on_a_small_stack(inside: str) -> None:
    found: list[Any] = []
    size = threading.stack_size(2**20)
    try:
        thread = threading.Thread(target=lambda: found.append(parse_answer("```{'key': " + inside + "}")))
        thread.start()
    finally:
        threading.stack_size(size)
    thread.join()
    assert found == [None]


@pytest.mark.parametrize(
    "part", ["{", "{#", "{#\n", "#{#\n", "{ ", "{'a", "<think>", "</think>", '{"a":', '{"a" ', "{1", '{"a":1}']
)
def test_a_long_answer_is_read_in_time_that_grows_with_its_length(part: str) -> None:
    def seconds(length: int) -> float:
        text = part * (length // len(part)) + "\nx"
        started = time.process_time()
        parse_answer(text)
        return time.process_time() - started

    assert seconds(320_000) < 40 * max(seconds(40_000), 0.01)  # 8 times as long; were it squared, 64 times


def test_a_number_too_long_to_be_written_is_left_out() -> None:
    assert answers.read(parse_answer("{0x" + "f" * 9_000 + ": True, 'key': 1e999, 'door': 2}")) == [(2, "door")]


@pytest.mark.parametrize(
    "call", ["__import__('pathlib').Path({path!r}).touch()", "open({path!r}, 'w')", "exec('open({path!r}, \"w\")')"]
)
def test_nothing_in_an_answer_is_ever_executed(call: str, tmp_path: Path) -> None:
    path = tmp_path / "touched"
    code = call.replace("{path!r}", f'r"{path}"' if "exec" not in call else f'r\\"{path}\\"')
    for text in (
        f"{{'key': {code}}}",
        f"{{{code}: 1}}",
        f"{{**{code}}}",
        f"{{'key': f'{{{code}}}'}}",
        f"{{k: 1 for k in [{code}]}}",
    ):
        assert parse_answer("```python\n" + text + "\n```") is None
        assert not path.exists()


def test_times_are_read_in_every_way_the_official_evaluation_reads_them() -> None:
    answer = {
        "a": True,
        "b": [2, "3", 4.9],
        "c": None,
        "d": [5, None],
        "6": "e",
        "f": "7",
        8: "g",
        "h": {9},
        "k": b"3",
        "i": (),
        (1,): "j",
    }
    reading = answers.read(answer)
    assert reading == [(1, "a"), (2, "b"), (3, "b"), (4, "b"), (6, "e"), (8, "g")]
    assert answers.read(None) == []


# -- attaching -------------------------------------------------------------------------------------------


def test_a_time_belongs_to_the_step_before_it_and_a_window_counts_from_its_first_step() -> None:
    reading = [(0, "early"), (5, "key"), (6, "door"), (6, "key"), (7, "late"), (5, "unknown")]
    assert answers.attach(reading, ["x", "y"], first=4) == {"x": ["key", "unknown"], "y": ["door", "key"]}
    assert answers.achieved_steps(reading, ["key", "door"], 2, first=4).tolist() == [[True, False], [True, True]]
    assert answers.achieved_steps(reading, [], 2).shape == (2, 0)


@quick
@given(achieved=episodes, first=st.integers(0, 9))
def test_an_answer_that_names_what_was_achieved_gives_it_back(achieved: Bools, first: int) -> None:
    subgoals = [f"subgoal {number}" for number in range(achieved.shape[1])]
    answer = {name: (np.flatnonzero(column) + first + 1).tolist() for name, column in zip(subgoals, achieved.T, strict=True)}
    reading = answers.read(parse_answer(f"Thus:\n```python\n{answer}\n```"))
    np.testing.assert_array_equal(answers.achieved_steps(reading, subgoals, len(achieved), first), achieved)


# -- the rewards ------------------------------------------------------------------------------------------------------------


def test_a_subgoal_pays_once_an_episode_unless_told_otherwise() -> None:
    achieved = np.array([[1, 0], [1, 1], [0, 0], [0, 1]], bool)
    assert additive(achieved, 2.0).tolist() == [2.0, 2.0, 0.0, 0.0]
    assert additive(achieved, 2.0, once=False).tolist() == [2.0, 4.0, 0.0, 2.0]


@quick
@given(achieved=episodes)
def test_the_reward_paid_once_sums_to_the_subgoals_achieved(achieved: Bools) -> None:
    assert additive(achieved, 1.0).sum() == achieved.any(axis=0).sum() == potential(achieved, 1.0)[-1]


def discounted(reward: Floats, gamma: float) -> float:
    return float(gamma ** np.arange(len(reward)) @ reward)


@quick
@given(achieved=episodes, coefficient=st.floats(0, 10), gamma=st.floats(0, 1))
def test_potential_shaping_telescopes_from_every_step(achieved: Bools, coefficient: float, gamma: float) -> None:
    phi = potential(achieved, coefficient)
    complete = potential_based(achieved, coefficient, gamma)
    cut = potential_based(achieved, coefficient, gamma, complete=False)
    assert phi[0] == 0
    for t in range(len(achieved)):
        left = len(achieved) - t
        assert discounted(complete[t:], gamma) == pytest.approx(-phi[t], abs=1e-9)
        assert discounted(cut[t:], gamma) == pytest.approx(gamma**left * phi[-1] - phi[t], abs=1e-9)


def test_the_settings_choose_the_form_and_refuse_what_is_not_allowed() -> None:
    achieved = np.array([[1, 0], [1, 1]], bool)
    assert Calm(coefficient=2.0).of_episode(achieved).tolist() == [2.0, 2.0]
    assert Calm(coefficient=2.0, once=False).of_episode(achieved).tolist() == [2.0, 4.0]
    assert Calm("potential", gamma=0.5).of_episode(achieved).tolist() == [0.5, -1.0]
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"form": "both"}, "additive, potential"),
        ({"coefficient": -1.0}, "at least 0"),
        ({"coefficient": float("nan")}, "a number"),
        ({"gamma": 1.5}, "at most 1"),
    ]
    for setting, allowed in wrong:
        with pytest.raises(ValueError, match=allowed):
            Calm(**setting)


# -- the optimal policy -----------------------------------------------------------------------------------------------------

Shaping = Callable[[Bools], Floats]
"""achieved [steps, subgoals] -> reward [steps]"""


@dataclass
class Decisions:
    """A Markov decision process whose states are (place, subgoals achieved so far); the last place ends the episode."""

    chance: Floats
    """[places, actions, places]"""
    reward: Floats
    """[places, actions, places]"""
    events: Bools
    """[places, actions, places, subgoals] achieved by the transition."""
    gamma: float

    def values(self, final: Shaping | None = None, ongoing: Shaping | None = None) -> tuple[Floats, Floats]:
        """Q* [histories, places, actions] by value iteration, and the number of subgoals achieved so far [histories].

        final, ongoing: shaping of an episode that ends with the transition, and of one that goes on.
        """
        places, _, _, subgoals = self.events.shape
        histories = np.array(list(product([False, True], repeat=subgoals)))  # [H, K]
        weight = 2 ** np.arange(subgoals)[::-1]
        before = histories[:, None, None, None]  # [H, 1, 1, 1, K]
        event = np.broadcast_to(self.events, (len(histories), *self.events.shape))
        after = (before | event) @ weight  # [H, places, actions, places] number of the next history
        reward = np.broadcast_to(self.reward, after.shape).copy()
        if final is not None and ongoing is not None:
            # A step's shaping depends on what was achieved before it: an episode of two steps, of which the first did that.
            for place in np.ndindex(*after.shape):
                achieved = np.stack([histories[place[0]], event[place]])
                reward[place] += (final if place[3] == places - 1 else ongoing)(achieved)[1]
        value = np.zeros((len(histories), places))
        following = np.arange(places)
        for _ in range(3000):
            q = (self.chance * (reward + self.gamma * value[after, following])).sum(-1)
            q[:, -1] = 0.0  # the end
            new = q.max(-1)
            if np.array_equal(new, value):
                break
            value = new
        return q, histories.sum(1).astype(float)


@st.composite
def processes(draw: st.DrawFn) -> Decisions:
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    places, actions, subgoals = draw(st.integers(2, 5)), draw(st.integers(1, 3)), draw(st.integers(1, 2))
    sparse = random.random((places, actions, places)) * (random.random((places, actions, places)) < 0.6) + 1e-3
    reward = random.normal(size=sparse.shape)
    events = random.random((*sparse.shape, subgoals)) < 0.3
    return Decisions(sparse / sparse.sum(-1, keepdims=True), reward, events, draw(st.floats(0.1, 0.95)))


@settings(max_examples=30, deadline=None)
@given(process=processes(), coefficient=st.floats(0, 5))
def test_potential_shaping_keeps_the_optimal_policy(process: Decisions, coefficient: float) -> None:
    gamma = process.gamma
    plain, achieved = process.values()
    shaped, _ = process.values(
        final=lambda episode: potential_based(episode, coefficient, gamma),
        ongoing=lambda episode: potential_based(episode, coefficient, gamma, complete=False),
    )
    lower = plain - coefficient * achieved[:, None, None]  # by Phi of the state, for every action alike
    np.testing.assert_allclose(shaped[:, :-1], lower[:, :-1], atol=1e-9)


def corridor() -> Decisions:
    """From place 0, action 0 ends the episode with reward 1; action 1 achieves the subgoal and stays, for nothing."""
    chance, reward, events = np.zeros((2, 2, 2)), np.zeros((2, 2, 2)), np.zeros((2, 2, 2, 1), bool)
    chance[0, 0, 1] = chance[0, 1, 0] = chance[1, :, 1] = 1.0
    reward[0, 0, 1], events[0, 1, 0] = 1.0, True
    return Decisions(chance, reward, events, gamma=0.9)


@pytest.mark.parametrize(
    ("shaping", "best"),
    [
        (None, [0, 0]),
        ("potential", [0, 0]),
        ("once", [1, 0]),
        ("each time", [1, 1]),
    ],
)
def test_additive_shaping_can_change_the_optimal_policy(shaping: str | None, best: list[int]) -> None:
    """Best first action before and after the subgoal: paid once it is a detour, paid each time the agent never leaves."""
    forms: dict[str | None, tuple[Shaping | None, Shaping | None]] = {
        None: (None, None),
        "potential": (lambda e: potential_based(e, 1.0, 0.9), lambda e: potential_based(e, 1.0, 0.9, complete=False)),
        "once": (lambda e: additive(e, 1.0), lambda e: additive(e, 1.0)),
        "each time": (lambda e: additive(e, 1.0, once=False), lambda e: additive(e, 1.0, once=False)),
    }
    q, _ = corridor().values(*forms[shaping])
    assert q[:, 0].argmax(-1).tolist() == best

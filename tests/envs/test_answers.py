"""What an environment answers wrongly is told by environment, task, step and field, before it reaches anything else."""

from __future__ import annotations

import asyncio
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from envs import answers
from envs.answers import WrongAnswer
from envs.base import StepResult
from tests.envs.toys import Corridor, CorridorConfig

HALF = "half a \ud83d"
WRONG: list[tuple[str, Any, str]] = [
    ("observation", 7, "observation is 7 (int); it must be a text"),
    ("observation", None, "observation is None (NoneType); it must be a text"),
    ("observation", b"a wall", "observation is b'a wall' (bytes); it must be a text"),
    ("observation", HALF, r"observation is no Unicode text, it holds half of a surrogate pair: 'half a \ud83d'"),
    ("reward", math.nan, "reward is nan (float); it must be a finite number, of at most 1e+15"),
    ("reward", -math.inf, "reward is -inf (float); it must be a finite number"),
    ("reward", np.float32("inf"), "(float32); it must be a finite number"),
    ("reward", 1e300, "reward is 1e+300 (float); it must be a finite number, of at most 1e+15"),
    ("reward", 10**400, "(int); it must be a finite number"),
    ("reward", "1.0", "reward is '1.0' (str); it must be a finite number"),
    ("reward", None, "reward is None (NoneType); it must be a finite number"),
    ("reward", [1.0], "reward is [1.0] (list); it must be a finite number"),
    ("reward", 1j, "reward is 1j (complex); it must be a finite number"),
    ("terminated", "no", "terminated is 'no' (str); it must be True or False"),
    ("terminated", None, "terminated is None (NoneType); it must be True or False"),
    ("valid", 1, "valid is 1 (int); it must be True or False"),
    ("score", math.nan, "score is nan (float); it must be a number from 0 to 1"),
    ("score", 35, "score is 35 (int); it must be a number from 0 to 1"),
    ("score", -0.1, "score is -0.1 (float); it must be a number from 0 to 1"),
    ("score", "high", "score is 'high' (str); it must be a number from 0 to 1"),
    ("admissible_actions", [1, None], "admissible_actions is [1, None] (list); it must be a list of texts, or None where"),
    ("admissible_actions", "left", "admissible_actions is 'left' (str); it must be a list of texts, or None where"),
    ("admissible_actions", ("left",), "admissible_actions is ('left',) (tuple); it must be a list of texts, or None where"),
    ("admissible_actions", ["left", HALF], "admissible_actions is no Unicode text"),
    ("subgoals", (3,), "subgoals is (3,) (tuple); it must be a tuple of texts"),
    ("subgoals", None, "subgoals is None (NoneType); it must be a tuple of texts"),
    ("subgoals", (HALF,), "subgoals is no Unicode text"),
    ("state_key", HALF, "state_key is no Unicode text"),
    ("state_key", 7, "state_key is 7 (int); it must be a text"),
    ("state_key", "", "state_key is '' (str); it must be a text that is not empty"),
    ("frame", object, "frame is <class 'object'> (type); it must be a text"),
    ("frame", HALF, "frame is no Unicode text"),
]


class Answering(Corridor):
    """Answers "wrong" by whatever `change` makes of a good answer."""

    name = "answering"
    at = "wrong"

    def __init__(self, change: Callable[[StepResult], Any]) -> None:
        super().__init__(CorridorConfig())
        self.change = change

    def start(self, task_id: str, rng: np.random.Generator) -> StepResult:
        turn = super().start(task_id, rng)
        return self.change(turn) if self.at == "reset" else turn  # type: ignore[no-any-return]

    def act(self, action: str) -> StepResult:
        turn = super().act("wait" if action == "wrong" else action)
        return self.change(turn) if action == self.at else turn  # type: ignore[no-any-return]


def changed(field: str, value: Any) -> Callable[[StepResult], StepResult]:
    def change(turn: StepResult) -> StepResult:
        setattr(turn, field, value)
        return turn

    return change


def begun(change: Callable[[StepResult], Any]) -> Answering:
    env = Answering(change)
    answers.reset(env, 3, "length-5")
    answers.step(env, "left")
    return env


@pytest.mark.fault("an environment's answer is wrong (infinite rewards, other types, ...)", lost="the episode")
@pytest.mark.parametrize(("field", "value", "told"), WRONG, ids=lambda value: ascii(value)[:30])
def test_a_wrong_answer_to_a_step_names_environment_task_step_and_field(field: str, value: Any, told: str) -> None:
    env = begun(changed(field, value))
    with pytest.raises(WrongAnswer) as raised:
        answers.step(env, "wrong")
    assert str(raised.value).startswith("environment answering, task length-5, step 2: ")
    assert told in str(raised.value)
    str(raised.value).encode()


@pytest.mark.fault("an environment's answer is wrong (infinite rewards, other types, ...)", lost="the episode")
@pytest.mark.parametrize(
    ("field", "value", "told"),
    [one for one in WRONG if one[0] not in ("reward", "terminated")],
    ids=lambda value: ascii(value)[:30],
)
def test_a_wrong_answer_to_a_reset_names_it_too(field: str, value: Any, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Answering, "at", "reset")
    with pytest.raises(WrongAnswer) as raised:
        answers.reset(Answering(changed(field, value)), 3, "length-5")
    assert str(raised.value).startswith("environment answering, task length-5, reset: ")
    assert told in str(raised.value)


def test_a_wrong_value_that_cannot_be_shown_is_told_by_its_type() -> None:
    with pytest.raises(WrongAnswer, match=r"task length-5, step 2: reward is a value that cannot be shown \(int\)"):
        answers.step(begun(changed("reward", 10**5000)), "wrong")


class Ends(BaseException):
    pass


class Speechless(BaseException):
    def __str__(self) -> str:
        raise ValueError("has no words")

    __repr__ = __str__


ENDS = [SystemExit(0), SystemExit("no license"), GeneratorExit(), asyncio.CancelledError(), Ends("of time"), Speechless()]
"""What a loop of events raises where it waits; an environment's step does not wait in the rollout's loop."""


@pytest.mark.fault("an environment calls sys.exit", lost="the episode")
@pytest.mark.parametrize("error", ENDS, ids=lambda error: type(error).__name__)
def test_what_ends_programs_is_a_wrong_answer(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def end(turn: StepResult) -> Any:
        raise error

    with pytest.raises(WrongAnswer, match=r"environment answering, task length-5, step 2: raises .* which ends programs"):
        answers.step(begun(end), "wrong")
    monkeypatch.setattr(Answering, "at", "reset")
    with pytest.raises(WrongAnswer, match=r"environment answering, task length-5, reset: raises .* which ends programs"):
        answers.reset(Answering(end), 3, "length-5")


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_errors_and_interruptions_stay_what_they_are(error: type[BaseException]) -> None:
    def raise_it(turn: StepResult) -> Any:
        raise error

    with pytest.raises(error):
        answers.step(begun(raise_it), "wrong")


@pytest.mark.parametrize(
    ("shape", "told"),
    [
        (lambda answer: answer[:4], "step() is ("),
        (lambda answer: list(answer), "step() is ["),
        (lambda answer: None, "step() is None (NoneType)"),
        (lambda answer: (*answer[:4], None), "info is None (NoneType); it must be a dictionary"),
        (lambda answer: (*answer[:4], {}), "info lacks 'admissible_actions'"),
    ],
)
def test_a_class_that_answers_in_another_form_is_told(shape: Any, told: str) -> None:
    class Own(Corridor):
        def step(self, action: str) -> Any:
            return shape(super().step(action))

    env = Own(CorridorConfig())
    answers.reset(env, 3, "length-5")
    with pytest.raises(WrongAnswer) as raised:
        answers.step(env, "left")
    assert told in str(raised.value)


def test_numbers_and_flags_of_numpy_become_pythons_own() -> None:
    def of_numpy(turn: StepResult) -> StepResult:
        turn.reward, turn.terminated, turn.success = np.float32(0.5), np.bool_(True), np.bool_(True)  # type: ignore[assignment]
        turn.score, turn.valid = np.int64(1), np.bool_(True)  # type: ignore[assignment]
        return turn

    _, reward, terminated, truncated, info = answers.step(begun(of_numpy), "wrong")
    with warnings.catch_warnings(action="error"):  # half a float cannot be compared with a large one
        assert answers.step(begun(changed("reward", np.float16(0.5))), "wrong")[1] == 0.5
    assert answers.step(begun(changed("reward", np.True_)), "wrong")[1] == 1.0
    found = [reward, terminated, truncated, info["score"], info["valid"], info["success"], info["changed"]]
    assert found == [0.5, True, False, 1.0, True, True, True]
    assert [type(one) for one in found] == [float, bool, bool, float, bool, bool, bool]


def test_a_right_answer_is_passed_on_as_it_is() -> None:
    env, same = Corridor(CorridorConfig()), Corridor(CorridorConfig())
    assert answers.reset(env, 3, "length-5") == same.reset(seed=3, options={"task": "length-5"})
    for action in ("left", "fly", "\u00e9 \U0001f6aa", "right", "right"):
        assert answers.step(env, action) == same.step(action)

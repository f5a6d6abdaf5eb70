"""CALM's reading of answers, its scores and its shaped rewards (calm_reward.json): the kind of a case is that of its inputs."""

from __future__ import annotations

import json

import numpy as np
import pytest

from agents.judges.measuring.measure import RATIOS, Confusion, confusion, ratios
from algorithms.shaping import answers
from algorithms.shaping.subgoal_reward import additive
from tests.algorithms.golden_rows import Case, Check, close


def calm_reward(case: Case, tolerance: float) -> None:
    (check,) = [check for name, check in KINDS.items() if name in case["inputs"]]
    check(case, tolerance)


def postprocess(case: Case, tolerance: float) -> None:
    text, expected = case["inputs"]["response"], case["outputs"]
    answer = answers.parse_answer(text)
    reading = answers.read(answer)
    recorded = {int(time): str(subgoal) for time, subgoal in expected["time_to_reason"].items()}
    assert dict(reading) == recorded
    assert detected(reading) == expected["detected"]
    if isinstance(expected["strict_dict"], str):  # the released annotation takes whatever Python object it is, and then fails
        assert answer is None
    elif "```" in text:  # without a fence the released annotation reads nothing
        assert json.loads(json.dumps(answer or {})) == expected["strict_dict"]


def detected(reading: answers.Reading) -> bool:
    """Whether the official evaluation counts anything as said to have happened: a time other than 0."""
    return any(time != 0 for time, _ in reading)


def evaluate(case: Case, tolerance: float) -> None:
    found = {
        who: np.array([detected(answers.read(answers.parse_answer(case["inputs"][who])))]) for who in ("prediction", "human")
    }
    assert confusion(found["prediction"], found["human"]) == Confusion(**case["outputs"])


def scores(case: Case, tolerance: float) -> None:
    given = case["inputs"]
    assert given["n"] == sum(given[name] for name in ("tp", "fp", "fn", "tn"))
    found = ratios(np.array([given[name] for name in ("tp", "fp", "fn", "tn")]))
    for name, value in zip(RATIOS, np.nan_to_num(found), strict=True):  # accuracy is not computed here
        # The official ratios have 1e-9 added below, so that those of nothing are 0; here they are exact.
        close(value, case["outputs"][name], 1e-8)


def attach_rewards(case: Case, tolerance: float) -> None:
    kept = []
    for episode, text in zip(case["inputs"]["episodes"], case["inputs"]["responses"], strict=True):
        steps = [f"{observation}|{action}" for observation, action in zip(episode["t_obs"], episode["actions"], strict=True)]
        if reading := answers.read(answers.parse_answer(text)):
            kept.append(answers.attach(reading, steps))
    assert kept == case["outputs"]["rewarding_states_per_kept_response"]


def shaped(case: Case, tolerance: float) -> None:
    pytest.skip(f"'{case['name']}': the released code's reward by a table of counts has no implementation")


def paper_form(case: Case, tolerance: float) -> None:
    given = case["inputs"]
    achieved = np.array([transition["c"] for transition in given["transitions"]], dtype=bool)
    found = [transition["r"] for transition in given["transitions"]] + additive(achieved, given["bonus"], once=False)
    close(found, case["outputs"]["augmented_reward"], tolerance)


KINDS: dict[str, Check] = {
    "response": postprocess,
    "prediction": evaluate,
    "tp": scores,
    "episodes": attach_rewards,
    "counts": shaped,
    "transitions": paper_form,
}
"""By the input that only cases of this kind have."""

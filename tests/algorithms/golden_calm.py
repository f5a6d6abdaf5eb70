"""CALM's reading of answers, its scores and its shaped rewards (calm_reward.json): the kind of a case is that of its inputs."""

from __future__ import annotations

import json

import numpy as np

from algorithms.shaping import answers
from algorithms.shaping.confusion import Confusion, confusion
from algorithms.shaping.subgoal_reward import additive, count_table, table_reward
from tests.algorithms.golden_rows import Case, Check, close


def calm_reward(case: Case, tolerance: float) -> None:
    (check,) = [check for name, check in KINDS.items() if name in case["inputs"]]
    check(case, tolerance)


def postprocess(case: Case, tolerance: float) -> None:
    text, expected = case["inputs"]["response"], case["outputs"]
    reading = answers.read(answers.parse_answer(text, "lenient"))
    recorded = {int(time): str(subgoal) for time, subgoal in expected["time_to_reason"].items()}
    assert answers.by_time(reading) == recorded
    assert answers.detected(reading) == expected["detected"]
    strict = answers.parse_answer(text, "fenced")
    if isinstance(expected["strict_dict"], str):  # the released annotation takes whatever Python object it is, and then fails
        assert strict is None
    else:
        assert json.loads(json.dumps(strict or {})) == expected["strict_dict"]


def evaluate(case: Case, tolerance: float) -> None:
    found = {
        who: np.array([answers.detected(answers.read(answers.parse_answer(case["inputs"][who], "lenient")))])
        for who in ("prediction", "human")
    }
    assert confusion(found["prediction"], found["human"]) == Confusion(**case["outputs"])


def scores(case: Case, tolerance: float) -> None:
    given = case["inputs"]
    assert given["n"] == sum(given[name] for name in ("tp", "fp", "fn", "tn"))
    found = Confusion(given["tp"], given["fp"], given["fn"], given["tn"])
    for name, value in case["outputs"].items():
        # The official ratios have 1e-9 added below, so that those of nothing are 0; here they are exact.
        close(getattr(found, name), value, 1e-8)


def attach_rewards(case: Case, tolerance: float) -> None:
    kept = []
    for episode, text in zip(case["inputs"]["episodes"], case["inputs"]["responses"], strict=True):
        steps = [f"{observation}|{action}" for observation, action in zip(episode["t_obs"], episode["actions"], strict=True)]
        if reading := answers.read(answers.parse_answer(text, "fenced"), inverted=False):
            kept.append(answers.attach(reading, steps))
    assert kept == case["outputs"]["rewarding_states_per_kept_response"]


def shaped(case: Case, tolerance: float) -> None:
    given, expected = case["inputs"], case["outputs"]
    # Final counts leave open over how many answers they were spread, which the running minimum depends on: all or one at once.
    at_once = [{key: ["subgoal"] * count for key, count in given["counts"].items()}]
    one_by_one = [{key: ["subgoal"]} for key, count in given["counts"].items() for _ in range(count)]
    tables = [count_table(annotations) for annotations in (at_once, one_by_one)]
    assert tables[0].keys() == expected["table"].keys()
    table = min(tables, key=lambda found: max(abs(found[key] - value) for key, value in expected["table"].items()))
    close(list(table.values()), [expected["table"][key] for key in table], tolerance)
    step = f"{given['observation']}|{given['action']}"
    close(table.get(step, 0.0), expected["intrinsic_reward"], tolerance)
    close(given["extrinsic_reward"] + table_reward(table, [step], given["beta"])[0], expected["reward"], tolerance)


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

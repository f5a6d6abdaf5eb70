"""What a judge's scores are made of: counts against counts made by hand, ratios, intervals, names, and episodes told again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.judges.measuring.matching import match
from agents.judges.measuring.measure import (
    ALL,
    RESAMPLES,
    Confusion,
    confusion,
    filtered,
    intervals,
    latency,
    ratios,
    score,
    total,
)
from agents.judges.measuring.playing import NotRepeatable, _play, at_random, told_by
from envs.common.structured import ConfigError
from envs.trajectory import Step, Trajectory
from tests.agents.test_judge import Hall, HallConfig
from tests.envs.toys import CorridorConfig, Slippery

NAMES = ("key", "door")


def episode(*reached: str, unchanged: tuple[int, ...] = ()) -> Trajectory:
    """After each step the subgoals whose letters (k, d) are given are achieved."""
    words = {"k": "key", "d": "door"}
    steps = [
        Step("seen", "go", subgoals=[words[one] for one in so_far], changed=number not in unchanged)
        for number, so_far in enumerate(reached)
    ]
    return Trajectory("env", "task", "group", 0, "train", steps=steps)


def test_verdicts_are_counted_as_by_hand() -> None:
    played = [episode("", "k", "k", "kd"), episode("", "")]
    #         steps:  0        1         2          3
    said = [[(), ("key",), ("key",), ()], [("door",), ()]]
    found = score(played, said, [NAMES, NAMES])
    assert found["key"].counts == Confusion(tp=1, fp=1, fn=0, tn=4)
    assert found["door"].counts == Confusion(tp=0, fp=1, fn=1, tn=4)
    assert found[ALL].counts == Confusion(tp=1, fp=2, fn=1, tn=8)
    assert (found["key"].precision.value, found["key"].recall.value, found["key"].f1.value) == (0.5, 1.0, pytest.approx(2 / 3))
    assert (found["door"].precision.value, found["door"].recall.value) == (0.0, 0.0)


def test_a_subgoal_counts_in_episodes_whose_task_has_it_only() -> None:
    found = score([episode("k", "k"), episode("", "d")], [[("key",), ()], [(), ("door", "key")]], [("key",), ("door",)])
    assert found["key"].counts == Confusion(1, 0, 0, 1)
    assert found["door"].counts == Confusion(1, 0, 0, 1)


def test_a_ratio_of_nothing_is_none() -> None:
    found = score([episode("", "")], [[(), ()]], [NAMES])["key"]
    assert {found.precision.value, found.recall.value, found.f1.value, found.f1.low, found.f1.high} == {None}
    assert score([episode("k")], [[()]], [NAMES])["key"].recall.value == 0.0


def test_the_filter_s_losses_are_events_at_steps_that_changed_nothing() -> None:
    played = [episode("", "k", "kd", unchanged=(0, 1)), episode("", "", unchanged=(1,))]
    found = filtered(played, [NAMES, NAMES])
    assert (found["transitions"], found["kept"], found["events"], found["events_lost"]) == (5, 2, 2, 1)


@given(pairs=st.lists(st.tuples(st.booleans(), st.booleans())))
def test_each_pair_of_verdict_and_label_is_counted_once(pairs: list[tuple[bool, bool]]) -> None:
    verdict, label = np.array(pairs, bool).reshape(-1, 2).T
    found = confusion(verdict, label)
    assert found == Confusion(*(pairs.count(pair) for pair in ((True, True), (True, False), (False, True), (False, False))))
    if found.tp:
        precision, recall, f1 = ratios(np.array([found.tp, found.fp, found.fn, found.tn]))
        assert f1 == pytest.approx(2 / (1 / precision + 1 / recall))


def test_verdicts_must_fit_their_labels() -> None:
    with pytest.raises(ValueError, match="shape"):
        confusion(np.zeros(2, bool), np.zeros((2, 1), bool))


def test_an_interval_of_a_share_is_as_wide_as_theory_says() -> None:
    counts = np.zeros((400, 1, 4), dtype=np.int64)
    counts[:280, 0, 0], counts[280:, 0, 2] = 1, 1  # one event an episode, 70% of them found
    low, high = intervals(counts, seed=0)[0, 1]
    width = 1.96 * (0.7 * 0.3 / 400) ** 0.5
    assert (low, high) == (pytest.approx(0.7 - width, abs=0.01), pytest.approx(0.7 + width, abs=0.01))


def test_intervals_know_that_steps_of_one_episode_go_together() -> None:
    alone = np.zeros((40, 1, 4), dtype=np.int64)
    alone[:20, 0, 0], alone[20:, 0, 2] = 1, 1
    together = np.concatenate([alone[::10] * 10])  # as many events, in four episodes
    narrow, wide = (np.ptp(intervals(counts, seed=0)[0, 1]) for counts in (alone, together))
    assert wide > 2 * narrow


def test_intervals_are_the_same_each_time_and_hold_the_value() -> None:
    counts = np.random.default_rng(0).integers(0, 4, (30, 3, 4))
    bounds = intervals(counts, seed=3)
    assert np.array_equal(bounds, intervals(counts, seed=3))
    values = ratios(counts.sum(axis=0))
    assert ((bounds[..., 0] <= values) & (values <= bounds[..., 1])).all()
    assert RESAMPLES >= 1000


def test_latency_is_the_median_and_the_slow_end() -> None:
    assert latency([*map(float, range(101))]) == {"median": 50.0, "p95": 95.0}
    assert latency([]) == {"median": None, "p95": None}


def test_costs_of_calls_add_up() -> None:
    assert total([{"calls": 2.0, "broken": 0.0}, {"calls": 3.0, "broken": 1.0}]) == {"calls": 5.0, "broken": 1.0}
    assert total([]) == {}


def test_each_subgoal_of_the_rules_is_taken_once_by_the_most_alike() -> None:
    found = match(["open the red door", "Open the Door!", "get the key", "sing"], ["open the door", "pick up the key"], 80)
    assert [(m.proposed, m.nearest, m.taken) for m in found] == [
        ("open the red door", "pick up the key", False),
        ("Open the Door!", "open the door", True),
        ("get the key", "pick up the key", False),
        ("sing", "pick up the key", False),
    ]
    assert match(["get the key"], ["pick up the key"], found[2].likeness)[0].taken
    assert match([], ["open the door"], 80) == []


def test_an_episode_is_told_again_in_other_words_and_is_the_same() -> None:
    played = at_random(Hall(HallConfig()), "tests/KeyedHall-v0", "train-1", 5, "train", 7)
    told = told_by(Hall(HallConfig(map="full")), played)
    assert [step.action for step in told.steps] == [step.action for step in played.steps]
    assert [step.state_key for step in told.steps] == [step.state_key for step in played.steps]
    assert all(one.observation != other.observation for one, other in zip(played.steps, told.steps))
    assert len(told.final_observation or "") > len(played.final_observation or "")
    again = at_random(Hall(HallConfig()), "tests/KeyedHall-v0", "train-1", 5, "train", 7)
    assert again == played


def test_an_episode_whose_chance_was_drawn_anew_is_told_again_with_the_same_chance() -> None:
    env = Slippery(CorridorConfig(slippery=0.5))
    played = at_random(env, "tests/Slippery-v0", "length-5", 5, "train", 7)
    actions = iter([step.action for step in played.steps])
    seeds = [(1, 70), (4, 71)]
    other = _play(env, replace(played, steps=[], reseeded=seeds), lambda _: next(actions, None))
    assert [step.state_key for step in other.steps] != [step.state_key for step in played.steps][: len(other.steps)]
    assert told_by(Slippery(CorridorConfig(slippery=0.5)), other).steps == other.steps


def test_an_environment_that_does_not_repeat_itself_is_not_measured() -> None:
    class Moody(Hall):
        def act(self, action: str) -> object:  # type: ignore[override]
            turn = super().act(action)
            turn.reward += 1.0
            return turn

    played = at_random(Hall(HallConfig()), "tests/KeyedHall-v0", "train-1", 5, "train", 7)
    with pytest.raises(NotRepeatable, match="train-1"):
        told_by(Moody(HallConfig()), played)


def test_an_environment_that_lists_no_actions_needs_a_policy() -> None:
    class Silent(Hall):
        def _turn(self, said: str, changed: bool) -> object:  # type: ignore[override]
            turn = super()._turn(said, changed)
            turn.admissible_actions = None
            return turn

    with pytest.raises(ConfigError, match="give run="):
        at_random(Silent(HallConfig()), "tests/KeyedHall-v0", "train-1", 5, "train", 7)

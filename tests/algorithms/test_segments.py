"""Segments: where they begin and end, what is averaged over them, and what a judge's word changes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from algorithms.segments import SubgoalSegment, by_subgoal, reached, subgoal_segments
from envs.trajectory import Step, Trajectory


def episode(*noted: dict[str, Any], rewards: tuple[float, ...] = (), shaped: tuple[float, ...] = ()) -> Trajectory:
    """An episode of one step for each of `noted`, its fields; `rewards` and `shaped` (by "calm") belong to its first steps."""
    steps = [Step("seen", "go", **fields) for fields in noted]
    for step, reward in zip(steps, rewards):
        step.reward = reward
    for step, paid in zip(steps, shaped):
        step.shaped_rewards["calm"] = paid
    return Trajectory("env", "task", "group", 0, "train", steps=steps)


def so_far(*names: str) -> dict[str, Any]:
    return {"subgoals": list(names)}


def judged(*names: str) -> dict[str, Any]:
    return {"judged": list(names), "subgoals": []}


def credited(advantage: Any, *names: str) -> dict[str, Any]:
    return {"subgoals": list(names), "credit": {"advantage": advantage}}


def test_an_option_ends_where_a_subgoal_is_reached_and_the_rest_has_no_name() -> None:
    played = episode(so_far(), so_far("key"), so_far("key"), so_far("key"), so_far("key", "door"), so_far("key", "door"))
    assert subgoal_segments(played) == [SubgoalSegment("key", 0, 1), SubgoalSegment("door", 2, 4), SubgoalSegment(None, 5, 5)]


def test_an_option_that_reaches_the_last_step_leaves_no_rest() -> None:
    assert subgoal_segments(episode(so_far(), so_far("key"))) == [SubgoalSegment("key", 0, 1)]


def test_subgoals_reached_at_one_step_are_one_option() -> None:
    assert subgoal_segments(episode(so_far(), so_far("key", "door"))) == [SubgoalSegment("key, door", 0, 1)]


def test_without_subgoals_everything_is_the_rest() -> None:
    assert subgoal_segments(episode(so_far(), so_far())) == [SubgoalSegment(None, 0, 1)]
    assert subgoal_segments(episode({})) == [SubgoalSegment(None, 0, 0)]
    assert subgoal_segments(episode()) == []


def test_a_judge_s_word_counts_before_the_rules_and_a_name_only_once() -> None:
    played = episode(judged("key"), judged(), judged("key", "door"), judged("door"))
    assert subgoal_segments(played) == [SubgoalSegment("key", 0, 0), SubgoalSegment("door", 1, 2), SubgoalSegment(None, 3, 3)]
    by_rules = episode({"judged": [], "subgoals": ["key"]}, {"subgoals": ["key"]})
    assert subgoal_segments(by_rules) == [SubgoalSegment(None, 0, 1)]
    assert reached(by_rules.steps, "subgoals") == [["key"], []]


@pytest.mark.parametrize(("noted", "name"), [({"subgoals": [3]}, "3"), ({"judged": [3]}, "3")])
def test_what_a_plug_in_noted_otherwise_is_text(noted: dict[str, Any], name: str) -> None:
    assert subgoal_segments(episode(noted)) == [SubgoalSegment(name, 0, 0)]


def test_advantages_are_averaged_over_steps_and_rewards_over_options() -> None:
    found = by_subgoal(
        [
            episode(credited(1.0), credited(2.0, "key"), credited(-4.0, "key"), rewards=(0.0, 0.5, 2.0), shaped=(0.0, 1.0)),
            episode(credited(6.0, "key"), rewards=(1.5,), shaped=(2.0,)),
        ]
    )
    assert list(found) == ["key", None]
    key, rest = found["key"], found[None]
    assert (key.count, key.steps, key.advantage, key.reward, key.shaped) == (2, 1.5, 3.0, 1.0, {"calm": 1.5})
    assert (rest.count, rest.steps, rest.advantage, rest.reward, rest.shaped) == (1, 1.0, -4.0, 2.0, {})


def test_of_tokens_those_count_that_have_an_advantage() -> None:
    played = episode(credited([1.0, None, 3.0]), credited(None, "key"), credited([None], "key"))
    assert by_subgoal([played])["key"].advantage == 2.0
    assert by_subgoal([played])[None].advantage is None


@pytest.mark.parametrize("noted", [None, {"advantage": "much"}, {"advantage": float("nan")}, {}])
def test_credit_that_is_not_understood_is_none(noted: Any) -> None:
    assert by_subgoal([episode({"credit": noted})])[None].advantage is None


def test_names_stand_in_the_order_in_which_they_are_reached() -> None:
    early, late = episode(so_far("b")), episode(so_far(), so_far("a"), so_far("a"))
    assert list(by_subgoal([late, early])) == ["b", "a", None]


@given(st.lists(st.lists(st.sampled_from("abc"), max_size=2), max_size=9), st.booleans())
def test_options_cover_an_episode_without_gap_or_overlap(noted: list[list[str]], by_judge: bool) -> None:
    played = episode(*({"judged" if by_judge else "subgoals": names} for names in noted))
    found = subgoal_segments(played)
    assert [place for one in found for place in range(one.first, one.last + 1)] == list(range(len(noted)))
    assert [one.name for one in found[:-1]].count(None) == 0
    assert sum(credit.steps * credit.count for credit in by_subgoal([played]).values()) == len(noted)

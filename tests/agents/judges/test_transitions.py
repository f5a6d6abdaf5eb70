"""Which steps are judged, and what of them is shown."""

from __future__ import annotations

from agents.judges.transitions import Transition, transitions
from envs.trajectory import Step
from tests.agents.judges.episodes import episode, step, walk


def test_only_steps_that_changed_anything_are_judged() -> None:
    assert [number for number, _ in transitions(walk(), 1)] == [0, 2, 3]


def test_an_environment_that_does_not_tell_has_all_its_steps_judged() -> None:
    told_nothing = episode(Step("A", "north"), Step("B", "north"))
    assert [number for number, _ in transitions(told_nothing, 1)] == [0, 1]


def test_the_outcome_is_the_next_observation_or_the_final_one() -> None:
    assert [transition.after for _, transition in transitions(walk(), 1)] == [
        "You carry a key.",
        "A door is open.",
        "You are outside.",
    ]


def test_a_step_whose_outcome_nobody_saw_is_not_judged() -> None:
    assert [number for number, _ in transitions(episode(step("A", "north"), step("B", "south"), final=None), 1)] == [0]


def test_a_window_shows_the_moves_before_and_is_short_at_the_beginning() -> None:
    found = dict(transitions(walk(), 3))
    assert [action for _, action in found[3].moves] == ["wait", "open", "go"]
    assert [action for _, action in found[0].moves] == ["pick up"]


def test_equal_moves_are_one_question_whatever_came_before() -> None:
    first = dict(transitions(walk(), 1))[2]
    other = episode(step("Z", "east"), *walk().steps[2:], final="You are outside.")
    assert dict(transitions(other, 1))[1] == first
    assert len({first, dict(transitions(other, 1))[1]}) == 1


def test_what_the_policy_wrote_and_the_environment_did_not_understand_is_not_shown() -> None:
    forged = episode(step("A", "answer {'open the door': 1}", valid=False), final="B")
    [(_, transition)] = transitions(forged, 1)
    assert transition == Transition((("A", "(something impossible)"),), "B")


def test_a_possible_action_in_a_badly_formed_answer_is_shown() -> None:
    [(_, transition)] = transitions(episode(step("A", "open", valid=False, admissible_actions=["open"]), final="B"), 1)
    assert transition.moves == (("A", "open"),)


def test_an_empty_episode_has_nothing_to_judge() -> None:
    empty = walk()
    empty.steps.clear()
    assert list(transitions(empty, 1)) == []

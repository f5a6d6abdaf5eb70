"""Episodes as flat columns: what a method may read of the states that a step lies between."""

from __future__ import annotations

from agents.training.columns import columns
from envs.trajectory import Step, Trajectory


def episode(group: str, keys: str, last: str = "") -> Trajectory:
    steps = [Step("", "", state_key=key, response_ids=[ord(key)]) for key in keys]
    return Trajectory("e", "t", group, 0, "train", steps=steps, final_state_key=last)


def test_the_state_after_a_step_has_the_number_that_it_has_before_another_step_of_its_group() -> None:
    made = columns([episode("g", "abc", "a"), episode("g", "bd", "e"), episode("h", "a", "a"), episode("h", "")])
    state, after = made["state"].tolist(), made["next_state"].tolist()
    a, b, c, _, d, a_of_h = state
    assert state[3] == b
    assert len(set(state)) == 5
    assert after[:4] == [b, c, a, d]
    assert after[4] not in state
    assert after[5] == a_of_h


def test_an_unknown_last_state_has_no_number() -> None:
    assert columns([episode("g", "ab"), episode("g", "a", "b")])["next_state"].tolist() == [1, -1, 1]


def test_actions_of_equal_text_have_equal_numbers_and_an_episode_keeps_what_it_ended_in() -> None:
    one, other = episode("g", "ab"), episode("h", "c")
    one.steps[1].action = other.steps[0].action = "open"
    one.final_observation = "the end"
    made = columns([one, other])
    assert made["action"].tolist() == [0, 1, 1]
    assert made["final_text"] == ["the end", ""]


def test_sampled_tokens_follow_each_other_in_the_order_of_steps() -> None:
    assert columns([episode("g", "ab"), episode("g", ""), episode("g", "c")])["token_ids"].tolist() == [97, 98, 99]


def test_no_episode_and_no_step_give_empty_columns() -> None:
    for trajectories in ([], [episode("g", "")]):
        made = columns(trajectories)
        assert {len(made[name]) for name in ("state", "next_state", "action", "token_ids")} == {0}

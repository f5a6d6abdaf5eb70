"""HiPER: cases worked out by hand, its definition turn by turn in plain Python, and what must hold for any episodes."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algorithms.base import Batch, Floats
from algorithms.batch import Part
from algorithms.hiper import HIGH, LOW, TERM, HiPER
from algorithms.ppo import PPO
from envs.trajectory import Step, Trajectory
from tests.algorithms.batches import as_batch

quick = settings(max_examples=40, deadline=None)
TURN = [Part.SWITCH, Part.SUBGOAL, Part.SUBGOAL, Part.ACTION]


class Turn:
    """A turn of an episode: what its tokens are, and what the critic says before each."""

    def __init__(self, reward: float, switch: bool, parts: list[Part], ids: list[int], values: list[list[float]]) -> None:
        self.reward, self.switch, self.parts, self.ids, self.values = reward, switch, parts, ids, values


def turn(reward: float = 0.0, switch: bool = False, subgoal: int = 5, values: tuple[float, float, float] = (0, 0, 0)) -> Turn:
    """A well-formed one of four tokens, whose values are alike at all of them."""
    return Turn(reward, switch, list(TURN), [int(switch), subgoal, subgoal, 9], [list(values)] * 4)


def batch_of(played: list[list[Turn]], cut: list[bool] | None = None, error: str | None = None) -> Batch:
    made = [
        Trajectory(
            "env",
            "task",
            "task",
            0,
            "train",
            steps=[Step("", "", one.reward, response_ids=one.ids) for one in turns],
            error=error,
        )
        for turns in played
    ]
    for trajectory, over in zip(made, cut or [False] * len(made)):
        trajectory.steps[-1].truncated = over
    batch = as_batch(made)
    turns = [one for row in played for one in row]
    batch.parts = np.array([int(part) for one in turns for part in one.parts], dtype=np.int64)
    batch.switches = np.array([one.switch for one in turns], dtype=bool)
    batch.values = np.array([value for one in turns for value in one.values], dtype=np.float64).reshape(-1, 3)
    return batch


@st.composite
def episodes(draw: st.DrawFn) -> list[list[Turn]]:
    """Of up to five turns each, some of them without switch, subgoal or action."""
    numbers = random.Random(draw(st.integers(0, 10**6)))
    forms = [TURN, TURN, [Part.ACTION] * 2, [Part.SWITCH, Part.ACTION], [Part.SWITCH, Part.SUBGOAL], [Part.NONE, *TURN]]

    def made() -> Turn:
        parts = numbers.choice(forms)
        ids = [numbers.randint(1, 2) for _ in parts]
        values = [[numbers.uniform(-1, 1) for _ in range(3)] for _ in parts]
        return Turn(numbers.choice([0.0, 0.0, 1.0, -0.5]), numbers.random() < 0.4, parts, ids, values)

    return [[made() for _ in range(numbers.randint(1, 5))] for _ in range(numbers.randint(1, 4))]


cuts = st.lists(st.booleans(), min_size=4, max_size=4)


# -- the definition ----------------------------------------------------------------------------------------------------------


def plainly(played: list[list[Turn]], cut: list[bool], gamma: float, lam_turn: float, lam_seg: float, bootstrap: bool) -> Any:
    """Advantages of each turn: of its action, of its subgoal where a segment begins, of its switch."""
    found = []
    for turns, over in zip(played, cut):
        high = [one.values[0][HIGH] for one in turns]
        term = [one.values[0][TERM] for one in turns]
        acts = [one.parts.index(Part.ACTION) if Part.ACTION in one.parts else len(one.parts) - 1 for one in turns]
        low = [one.values[place][LOW] for one, place in zip(turns, acts)]
        begins = [t for t, one in enumerate(turns) if t == 0 or one.switch] + [len(turns)]
        of_low, of_high, of_term = ([0.0] * len(turns) for _ in range(3))
        after = 0.0
        for start, end in reversed(list(pairwise(begins))):
            last = end == len(turns)
            worth = high[end] if not last else high[start] if over and bootstrap else 0.0
            worth_low = high[end] if not last else low[-1] if over and bootstrap else 0.0
            following, value = 0.0, worth_low
            for t in reversed(range(start, end)):
                following = turns[t].reward + gamma * value - low[t] + gamma * lam_turn * following
                of_low[t], value = following, low[t]
            back = worth
            for t in reversed(range(start, end)):
                back = turns[t].reward + gamma * back
                of_term[t] = back - term[t]
            after = back - high[start] + gamma ** (end - start) * lam_seg * after
            of_high[start] = after
        found.append((of_low, of_high, of_term))
    return found


@given(episodes(), cuts, st.sampled_from([1.0, 0.9]), st.sampled_from([1.0, 0.7]), st.booleans())
@quick
def test_it_is_the_definition(played: list[list[Turn]], cut: list[bool], gamma: float, lam: float, bootstrap: bool) -> None:
    method = HiPER(gamma=gamma, lam_turn=lam, lam_seg=0.95, normalize=False, bootstrap_truncated=bootstrap)
    found = method.advantages(batch_of(played, cut))
    expected = plainly(played, cut, gamma, lam, 0.95, bootstrap)
    values, defined, at = found.values.tolist(), found.defined.tolist(), 0
    for turns, (of_low, of_high, of_term) in zip(played, expected):
        for t, one in enumerate(turns):
            of = {Part.ACTION: of_low[t], Part.SUBGOAL: of_high[t], Part.SWITCH: of_term[t]}
            for part in one.parts:
                has = part in of and not (part is Part.SUBGOAL and t and not one.switch)
                assert defined[at] == has
                assert values[at] == pytest.approx(of[part] if has else 0.0, abs=1e-9)
                at += 1


def test_two_segments_by_hand() -> None:
    played = [[turn(switch=True, values=(1, 2, 3)), turn(values=(2, 9, 1)), turn(10, switch=True, values=(4, 6, 5))]]
    found = HiPER(gamma=0.5, lam_turn=1.0, lam_seg=0.5, normalize=False).advantages(batch_of(played))
    # The second segment: 10 - 4 for acting, 10 - 6 for its subgoal, 10 - 5 for switching to it. Its value ends the first one.
    second = [5.0, 4.0, 4.0, 6.0]
    # The first: turn 1 gets 0.5 * 6 - 2 = 1; turn 0 gets 0.5 * 2 - 1 + 0.5 * 1; the subgoal 0.25 * 6 - 2 + 0.25 * 0.5 * 4.
    first = [0.5 * 0.5 * 6 - 3, 0.0, 0.0, 0.5, 0.5 * 6 - 1, 0.0, 0.0, 1.0]
    assert found.values.tolist() == [*first, *second]
    assert found.defined.tolist() == [True] * 5 + [False] * 2 + [True] * 5
    assert found.returns is not None
    assert found.returns[0].tolist() == pytest.approx([np.nan, 2.0, 1.5], nan_ok=True)
    assert found.returns[3].tolist() == pytest.approx([1.5, np.nan, np.nan], nan_ok=True)
    assert found.returns[8].tolist() == pytest.approx([np.nan, 10.0, 10.0], nan_ok=True)
    assert int(np.isfinite(found.returns).sum()) == 3 + 2 + 3


@given(episodes(), st.sampled_from([1.0, 0.9]), st.sampled_from([1.0, 0.7]))
@quick
def test_who_never_switches_has_his_actions_credited_by_gae(played: list[list[Turn]], gamma: float, lam: float) -> None:
    for turns in played:
        for one in turns:
            one.switch, one.parts = False, [Part.ACTION] * len(one.parts)
    batch = batch_of(played)
    found = HiPER(gamma=gamma, lam_turn=lam, normalize=False).advantages(batch)
    assert batch.values is not None
    batch.values = batch.values[:, LOW]
    usual = PPO(gamma=gamma, lam=lam, normalize=False, level="action").advantages(batch)
    np.testing.assert_allclose(found.values, usual.values, atol=1e-9)
    assert found.returns is not None
    np.testing.assert_allclose(found.returns[:, LOW], usual.returns, atol=1e-9)


# -- rewards -----------------------------------------------------------------------------------------------------------------


def rewards(method: HiPER, played: list[list[Turn]]) -> list[float]:
    batch = method.score(batch_of(played))
    return method.rewards(batch).tolist()


def test_keeping_a_subgoal_costs_by_turn_or_by_episode() -> None:
    played = [[turn(), turn(switch=True), turn(), turn()], [turn(1.0)]]
    assert rewards(HiPER(keep_penalty=-0.4, keep_penalty_mode="fixed"), played) == [-0.4, 0, -0.4, -0.4, 0.6]
    assert rewards(HiPER(keep_penalty=-0.4), played) == [-0.1, 0, -0.1, -0.1, 1.0]


@given(episodes(), st.booleans())
@quick
def test_a_subgoal_that_is_kept_in_name_only_costs(played: list[list[Turn]], both: bool) -> None:
    method = HiPER(consistency_penalty=-1.0, consistency_requires_both=both)
    expected = []
    for turns in played:
        before: list[int] = []
        for t, one in enumerate(turns):
            named = [token for token, part in zip(one.ids, one.parts) if part is Part.SUBGOAL]
            differs = named != before or not named
            counts = t > 0 and not one.switch and differs and not (both and not (named and before))
            expected.append(one.reward - counts)
            before = named
    assert rewards(method, played) == expected


# -- any episodes ------------------------------------------------------------------------------------------------------------


METHODS = {
    "plain": HiPER(normalize=False),
    "normalized": HiPER(gamma=0.9, lam_turn=0.8),
    "penalties": HiPER(keep_penalty=-0.3, consistency_penalty=-0.3, bootstrap_truncated=True),
}
methods = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)


def credit(method: HiPER, played: list[list[Turn]], cut: list[bool]) -> list[Floats]:
    """Advantages of each episode's tokens."""
    found = method.advantages(batch_of(played, cut[: len(played)]))
    lengths = [sum(len(one.ids) for one in turns) for turns in played]
    return np.split(np.where(found.defined, found.values, np.nan), np.cumsum(lengths)[:-1])


@methods
@given(episodes(), cuts, st.randoms(use_true_random=False))
@quick
def test_the_order_of_episodes_does_not_matter(
    method: HiPER, played: list[list[Turn]], cut: list[bool], rng: random.Random
) -> None:
    order = list(range(len(played)))
    rng.shuffle(order)
    before = credit(method, played, cut)
    after = credit(method, [played[i] for i in order], [cut[i] for i in order])
    np.testing.assert_allclose(np.concatenate(after), np.concatenate([before[i] for i in order]), atol=1e-9)


@methods
@given(episodes(), episodes(), cuts)
@quick
def test_episodes_that_a_fault_cut_off_change_nothing(
    method: HiPER, played: list[list[Turn]], others: list[list[Turn]], cut: list[bool]
) -> None:
    here, there = batch_of(played, cut), batch_of(others, error="timeout")
    both = as_batch([*here.trajectories, *there.trajectories])
    for name in ("parts", "switches", "values"):
        setattr(both, name, np.concatenate([getattr(here, name), getattr(there, name)]))
    alone, found = method.advantages(here), method.advantages(both)
    tokens = len(alone.values)
    np.testing.assert_allclose(found.values[:tokens], alone.values, atol=1e-9)
    assert not found.defined[tokens:].any()
    assert found.returns is not None
    assert np.isnan(found.returns[tokens:]).all()


@pytest.mark.parametrize("value", [10.0, 0.1, 1 / 3, 8.573749542236328])
@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_where_everything_goes_alike_nothing_is_credited_or_blamed(value: float, n: int) -> None:
    played = [[turn(value, switch=True, values=(0.5, 0.25, 0.125))] for _ in range(n)]
    found = HiPER().advantages(batch_of(played))
    assert not found.values.any()
    assert found.defined.all()


def test_what_is_missing_or_not_allowed_is_named() -> None:
    batch = batch_of([[turn()]])
    for name in ("values", "parts", "switches"):
        lacking = batch_of([[turn()]])
        setattr(lacking, name, None)
        with pytest.raises(ValueError, match=r"HiPER needs batch\.values \[T, 3\], batch\.parts and batch\.switches"):
            HiPER().advantages(lacking)
    batch.cut_off = None
    with pytest.raises(ValueError, match=r"bootstrap_truncated needs batch\.cut_off"):
        HiPER(bootstrap_truncated=True).advantages(batch)
    with pytest.raises(ValueError, match="no sampled token"):
        HiPER().advantages(batch_of([[Turn(0, False, [], [], [])]]))
    with pytest.raises(ValueError, match=r"keep_penalty is 0\.3; it must be at most 0"):
        HiPER(keep_penalty=0.3)

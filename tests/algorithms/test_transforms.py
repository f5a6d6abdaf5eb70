"""Transforms: what each does to single tokens, and what holds for all of them."""

from __future__ import annotations

from itertools import combinations, pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import stepcredit
from algorithms import surrogates, transforms
from algorithms.base import Batch, Floats
from algorithms.grpo import GRPO
from algorithms.surrogates import Clip, Tokens
from algorithms.transforms import highest
from algorithms.transforms.attention import coupled
from algorithms.transforms.d3s import D3S, widest
from algorithms.transforms.forking import SPINE, Forking
from algorithms.transforms.hicra import HICRA
from algorithms.transforms.thr import THR
from envs.trajectory import Trajectory
from tests.algorithms.batches import as_batch
from tests.algorithms.examples import episode, trajectories

quick = settings(max_examples=40, deadline=None)
every = pytest.mark.parametrize("name", transforms.names())


def batch_of(played: list[Trajectory], seed: int = 0) -> Batch:
    """With all that transforms ask for, drawn at random."""
    batch = as_batch(played)
    numbers, size = np.random.default_rng(seed), int(batch.tokens.sum())
    batch.entropy, batch.divergence, batch.waad, batch.fai = numbers.uniform(0, 3, (4, size))
    won = np.bincount(batch.group, batch.success[batch.episode])[batch.group] > 0
    batch.influence = np.where(np.repeat(won, batch.tokens), numbers.normal(size=size), np.nan)
    batch.token_text = numbers.choice(["go ", "to ", "the ", "desk"], size).tolist()
    return batch


def values_of(batch: Batch, seed: int = 0) -> Floats:
    return np.random.default_rng(seed + 1).normal(size=int(batch.tokens.sum()))


# -- all of them ------------------------------------------------------------------------------------------------------------


@every
@given(played=trajectories(), seed=st.integers(0, 99))
@quick
def test_what_it_adds_is_a_part_and_faulted_episodes_stay_out(name: str, played: list[Trajectory], seed: int) -> None:
    batch = batch_of(played, seed)
    before = GRPO().advantages(batch).of_tokens(batch)
    found = GRPO(transforms=[name]).advantages(batch, done=0.5)
    added = found.parts[name]
    assert found.level == "token"
    assert not (found.defined & ~before.defined).any()
    np.testing.assert_allclose(found.values[found.defined], (before.values + added)[found.defined], atol=1e-12)
    taken_out = before.defined & ~found.defined
    assert np.isnan(added[taken_out]).all()
    assert not np.repeat(~batch.included, batch.tokens)[found.defined].any()
    assert set(found.beside) == transforms.get(name).gives
    assert all(len(column) == len(found.values) and np.isfinite(column).all() for column in found.beside.values())


@every
def test_it_says_what_it_lacks(name: str) -> None:
    batch = as_batch([episode([0, 1]), episode([0, 0])])
    needed = transforms.get(name).needs
    with pytest.raises(ValueError, match=rf"needs batch\.({'|'.join(needed)})"):
        GRPO(transforms=[name]).advantages(batch)
    with pytest.raises(ValueError, match=f"grpo needs {sorted(needed)[0]}: "):
        stepcredit.advantages("grpo", rewards=[0, 1], episodes=[0, 1], transforms=[name])


def test_they_are_applied_in_the_order_given() -> None:
    batch = batch_of([episode([0, 10]), episode([0, 0])])
    batch.token_text = ["go "] * 8
    double = {"name": "hicra", "alpha": 1.0, "grams": ["go"]}
    some = {"name": "attention", "form": "anchor", "share": 0.5, "amplify": 2.0}
    first, second = (GRPO(transforms=list(order)).advantages(batch) for order in ((double, some), (some, double)))
    np.testing.assert_allclose(first.values, second.values)  # factors are; what each added is not
    won = first.values > 0
    assert first.parts["attention"][won].sum() == pytest.approx(2 * second.parts["attention"][won].sum())


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.5, 1.0, 2.0]), st.integers(0, 2)), min_size=1), st.floats(0, 1))
@quick
def test_the_highest_share_of_each_group_is_chosen(pairs: list[tuple[float, int]], share: float) -> None:
    score, group = (np.array(one) for one in zip(*pairs))
    chosen = highest(score, share, group)
    for number in np.unique(group):
        mine = group == number
        assert (chosen & mine).sum() == max(1, int(share * mine.sum() + 0.5))
        assert score[chosen & mine].min() >= score[mine & ~chosen].max(initial=-1)


# -- entropy ----------------------------------------------------------------------------------------------------------------


@given(trajectories(faults=False), st.integers(0, 99), st.sampled_from([0.1, 0.2, 0.5]), st.sampled_from(["batch", "episode"]))
@quick
def test_forking_tokens_are_those_of_highest_entropy(played: list[Trajectory], seed: int, share: float, over: Any) -> None:
    batch = batch_of(played, seed)
    values, group = values_of(batch, seed), np.repeat(batch.episode, batch.tokens)
    entropy, everywhere = np.asarray(batch.entropy), np.ones(len(values), dtype=bool)
    found = Forking(share=share, over=over).apply(batch, values, everywhere, 0.0)
    for mine in [everywhere] if over == "batch" else [group == one for one in np.unique(group)]:
        if mine.any():
            assert (found.defined & mine).sum() == max(1, int(share * mine.sum() + 0.5))
            assert entropy[found.defined & mine].min() >= entropy[mine & ~found.defined].max(initial=0)
    zero = Forking(share=share, over=over, rest="zero").apply(batch, values, everywhere, 0.0)
    assert zero.defined.all()
    np.testing.assert_array_equal(zero.values, np.where(found.defined, values, 0.0))


@given(trajectories(faults=False), st.integers(0, 99))
@quick
def test_spine_is_forking_within_episodes_with_a_band_of_their_entropies(played: list[Trajectory], seed: int) -> None:
    batch = batch_of(played, seed)
    values, episodes = values_of(batch, seed), np.repeat(batch.episode, batch.tokens)
    everywhere = np.ones(len(values), dtype=bool)
    found = SPINE().apply(batch, values, everywhere, 0.0)
    forking = Forking(over="episode").apply(batch, values, everywhere, 0.0)
    np.testing.assert_array_equal(found.defined, forking.defined)
    for one in np.unique(episodes):
        mine = np.asarray(batch.entropy)[episodes == one]
        low, high = (found.beside[name][episodes == one] for name in ("entropy_low", "entropy_high"))
        assert np.ptp(low) == np.ptp(high) == 0
        assert low[0] == pytest.approx(np.quantile(mine, 0.1))
        assert high[0] == pytest.approx(np.quantile(mine, 0.5))
        # A forking token is never below a band that ends at the median.
        assert (mine[found.defined[episodes == one]] >= low[0]).all()


def test_the_hinge_pulls_an_entropy_back_into_its_band_and_rests_within() -> None:
    from algorithms.losses import outside

    entropy = torch.tensor([0.1, 0.5, 0.9, 0.2], requires_grad=True)
    distance = outside(entropy, torch.full((4,), 0.2), torch.full((4,), 0.6))
    assert distance.tolist() == pytest.approx([0.1, 0, 0.3, 0])
    (slope,) = torch.autograd.grad(distance[:3].sum(), entropy)
    assert slope.tolist() == [-1, 0, 1, 0]


def test_hapos_loss_is_ppos_where_all_entropies_are_alike() -> None:
    numbers = torch.Generator().manual_seed(0)
    logp = (torch.randn(50, generator=numbers) / 3).requires_grad_()
    old, advantages, sequence = torch.zeros(50), torch.randn(50, generator=numbers), torch.arange(50)
    clip = Clip(0.2, 0.3)
    flat = Tokens(logp, old, advantages, sequence, {"entropy_score": torch.zeros(50)})
    found, plain = (surrogates.build(name, {"clip": clip})(flat) for name in ("hapo", "ppo"))
    assert torch.equal(found.loss, plain.loss)
    # Where the policy was uncertain it may go further up, where it was sure further down.
    for score, direction in ((1.0, 1.45), (-1.0, 0.7)):
        one = Tokens(torch.tensor([direction]).log(), torch.zeros(1), torch.tensor([score]), torch.zeros(1, dtype=torch.long))
        beside = {"entropy_score": torch.tensor([score])}
        assert not surrogates.build("hapo", {"clip": clip})(one._replace(beside=beside)).clipped.any()
        assert surrogates.build("ppo", {"clip": clip})(one).clipped.all()


# -- choosing episodes ------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=8), st.floats(0, 1))
@quick
def test_no_other_subset_of_as_many_has_a_larger_variance(values: list[int], share: float) -> None:
    numbers = np.array(values, dtype=np.float64)
    chosen = widest(numbers, np.zeros(len(numbers), dtype=np.int64), share)
    n = max(1, int(share * len(numbers) + 0.5))
    assert chosen.sum() == n
    assert numbers[chosen].var() >= max(np.var(one) for one in combinations(values, n)) - 1e-12


def test_d3s_keeps_less_as_the_run_goes_on() -> None:
    played = [episode([r], tokens=4) for r in (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0)]
    batch = batch_of(played)
    method = D3S(task_share=1.0, batch_share=(1.0, 0.5), token_share=(1.0, 0.25))
    values, everywhere = np.repeat(np.arange(8.0), 4), np.ones(32, dtype=bool)
    kept = [method.apply(batch, values, everywhere, done).defined for done in (0.0, 0.5, 1.0)]
    assert [int(one.sum()) for one in kept] == [32, 15, 4]
    assert np.unique(np.flatnonzero(kept[2]) // 4).tolist() != np.unique(np.flatnonzero(kept[0]) // 4).tolist()


# -- influence --------------------------------------------------------------------------------------------------------------


@given(trajectories(faults=False), st.integers(0, 99), st.floats(-1, 1), st.floats(0, 2))
@quick
def test_thr_scales_what_helps_successes_and_keeps_what_counts(
    played: list[Trajectory], seed: int, p: float, threshold: float
) -> None:
    batch = batch_of(played, seed)
    values, influence = values_of(batch, seed), np.asarray(batch.influence)
    everywhere, known = np.ones(len(values), dtype=bool), np.isfinite(influence)
    found = THR(p=p, threshold=threshold).apply(batch, values, everywhere, 0.0)
    helps = np.where(known, influence, 0.0) * values > 0
    hurts = np.where(known, influence, 0.0) * values < 0
    np.testing.assert_allclose(found.values[helps], values[helps] * (1 + p))
    np.testing.assert_allclose(found.values[hurts], values[hurts] * (1 - p))
    np.testing.assert_array_equal(found.values[~known], values[~known])
    assert found.defined[~known].all(), "tasks without a success stay as they are"
    mean = np.abs(influence[known]).mean() if known.any() else 0.0
    np.testing.assert_array_equal(found.defined[known], (np.abs(influence[known]) > threshold * mean) | (threshold == 0))


@given(trajectories(faults=False), st.integers(0, 99))
@quick
def test_a_higher_threshold_of_thr_never_keeps_more(played: list[Trajectory], seed: int) -> None:
    batch = batch_of(played, seed)
    values, everywhere = values_of(batch, seed), np.ones(int(batch.tokens.sum()), dtype=bool)
    kept = [THR(threshold=one).apply(batch, values, everywhere, 0.0).defined for one in (0.0, 0.5, 1.0, 2.0)]
    assert kept[0].all()
    assert all((more | ~less).all() for more, less in pairwise(kept))


# -- attention --------------------------------------------------------------------------------------------------------------


@given(trajectories(faults=False), st.integers(0, 99), st.floats(0, 1), st.integers(0, 3))
@quick
def test_a_bonus_that_is_passed_on_is_not_lost(played: list[Trajectory], seed: int, given_on: float, reach: int) -> None:
    batch = batch_of(played, seed)
    anchor, preplan = np.random.default_rng(seed).random((2, int(batch.tokens.sum()))) > 0.6
    bonus = coupled(batch, anchor, preplan, given_on, reach)
    assert bonus.sum() == pytest.approx(anchor.sum())
    step = np.repeat(np.arange(len(batch.tokens)), batch.tokens)
    for place in np.flatnonzero(anchor & ~preplan):
        before = [s for s in range(max(0, place - reach), place) if preplan[s] and step[s] == step[place]]
        assert bonus[place] == pytest.approx(1 - given_on if before else 1)


# -- what is said -----------------------------------------------------------------------------------------------------------


def said(texts: list[list[str]], won: list[bool]) -> Batch:
    """An episode of one step for each list of tokens."""
    batch = as_batch(
        [episode([float(one)], tokens=len(text), group=f"task {n}") for n, (text, one) in enumerate(zip(texts, won))]
    )
    batch.token_text = [piece for text in texts for piece in text]
    return batch


def test_strategic_grams_are_runs_of_words_that_successes_share() -> None:
    plan, other, lost = ["let", "'s ch", "eck it ", "now"], ["let's ", "check ", "it ", "again"], ["go ", "to ", "the ", "desk"]
    batch = said([plan, other, lost, lost], [True, True, False, False])
    found = HICRA(least=1.0)
    found.learn(batch)
    assert found.strategic() == {("let's", "check", "it")}
    assert found.planning(batch).tolist() == [True] * 3 + [False] + [True] * 3 + [False] + [False] * 8
    rare = HICRA(least=0.5, alike=0.1)
    rare.learn(batch)
    assert ("check", "it", "again") in rare.strategic()
    assert not any("desk" in gram for gram in rare.strategic())


def test_what_was_counted_goes_on_in_another_object() -> None:
    batch = said([["look ", "at ", "the ", "lamp"], ["look ", "at ", "the ", "desk"]], [True, True])
    first, second = HICRA(least=0.6), HICRA(least=0.6)
    assert not first.strategic()
    first.learn(batch)
    second.load_state(first.state())
    for one in (first, second):
        one.learn(said([["take ", "the ", "lamp ", "now"]], [True]))
    assert first.strategic() == second.strategic() == {("look", "at", "the")}
    assert first.state() == second.state()


def test_alike_grams_are_one_group() -> None:
    texts = [["check ", "whether ", "it ", "holds"]] * 3 + [["now ", "try ", "another ", "way"]] * 2
    batch = said(texts, [True] * 5)
    found = HICRA(most=1, least=0.0)
    found.learn(batch)
    assert {gram[0] for gram in found.strategic()} <= {"check", "whether"}
    assert ("check", "whether", "it") in found.strategic()


def test_given_grams_are_not_learned_over() -> None:
    found = HICRA(grams=["let us see"])
    found.learn(said([["go ", "to ", "the ", "desk"]], [True]))
    assert found.strategic() == {("let", "us", "see")}
    assert found.state() == {"successes": 0, "counts": {}}


def test_from_python_texts_are_given_by_token() -> None:
    credit = stepcredit.advantages(
        "grpo",
        rewards=[1, 0],
        episodes=[0, 1],
        tokens=[2, 1],
        token_text=["let me ", "see", "go"],
        transforms=[{"name": "hicra", "alpha": 0.5, "grams": ["let me"]}],
    )
    assert credit.values.round(3).tolist() == [1.061, 0.707, -0.707]
    assert credit.parts["hicra"].round(3).tolist() == [0.354, 0, 0]

"""What an audit computes from credit and truth, where the answer is known: errors of the truth are found, and taken off."""

from __future__ import annotations

import numpy as np
import pytest

from agents.auditing import measures
from agents.auditing.measures import Measured, measure
from agents.auditing.truth import Truth
from algorithms.base import Floats
from tests.agents.auditing.worlds import Chains

RNG = np.random.default_rng


def measured(truth: Truth, credit: Floats, episodes: int, resamples: int = 50, size: int = 1) -> Measured:
    """size: episodes in a group."""
    return measure(truth, credit, np.ones(len(credit), dtype=bool), np.arange(episodes) // size, resamples, seed=0)


def value(found: Measured, name: str) -> float:
    number = found.numbers[name].value
    assert number is not None
    return number


def correlation(x: Floats, y: Floats) -> float:
    return float(np.corrcoef(x, y)[0, 1])


def own(x: Floats, episode: Floats) -> Floats:
    """Without each episode's mean."""
    return x - (np.bincount(episode, x) / np.bincount(episode))[episode]


@pytest.fixture(scope="module")
def chains() -> Chains:
    return Chains.drawn(RNG(0), groups=12)


@pytest.mark.parametrize("two_stage", [True, False])
def test_estimates_are_unbiased_and_their_variances_are_known(chains: Chains, two_stage: bool) -> None:
    rng, found, variance = RNG(1), [], []
    for _ in range(400):
        truth = chains.audited(rng, two_stage=two_stage)
        found.append(truth.advantage)
        variance.append(truth.variance)
    error = np.array(found) - chains.advantage
    spread = error.std(axis=0) / np.sqrt(len(found))
    z = error.mean(axis=0)[spread > 0] / spread[spread > 0]
    assert abs(z.mean()) < 0.2
    assert z.std() == pytest.approx(1, abs=0.1)
    assert np.mean(variance) == pytest.approx(error.var(), rel=0.03)


def test_a_second_round_that_follows_the_first_one_s_luck_is_not_averaged_into_a_bias(chains: Chains) -> None:
    rng = RNG(2)
    values = [chains.audited(rng, 16).values for _ in range(1000)]
    rare = (chains.value > 0.005) & (chains.value < 0.15)
    counts = np.array([one.counts[:, rare] for one in values])
    rounds = np.array([one.rounds[:, rare] for one in values])
    pooled = (counts * rounds).sum(axis=1) / counts.sum(axis=1)
    off = [one.mean(axis=1) - chains.value[rare].mean() for one in (np.array([v.mean[rare] for v in values]), pooled)]
    z = [one.mean() / one.std() * np.sqrt(len(one)) for one in off]
    assert abs(z[0]) < 3
    assert z[1] < -6, "or fixed weights would not be needed"


def test_reported_errors_cover_the_truth(chains: Chains) -> None:
    rng = RNG(3)
    within = [np.abs((t := chains.audited(rng)).advantage - chains.advantage) <= 2 * t.error for _ in range(30)]
    assert np.mean(within) > 0.95
    plain = [np.abs((t := chains.audited(rng)).advantage - chains.advantage) <= 2 * np.sqrt(t.variance) for _ in range(30)]
    assert np.mean(plain) < 0.95, "or the further returns would not be needed"


def test_corrected_correlations_are_those_with_the_truth_itself() -> None:
    rng = RNG(4)
    chains = Chains.drawn(rng, groups=16)
    truth, episode = chains.advantage, chains.decisions.episode
    credit = truth + rng.normal(0, 0.2, len(truth)) + 0.3 * rng.normal(size=chains.episodes)[episode]
    found = [measured(chains.audited(rng), credit, chains.episodes, resamples=1) for _ in range(60)]
    over_all, within = correlation(credit, truth), correlation(own(credit, episode), own(truth, episode))
    assert np.mean([value(one, "correlation_corrected") for one in found]) == pytest.approx(over_all, abs=0.01)
    assert np.mean([value(one, "within_corrected") for one in found]) == pytest.approx(within, abs=0.01)
    assert np.mean([value(one, "correlation") for one in found]) < over_all - 0.05
    assert within > over_all + 0.1, "the two are to tell different things"


def test_reliability_is_the_squared_correlation_of_estimate_and_truth() -> None:
    rng = RNG(5)
    chains = Chains.drawn(rng, groups=24)
    truths = [chains.audited(rng) for _ in range(40)]
    known = np.mean([correlation(t.advantage, chains.advantage) for t in truths])
    assert np.mean([measures.reliability(t, chains.episodes)[0] for t in truths]) == pytest.approx(known**2, abs=0.02)


def test_a_correlation_s_interval_holds_what_other_episodes_give() -> None:
    """In a world in which episodes are independent draws: a group of one each."""
    rng, held, correlations = RNG(6), 0, []
    worlds = [Chains.drawn(rng, groups=60, size=1) for _ in range(60)]
    credits = [world.advantage + rng.normal(0, 0.2, len(world.advantage)) for world in worlds]
    correlations = [correlation(credit, world.advantage) for credit, world in zip(credits, worlds)]
    for world, credit in zip(worlds, credits):
        found = measured(world.audited(rng), credit, world.episodes, resamples=200).numbers["correlation_corrected"]
        assert found.low is not None
        assert found.high is not None
        held += found.low < np.mean(correlations) < found.high
    assert held >= 52


def test_where_episodes_of_a_group_are_alike_intervals_are_those_of_groups() -> None:
    """Credit that errs alike in all episodes of a group, as a wrong baseline does. Episodes drawn one by one hide that."""
    rng, held, too_few = RNG(7), 0, 0
    worlds = [Chains.drawn(rng, groups=16, size=6, length=6) for _ in range(60)]
    noise = [np.repeat(rng.normal(0, 0.4, 16), 6)[world.decisions.episode] for world in worlds]
    credits = [world.advantage * (1 + one) + one for world, one in zip(worlds, noise)]
    true = np.mean([correlation(credit, world.advantage) for credit, world in zip(credits, worlds)])
    for world, credit in zip(worlds, credits):
        truth = world.audited(rng)
        for size in (6, 1):
            found = measured(truth, credit, world.episodes, 200, size).numbers["correlation_corrected"]
            assert found.low is not None
            assert found.high is not None
            holds = found.low < true < found.high
            held, too_few = held + (holds and size == 6), too_few + (holds and size == 1)
    assert held >= 50
    assert too_few < held - 6


def test_credit_that_is_the_same_for_all_of_an_episode_has_no_correlation_within(chains: Chains) -> None:
    credit = RNG(7).normal(size=chains.episodes)[chains.decisions.episode] / 3
    found = measured(chains.audited(RNG(8)), credit, chains.episodes)
    assert found.numbers["within"].value is None
    assert found.numbers["within_corrected"].value is None
    assert value(found, "common") == 1


def test_no_credit_says_nothing(chains: Chains) -> None:
    found = measured(chains.audited(RNG(9)), np.zeros(len(chains.decisions)), chains.episodes)
    assert found.numbers["correlation"].value is None
    assert found.numbers["wasted"].value is None
    assert value(found, "silent") == 1
    assert value(found, "sign") == 0.5
    assert value(found, "sign_corrected") == 0.5


def test_the_truth_itself_has_every_sign_right_and_its_opposite_none(chains: Chains) -> None:
    rng = RNG(10)
    found = [measured(chains.audited(rng, 16), chains.advantage, chains.episodes, 1) for _ in range(20)]
    opposite = [measured(chains.audited(rng, 16), -chains.advantage, chains.episodes, 1) for _ in range(20)]
    assert np.mean([value(one, "sign_corrected") for one in found]) == pytest.approx(1, abs=0.02)
    assert np.mean([value(one, "sign_corrected") for one in opposite]) == pytest.approx(0, abs=0.02)
    assert np.mean([value(one, "sign") for one in found]) > 0.85


def test_half_of_the_signs_right_by_chance_is_one_half_however_the_truth_errs(chains: Chains) -> None:
    rng = RNG(11)
    found = [
        measured(chains.audited(rng), rng.choice([-1.0, 1.0], len(chains.decisions)), chains.episodes, 1) for _ in range(60)
    ]
    assert np.mean([value(one, "sign_corrected") for one in found]) == pytest.approx(0.5, abs=0.03)


def test_a_calibrated_credit_has_slope_one_and_bins_on_the_line(chains: Chains) -> None:
    rng = RNG(12)
    found = [measured(chains.audited(rng), chains.advantage, chains.episodes, 20) for _ in range(200)]
    assert np.mean([value(one, "slope") for one in found]) == pytest.approx(1, abs=0.01)
    for bins in zip(*(one.calibration for one in found)):
        assert np.mean([one.true.value for one in bins]) == pytest.approx(bins[0].credited, abs=0.02)
    assert sum(one.count for one in found[0].calibration) == len(chains.decisions)


def test_credit_in_other_units_is_measured_alike(chains: Chains) -> None:
    rng = RNG(13)
    truth, credit = chains.audited(rng), chains.advantage + rng.normal(0.1, 0.3, len(chains.decisions))
    one, other = (measured(truth, scale * credit, chains.episodes) for scale in (1.0, 250.0))
    for name in set(measures.NUMBERS) - {"slope"}:
        assert value(one, name) == pytest.approx(value(other, name))


def test_wasted_credit_is_what_falls_on_the_others(chains: Chains) -> None:
    truth = chains.audited(RNG(14))
    decisive = np.abs(truth.advantage) > 2 * truth.error
    for share in (0.25, 1.0):
        credit = np.where(decisive, (1 - share) / decisive.sum(), -share / (~decisive).sum())
        assert value(measured(truth, credit, chains.episodes), "wasted") == pytest.approx(share)


def test_what_has_no_credit_or_no_known_truth_is_left_out(chains: Chains) -> None:
    truth = chains.audited(RNG(16))
    truth.known[::3] = False
    defined = np.ones(len(chains.decisions), dtype=bool)
    defined[1::3] = False
    credit = np.where(defined & truth.known, chains.advantage, 1e9)
    found = measure(truth, credit, defined, np.arange(chains.episodes), 10, seed=0)
    assert found.decisions == int((defined & truth.known).sum())
    assert value(found, "correlation") > 0.5


def test_tokens_are_averaged_over_those_that_were_choices() -> None:
    counted = np.array([True, False, True, False, True, True, True])
    values = np.array([1.0, 100, 3, 100, 100, -1, -2])
    found, has = measures.of_tokens(values, counted, np.array([[0, 3], [3, 4], [5, 7]]))
    assert found.tolist() == [2.0, 0.0, -1.5]
    assert has.tolist() == [True, False, True]

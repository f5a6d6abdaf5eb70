"""Methods on graphs of merged rollouts: their definitions in plain Python, and small cases worked out by hand."""

from __future__ import annotations

import copy
import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algorithms import base
from algorithms.base import Algorithm
from algorithms.g2po import G2PO
from algorithms.gigpo import GiGPO
from algorithms.graph import distances, last_steps, of_similar_texts, of_states
from algorithms.graphgpo import GraphGPO
from algorithms.grpo import GRPO
from algorithms.proxmo import ProxMO
from algorithms.rloo import RLOO
from algorithms.salt import SALT
from algorithms.shaping.invalid_action import InvalidAction
from algorithms.texts import tfidf
from envs.trajectory import Trajectory
from tests.algorithms.batches import as_batch, credit, same
from tests.algorithms.examples import shape, walk, walks
from tests.algorithms.methods import METHODS

GRAPHS = {name: method for name, method in METHODS.items() if isinstance(method, GraphGPO | G2PO | ProxMO | SALT)}
quick = settings(max_examples=25, deadline=None)


# -- all of them ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method",
    [GraphGPO(normalize="mean"), GraphGPO(normalize="mean", episode_stats="rows"), G2PO(normalize="mean")],
    ids=["graphgpo", "graphgpo rows", "g2po"],
)
@given(walks())
@quick
def test_how_often_every_episode_was_played_again_alike_does_not_matter(method: Algorithm, played: list[Trajectory]) -> None:
    # Once is not enough: a step that is alone in its state has nothing to be compared with, and two alike have.
    twice = played + copy.deepcopy(played)
    same(credit(method, twice + copy.deepcopy(played)), credit(method, twice) + credit(method, twice)[: len(played)])


@pytest.mark.parametrize("n", [1, 2, 5])
def test_where_nobody_succeeded_and_nothing_was_paid_there_is_no_credit(n: int) -> None:
    for name, method in GRAPHS.items():
        assert credit(method, [walk("abcb"), *[walk("acd") for _ in range(n)]]) == [[0.0] * 4, *[[0.0] * 3] * n], name


@pytest.mark.parametrize("method", GRAPHS.values(), ids=GRAPHS)
def test_one_step_alone_in_its_task_has_a_number(method: Algorithm) -> None:
    ((value,),) = credit(method, [walk("a", won=True)])
    raw = isinstance(method, G2PO | GraphGPO | ProxMO) and method.singleton_group == "raw"
    assert value == pytest.approx(10.0, rel=0.1) if raw else value == 0.0


@pytest.mark.parametrize(
    ("config", "parts"),
    [
        ({"name": "graphgpo", "gamma": 1.1}, ["gamma is 1.1", "at most 1"]),
        ({"name": "graphgpo", "exponent": "edges"}, ["exponent is 'edges'", "cost, distance, progress"]),
        ({"name": "g2po", "success_value": -1.0}, ["success_value is -1.0"]),
        ({"name": "proxmo", "temperature": 0.0}, ["temperature is 0.0", "more than 0"]),
        ({"name": "proxmo", "grouping": "similarity"}, ["grouping is 'similarity'", "soft, exact"]),
        ({"name": "salt", "history": -1}, ["history is -1"]),
    ],
)
def test_a_setting_that_is_not_allowed_is_named(config: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(ValueError, match=r" is .*; ") as caught:
        base.build(config)
    for part in parts:
        assert part in str(caught.value)


# -- the graph --------------------------------------------------------------------------------------------------------------


def plain_distances(played: list[Trajectory]) -> tuple[list[float], list[float]]:
    """Distances from each step's state and from the next, by relaxing every edge until nothing changes."""
    edges: dict[str, set[tuple[str, str]]] = {}
    ends: list[tuple[str, str, str]] = []
    for one in played:
        keys = [step.state_key for step in one.steps]
        after = [*keys[1:], "success" if one.success else one.final_state_key or f"unknown {id(one)}"]
        ends += [(one.group_id, *pair) for pair in zip(keys, after, strict=True)]
        edges.setdefault(one.group_id, set()).update(zip(keys, after, strict=True))
    away: dict[tuple[str, str], float] = {(task, "success"): 0.0 for task in edges}
    for _ in range(len(ends)):
        for task, pairs in edges.items():
            for state, after_it in pairs:
                further = away.get((task, after_it), math.inf) + 1
                if further < away.get((task, state), math.inf):
                    away[task, state] = further
    farthest = {task: max(d for (of, _), d in away.items() if of == task) for task in edges}
    return tuple(  # type: ignore[return-value]
        [away.get((step[0], step[side]), farthest[step[0]] + 1) for step in ends] for side in (1, 2)
    )


@given(walks())
@quick
def test_distances_are_those_of_the_definition(played: list[Trajectory]) -> None:
    batch = as_batch(played)
    won = last_steps(batch) & batch.success[batch.episode]
    here, there = distances(of_states(batch), batch.group, won)
    assert (here.tolist(), there.tolist()) == plain_distances(played)


def test_a_line_of_length_n_has_distances_n_to_1_and_its_steps_the_returns_of_the_formula() -> None:
    played = [walk("abcdef", won=True), walk("abcde", last="a")]
    batch = as_batch(played)
    won = last_steps(batch) & batch.success[batch.episode]
    here, there = distances(of_states(batch), batch.group, won)
    assert here.tolist() == [6, 5, 4, 3, 2, 1, 6, 5, 4, 3, 2]
    assert there.tolist() == [5, 4, 3, 2, 1, 0, 5, 4, 3, 2, 6]
    scored = GraphGPO().score(batch)
    for exponent, power in (("cost", there + 1), ("distance", there), ("progress", there - here + 1)):
        method = GraphGPO(exponent=exponent, gamma=0.3, success_reward=7.0)  # type: ignore[arg-type]
        np.testing.assert_allclose(method.returns(scored, here, there), 7 * 0.3**power)
    # Only in e do the two differ: to f, 1 step from success, or back to a, 6 steps from it.
    half = 10 * (0.5**2 - 0.5**7) / 2
    found = credit(GraphGPO(gamma=0.5, normalize="mean", episode_weight=0.0), played)
    same(found, [[0, 0, 0, 0, half, 0], [0, 0, 0, 0, -half]])


def test_a_loop_gains_nothing_and_the_shorter_way_is_better_though_both_succeed() -> None:
    played = [walk("ab", won=True), walk("aab", won=True), walk("acb", won=True)]
    first = credit(GraphGPO(gamma=0.5), played, "graph")
    assert first[0][0] == first[1][1] > first[1][0] == first[2][0]
    assert credit(GraphGPO(gamma=0.5), played, "episode") == [[0.0] * 2, [0.0] * 3, [0.0] * 3]


def test_states_that_lead_nowhere_are_one_step_behind_the_farthest_and_all_at_1_where_nobody_succeeded() -> None:
    played = [walk("abc", won=True), walk("ad", last="e"), walk("ab", last="c", group="lost")]
    assert credit(GraphGPO(), played, "distance") == [[2, 1, 0], [4, 4], [1, 1]]
    assert credit(GraphGPO(), played, "graph")[2] == [0, 0]


def test_a_last_state_that_is_not_known_counts_as_one_that_leads_nowhere_and_is_reported() -> None:
    known, unknown = walk("ab", last="z"), walk("ab")
    won = walk("abc", won=True)
    same(credit(GraphGPO(), [won, unknown]), credit(GraphGPO(), [won, known]))
    assert GraphGPO().advantages(as_batch([won, unknown])).metrics["unknown_states"] == 1 / 5
    assert GraphGPO().advantages(as_batch([won, known])).metrics["unknown_states"] == 0


def test_similar_observations_are_one_node_but_steps_are_compared_in_equal_states() -> None:
    kitchen, again, hall = "you are in the kitchen of the house", "you are in the kitchen of the house.", "a long dark hall"
    played = [walk("ac", won=True), walk("db", last="e"), walk("d", last="b")]
    seen = {"a": again, "b": kitchen, "c": "the lamp", "d": hall, "e": "the end"}
    for one in played:
        for step in one.steps:
            step.observation = seen[step.state_key]
        one.final_observation = seen.get(one.final_state_key, "the prize")
    batch = as_batch(played)
    won = last_steps(batch) & batch.success[batch.episode]
    graph = of_similar_texts(batch, 0.95, won)
    assert graph.source[0] == graph.source[3] == graph.target[2] == graph.target[4]
    assert distances(graph, batch.group, won)[1].tolist() == [1, 0, 2, 4, 2]
    assert credit(GraphGPO(), played, "distance") == [[1, 0], [3, 3], [3]]
    merged = GraphGPO(nodes="similarity").advantages(batch)
    assert merged.parts["distance"].tolist() == [1, 0, 2, 4, 2]
    assert merged.step_group is not None
    assert merged.step_group[0] != merged.step_group[3]


@given(walks())
@quick
def test_without_its_graph_it_is_grpo(played: list[Trajectory]) -> None:
    same(credit(GraphGPO(graph_weight=0.0), played), credit(GRPO(), played))
    same(credit(G2PO(omega=0.0), played), credit(GRPO(), played))


# -- values of states -------------------------------------------------------------------------------------------------------


def test_g2po_values_states_by_their_visits_and_steps_by_where_they_lead() -> None:
    played = [walk("ab", won=True), walk("ac", last="d")]
    a, b = (0.5**2 * 10 + 0) / 2, 0.5 * 10
    node = (b - 0) / 2
    gains = np.array([b - a, 10 - b, 0 - a, 0 - 0])
    edge = gains - gains.mean()
    method = G2PO(gamma=0.5, normalize="mean")
    same(credit(method, played, "node"), [[node, 0], [-node, 0]])
    same(credit(method, played, "edge"), [edge[:2].tolist(), edge[2:].tolist()])
    total = [[5 + node + edge[0], 5 + edge[1]], [-5 - node + edge[2], -5 + edge[3]]]
    same(credit(method, played), total)
    half = G2PO(gamma=0.5, normalize="mean", omega=0.5)
    same(credit(half, played), [[(e + v) / 2 for v in row] for e, row in zip((5, -5), total, strict=True)])


def test_behind_the_last_step_of_a_success_stands_what_was_paid_unless_a_constant_is_given() -> None:
    won, lost = walk("a", won=True), walk("a")
    won.steps[-1].reward, lost.steps[-1].reward = 3.0, 2.0  # a partial reward is no success: nothing stands behind it
    paid = G2PO(normalize="mean", omega=1.0)
    same(credit(paid, [won, lost], "node"), [[1.5], [-1.5]])
    same(credit(G2PO(normalize="mean", success_value=10.0), [won, lost], "node"), [[5.0], [-5.0]])


def test_g2po_takes_a_penalty_off_the_node_part_as_the_shaping_says_or_as_its_own_setting_does() -> None:
    played = [walk("ab"), walk("ab")]
    played[0].steps[0].valid = False
    shape(InvalidAction(0.4), played, "invalid_action")
    entering: dict[str, Any] = {"normalize": "mean", "shaped_at": {"invalid_action": "return"}}
    same(credit(G2PO(**entering), played, "node"), [[-0.2, 0], [0.2, 0]])
    same(credit(G2PO(**entering, node_penalty=0.1), played, "node"), [[-0.05, 0], [0.05, 0]])
    same(credit(G2PO(**entering), played, "edge"), [[0, 0], [0, 0]])
    same(credit(G2PO(normalize="mean"), played, "node"), [[0, 0], [0, 0]])
    same(credit(G2PO(normalize="mean"), played), [[-0.4, 0], [0, 0]])


# -- what shapings pay ------------------------------------------------------------------------------------------------------


def test_a_shaped_reward_raises_its_own_step_and_discounted_the_steps_before_it() -> None:
    played = [walk("abc", last="d"), walk("abc", last="d")]
    played[0].steps[1].shaped_rewards["subgoal"] = 2.0
    graph = GraphGPO(gamma=0.5, normalize="mean")
    same(credit(graph, played, "graph"), [[0.5, 1, 0], [-0.5, -1, 0]])
    same(credit(graph, played, "episode"), [[1, 1, 1], [-1, -1, -1]])
    own = GraphGPO(gamma=0.5, normalize="mean", shaped_at={"subgoal": "return"})
    same(credit(own, played, "graph"), [[0, 1, 0], [0, -1, 0]])
    values = G2PO(gamma=0.5, normalize="mean")
    # V(a) = 0.5 and V(b) = 1, in the mean of both; behind the step that was paid, 2 more.
    gains = np.array([0.5, 1, 0, 0.5, -1, 0])
    same(credit(values, played, "node"), [[0, 1, 0], [0, -1, 0]])
    same(credit(values, played, "edge"), (gains - gains.mean()).reshape(2, 3).tolist())


# -- shared edges -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [SALT(), SALT(estimator="rloo"), SALT(history=1)], ids=["grpo", "rloo", "history"])
@given(walks())
@quick
def test_steps_that_share_an_edge_have_equal_advantages_whose_sum_is_that_of_their_episodes(
    method: SALT, played: list[Trajectory]
) -> None:
    batch = as_batch(played)
    found = method.advantages(batch)
    taken: dict[tuple[str, ...], list[int]] = {}
    place = 0
    for one in played:
        after = [*(step.state_key for step in one.steps[1:]), one.final_state_key or f"unknown {place}"]
        edges = [f"{step.state_key} {step.action} {end}" for step, end in zip(one.steps, after, strict=True)]
        for t, edge in enumerate(edges):
            past = tuple(edges[max(0, t - method.history) : t])
            taken.setdefault((one.group_id, str(t < method.history) if method.history else "", *past, edge), []).append(place)
            place += 1
    shared, episode = found.values, found.parts["episode"]
    for members in taken.values():
        assert len(set(shared[members])) == 1
        np.testing.assert_allclose(shared[members].sum(), episode[members].sum(), atol=1e-9)
    assert found.step_group is not None
    assert len(set(found.step_group.tolist())) == len(taken)


def test_a_shared_start_is_not_blamed_for_how_one_of_them_went_on() -> None:
    played = [walk("abc", won=True), walk("abd", last="e"), walk("x", last="y")]
    apart = credit(GRPO(), played)
    same(
        credit(SALT(), played),
        [[0.5 * (apart[0][0] + apart[1][0]), *apart[0][1:]], [0.5 * (apart[0][0] + apart[1][0]), *apart[1][1:]], apart[2]],
    )
    same(credit(SALT(estimator="rloo"), played, "episode"), credit(RLOO(), played))


def test_another_action_or_another_outcome_is_another_edge_and_with_history_another_past() -> None:
    same_way = [walk("ab", won=True, last="z", actions="xy"), walk("ab", last="z", actions="xy")]
    assert len({*SALT().edges(SALT().score(as_batch(same_way))).tolist()}) == 2
    other_action = [walk("ab", won=True, last="z", actions="xy"), walk("ab", last="z", actions="wy")]
    assert len({*SALT().edges(SALT().score(as_batch(other_action))).tolist()}) == 3
    assert len({*SALT(history=1).edges(SALT().score(as_batch(other_action))).tolist()}) == 4
    other_end = [walk("ab", won=True, last="z", actions="xy"), walk("ab", last="w", actions="xy")]
    assert len({*SALT().edges(SALT().score(as_batch(other_end))).tolist()}) == 3
    unknown = [walk("ab", actions="xy"), walk("ab", actions="xy")]
    assert len({*SALT().edges(SALT().score(as_batch(unknown))).tolist()}) == 3


# -- soft groups ------------------------------------------------------------------------------------------------------------


TEXTS = ("you see a red door", "You see a red desk.", "a", "", "a long, long hall\nwith a door", "door door desk")


def plain_vectors(texts: list[str], most: int) -> list[dict[str, float]]:
    """TF-IDF of the definition, a dictionary a text."""
    found = ["".join(c if c.isalnum() or c == "_" else " " for c in text.lower()).split() for text in texts]
    counts = [Counter(word for word in words if len(word) > 1) for words in found]
    total = sum(counts, Counter())
    kept = sorted(total, key=lambda word: (-total[word], word))[:most]
    idf = {word: math.log((1 + len(texts)) / (1 + sum(word in one for one in counts))) + 1 for word in kept}
    weights = [{word: one[word] * idf[word] for word in kept if word in one} for one in counts]
    lengths = [math.sqrt(sum(value**2 for value in one.values())) or 1.0 for one in weights]
    return [{word: value / length for word, value in one.items()} for one, length in zip(weights, lengths, strict=True)]


def words_apart(played: list[Trajectory], texts: list[str]) -> None:
    for step, text in zip((step for one in played for step in one.steps), texts, strict=False):
        step.observation = text


@given(walks(), st.lists(st.sampled_from(TEXTS), min_size=36, max_size=36), st.sampled_from([3, 1024]), st.floats(0.01, 5))
@quick
def test_a_soft_baseline_is_that_of_the_definition(
    played: list[Trajectory], texts: list[str], most: int, temperature: float
) -> None:
    words_apart(played, texts)
    steps = [step for one in played for step in one.steps]
    tasks = [one.group_id for one in played for _ in one.steps]
    vectors = plain_vectors([step.observation for step in steps], most)
    method = ProxMO(temperature=temperature, words=most)
    returns = method.score(as_batch(played)).returns(method.gamma)
    expected = []
    for here, of in enumerate(tasks):
        others = [place for place, task in enumerate(tasks) if task == of]
        cosines = [sum(value * vectors[place].get(word, 0.0) for word, value in vectors[here].items()) for place in others]
        weights = np.exp(np.array(cosines) / temperature)
        expected.append(returns[here] - float(weights @ returns[others] / weights.sum()))
    found = np.concatenate(credit(method, played, "step"))
    np.testing.assert_allclose(found, expected if any(vectors) else np.zeros(len(steps)), rtol=1e-9, atol=1e-8)


@given(walks())
@quick
def test_where_observations_share_no_word_a_cold_soft_group_is_that_of_the_state(played: list[Trajectory]) -> None:
    words_apart(played, [step.state_key * 3 for one in played for step in one.steps])
    soft = credit(ProxMO(temperature=1e-3), played, "step")
    same(soft, credit(ProxMO(grouping="exact"), played, "step"))
    same(soft, credit(GiGPO(normalize="mean"), played, "step"))


def test_where_all_observations_are_alike_or_it_is_hot_the_baseline_is_the_mean_of_the_task() -> None:
    played = [walk("ab", won=True), walk("acd")]
    returns = np.array([9.5, 10, 0, 0, 0])
    mean = (returns - returns.mean()).tolist()
    same(credit(ProxMO(temperature=1e9), played, "step"), [mean[:2], mean[2:]])
    words_apart(played, ["the same"] * 5)
    same(credit(ProxMO(), played, "step"), [mean[:2], mean[2:]])


def test_where_no_observation_holds_a_word_there_is_no_step_part() -> None:
    played = [walk("ab", won=True), walk("acd")]
    words_apart(played, ["a", "@", "", "x y", "1"])
    assert credit(ProxMO(), played, "step") == [[0.0] * 2, [0.0] * 3]


def test_of_many_words_the_most_frequent_count_and_of_equally_frequent_ones_the_first_in_the_alphabet() -> None:
    vectors = tfidf(["bb aa cc", "cc dd"], np.array([1, 1]), 2).rows(np.array([0, 1]))
    assert vectors.shape == (2, 2)
    np.testing.assert_allclose(sorted(vectors[0]), np.array([1, 1 + math.log(1.5)]) / math.hypot(1, 1 + math.log(1.5)))
    np.testing.assert_allclose(sorted(vectors[1]), [0, 1])


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def test_a_rare_success_counts_more_and_a_rare_failure_less() -> None:
    def weights(won: int, of: int) -> tuple[float, float]:
        played = [walk("a", won=number < won) for number in range(of)]
        found = np.concatenate(credit(ProxMO(alpha=2.0, beta=0.4), played, "episode"))
        mean = 10 * won / of
        return float(found[0] / (10 - mean)), float(found[-1] / -mean)

    success, failure = weights(1, 4)
    assert success == pytest.approx(1 + 0.4 * (sigmoid(0.75**2) - 0.5))
    assert failure == pytest.approx(1 + 0.4 * (sigmoid(-(0.25**2)) - 0.5))
    frequent, rare_failure = weights(3, 4)
    assert success > frequent > 1 > failure > rare_failure


def test_the_released_success_rate_is_1_as_soon_as_a_reward_of_10_comes_to_1_in_the_mean() -> None:
    played = [walk("a", won=number == 0) for number in range(10)]
    paper, released = (np.concatenate(credit(ProxMO(success=kind), played, "episode")) for kind in ("episode", "score"))  # type: ignore[arg-type]
    assert paper[0] / 9 == pytest.approx(1 + 0.1 * (sigmoid(0.9**4) - 0.5))
    assert released[0] / 9 == pytest.approx(1)
    assert released[-1] == pytest.approx(-(1 + 0.1 * (sigmoid(-1) - 0.5)))


def test_without_beta_and_omega_it_is_grpo_without_its_std() -> None:
    played = [walk("ab", won=True), walk("acd"), walk("a", won=True)]
    same(credit(ProxMO(beta=0.0, omega=0.0), played), credit(GRPO(normalize="mean"), played))

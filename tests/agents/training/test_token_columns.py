"""What a model says of single tokens for transforms: divergence, influence, attention, and what each token says."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from agents.models import tokenizer
from agents.models.policy import Policy, hidden_states
from agents.training.attention import attention, backward, future, middle
from agents.training.divergence import by_place, divergence
from agents.training.experience import Experience
from agents.training.influence import influence
from agents.training.spelling import spelled
from envs.trajectory import Step
from tests.agents.models.models_for_tests import small_policy
from tests.agents.training.test_passes import experience, forest

both = pytest.mark.parametrize("context", ["full", "window"])


def played(context: str, kind: str = "free") -> Experience:
    """Two tasks of three episodes; the first one of the first task succeeded."""
    trajectories = forest(3, context)
    for number, one in enumerate(trajectories):
        one.group_id, one.success = f"task {number // 3}", number == 0
    return experience(trajectories, kind)


def logits_of(policy: Policy, data: Experience) -> tuple[torch.Tensor, torch.Tensor]:
    """Hidden states [T, H] and logits [T, V] before each sampled token, row by row."""
    hidden = torch.zeros(data.sampled, policy.width)
    with torch.no_grad():
        for row in data.plain_rows():
            states = hidden_states(policy.causal, torch.from_numpy(row.ids.astype(np.int64))[None], None, None)[0]
            hidden[row.tokens] = states[np.array(row.targets) - 1]
        return hidden, policy.causal.get_output_embeddings()(hidden)


@both
def test_influence_is_the_gradient_of_the_successes_likelihood(context: str) -> None:
    policy, data = small_policy(), played(context)
    found = influence(data, policy, 64, 0.7)
    np.testing.assert_allclose(found, influence(data, policy, 4096, 0.7), rtol=1e-4, atol=1e-4)
    hidden, _ = logits_of(policy, data)
    head = policy.causal.get_output_embeddings().weight.detach().clone().requires_grad_()
    targets = torch.from_numpy(np.asarray(data.token_ids))
    logp = ((hidden @ head.T) / 0.7).log_softmax(-1)[torch.arange(data.sampled), targets]
    mine = data.token_episode < 3
    won = logp[data.token_episode == 0].sum()
    (of_successes,) = torch.autograd.grad(won, head, retain_graph=True)
    expected = torch.full((data.sampled,), math.nan)
    for token in torch.where(mine)[0].tolist():
        (of_token,) = torch.autograd.grad(logp[token], head, retain_graph=True)
        expected[token] = (of_token * of_successes).sum() * 0.7**2  # of logits before the temperature
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-3, atol=1e-4)
    assert np.isnan(found[data.token_episode >= 3]).all(), "a task without a success"


def test_a_forced_token_influences_nothing() -> None:
    policy, data = small_policy(), played("full", "admissible")
    found = influence(data, policy, 4096, 1.0)
    known = np.isfinite(found)
    np.testing.assert_array_equal(found[known & ~data.chosen.numpy()], 0.0)
    assert (found[known & data.chosen.numpy()] != 0).any()


@both
def test_divergence_compares_a_task_place_by_place_whatever_the_micro_batches(context: str) -> None:
    policy, data = small_policy(), played(context)
    found = divergence(data, policy, 64, 1.0)
    np.testing.assert_allclose(found, divergence(data, policy, 4096, 1.0), atol=1e-4)
    _, logits = logits_of(policy, data)
    for task in (0, 1):
        members = [data.first_token[3 * task + n : 3 * task + n + 2] for n in range(3)]
        for place in range(max(b - a for a, b in members)):
            uniform = torch.full((logits.shape[1],), -math.log(logits.shape[1]))
            lines = torch.stack([logits[a + place].log_softmax(-1) if a + place < b else uniform for a, b in members])
            gap = lines.mean(0) - lines
            expected = (gap.exp() - gap - 1).sum(-1).mean()
            for a, b in members:
                if a + place < b:
                    assert found[a + place] == pytest.approx(float(expected), abs=1e-4)


def test_equal_distributions_do_not_diverge() -> None:
    logp = torch.randn(1, 7).log_softmax(-1).expand(4, 7)
    assert by_place(logp, np.array([0, 1, 0, 1]), 2).abs().max() < 1e-6
    assert float(by_place(logp[:1], np.array([0]), 2)[0]) > 0, "an episode that has ended is uniform"


@both
def test_attention_is_read_off_the_maps_and_leaves_the_policy_as_it_is(context: str) -> None:
    policy, data = small_policy(), played(context)
    _, before = logits_of(policy, data)
    waad, fai = attention(data, policy)
    assert policy.causal.config._attn_implementation == policy.attention != "eager"
    assert torch.equal(before, logits_of(policy, data)[1])
    assert ((waad >= 0) & (waad <= 10)).all()
    assert ((fai >= 0) & (fai <= 1)).all()
    assert len(waad) == len(fai) == data.sampled
    # Whoever stands at the beginning has nothing to look back to, and a later one has.
    assert np.ptp(waad) > 0


def test_distances_and_what_comes_back_are_those_of_a_loop() -> None:
    maps = torch.rand(2, 9, 9).tril()
    maps = maps / maps.sum(-1, keepdim=True)
    back, later = backward(maps, 3), future(maps, 2, 4)
    for head in range(2):
        for t in range(9):
            assert float(back[head, t]) == pytest.approx(
                sum(float(maps[head, t, s]) * min(t - s, 3) for s in range(t + 1)), abs=1e-5
            )
            seen = [float(maps[head, u, t]) for u in range(t + 2, min(t + 5, 9))]
            assert float(later[head, t]) == pytest.approx(sum(seen) / len(seen) if seen else 0.0, abs=1e-6)


def test_five_layers_of_the_middle_third_are_read() -> None:
    assert [middle(n) for n in (1, 2, 3, 6, 12, 30)] == [
        [0],
        [0, 1],
        [1],
        [2, 3],
        [4, 5, 6, 7],
        [10, 12, 14, 17, 19],
    ]


@pytest.mark.parametrize("exact", [False, True])
def test_the_texts_of_a_responses_tokens_are_its_text(exact: bool) -> None:
    text = "go to desk 1, then take the lamp"
    made = (tokenizer.build_exact if exact else tokenizer.build)([text])
    ids = made(text, add_special_tokens=False).input_ids
    steps = [
        Step("", text, response_ids=[*ids, made.eos_token_id]),
        Step("", text, response_ids=[]),
        Step("", "", response_ids=ids[:2]),
    ]
    pieces = spelled(steps, made)
    assert len(pieces) == sum(len(step.response_ids) for step in steps)
    assert "".join(pieces[: len(ids) + 1]) == made.decode(ids, skip_special_tokens=True)
    assert pieces[len(ids)] == ""
    assert "".join(pieces[len(ids) + 1 :]) == made.decode(ids[:2])


def test_a_letter_of_several_tokens_belongs_to_the_one_that_completes_it() -> None:
    made = tokenizer.build_exact(["go"])
    ids = made("naïve", add_special_tokens=False).input_ids
    pieces = spelled([Step("", "", response_ids=ids)], made)
    assert "".join(pieces) == "naïve"
    assert "" in pieces
    assert not any("\ufffd" in piece for piece in pieces)

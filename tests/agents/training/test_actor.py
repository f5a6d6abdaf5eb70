"""The update: gradients do not depend on packing, padding or micro-batches; what takes no part leaves no trace."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import pytest
import torch

from agents.config.sections import CorrectionConfig, KLConfig, LossConfig, OptimConfig
from agents.rollout.constraint import ActionTries
from agents.training.actor import Actor
from agents.training.experience import Experience
from agents.training.target import corrected
from algorithms import losses, surrogates
from envs.trajectory import Step, Trajectory
from tests.agents.models.models_for_tests import WORDS, full_logprobs, small_policy
from tests.agents.training.test_packing import conversation


def played(policy, number: int = 6, context: str = "full", seed: int = 3) -> list[Trajectory]:
    """Conversations whose log-probabilities are the policy's own."""
    rng = random.Random(seed)
    prefix = [rng.randrange(5, 60) for _ in range(40)] if context == "window" else None
    made = [conversation(rng, 2 + i % 4, context, prefix) for i in range(number)]
    for trajectory in made:
        ids: list[int] = []
        for step in trajectory.steps:
            ids = [*(ids if context == "full" else []), *step.prompt_ids]
            before, ids = len(ids), [*ids, *step.response_ids]
            step.rollout_logprobs = full_logprobs(policy, ids)[before:].tolist()
    return made


def credit(trajectories: list[Trajectory], seed: int = 0) -> torch.Tensor:
    torch.manual_seed(seed)
    return torch.cat([torch.randn(()).repeat(len(s.response_ids)) for t in trajectories for s in t.steps])


def experience(
    trajectories: list[Trajectory], values: torch.Tensor, defined: torch.Tensor | None = None, tries=None
) -> Experience:
    made = Experience.of(trajectories, tries)
    made.advantages, made.defined = values, torch.ones(len(values), dtype=torch.bool) if defined is None else defined
    return made


def gradients(
    context: str = "full", budget: int = 10_000, values=None, defined=None, loss=None, keep=None, drift: float = 0.0
) -> dict[str, torch.Tensor]:
    """Gradients of one mini-batch with all episodes, taken from the masters after an update with learning rate 0."""
    policy = small_policy()
    trajectories = played(policy, context=context)
    values = credit(trajectories) if values is None else values(trajectories)
    if keep is not None:
        trajectories, values = keep(trajectories, values)
    actor = Actor(
        policy,
        OptimConfig(lr=0.0, minibatch_episodes=64, tokens_per_microbatch=budget, grad_clip=1e9),
        loss or LossConfig(skip_zero=False),
        1,
        0,
    )
    data = experience(trajectories, values, None if defined is None else defined(trajectories))
    data.rollout_logprobs += drift * torch.sin(torch.arange(len(values)))  # as if the policy had moved since it sampled
    actor.update(data, 0)
    return {name: p.grad.clone() for name, p in actor.optimizer.parameters}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], tolerance: float = 1e-5) -> None:
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], atol=tolerance, rtol=1e-3)


@pytest.mark.parametrize("context", ["full", "window"])
@pytest.mark.parametrize("aggregation", ["token-mean", "seq-mean-token-sum", "seq-mean-token-mean", "seq-mean-token-sum-norm"])
def test_micro_batches_never_change_a_gradient(context: str, aggregation: str) -> None:
    loss = LossConfig(aggregation=aggregation, skip_zero=False)  # type: ignore[arg-type]
    whole, cut = gradients(context, 10_000, loss=loss), gradients(context, 64, loss=loss)
    assert any(bool(g.abs().max() > 1e-3) for g in whole.values())
    same(whole, cut)


@pytest.mark.parametrize("surrogate", ["gspo", "cispo", "gpg", "sapo", "gmpo"])
@pytest.mark.parametrize(("context", "sequence"), [("full", "episode"), ("full", "row"), ("window", "row")])
def test_no_surrogate_depends_on_micro_batches(surrogate: str, context: str, sequence: str) -> None:
    loss = LossConfig(surrogate, aggregation="seq-mean-token-mean", sequence=sequence, skip_zero=False)  # type: ignore[arg-type]
    whole, cut = (gradients(context, budget, loss=loss, drift=0.3) for budget in (10_000, 64))
    assert any(bool(g.abs().max() > 1e-3) for g in whole.values())
    same(whole, cut)


@pytest.mark.parametrize("context", ["full", "window"])
def test_a_ratio_may_be_that_of_one_action_in_a_conversation_too(context: str) -> None:
    """Where all tokens of an action moved alike, its mean ratio is each token's own; an episode's is not."""

    def gradient(surrogate: str, sequence: str) -> dict[str, torch.Tensor]:
        policy = small_policy()
        trajectories = played(policy, context=context)
        data = experience(trajectories, credit(trajectories))
        data.rollout_logprobs += 0.4 * torch.sin(data.token_step.float())
        loss = LossConfig(surrogate, 0.9, 9.0, None, "token-mean", sequence=sequence, skip_zero=False)  # type: ignore[arg-type]
        actor = Actor(policy, OptimConfig(lr=0.0, minibatch_episodes=64, grad_clip=1e9), loss, 1, 0)
        actor.update(data, 0)
        return {name: p.grad.clone() for name, p in actor.optimizer.parameters}

    by_token = gradient("ppo", "episode")
    same(gradient("gspo", "row"), by_token)
    if context == "full":  # a whole sequence must be in one row
        whole = gradient("gspo", "episode")
        assert any(bool((whole[name] - by_token[name]).abs().max() > 1e-3) for name in whole)


@dataclass(frozen=True)
class Reward(surrogates.Surrogate):
    """-A log pi, twice over: a user's own loss."""

    def __call__(self, tokens: surrogates.Tokens) -> surrogates.TokenLoss:
        return surrogates.TokenLoss(-2 * tokens.advantages * tokens.logp, torch.zeros_like(tokens.logp, dtype=torch.bool))


def test_a_registered_loss_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surrogates._registry, "_known", dict(surrogates._registry._known))
    surrogates.register("mine", Reward)
    own, plain = (gradients(loss=LossConfig(name, skip_zero=False)) for name in ("mine", "gpg"))
    assert any(bool(g.abs().max() > 1e-3) for g in plain.values())
    same(own, {name: 2 * g for name, g in plain.items()})


@pytest.mark.parametrize("surrogate", ["gspo", "gmpo"])
def test_tokens_without_an_opinion_enter_no_ratio_of_a_sequence(surrogate: str) -> None:
    """A change in the undefined tokens' old log-probabilities moves nothing."""

    def gradient(moved: float) -> dict[str, torch.Tensor]:
        policy = small_policy()
        trajectories = played(policy)
        values = credit(trajectories)
        defined = torch.arange(len(values)) % 2 == 0
        data = experience(trajectories, values, defined)
        data.rollout_logprobs[~defined] += moved
        loss = LossConfig(surrogate, aggregation="seq-mean-token-mean", skip_zero=False)  # type: ignore[arg-type]
        actor = Actor(policy, OptimConfig(lr=0.0, minibatch_episodes=64, grad_clip=1e9), loss, 1, 0)
        actor.update(data, 0)
        return {name: p.grad.clone() for name, p in actor.optimizer.parameters}

    same(gradient(0.0), gradient(0.5))


def test_gradient_checkpointing_computes_layers_again_and_gives_the_same_gradient() -> None:
    calls: list[int] = []

    def update(checkpointing: bool) -> dict[str, torch.Tensor]:
        policy = small_policy()
        if checkpointing:
            policy.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        trajectories = played(policy)
        calls.append(0)

        def count(*_: object) -> None:
            calls[-1] += 1

        policy.causal.model.layers[0].self_attn.register_forward_hook(count)
        actor = Actor(policy, OptimConfig(lr=0.0, minibatch_episodes=64, grad_clip=1e9), LossConfig(skip_zero=False), 1, 0)
        actor.update(experience(trajectories, credit(trajectories)), 0)
        return {name: p.grad.clone() for name, p in actor.optimizer.parameters}

    same(update(False), update(True))
    assert calls[1] == 2 * calls[0]


def test_norm_length_is_the_constant_of_seq_mean_token_sum_norm() -> None:
    def norm(length: int) -> dict[str, torch.Tensor]:
        return gradients(loss=LossConfig(aggregation="seq-mean-token-sum-norm", norm_length=length, skip_zero=False))

    same(norm(100), {name: g / 2 for name, g in norm(50).items()}, tolerance=1e-7)


def test_rows_whose_advantage_is_zero_are_skipped_without_changing_the_gradient() -> None:
    def half(trajectories: list[Trajectory]) -> torch.Tensor:
        values = credit(trajectories)
        start = 0
        for i, t in enumerate(trajectories):
            n = sum(len(s.response_ids) for s in t.steps)
            if i % 2:
                values[start : start + n] = 0.0
            start += n
        return values

    same(gradients(values=half, loss=LossConfig(skip_zero=True)), gradients(values=half, loss=LossConfig(skip_zero=False)))


def test_skipping_is_left_off_where_zero_advantage_still_has_a_gradient() -> None:
    policy = small_policy()
    trajectories = played(policy)
    values = torch.zeros(sum(len(s.response_ids) for t in trajectories for s in t.steps))
    actor = Actor(policy, OptimConfig(lr=0.0, minibatch_episodes=64), LossConfig(entropy=0.1), 1, 0)
    metrics = actor.update(experience(trajectories, values), 0)
    assert metrics["skipped_rows"] == 0
    assert metrics["grad_norm"] > 0


def test_tokens_without_an_opinion_are_as_if_they_were_not_sampled() -> None:
    """None differs from 0: an undefined token neither pushes nor dilutes the mean."""

    def only_first_three(trajectories: list[Trajectory]) -> torch.Tensor:
        n = sum(len(s.response_ids) for t in trajectories[:3] for s in t.steps)
        total = sum(len(s.response_ids) for t in trajectories for s in t.steps)
        return torch.arange(total) < n

    def first_three(trajectories: list[Trajectory], values: torch.Tensor) -> tuple[list[Trajectory], torch.Tensor]:
        n = sum(len(s.response_ids) for t in trajectories[:3] for s in t.steps)
        return trajectories[:3], values[:n]

    same(gradients(defined=only_first_three), gradients(keep=first_three))


def test_before_the_first_step_the_trainer_agrees_with_the_sampler() -> None:
    policy = small_policy()
    trajectories = played(policy)
    actor = Actor(policy, OptimConfig(lr=1e-2, minibatch_episodes=2), LossConfig(), 1, 0)
    metrics = actor.update(experience(trajectories, credit(trajectories)), 0)
    assert 0 < metrics["mismatch_max"] < 1e-4
    assert metrics["steps"] == 3


def test_a_changed_sampler_shows_up_as_mismatch() -> None:
    policy = small_policy()
    trajectories = played(policy)
    for t in trajectories:
        for s in t.steps:
            s.rollout_logprobs = [x - 0.25 for x in s.rollout_logprobs]
    actor = Actor(policy, OptimConfig(lr=0.0), LossConfig(), 1, 0)
    metrics = actor.update(experience(trajectories, credit(trajectories)), 0)
    assert metrics["mismatch_mean"] == pytest.approx(0.25, abs=1e-3)


def test_a_correction_weighs_tokens_by_the_trainers_over_the_samplers_probability() -> None:
    policy = small_policy()
    trajectories = played(policy)
    for t in trajectories:
        for s in t.steps:
            s.rollout_logprobs = [x - 0.25 for x in s.rollout_logprobs]
    norms = {}
    for kind in ("none", "token"):
        loss = LossConfig(correction=CorrectionConfig(kind=kind), clip_low=1.0, clip_high=9.0, dual_clip=None)  # type: ignore[arg-type]
        actor = Actor(policy, OptimConfig(lr=0.0, grad_clip=1e9, minibatch_episodes=64), loss, 1, 0)
        norms[kind] = actor.update(experience(trajectories, credit(trajectories)), 0)["grad_norm"]
    # Without correction the ratio itself is exp(0.25); with it the ratio is 1 and the weight exp(0.25): the same gradient.
    assert norms["token"] == pytest.approx(norms["none"], rel=1e-3)


def sampled_elsewhere(trajectories: list[Trajectory], gaps: list[float]) -> None:
    """As if the engine had differed from the trainer by `gaps`, one an episode."""
    for trajectory, gap in zip(trajectories, gaps, strict=True):
        for step in trajectory.steps:
            step.rollout_logprobs = [x - gap for x in step.rollout_logprobs]


def corrected_gradient(settings: CorrectionConfig, gaps: list[float], members: list[int] | None = None):
    """Gradient and metrics of one mini-batch, of all episodes or of these members alone."""
    policy = small_policy()
    trajectories = played(policy)
    values = credit(trajectories)
    sampled_elsewhere(trajectories, gaps)
    if members is not None:
        first = experience(trajectories, values).first_token
        values = torch.cat([values[first[m] : first[m + 1]] for m in members])
        trajectories = [trajectories[m] for m in members]
    actor = Actor(policy, OptimConfig(lr=0.0, minibatch_episodes=64, grad_clip=1e9), LossConfig(correction=settings), 1, 0)
    metrics = actor.update(experience(trajectories, values), 0)
    return {name: p.grad.clone() for name, p in actor.optimizer.parameters}, metrics


@pytest.mark.parametrize(
    ("measure", "cap", "floor"), [("token_k1", 2.0, 0.5), ("token_k2", 0.3, None), ("seq_sum_k1", 2.0, 0.5)]
)
@pytest.mark.parametrize("kind", ["none", "token"])
def test_rejected_tokens_are_as_if_they_were_not_sampled(measure: str, cap: float, floor: float | None, kind: str) -> None:
    settings = CorrectionConfig(kind=kind, reject=measure, reject_cap=cap, reject_floor=floor)  # type: ignore[arg-type]
    gaps = [0.0, 0.9, 0.0, 0.9, 0.0, 0.9]
    found, metrics = corrected_gradient(settings, gaps)
    alone, nothing = corrected_gradient(settings, gaps, members=[0, 2, 4])
    same(found, alone)
    assert 0.3 < metrics["rejected"] < 0.7
    assert nothing["rejected"] == 0


def test_a_band_gives_no_weight_outside_and_still_counts_the_token() -> None:
    """Truncation keeps what is above the cap at the cap; a band drops it; neither changes how many tokens the mean is over."""
    gaps = [0.0, 2.0, 0.0, 2.0, 0.0, 2.0]
    banded, _ = corrected_gradient(CorrectionConfig("token", cap=2.0, floor=0.5), gaps)
    zeroed = gradients(
        values=lambda ts: torch.cat(
            [(0.0 if i % 2 else 1.0) * part for i, part in enumerate(credit(ts).split([per_episode(t) for t in ts]))]
        )
    )
    same(banded, zeroed)
    truncated, _ = corrected_gradient(CorrectionConfig("token", cap=2.0), gaps)
    assert any(not torch.allclose(truncated[name], banded[name], atol=1e-4) for name in banded)


def per_episode(trajectory: Trajectory) -> int:
    return sum(len(step.response_ids) for step in trajectory.steps)


def test_weights_of_mean_one_scale_the_gradient_by_their_mean() -> None:
    gaps = [0.2, -0.1, 0.0, 0.3, 0.1, 0.0]
    plain, _ = corrected_gradient(CorrectionConfig("token"), gaps)
    scaled, _ = corrected_gradient(CorrectionConfig("token", mean_one=True), gaps)
    counts = [per_episode(t) for t in played(small_policy())]
    mean = sum(n * math.exp(gap) for n, gap in zip(counts, gaps)) / sum(counts)
    same(scaled, {name: g / mean for name, g in plain.items()})


def test_a_forced_token_of_a_rejected_sequence_counts_no_longer() -> None:
    defined, sequence = torch.ones(6, dtype=torch.bool), torch.tensor([0, 0, 0, 1, 1, 2])
    chosen = torch.tensor([True, True, False, True, False, False])
    engine, own = torch.zeros(6), torch.tensor([-3.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    found = corrected(engine, own, chosen, defined, sequence, defined, CorrectionConfig(reject="seq_sum_k1"))
    assert found.trained.tolist() == [False, False, False, True, True, True]
    assert found.metrics["rejected"] == pytest.approx(2 / 3)


# -- how far an update goes -------------------------------------------------------------------------------------------------


def test_the_update_ends_before_the_mini_batch_that_has_gone_too_far() -> None:
    """Unbounded it makes six steps; with a bound it stops, and the weights are those after the steps that were taken."""

    def after(epochs: int, target_kl: float | None) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
        policy = small_policy()
        trajectories = played(policy)
        actor = Actor(policy, OptimConfig(lr=1e-3, minibatch_episodes=64, epochs=epochs), LossConfig(target_kl=target_kl), 1, 0)
        metrics = actor.update(experience(trajectories, credit(trajectories)), 0)
        return {name: p.detach().clone() for name, p in actor.optimizer.parameters}, metrics

    free, unbounded = after(6, 1e9)
    assert (unbounded["steps"], unbounded["stopped"]) == (6, 0)
    stopped, bounded = after(6, 0.02)
    taken = int(bounded["steps"])
    assert bounded["stopped"] == 1
    assert 1 <= taken < 6
    same(stopped, after(taken, 1e9)[0], tolerance=0.0)
    assert any(not torch.equal(stopped[name], free[name]) for name in free)
    assert "stopped" not in after(1, None)[1]


def test_the_kl_that_stops_an_update_is_k3_over_the_trained_tokens() -> None:
    """A policy that differs from the sampler by d at every token is stopped by exp(d) - 1 - d."""

    def stopped(target_kl: float) -> bool:
        policy = small_policy()
        trajectories = played(policy)
        data = experience(trajectories, credit(trajectories))
        data.rollout_logprobs -= 0.25
        data.rollout_logprobs[0] -= 50.0  # a token without an opinion
        data.defined[0] = False
        actor = Actor(policy, OptimConfig(lr=0.0, minibatch_episodes=64), LossConfig(target_kl=target_kl), 1, 0)
        return bool(actor.update(data, 0)["stopped"])

    k3 = math.exp(0.25) - 1 - 0.25
    assert stopped(0.99 * k3)
    assert not stopped(1.01 * k3)


def test_with_a_kl_bound_episodes_without_any_advantage_still_tell_how_far_the_policy_went() -> None:
    policy = small_policy()
    trajectories = played(policy)
    values = credit(trajectories)
    values[per_episode(trajectories[0]) :] = 0.0
    data = experience(trajectories, values)
    data.rollout_logprobs[per_episode(trajectories[0]) :] -= 0.5
    actor = Actor(policy, OptimConfig(lr=0.0, minibatch_episodes=64), LossConfig(target_kl=0.05), 1, 0)
    assert actor.update(data, 0)["stopped"] == 1


def test_normalising_a_mini_batch_is_crediting_the_normalised_advantages() -> None:
    def normalized(trajectories: list[Trajectory]) -> torch.Tensor:
        values = credit(trajectories)
        return losses.normalize(values, torch.ones(len(values), dtype=torch.bool))

    same(gradients(loss=LossConfig(normalize="minibatch")), gradients(values=normalized))


def test_a_row_of_zeros_that_normalising_shifts_is_not_skipped() -> None:
    def one_in_two(trajectories: list[Trajectory]) -> torch.Tensor:
        parts = credit(trajectories).split([per_episode(t) for t in trajectories])
        return torch.cat([part * 0.0 if i % 2 else part for i, part in enumerate(parts)])

    found = [gradients(values=one_in_two, loss=LossConfig(normalize="minibatch", skip_zero=skip)) for skip in (True, False)]
    same(*found)


def test_training_raises_the_probability_of_credited_actions() -> None:
    policy = small_policy()
    trajectories = played(policy)
    values = torch.ones(sum(len(s.response_ids) for t in trajectories for s in t.steps))
    actor = Actor(policy, OptimConfig(lr=1e-2, minibatch_episodes=64), LossConfig(), 1, 0)
    before = sum(x for t in trajectories for s in t.steps for x in s.rollout_logprobs)
    actor.update(experience(trajectories, values), 0)
    policy.causal.eval()
    after = 0.0
    for t in trajectories:
        ids: list[int] = []
        for s in t.steps:
            ids = [*ids, *s.prompt_ids]
            start, ids = len(ids), [*ids, *s.response_ids]
            after += float(full_logprobs(policy, ids)[start:].sum())
    assert after > before + 1.0


def test_kl_to_the_reference_is_zero_at_the_start_and_pulls_back_later() -> None:
    policy = small_policy()
    trajectories = played(policy)
    values = credit(trajectories)
    actor = Actor(policy, OptimConfig(lr=1e-2, minibatch_episodes=64), LossConfig(kl=KLConfig("k3", 0.1)), 2, 0)
    first = actor.update(experience(trajectories, values), 0)
    second = actor.update(experience(trajectories, values), 1)
    assert first["kl_to_reference"] == pytest.approx(0.0, abs=1e-6)
    assert second["kl_to_reference"] > 1e-4


def test_constrained_training_renormalises_over_the_allowed_tokens() -> None:
    """Forced tokens have probability 1 and no gradient; at a choice of two only the two matter."""
    policy = small_policy()
    tries = ActionTries(lambda action: policy.tokenizer(action, add_special_tokens=False).input_ids, end=2)
    actions = [WORDS[1], WORDS[2]]
    ids = [*policy.tokenizer(WORDS[1], add_special_tokens=False).input_ids, 2]
    with torch.no_grad():
        logits = policy.causal(input_ids=torch.tensor([[1, 5, 6]])).logits[0, -1]
    pair = torch.log_softmax(logits[[ids[0], policy.tokenizer(WORDS[2], add_special_tokens=False).input_ids[0]]], 0)
    step = Step(
        "o",
        WORDS[1],
        admissible_actions=actions,
        prompt_ids=[1, 5, 6],
        response_ids=ids,
        rollout_logprobs=[float(pair[0]), 0.0],
    )
    trajectory = Trajectory("t", "t", "g", 0, "train", steps=[step])
    actor = Actor(policy, OptimConfig(lr=0.0), LossConfig(), 1, 0)
    metrics = actor.update(experience([trajectory], torch.ones(2), tries=tries), 0)
    assert metrics["mismatch_max"] < 1e-5
    assert metrics["entropy"] == pytest.approx(float(-(pair.exp() * pair).sum()), abs=1e-4)


def test_schedule_warms_up_then_follows_its_shape() -> None:
    actor = Actor(small_policy(), OptimConfig(lr=1.0, warmup=2, schedule="linear"), LossConfig(), 10, 0)
    rates = [actor.learning_rate(i) for i in range(10)]
    assert rates[:3] == [0.5, 1.0, 1.0]
    assert rates[6] == pytest.approx(0.5)


def test_bf16_weights_learn_through_float32_masters() -> None:
    policy = small_policy()
    trajectories = played(policy)
    policy.model.to(torch.bfloat16)
    actor = Actor(policy, OptimConfig(lr=1e-5, minibatch_episodes=64), LossConfig(), 400, 0)
    before = [m.detach().clone() for m in actor.optimizer.masters]
    for i in range(3):
        actor.update(experience(trajectories, credit(trajectories)), i)
    assert all(m.dtype == torch.float32 for m in actor.optimizer.masters)
    assert any(bool((m - b).abs().max() > 0) for m, b in zip(actor.optimizer.masters, before, strict=True))
    for (_, p), m in zip(actor.optimizer.parameters, actor.optimizer.masters, strict=True):
        assert torch.equal(p, m.detach().to(torch.bfloat16))


def test_a_restored_actor_goes_on_exactly() -> None:
    def trained(interrupt: bool) -> list[torch.Tensor]:
        policy = small_policy()
        trajectories = played(policy)
        data = experience(trajectories, credit(trajectories))
        actor = Actor(policy, OptimConfig(lr=1e-3, minibatch_episodes=2), LossConfig(), 4, 0)
        for i in range(4):
            if interrupt and i == 2:
                state = actor.optimizer.state()
                actor = Actor(policy, OptimConfig(lr=1e-3, minibatch_episodes=2), LossConfig(), 4, 0)
                actor.optimizer.load_state(state)
            actor.update(data, i)
        return [p.detach().clone() for _, p in actor.optimizer.parameters]

    for one, other in zip(trained(False), trained(True), strict=True):
        assert torch.equal(one, other)

"""Choosing an action as a whole: one formula for sampler and trainer, and rows whose candidates see what they should."""

from __future__ import annotations

import asyncio
import math
import random
from typing import Any, get_args, get_type_hints

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.config.sections import CorrectionConfig, EngineConfig, KLConfig, LossConfig, OptimConfig
from agents.models.policy import Policy
from agents.models.tokenizer import build
from agents.rollout.choice import ActionChoice, ActionChoices, Length, Scoring, log_softmax_by_choice
from agents.rollout.constraint import ActionTries
from agents.rollout.dialogue import Plain
from agents.rollout.engines.base import Sampling
from agents.rollout.engines.hf import HFEngine
from agents.rollout.engines.scripted import ScriptedEngine
from agents.rollout.episode import Player
from agents.rollout.sampler import Sampler
from agents.training.actor import Actor
from agents.training.experience import Experience
from agents.training.passes import collate, micro_batches
from envs.base import StepResult
from envs.pool import Pool
from envs.trajectory import Step, Trajectory
from tests.agents.models.models_for_tests import small_policy
from tests.agents.rollout.test_sampler import episodes
from tests.envs.toys import Corridor, CorridorConfig, CorridorPrompt

contexts = pytest.mark.parametrize("context", ["full", "window"])
END = 2
ACTIONS = ["7", "7 8", "7 8 9 10", "11 12", "13", "11 12 14 15 16", "20", "21 22"]


def scoring(length: Length = "tokens") -> Scoring:
    """Actions are written as their ids."""
    return Scoring(ActionTries(lambda words: [int(word) for word in words.split()], END), length)


# -- the formula ------------------------------------------------------------------------------------------------------------


@given(
    choices=st.lists(
        st.lists(st.tuples(st.lists(st.floats(-5, 0), max_size=4), st.integers(1, 5)), min_size=1, max_size=6),
        min_size=1,
        max_size=4,
    ),
    temperature=st.sampled_from([0.4, 1.0, 2.0]),
)
@settings(max_examples=40, deadline=None)
def test_the_log_probability_is_the_log_softmax_of_score_over_length_and_temperature(
    choices: list[list[tuple[list[float], int]]], temperature: float
) -> None:
    candidates = [candidate for choice in choices for candidate in choice]
    found = log_softmax_by_choice(
        torch.tensor([x for tokens, _ in candidates for x in tokens], dtype=torch.float64),
        torch.tensor([len(tokens) for tokens, _ in candidates]),
        torch.tensor([length for _, length in candidates]),
        torch.tensor([number for number, choice in enumerate(choices) for _ in choice]),
        temperature,
    )
    expected = [
        torch.log_softmax(torch.tensor([sum(tokens) / n / temperature for tokens, n in choice], dtype=torch.float64), 0)
        for choice in choices
    ]
    torch.testing.assert_close(found, torch.cat(expected))


def test_lengths_are_tokens_with_the_end_or_words_or_nothing() -> None:
    tries = ActionTries(lambda words: [len(word) for word in words.split("-")], END)
    actions = ["go-north", "open the-door"]
    assert Scoring(tries, "tokens").candidates(actions) == ([[2, 5, END], [8, 4, END]], [3, 3])
    assert Scoring(tries, "words").candidates(actions)[1] == [1, 2]
    assert Scoring(tries, "none").candidates(actions)[1] == [1, 1]
    assert Scoring(tries).length == EngineConfig().length
    assert list(get_args(Length)) == list(get_args(get_type_hints(EngineConfig)["length"]))


def test_actions_that_are_said_alike_are_one_candidate() -> None:
    tries = ActionTries(lambda words: [len(words)], END)
    assert Scoring(tries).candidates(["up", "on", "look"])[0] == [[2, END], [4, END]]


def test_the_draw_follows_the_probabilities_and_depends_on_the_seed_alone() -> None:
    """Chi-square of 4000 draws with fixed seeds, 3 degrees of freedom."""
    scores, lengths = [[-0.1, -0.2], [-1.0], [-0.5, -0.5, -0.4], [-2.5]], [2, 1, 3, 1]
    one = scoring()
    drawn = [one.choose(scores, lengths, 1.0, seed) for seed in range(4000)]
    assert drawn[:20] == [one.choose(scores, lengths, 1.0, seed) for seed in range(20)]
    chance = torch.softmax(torch.tensor([sum(s) / n for s, n in zip(scores, lengths)], dtype=torch.float64), 0)
    counts = torch.bincount(torch.tensor([chosen for chosen, _ in drawn]), minlength=4)
    assert float(((counts - 4000 * chance) ** 2 / (4000 * chance)).sum()) < 16.3  # 0.999 quantile
    for chosen, logprob in drawn[:50]:
        assert logprob == pytest.approx(math.log(chance[chosen]))
    assert one.choose(scores, lengths, 0.0, 5)[0] == 0
    with pytest.raises(ValueError, match="nothing to choose"):
        one.choose([], [], 1.0, 0)


# -- rows -------------------------------------------------------------------------------------------------------------------


def played_by(policy: Policy, context: str, length: Length = "tokens", temperature: float = 1.0) -> list[Trajectory]:
    """Conversations of choices, their log-probabilities by one plain forward pass for each candidate."""
    rng = random.Random(5)
    made = []
    for episode in range(5):
        trajectory = Trajectory("t", "t", f"g{episode}", 0, "train", context=context)
        read: list[int] = []
        for _ in range(2 + episode % 3):
            prompt = [rng.randrange(30, 60) for _ in range(rng.randint(2, 7))]
            read = [*(read if context == "full" else []), *prompt]
            actions = rng.sample(ACTIONS, rng.randint(2, len(ACTIONS)))
            responses, _ = scoring().candidates(actions)
            chosen = rng.randrange(len(actions))
            with torch.no_grad():
                logp = plain_logprobs(policy, read, actions, length, temperature)
            step = Step("o", actions[chosen], admissible_actions=actions, prompt_ids=prompt, response_ids=responses[chosen])
            step.rollout_logprobs = [float(logp[chosen])] + [0.0] * (len(responses[chosen]) - 1)
            trajectory.steps.append(step)
            read = [*read, *responses[chosen]]
        made.append(trajectory)
    return made


def plain_logprobs(policy: Policy, read: list[int], actions: list[str], length: Length, temperature: float) -> torch.Tensor:
    """log pi of each action, with gradient: every candidate alone behind what was read."""
    scores = []
    for action in actions:
        response = [*map(int, action.split()), END]
        logits = policy.causal(input_ids=torch.tensor([[*read, *response]])).logits[0, len(read) - 1 : -1].float()
        total = torch.log_softmax(logits, -1)[torch.arange(len(response)), torch.tensor(response)].sum()
        scores.append(total / {"tokens": len(response), "words": len(action.split()), "none": 1}[length])
    return torch.log_softmax(torch.stack(scores) / temperature, 0)


def credited(trajectories: list[Trajectory], one: Scoring | None = None) -> Experience:
    made = Experience.of(trajectories, scoring=one or scoring())
    torch.manual_seed(1)
    made.advantages = torch.cat([torch.randn(()).repeat(len(step.response_ids)) for step in made.steps])
    made.defined[:] = True
    return made


def updated(
    policy: Policy,
    trajectories: list[Trajectory],
    loss: LossConfig,
    budget: int = 10_000,
    length: Length = "tokens",
    temperature: float = 1.0,
) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    """Gradient and metrics of one mini-batch with all episodes."""
    optim = OptimConfig(lr=0.0, minibatch_episodes=64, tokens_per_microbatch=budget, grad_clip=1e9)
    actor = Actor(policy, optim, loss, 1, 0, temperature)
    metrics = actor.update(credited(trajectories, scoring(length)), 0)
    return {name: p.grad.clone() for name, p in actor.optimizer.parameters}, metrics


@contexts
@pytest.mark.parametrize(("length", "temperature"), [("tokens", 1.0), ("words", 0.5), ("none", 2.0)])
@pytest.mark.parametrize("budget", [10_000, 60, 16])
def test_the_gradient_is_that_of_every_candidate_computed_alone(
    context: str, length: Length, temperature: float, budget: int
) -> None:
    """Whatever the rows: a budget of 16 is less than the candidates of one step."""
    policy = small_policy()
    trajectories = played_by(policy, context, length, temperature)
    found, metrics = updated(policy, trajectories, LossConfig(entropy=0.3), budget, length, temperature)
    assert metrics["mismatch_max"] < 1e-4

    policy.model.zero_grad()
    steps = sum(len(t.steps) for t in trajectories)
    values = credited(trajectories)
    number, entropies, total = 0, [], torch.zeros(())
    for trajectory in trajectories:
        read: list[int] = []
        for step in trajectory.steps:
            read = [*(read if context == "full" else []), *step.prompt_ids]
            assert step.admissible_actions is not None
            logp = plain_logprobs(policy, read, step.admissible_actions, length, temperature)
            chosen = logp[step.admissible_actions.index(step.action)]
            entropies.append(float(-(logp.exp() * logp).sum().detach()))
            ratio = (chosen - step.rollout_logprobs[0]).exp()
            total = total - values.advantages[number] * ratio - 0.3 * -(logp.exp() * logp).sum()
            read, number = [*read, *step.response_ids], number + len(step.response_ids)
    (total / steps).backward()
    assert metrics["entropy"] == pytest.approx(sum(entropies) / steps, abs=1e-4)
    for name, p in policy.trainable():
        torch.testing.assert_close(found[name], p.grad, atol=1e-5, rtol=1e-3)


@contexts
def test_every_choice_stands_once_at_its_first_token_and_its_branches_are_what_was_offered(context: str) -> None:
    trajectories = played_by(small_policy(), context)
    made = credited(trajectories)
    rows = made.rows()
    assert [row.tokens for row in rows] == made.begins.nonzero().tolist()
    for row, step in zip(rows, made.steps, strict=True):
        assert row.choice is not None
        responses, lengths = scoring().candidates(step.admissible_actions or [])
        assert (row.choice.responses, row.choice.lengths) == (responses, lengths)
        assert responses[row.choice.chosen] == step.response_ids
        assert row.ids[-len(step.prompt_ids) :].tolist() == step.prompt_ids
        for text, response, (before, ids) in zip(row.texts, responses, row.predicted, strict=True):
            assert text.tolist() == [*row.ids.tolist(), *response[:-1]]
            assert (before - len(row.ids)).tolist() == list(range(-1, len(response) - 1))
            assert ids.tolist() == response
    if context == "full":
        last = trajectories[0].steps[-1]
        read = [i for s in trajectories[0].steps[:-1] for i in (*s.prompt_ids, *s.response_ids)]
        assert rows[len(trajectories[0].steps) - 1].ids.tolist() == [*read, *last.prompt_ids]


def test_the_trunk_never_sees_a_branch() -> None:
    """Other candidates than the chosen one leave all later choices as they were."""
    policy = small_policy()

    def later(extra: list[str]) -> list[float]:
        trajectory = Trajectory("t", "t", "g", 0, "train")
        for prompt, actions in (([30, 31], ["7 8", *extra]), ([32], ["9", "10 11"])):
            response = [*map(int, actions[0].split()), END]
            step = Step("o", actions[0], admissible_actions=actions, prompt_ids=prompt, response_ids=response)
            step.rollout_logprobs = [0.0] * len(response)
            trajectory.steps.append(step)
        batch = collate(credited([trajectory]).rows(), policy, tree=True)
        logits = policy.forward(batch.ids, batch.positions, batch.mask, batch.before)
        logp = torch.log_softmax(logits, -1)[batch.which, batch.targets]
        return logp[-5:].tolist()

    assert later([]) == pytest.approx(later(["12 13 14", "15"]), abs=1e-5)


def test_a_response_that_was_not_offered_is_an_error() -> None:
    step = Step("o", "99", admissible_actions=["7", "8"], prompt_ids=[30], response_ids=[99, END])
    step.rollout_logprobs = [0.0, 0.0]
    with pytest.raises(ValueError, match="not among the candidates"):
        credited([Trajectory("t", "t", "g", 0, "train", steps=[step])]).rows()


def test_a_step_with_very_many_candidates_is_one_row_beyond_the_budget() -> None:
    actions = [f"{i} {j} {k}" for i in range(5, 15) for j in range(5, 15) for k in range(5, 9)]
    read = [*range(20, 40)]
    step = Step("o", actions[3], admissible_actions=actions, prompt_ids=read, response_ids=[*map(int, actions[3].split()), END])
    step.rollout_logprobs = [0.0] * 4
    trajectory = Trajectory("t", "t", "g", 0, "train", steps=[step])
    policy = small_policy()
    with torch.no_grad():
        step.rollout_logprobs[0] = float(plain_logprobs(policy, read, actions, "tokens", 1.0)[3])
    ((row,),), tree = micro_batches(credited([trajectory]).rows(), 100, policy)
    assert len(row.texts) == 400
    metrics = updated(policy, [trajectory], LossConfig(), budget=100)[1]
    assert tree
    assert metrics["computed_tokens"] == 20 + 10 + 100 + 400  # candidates that begin alike share that, too
    assert metrics["mismatch_max"] < 1e-4


def test_choices_of_a_micro_batch_are_numbered_through() -> None:
    pair = [ActionChoice([[7], [8]], [1, 1], chosen) for chosen in (1, 0)]
    found = ActionChoices.of(pair, torch.device("cpu"))
    assert found.choice.tolist() == [0, 0, 1, 1]
    assert found.chosen.tolist() == [1, 2]
    logp, entropy = found.decide(torch.tensor([-1.0, -1.0, 0.0, -math.log(3)]), 1.0)
    assert logp.tolist() == pytest.approx([math.log(1 / 2), math.log(3 / 4)])
    assert entropy.tolist() == pytest.approx([math.log(2), -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))])


# -- the update -------------------------------------------------------------------------------------------------------------


@contexts
def test_only_the_first_token_of_a_response_is_trained_on(context: str) -> None:
    policy = small_policy()
    trajectories = played_by(policy, context)
    found, metrics = updated(policy, trajectories, LossConfig())
    actor = Actor(policy, OptimConfig(lr=0.0, minibatch_episodes=64, grad_clip=1e9), LossConfig(), 1, 0)
    experience = credited(trajectories)
    experience.advantages[~experience.begins] = 1e6
    actor.update(experience, 0)
    for name, p in actor.optimizer.parameters:
        torch.testing.assert_close(found[name], p.grad)
    assert metrics["steps"] == 1


@contexts
def test_correction_reference_and_kl_stop_work_on_the_choice(context: str) -> None:
    policy = small_policy()
    trajectories = played_by(policy, context)
    for trajectory in trajectories:
        for step in trajectory.steps:
            step.rollout_logprobs[0] -= 0.25
    loss = LossConfig(kl=KLConfig("k3", 0.1), correction=CorrectionConfig("token"), target_kl=1e-3)
    _, metrics = updated(policy, trajectories, loss)
    assert metrics["mismatch_mean"] == pytest.approx(0.25, abs=1e-4)
    assert metrics["kl_to_reference"] == pytest.approx(0.0, abs=1e-6)
    assert metrics["stopped"] == 0  # with a correction the old policy is the trainer's own
    k3 = math.exp(0.25) - 1.25
    assert updated(policy, trajectories, LossConfig(target_kl=0.99 * k3))[1]["stopped"] == 1
    assert updated(policy, trajectories, LossConfig(target_kl=1.01 * k3))[1]["stopped"] == 0


# -- rollouts ---------------------------------------------------------------------------------------------------------------


class Talkative(Corridor):
    """A corridor whose actions take different numbers of words to say; some go nowhere."""

    def _turn(self, text: str, valid: bool = True) -> StepResult:
        turn = super()._turn(text, valid)
        if turn.admissible_actions:
            turn.admissible_actions = [*turn.admissible_actions, "look around", "look around the corridor you are in"]
        return turn


def talkative_policy() -> Policy:
    policy = small_policy()
    words = ["left right wait look around the corridor you are in exit cell wall"]
    policy.tokenizer = build(words, words=[f"thing {i}" for i in range(60 - 14)])
    return policy


def play(engine: Any, tokenizer: Any, context: str, temperature: float = 1.0, n: int = 8) -> tuple[list[Trajectory], Scoring]:
    prompt = CorridorPrompt()
    dialogue = Plain(tokenizer, prompt)
    sampling = Sampling(max_tokens=6, stop_ids=dialogue.stop_ids)
    one = Scoring(dialogue.tries, "tokens")
    with Pool(lambda: Talkative(CorridorConfig()), workers=1, mode="inline") as pool:
        made = Sampler("test", Player(engine, dialogue, prompt, sampling, context=context, scoring=one), pool)
        return asyncio.run(made.play(episodes(n), temperature)), one


@contexts
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_trainer_and_sampler_agree_on_the_log_probability_of_an_action(context: str, temperature: float) -> None:
    policy = talkative_policy()
    engine = HFEngine(policy)
    played, one = play(engine, policy.tokenizer, context, temperature)
    assert all(t.error is None and t.steps for t in played)
    assert engine._slots == []
    steps = [step for t in played for step in t.steps]
    assert all(step.action in (step.admissible_actions or []) for step in steps)
    assert all(len(step.response_ids) == len(step.rollout_logprobs) for step in steps)
    assert not any(any(step.rollout_logprobs[1:]) for step in steps)
    assert len({len(step.response_ids) for step in steps}) > 1
    optim = OptimConfig(lr=0.0, minibatch_episodes=64, tokens_per_microbatch=500)
    actor = Actor(policy, optim, LossConfig(), 1, 0, temperature)
    metrics = actor.update(credited(played, one), 0)
    assert 0 < metrics["mismatch_max"] < 1e-4
    assert 0 < metrics["entropy"] < math.log(5) + 1e-6


def test_an_action_that_no_longer_fits_the_model_is_a_cut_off() -> None:
    policy = talkative_policy()
    policy.max_length = 40
    played, _ = play(HFEngine(policy), policy.tokenizer, "full", n=3)
    assert any(t.cut_off == "context" and t.steps[-1].truncated for t in played)
    assert all(t.error is None for t in played)


def test_to_an_engine_without_a_model_all_actions_are_alike() -> None:
    tokenizer = talkative_policy().tokenizer
    played, _ = play(ScriptedEngine(), tokenizer, "full", n=4)
    steps = [step for t in played for step in t.steps]
    assert all(step.rollout_logprobs[0] == pytest.approx(-math.log(5)) for step in steps)
    assert len({step.action for step in steps}) == 5


def test_an_environment_that_lists_nothing_cuts_the_episode_off_with_the_reason() -> None:
    class Silent(Corridor):
        def _turn(self, text: str, valid: bool = True) -> StepResult:
            turn = super()._turn(text, valid)
            turn.admissible_actions = []
            return turn

    policy = talkative_policy()
    dialogue = Plain(policy.tokenizer, CorridorPrompt())
    with Pool(lambda: Silent(CorridorConfig()), workers=1, mode="inline") as pool:
        sampling, one = Sampling(), Scoring(dialogue.tries)
        made = Sampler("test", Player(HFEngine(policy), dialogue, CorridorPrompt(), sampling, scoring=one), pool)
        (played,) = asyncio.run(made.play(episodes(1), 1.0))
    assert played.error is not None
    assert "lists no action" in played.error


@contexts
def test_training_raises_the_probability_of_credited_choices(context: str) -> None:
    policy = small_policy()
    trajectories = played_by(policy, context)
    made = credited(trajectories)
    made.advantages[:] = 1.0
    Actor(policy, OptimConfig(lr=1e-2, minibatch_episodes=64), LossConfig(), 1, 0).update(made, 0)
    before = after = 0.0
    for trajectory in trajectories:
        read: list[int] = []
        for step in trajectory.steps:
            read = [*(read if context == "full" else []), *step.prompt_ids]
            assert step.admissible_actions is not None
            with torch.no_grad():
                logp = plain_logprobs(policy, read, step.admissible_actions, "tokens", 1.0)
            before, after = before + step.rollout_logprobs[0], after + float(logp[step.admissible_actions.index(step.action)])
            read = [*read, *step.response_ids]
    assert after > before + 1.0

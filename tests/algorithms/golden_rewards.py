"""Golden checks of rewards from critiques and written factors, of their sum in min form, and of budgets."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import torch

from agents.training.decoder import Decoder
from algorithms.brpo import BRPO, budget_relative
from algorithms.grpo import GRPO
from algorithms.pure import PURE, min_form
from algorithms.shaping.critique import Critique, voted
from algorithms.shaping.latent import Latent, sampled_loss, whole_loss
from envs.trajectory import Step, Trajectory
from tests.algorithms.batches import as_batch
from tests.algorithms.examples import shape
from tests.algorithms.golden_rows import Case, close


def trajectory(rewards: list[float], tokens: list[int] | None = None, group: str = "task", name: str = "") -> Trajectory:
    pairs = zip(rewards, tokens or [1] * len(rewards), strict=True)
    steps = [Step("", "", reward, state_key="-", response_ids=[0] * number) for reward, number in pairs]
    return Trajectory("golden", group, group, 0, "train", steps=steps, name=name)


class Said:
    """A judge whose critiques are the recorded ones."""

    def __init__(self, critiques: list[list[list[int]]]) -> None:
        self._critiques, self.metrics = critiques, dict[str, float]()

    async def critiques(self, trajectories: list[Trajectory], count: int) -> list[list[Any]]:
        assert [len(one) for one in self._critiques] == [count] * len(trajectories)
        return self._critiques


def capo_critique(case: Case, tolerance: float) -> None:
    given, expected = case["inputs"], case["outputs"]
    responses = given["responses"]
    for one, wrong in zip(responses, expected["wrong_steps"], strict=True):
        assert np.flatnonzero(voted(one["critiques"], len(one["step_lengths"]), given["vote"])).tolist() == wrong
    # The outcome is the environment's reward, and the critique enters at the return of its own step.
    played = [
        trajectory([0.0] * (len(one["step_lengths"]) - 1) + [given["w_outcome"] * one["correct"]], one["step_lengths"])
        for one in responses
    ]
    critique = Critique(critiques=len(responses[0]["critiques"]), vote=given["vote"], weight=given["w_process"])
    critique.judge = Said([one["critiques"] for one in responses])  # type: ignore[assignment]
    shape(critique, played, "critique")
    batch = as_batch(played)
    scores = GRPO(episode_stats="rows", shaped_at={"critique": "return"}).score(batch).scores()
    close(np.repeat(scores, batch.tokens), np.concatenate(expected["token_rewards"]), tolerance)


def pure_min_form(case: Case, tolerance: float) -> None:
    given, expected = case["inputs"], case["outputs"]
    mask = np.array(given["step_mask"])
    # P(+) - P(-) of a softmax over the two logits.
    reward = np.array([[np.tanh((b - a) / 2) for a, b in row] for row in given["prm_logits"]])[mask]
    temperature = None if given["disable_weighted_reward"] else given["temperature"]
    episode = np.repeat(np.arange(len(mask)), mask.sum(axis=1))
    least = min_form(reward, episode, temperature)
    table = np.zeros(mask.shape)
    table[mask] = least
    close(table, expected["transformed_step_rewards"], tolerance)
    close(np.bincount(episode, least), expected["outcome"], tolerance)
    # As a method, in which they are rewards of a shaping: the first token's return, plus the baseline that was taken off.
    played = [trajectory([0.0] * int(row.sum())) for row in mask]
    for step, one in zip((step for t in played for step in t.steps), reward.tolist(), strict=True):
        step.shaped_rewards["process"] = one
    found = PURE(temperature=temperature).advantages(as_batch(played))
    total, length = np.array(expected["outcome"]), mask.sum(axis=1)
    baseline = total[::-1] / length[::-1] * length
    first = np.cumsum(length) - length
    close(found.values[first] + baseline, total, tolerance)


def lare(case: Case, tolerance: float) -> None:
    given, expected = case["inputs"], case["outputs"]
    lengths = given["lengths"]
    table = np.concatenate([np.array(row)[:steps] for row, steps in zip(given["factors"], lengths, strict=True)])
    decoder = Decoder(Latent(hidden=[]), "golden", torch.device("cpu"), seed=0)
    decoder.begin([f"factor {number}" for number in range(table.shape[1])])
    layer = decoder.mlp.double()[0]
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([given["weight"]]))
        layer.bias.fill_(given["bias"])
    rewards = decoder.rewards(table)
    close(rewards, np.concatenate(expected["step_rewards"]), tolerance)
    batch = as_batch([trajectory([0.0] * (steps - 1) + [paid]) for steps, paid in zip(lengths, given["returns"], strict=True)])
    returns = np.repeat(given["returns"], lengths)
    loss, gradient = whole_loss(batch, rewards, returns)
    close(loss, expected["loss"], tolerance)
    decoder.slope(table, gradient)
    close(layer.weight.grad[0], expected["grad_weight"], tolerance)
    sampled, _ = sampled_loss(batch, rewards, returns, np.array(given["sampled"]), given["unbiased"])
    close(sampled, expected["sampled_loss"], tolerance)


def brpo_budget_relative(case: Case, tolerance: float) -> None:
    given, expected = case["inputs"], case["outputs"]
    answers, split, size, count = (np.array(given[key]) for key in ("answer_scores", "split_id", "G", "S"))
    scores = np.array([[row[of == s].mean() for s in range(count)] for row, of in zip(answers, split, strict=True)])
    group = np.arange(len(scores)) // size
    prior = "uniform" if len(set(given["budget_probs"])) == 1 else "linear"
    method = BRPO(budgets=list(range(1, int(count))), prior=prior)
    close(method.probabilities, given["budget_probs"], tolerance)
    for found, name in zip(budget_relative(scores, group, method.probabilities), ("ret", "v1", "v2"), strict=True):
        close(found, expected[name], tolerance)
    # An episode of one turn a budget, which is paid what its score rises by.
    paid = [[float(row[0]), *(float(b - a) for a, b in pairwise(row))] for row in scores]
    batch = as_batch([trajectory(row, group=str(of)) for row, of in zip(paid, group, strict=True)])
    close(method.advantages(batch).values.reshape(-1, count), expected["cot_adv"], tolerance)
    # An answer is compared with the others at the same budget of the same thought: as an episode with its group.
    alone = as_batch([trajectory([one], group=f"{b} {s}") for b, row in enumerate(answers) for s, one in zip(split[b], row)])
    close(GRPO(normalize="mean").advantages(alone).values.reshape(answers.shape), expected["summary_adv"], tolerance)

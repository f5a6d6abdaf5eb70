"""Token rewards of a model that learned a preference, and losses on pairs (rto, tgdpo, cdpo, t_reg, aligndistil)."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import torch

from algorithms import losses
from algorithms.base import Floats
from algorithms.critics import token_rewards
from algorithms.ppo import PPO
from algorithms.shaping.aligndistil import AlignDistil
from algorithms.shaping.cdpo import CDPO
from algorithms.shaping.pairs import Pair
from algorithms.shaping.t_reg import TREG
from algorithms.shaping.tgdpo import TGDPO
from algorithms.shaping.token_reward import TokenReward
from envs.trajectory import Step, Trajectory
from tests.algorithms.batches import as_batch
from tests.algorithms.golden_rows import Case, close


def rto_token_rewards(case: Case, tolerance: float) -> None:
    given, mask = case["inputs"], np.array(case["inputs"]["mask"], dtype=bool)
    policy, reference, model = (np.array(given[key])[mask] for key in ("log_probs", "ref_log_probs", "dpo_log_probs"))
    paid = np.clip(given["rm_score"], -10, 10)  # a reward model's score, which the authors bound; here the environment's
    steps = [Step("", "", reward, state_key="-", response_ids=[0] * count) for reward, count in zip(paid, mask.sum(1).tolist())]
    batch = as_batch([Trajectory("golden", "q", "q", 0, "train", steps=[step]) for step in steps])
    one = TokenReward(scale=given["beta1"], clip=given["clip"], kl=given["beta2"])
    by_token = one.rewards(model - reference, policy - reference)
    ends = np.cumsum(batch.tokens)[:-1]
    batch.shaped = {"token_reward": np.array([part.sum() for part in np.split(by_token, ends)])}
    batch.shaped_tokens = {"token_reward": by_token}
    table = np.zeros(mask.shape)
    table[mask] = token_rewards(PPO().score(batch))
    close(table, case["outputs"]["token_rewards"], tolerance)


def tgdpo(case: Case, tolerance: float) -> None:
    rows, expected = PairedRows(case["inputs"]), case["outputs"]
    one = TGDPO(beta=rows.given["beta"], guidance=rows.given["alpha"])
    policy, reference, model = (rows.flat(name) for name in ("policy", "ref", "reward"))
    for pair, loss in zip(rows.pairs, expected["loss_per_pair"], strict=True):
        close(one.loss([pair], policy, reference, model - reference).loss, loss, tolerance)
    gradient = one.loss(rows.pairs, policy, reference, model - reference).gradient
    for found, name in zip(rows.tables(gradient), ("chosen", "rejected")):
        close(found, expected[f"grad_policy_{name}"], tolerance)


def cdpo(case: Case, tolerance: float) -> None:
    rows, expected = PairedRows(case["inputs"]), case["outputs"]
    policy, reference = rows.flat("policy"), rows.flat("ref")
    s = rows.flat("", "_ce_prob")
    weighs: dict[str, Any] = {"beta": rows.given["beta"], "weighs": "worse" if rows.given["only_negative"] else "both"}
    official, paper = CDPO(sigmoid_of="positions", **weighs), CDPO(**weighs)
    close(official.loss(rows.pairs, policy, reference, s).loss, expected["loss"], tolerance)
    for (a, b), by_token in zip(rows.pairs, expected["loss_per_token"], strict=True):
        for place, loss in enumerate(by_token):
            single = (slice(a.start + place, a.start + place + 1), slice(b.start + place, b.start + place + 1))
            close(official.loss([single], policy, reference, s).loss, loss, tolerance)
    for pair, loss in zip(rows.pairs, expected["paper_loss_per_pair"], strict=True):
        close(paper.loss([pair], policy, reference, s).loss, loss, tolerance)


def t_reg(case: Case, tolerance: float) -> None:
    rows, expected = PairedRows(case["inputs"]), case["outputs"]
    one, plain = (TREG(beta=rows.given["beta"], regularization=alpha) for alpha in (rows.given["alpha"], 0.0))
    policy, reference = rows.flat("policy"), rows.flat("ref")
    rewards = one.rewards(rows.flat("better"), rows.flat("worse"))
    for found, name in zip(rows.tables(rewards), ("chosen", "rejected")):
        close(found[0], expected[f"token_reward_{name}"], tolerance)
    close(one.pair_weights(rows.pairs, policy - reference)[0], expected["weight"], tolerance)
    close(plain.loss(rows.pairs, policy, reference, rewards).loss, expected["dpo_loss"], tolerance)
    close(one.loss(rows.pairs, policy, reference, rewards).loss, expected["loss"], tolerance)


def aligndistil(case: Case, tolerance: float) -> None:
    given, expected = case["inputs"], case["outputs"]
    mask = torch.tensor(given["mask"]) > 0
    student = torch.tensor(given["student"], dtype=torch.float64, requires_grad=True)
    dpo, reverse = (torch.tensor(given[key], dtype=torch.float64).log_softmax(-1)[mask] for key in ("dpo", "reverse_dpo"))
    one = AlignDistil(beta=given["beta"], extrapolation=given["beta2"])
    by_token = one.distill(student.log_softmax(-1)[mask], dpo, reverse)
    sequence = torch.arange(len(mask))[:, None].expand_as(mask)[mask]
    loss = (losses.token_weights(sequence, "seq-mean-token-mean") * by_token).sum()
    (gradient,) = torch.autograd.grad(loss, student)
    for found, name in ((one.strength(dpo, reverse), "weight"), (by_token.detach(), "token_loss")):
        close(torch.zeros(mask.shape, dtype=torch.float64).masked_scatter(mask, found), expected[name], tolerance)
    close(loss.item(), expected["loss"], tolerance)
    close(gradient, expected["grad_student"], tolerance)


class PairedRows:
    """Rows of chosen and of rejected tokens as one flat batch, the chosen ones first, and their pairs."""

    def __init__(self, given: Case) -> None:
        self.given = given
        self.rows = [row for name in ("chosen", "rejected") for row in _rows(given[f"policy_{name}"])]
        ends = np.cumsum([0, *map(len, self.rows)]).tolist()
        self.places = [slice(a, b) for a, b in pairwise(ends)]
        self.pairs: list[Pair] = list(zip(self.places[: len(self.rows) // 2], self.places[len(self.rows) // 2 :]))

    def flat(self, name: str, ending: str = "") -> Floats:
        """[T]"""
        whole = [f"{name}_{side}{ending}".strip("_") for side in ("chosen", "rejected")]
        return np.concatenate([np.array(row, dtype=np.float64) for key in whole for row in _rows(self.given[key])])

    def tables(self, flat: Floats) -> tuple[list[Floats], list[Floats]]:
        """Of chosen and of rejected rows."""
        rows = [flat[place] for place in self.places]
        return rows[: len(rows) // 2], rows[len(rows) // 2 :]


def _rows(values: Any) -> list[list[float]]:
    return values if isinstance(values[0], list) else [values]

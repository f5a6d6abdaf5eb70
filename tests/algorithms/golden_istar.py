"""OPRL's implicit rewards, the losses of their model, and its advantages (istar_*.json), from rows to trajectories and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from agents.models.policy import token_logprobs
from algorithms.base import Batch, Floats
from algorithms.oprl import OPRL
from algorithms.shaping.implicit_prm import ImplicitPRM
from algorithms.shaping.preference import BestOf
from envs.trajectory import Step, Trajectory
from tests.algorithms.examples import official, shape
from tests.algorithms.golden_rows import Case, Rows, close, per_token

# -- losses of the reward model ---------------------------------------------------------------------------------------------

LOSSES: dict[str, dict[str, Any]] = {
    "eto": {"loss": "dpo", "score": "mean"},
    "ce": {"loss": "ce", "label": "score"},
    "detach_dpo": {"loss": "detached_dpo", "label": "score"},
}
BEST_OF: dict[str, BestOf] = {"none": "none", "bon_rm": "reward", "bon_acc": "outcome"}


def istar_prm_loss(case: Case, tolerance: float) -> None:
    given, expected = case["inputs"], case["outputs"]
    lengths, q = given["response_lengths"], np.array(given["token_log_ratio_q"])
    kept = np.flatnonzero(given.get("active", [True] * len(lengths)))
    group, episode = (given.get(key, default) for key, default in (("uid", ["g"] * len(q)), ("traj_uid", _names(len(q)))))
    steps = [Step("", "", state_key="-", response_ids=[0] * lengths[row]) for row in kept]
    rows = Rows([group[row] for row in kept], [episode[row] for row in kept], steps)
    for trajectory, row in zip(rows.trajectories, _first_rows([episode[row] for row in kept])):
        trajectory.score = given["acc"][kept[row]]
    batch = rows.batch
    flat = np.concatenate([q[kept[row], : lengths[kept[row]]] for row in np.argsort(rows.place)])

    def fitted(**settings: Any) -> tuple[Any, Floats]:
        if settings["loss"] == "dpo":
            settings["score_threshold"] = 0.0
        prm = ImplicitPRM(given["beta"], best_of=BEST_OF[given.get("bon_mode", "none")], **settings)
        return prm.fit(batch, prm.labels(batch), flat)

    fit, gradient = fitted(**LOSSES[given["kind"]])
    close(fit.loss, expected["loss"], tolerance)
    table, ends = np.zeros(q.shape), np.cumsum(batch.tokens)
    for row, place in zip(kept.tolist(), rows.place):
        table[row, : lengths[row]] = gradient[ends[place] - batch.tokens[place] : ends[place]]
    close(table, expected["grad_wrt_q"], tolerance)
    if "num_pairs" in expected:
        assert fit.compared == expected["num_pairs"]
    if "paper_sum_loss" in expected:
        close(fitted(loss="dpo", score="sum")[0].loss, expected["paper_sum_loss"], tolerance)


def _names(rows: int) -> list[str]:
    return [str(row) for row in range(rows)]


def _first_rows(episode: Sequence[str]) -> list[int]:
    first: dict[str, int] = {}
    for row, name in enumerate(episode):
        first.setdefault(name, row)
    return list(first.values())


# -- step rewards -----------------------------------------------------------------------------------------------------------


@dataclass
class Recorded:
    """A reward model whose log-probabilities are given, and which learns nothing."""

    own: Floats
    old: Floats

    def logprobs(self, batch: Batch) -> Floats:
        return self.own

    def rollout_logprobs(self, batch: Batch) -> Floats:
        return self.old

    def descend(self, batch: Batch, gradient: Floats) -> dict[str, float]:
        raise AssertionError("one trajectory a group: there is no pair to learn from")


def istar_step_reward(case: Case, tolerance: float) -> None:
    given, expected = case["inputs"], case["outputs"]
    start, lengths = given["prompt_length"], given["response_lengths"]
    logits, ids = torch.tensor(given["logits"], dtype=torch.float64), torch.tensor(given["input_ids"])
    width = len(given["old_log_probs"][0])
    mask = np.arange(width) < np.array(lengths)[:, None]
    before = logits[:, start - 1 : start - 1 + width].reshape(-1, logits.shape[-1])
    own = token_logprobs(before, ids[:, start : start + width].reshape(-1), None)[0].numpy().reshape(mask.shape)
    old = np.array(given["old_log_probs"])
    close(np.where(mask, own - old, 0.0), expected["q"], tolerance)
    if given["granularity"] != "step":
        pytest.skip(f"'{case['name']}': rewards of single tokens have no implementation")

    for norm, output in (("none", "token_level_score"), ("batch", "batch_normed")):
        played = [
            Trajectory("golden", name, name, 0, "train", steps=[Step("", "", state_key="-", response_ids=[0] * length)])
            for name, length in zip(_names(len(lengths)), lengths)
        ]
        prm = ImplicitPRM(given["beta"], normalize=norm)  # type: ignore[arg-type]
        prm.model = Recorded(own[mask], old[mask])
        shape(prm, played, "implicit_prm")
        found = np.array([one.steps[0].shaped_rewards["implicit_prm"] for one in played])
        table = np.zeros(mask.shape)
        table[np.arange(len(lengths)), np.array(lengths) - 1] = found
        close(table, expected[output], tolerance)
        if norm == "none":
            close(found, expected["step_reward_row"], tolerance)


# -- advantages -------------------------------------------------------------------------------------------------------------

OFFICIAL: dict[str, dict[str, Any]] = {
    "istar_rloo": {"estimator": "rloo"},
    "istar_grpo_mean_norm": {"estimator": "dr_grpo"},
    "istar_grpo_mean_std_norm": {"estimator": "grpo"},
    "istar_reinforce_pp_baseline": {"estimator": "reinforce_pp_baseline"},
    "process_outcome_combined_merged_rewards": {"estimator": "rloo"},
}
STEP_ONLY: dict[str, dict[str, Any]] = {
    "istar_rloo_process_only": {"estimator": "rloo", "step_baseline": "first"},
    "paper_A_S_only": {"estimator": "grpo"},
    "paper_rloo_all_steps_A_S": {"estimator": "rloo"},
}


def istar_advantage(case: Case, tolerance: float) -> None:
    given = case["inputs"]
    lengths, width = given["response_lengths"], given["response_length_padded"]
    settings = {**official("oprl"), "alpha": given["alpha"], "epsilon": given["epsilon"]}
    paper = {**settings, "estimator": "grpo", "step_baseline": "all"}  # lone episodes and penalties as recorded
    rows = istar_rows(given)
    for output, expected in case["outputs"].items():
        if output in OFFICIAL:
            found = per_token(OPRL(**{**settings, **OFFICIAL[output]}), rows, lengths, width)
        elif output in STEP_ONLY:
            step = OPRL(**{**paper, **STEP_ONLY[output]}).advantages(rows.batch).parts["step"][rows.place]
            found = np.where(np.arange(width) < np.array(lengths)[:, None], step[:, None], 0.0)
        else:
            assert output == "paper_grpo_eq3_eq4_eq5", output
            found = per_token(OPRL(**paper), rows, lengths, width)
        close(found, expected, tolerance)


def istar_rows(given: Case) -> Rows:
    """The largest score among an episode's rows is its return: what others lack of it was taken off for an invalid action."""
    returns: dict[str, float] = {}
    for name, score in zip(given["traj_uid"], given["outcome_score_row"]):
        returns[name] = max(score, returns.get(name, -np.inf))
    steps, seen = [], set()
    for name, score, implicit, length in zip(
        given["traj_uid"], given["outcome_score_row"], given["implicit_step_reward_row"], given["response_lengths"]
    ):
        reward = 0.0 if name in seen else returns[name]
        seen.add(name)
        shaped = {"implicit_prm": implicit, "invalid_action": score - returns[name]}
        steps.append(Step("", "", reward, shaped, state_key="-", response_ids=[0] * length))
    return Rows(given["index"], given["traj_uid"], steps)

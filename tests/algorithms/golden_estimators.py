"""Estimators of verl and verl-agent (verl_advantages.json, verl_agent_group_estimators.json) and HGPO (hgpo_advantage.json).

A case gives scores of rows, which become trajectories, or rewards of single tokens [rows, width] under a mask, where each
token becomes a step of its own. Outputs that stand outside the mask are compared too: they follow from those inside.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

from algorithms.base import Algorithm
from algorithms.gdpo import ENVIRONMENT, GDPO
from algorithms.gpg import GPG
from algorithms.grpo import GRPO
from algorithms.hgpo import HGPO
from algorithms.opo import OPO
from algorithms.otb import OTB, against_optimal_baseline
from algorithms.passk import PassKGRPO
from algorithms.ppo import PPO
from algorithms.reinforce import ReinforceBaseline, ReinforcePP
from algorithms.remax import ReMax
from algorithms.rloo import RLOO
from algorithms.stats import normalize_tokens
from envs.state_key import state_key
from envs.trajectory import Step, Trajectory
from tests.algorithms.batches import as_batch
from tests.algorithms.examples import official
from tests.algorithms.golden_rows import NORMS, Case, Rows, close, per_token, scored

# -- outcomes ---------------------------------------------------------------------------------------------------------------

OUTCOMES: dict[str, Any] = {
    "passk": PassKGRPO,
    "gdpo": GDPO,
    "reinforce_pp_baseline": ReinforceBaseline,
    "reinforce_plus_plus_baseline": ReinforceBaseline,
    "rloo": RLOO,
    "opo": OPO,
    "gpg": partial(GPG, informative="return"),
    "grpo": GRPO,
}
"""By what the name of an output, or else of its case, contains; the first that fits."""


def agent_group_estimators(case: Case, tolerance: float) -> None:
    given, ((output, expected),) = case["inputs"], case["outputs"].items()
    rows = scored(given["index"], given["traj_uid"], given["row_score"], given["response_lengths"])
    stats: Any = "rows" if given["compute_mean_std_cross_steps"] else "trajectories"
    method = outcome_method(output, case, episode_stats=stats, singleton_group="raw", shaped_at={"row": "return"})
    if np.ndim(expected) == 2:
        found = per_token(method, rows, given["response_lengths"], given["response_length_padded"])
    else:
        found = method.advantages(rows.batch).values[rows.place]
    close(found, expected, tolerance)


def outcomes(case: Case, tolerance: float) -> None:
    given, ((output, expected),) = case["inputs"], case["outputs"].items()
    if "response_mask" in given:
        mask = np.array(given["response_mask"]) > 0
    else:
        mask = np.arange(given["response_length_padded"]) < np.array(given["response_lengths"])[:, None]
    lengths = mask.sum(1).tolist()
    settings: dict[str, Any] = {"singleton_group": "zero" if "rloo_vectorized" in output else "raw"}
    sources = rewards_apart(given, len(lengths))
    first, *others = sources
    if len(sources) > 1:
        settings["weights"] = {ENVIRONMENT if name == first else name: weight for name, (_, weight) in sources.items()}
    steps = [
        Step("", "", sources[first][0][row], {name: sources[name][0][row] for name in others}, response_ids=[0] * lengths[row])
        for row in range(len(lengths))
    ]
    rows = Rows(given["index"], [str(row) for row in range(len(lengths))], steps)
    method = outcome_method(output, case, **settings)
    compact = per_token(method, rows, lengths, mask.shape[1])
    found = np.zeros(mask.shape)
    found[mask] = compact[np.arange(mask.shape[1]) < mask.sum(1)[:, None]]
    close(found, expected, tolerance)


def outcome_method(output: str, case: Case, **settings: Any) -> Algorithm:
    """As named by the output, else by the case; unbiased std unless either says none."""
    for name in (output, case["name"]):
        for part, method in OUTCOMES.items():
            if part not in name:
                continue
            without = "no_std" in name or case["inputs"].get("norm_adv_by_std_in_grpo") is False
            if method in (GRPO, PassKGRPO, GDPO) and without:
                settings["normalize"] = "mean"
            if method is PassKGRPO and "traj_uid" in case["inputs"]:
                settings["credited"] = "row"
            return method(**settings)
    pytest.skip(f"'{output}' of case {case['name']} has no implementation yet")


def rewards_apart(given: Case, rows: int) -> dict[str, tuple[list[float], float]]:
    """Sources of reward, each with a score for every row and its weight; one source unless the case has several."""
    sources: dict[str, list[float]] = {}
    for key, value in given.items():
        if isinstance(value, dict) and all(isinstance(one, list) and len(one) == rows for one in value.values()):
            sources = {str(name): one for name, one in value.items()}
            break
        if key.startswith(("score", "reward")) and isinstance(value, list) and isinstance(value[0], list):
            table = value if len(value[0]) == rows else np.transpose(value).tolist()
            sources = {str(number): one for number, one in enumerate(table)}
            break
        if key.startswith(("score", "reward")) and isinstance(value, list) and "weight" not in key:
            sources[key] = value
    if not sources:
        sources = {"total": np.sum(given["token_level_rewards"], axis=1).tolist()}
    weights = next((value for key, value in given.items() if "weight" in key and value is not None), [1.0] * len(sources))
    if isinstance(weights, dict):
        weights = [weights.get(name, 1.0) for name in sources]
    return {name: (scores, float(weight)) for (name, scores), weight in zip(sources.items(), weights, strict=True)}


# -- tokens -----------------------------------------------------------------------------------------------------------------


class TokenRows:
    """Rewards of tokens [rows, width] under a mask; each token under it is a step, each row a trajectory."""

    def __init__(self, given: Case) -> None:
        self.given = given
        self.mask = np.array(given["response_mask"]) > 0
        self.row, self.column = np.nonzero(self.mask)
        self.reward = np.array(given["token_level_rewards"], dtype=np.float64)
        group = given.get("index", ["task"] * len(self.mask))
        trajectories = [
            Trajectory(
                "golden",
                group[self.row[members[0]]],
                group[self.row[members[0]]],
                0,
                "train",
                steps=[Step("", "", self.reward[self.row[m], self.column[m]], response_ids=[0]) for m in members],
            )
            for members in (np.flatnonzero(self.row == number) for number in dict.fromkeys(self.row.tolist()))
        ]
        self.batch = as_batch(trajectories)

    def flat(self, name: str) -> np.ndarray:
        return np.array(self.given[name], dtype=np.float64)[self.mask]

    def beyond_second_longest(self) -> np.ndarray:
        """[T] whether the token's row has more tokens than any other of its group, and its column is not below theirs."""
        length, group = self.mask.sum(1), np.array(self.given["index"])
        longest_other = np.array(
            [max((length[i] for i in np.flatnonzero(group == group[row]) if i != row), default=0) for row in range(len(group))]
        )
        return (self.column >= longest_other[self.row]) & (length > longest_other)[self.row]

    def carried(self, flat: np.ndarray) -> np.ndarray:
        """[rows, width] with what stands at the next token of the row wherever there is none, 0 after the last."""
        table = np.zeros(self.mask.shape)
        table[self.mask] = flat
        for column in reversed(range(len(table[0]) - 1)):
            table[:, column] = np.where(self.mask[:, column], table[:, column], table[:, column + 1])
        return table


def gae(case: Case, tolerance: float) -> None:
    tokens, ((output, expected),) = TokenRows(case["inputs"]), case["outputs"].items()
    values = np.array(case["inputs"]["values"], dtype=np.float64)
    tokens.batch.values = tokens.flat("values")
    settings = {"gamma": case["inputs"]["gamma"], "lam": case["inputs"]["lam"]}
    plain, white = (PPO(**settings, normalize=yes).advantages(tokens.batch).values for yes in (False, True))
    carried = tokens.carried(plain)
    if output == "returns":
        close(carried + values, expected, tolerance)
        return
    # Whitening shifts and scales what stands outside the mask by the statistics of what stands inside.
    table = normalize_tokens(carried.ravel(), tokens.mask.ravel().astype(np.int64), 1e-8).reshape(carried.shape)
    table[tokens.mask] = white
    close(table, expected, tolerance)


def reinforce_pp(case: Case, tolerance: float) -> None:
    # Holes of the mask count for nothing, neither their rewards nor a discount: the tokens on both sides are neighbors.
    tokens, ((output, expected),) = TokenRows(case["inputs"]), case["outputs"].items()
    found = ReinforcePP(gamma=case["inputs"]["gamma"]).advantages(tokens.batch)
    table = np.zeros(tokens.mask.shape)
    table[tokens.mask] = found.values if output == "advantages" else found.parts["return"]
    close(table, expected, tolerance)


def remax(case: Case, tolerance: float) -> None:
    tokens, ((output, expected),) = TokenRows(case["inputs"]), case["outputs"].items()
    baseline = np.array(case["inputs"]["reward_baselines"], dtype=np.float64)
    tokens.batch.greedy = baseline[tokens.row]
    found = ReMax().advantages(tokens.batch)
    returns = tokens.carried(found.parts["return"])
    if output == "returns":
        close(returns, expected, tolerance)
        return
    close(np.where(tokens.mask, tokens.carried(found.values), returns), expected, tolerance)


def optimal_token_baseline(case: Case, tolerance: float) -> None:
    given, tokens, ((output, expected),) = case["inputs"], TokenRows(case["inputs"]), case["outputs"].items()
    batch = tokens.batch
    batch.logprobs = tokens.flat("old_log_probs")
    energy = 1 - 2 * np.exp(batch.logprobs) + tokens.flat("sum_pi_squared")
    if given.get("rollout_is_weights") is not None:
        energy = energy * tokens.flat("rollout_is_weights") ** 2
    batch.sum_pi_squared = energy - 1 + 2 * np.exp(batch.logprobs)
    tail = given.get("handle_zero_tail", True)
    found = OTB(lone_token="raw" if tail else "zero").advantages(batch)
    returns, credit = found.parts["return"], found.values
    if output == "returns":
        close(tokens.carried(returns), expected, tolerance)
        return
    if not any(form in case["name"] for form in ("tir", "multi_turn")):
        # The single-turn form compares columns, holes included; where the longest row stands alone is told by lengths.
        credit = against_optimal_baseline(returns, energy, tokens.column, batch.group, batch.episode, "zero")
        credit = np.where(tail & tokens.beyond_second_longest(), returns, credit)
    alone = np.bincount(batch.group[batch.position == 0])[batch.group] == 1
    credit = np.where(alone, returns, credit)
    table = np.zeros(tokens.mask.shape)
    table[tokens.mask] = credit
    close(table, expected, tolerance)


def verl_advantages(case: Case, tolerance: float) -> None:
    given = case["inputs"]
    if "values" in given:
        gae(case, tolerance)
    elif "reward_baselines" in given:
        remax(case, tolerance)
    elif "sum_pi_squared" in given:
        optimal_token_baseline(case, tolerance)
    elif "gamma" in given:
        reinforce_pp(case, tolerance)
    else:
        outcomes(case, tolerance)


# -- HGPO -------------------------------------------------------------------------------------------------------------------


def hgpo_advantage(case: Case, tolerance: float) -> None:
    given, expected = case["inputs"], case["outputs"]
    steps = [Step("", "", state_key=state_key([one])) for one in given["anchor_obs"]]
    rows = Rows(given["index"], given["traj_uid"], steps)
    score, step_return = np.zeros((2, len(steps)))
    score[rows.place], step_return[rows.place] = given["row_score"], given["step_rewards"]
    settings = {"history": given["history_length"], "alpha": given["length_weight_alpha"], "normalize": NORMS[given["mode"]]}
    method = HGPO(**{**official("hgpo"), **settings, "episode": given["base_group"]})
    found = sum(method.terms(rows.batch, score, step_return).values())[rows.place]  # type: ignore[index]
    close(found, expected["row_adv"], tolerance)
    within = np.arange(given["response_length_padded"]) < np.array(given["response_lengths"])[:, None]
    close(np.where(within, found[:, None], 0.0), expected["advantages"], tolerance)

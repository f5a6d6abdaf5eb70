"""GRPO with something added: MaxRL (maxrl.json), TEMPO (tempo.json), EMPG (empg.json) and HCAPO (hcapo.json).

The last two have no official figures; for HCAPO they rest on choices too, so they are examples of the definition here.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from algorithms.base import Scored
from algorithms.empg import EMPG, over_batch, step_entropy
from algorithms.hcapo import HCAPO
from algorithms.maxrl import MaxRL
from algorithms.tempo import TEMPO
from envs.trajectory import Step
from tests.algorithms.golden_rows import Case, Rows, close, per_token


def maxrl(case: Case, tolerance: float) -> None:
    given, expected = case["inputs"], case["outputs"]
    lengths = given["response_lengths"]
    steps = [Step("", "", float(score), response_ids=[0] * n) for score, n in zip(given["score"], lengths)]
    rows = Rows(given["index"], [str(row) for row in range(len(steps))], steps)
    method, several = MaxRL(epsilon=given["epsilon"]), compared(given["index"])
    of_rows, of_tokens = np.array(expected["row_adv"]), np.array(expected["advantages"])
    close(method.advantages(rows.batch).values[rows.place][several], of_rows[several], tolerance)
    close(per_token(method, rows, lengths, of_tokens.shape[1])[several], of_tokens[several], tolerance)
    skyrl, prime_rl = MaxRL(epsilon=given["epsilon"], singleton_group="raw"), MaxRL(epsilon=0.0)
    close(skyrl.advantages(rows.batch).values[rows.place], expected["skyrl_row_adv"], tolerance)
    close(prime_rl.advantages(rows.batch).values[rows.place], expected["prime_rl_row_adv"], tolerance)


def compared(index: list[str]) -> np.ndarray:
    """[rows] False where a task has one row: there the authors' code fails (nan, or a score times a million)."""
    return np.array([index.count(name) > 1 for name in index])


def tempo(case: Case, tolerance: float) -> None:
    given, lengths = case["inputs"], case["inputs"]["response_lengths"]
    steps = [
        Step("", "", float(score), response_ids=ids[:length])
        for score, ids, length in zip(given["score"], given["responses"], lengths)
    ]
    rows = Rows(given["index"], [str(row) for row in range(len(steps))], steps)
    method = TEMPO(normalize="std" if given["norm_adv_by_std"] else "mean", epsilon=given["epsilon"])
    found, several = per_token(method, rows, lengths, len(given["responses"][0])), compared(given["index"])
    close(found[several], np.array(case["outputs"]["advantages"], dtype=float)[several], tolerance)


class Given(EMPG):
    """EMPG over advantages of episodes that are given."""

    episode: np.ndarray

    def compared(self, batch: Scored, score: np.ndarray, counted: np.ndarray) -> np.ndarray:
        return self.episode


def empg(case: Case, tolerance: float) -> None:
    given, expected = case["inputs"], case["outputs"]
    steps = [Step("", "", response_ids=[0] * len(entropy)) for entropy in given["token_entropy"]]
    rows = Rows(given["index"], given["traj_uid"], steps)
    assert rows.place.tolist() == list(range(len(steps)))
    batch = rows.batch
    batch.entropy = np.concatenate(given["token_entropy"])
    method = Given(k=given["k"], k_future=given["k_future"], zeta=given["zeta"])
    method.episode = np.array(given["episode_adv"])
    entropy = step_entropy(method.score(batch), batch.entropy)
    close(entropy, expected["step_entropy"], tolerance)
    close(over_batch(entropy), expected["normalised"], tolerance)
    found = method.advantages(batch)
    close(found.parts["modulated"], method.episode * expected["g"], tolerance)
    last = np.append(np.diff(batch.episode) != 0, True)
    close(found.parts["bonus"], given["zeta"] * np.where(last, 0.0, np.append(expected["f"][1:], 0.0)), tolerance)
    close(found.values, expected["row_adv"], tolerance)


def hcapo(case: Case, tolerance: float) -> None:
    given, expected = case["inputs"], case["outputs"]
    uids: list[str] = given["traj_uid"]
    ends = [place + 1 == len(uids) or uids[place + 1] != uid for place, uid in enumerate(uids)]
    steps = [
        Step("", "", given["reward"][uid] * end, response_ids=[0] * len(logprobs))
        for uid, end, logprobs in zip(uids, ends, given["hindsight_logprobs"])
    ]
    rows = Rows(given["index"], uids, steps)
    for trajectory, uid in zip(rows.trajectories, dict.fromkeys(uids)):
        trajectory.success = given["success"][uid]
    batch = rows.batch
    batch.hindsight = np.array([np.mean(logprobs) for logprobs in given["hindsight_logprobs"]])
    settings: dict[str, Any] = {name: given[name] for name in ("temperature", "gamma", "omega", "epsilon")}
    settings |= dict(zip(("ratio_min", "ratio_max"), given["clip"])) | {"alpha": given["alpha"] if given["smooth"] else 1.0}
    found = HCAPO(**settings).advantages(batch)
    for part, name in (("ratio", "rho"), ("episode", "macro"), ("step", "micro")):
        close(found.parts[part], expected[name], tolerance)
    close(found.values, expected["row_adv"], tolerance)

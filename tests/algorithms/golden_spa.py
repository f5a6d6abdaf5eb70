"""SPA-RL's step rewards (spa_rl.json), at the last tokens of actions, with the penalty for leaving the reference policy."""

from __future__ import annotations

import numpy as np
import torch

from algorithms import losses
from algorithms.shaping.progress import Progress
from envs.trajectory import Step, Trajectory
from tests.algorithms.batches import as_batch
from tests.algorithms.golden_rows import Case, close


def spa_rl(case: Case, tolerance: float) -> None:
    given, expected = case["inputs"], case["outputs"]
    ends = [[t for t, on in enumerate(row) if on and row[t + 1 : t + 2] != [1]] for row in given["mask"]]
    steps = [Step("", "", valid=bool(one), state_key="-") for row in given["executable"] for one in row]
    of = iter(steps)
    played = [Trajectory("golden", "q", "q", 0, "train", steps=[next(of) for _ in row]) for row in ends]
    batch = as_batch(played)
    progress = np.concatenate(given["progress"])
    paper = Progress(grounding=given["grounding_weight"]).rewards(batch, progress)
    close(paper, np.concatenate(expected["paper_step_rewards"]), tolerance)
    # Of more scores than actions the last ones are the actions'; they have the grounding in them.
    scores = np.concatenate([np.array(row)[len(row) - len(places) :] for row, places in zip(given["step_scores"], ends)])
    official = Progress(grounding=0.0, weight="steps_left").rewards(batch, scores)
    for rewards, name in ((paper, "paper_token_rewards"), (official, "token_rewards")):
        logprobs, reference = (torch.tensor(given[key], dtype=torch.float64) for key in ("logprobs", "ref_logprobs"))
        table = -given["kl_coef"] * losses.kl(logprobs, reference, "k1").numpy()
        table[[row for row, places in enumerate(ends) for _ in places], np.concatenate(ends)] += rewards
        close(table, expected[name], tolerance)

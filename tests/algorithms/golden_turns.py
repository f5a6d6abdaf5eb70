"""Critics that credit turns: StepPO (steppo.json) and the bi-level GAE (ragen_bi_level_gae.json)."""

from __future__ import annotations

import numpy as np

from algorithms.base import Batch
from algorithms.bi_level import BiLevelGAE
from algorithms.ppo import PPO
from algorithms.steppo import StepPO
from envs.trajectory import Step, Trajectory
from tests.algorithms.batches import as_batch
from tests.algorithms.examples import official
from tests.algorithms.golden_rows import Case, Rows, close


def steppo(case: Case, tolerance: float) -> None:
    given, expected = case["inputs"], case["outputs"]
    mask, settings = np.array(given["response_mask"]) > 0, {"gamma": given["gamma"], "lam": given["lam"]}
    reward, values = (np.where(mask, given[name], 0.0) for name in ("token_level_rewards", "values"))
    actions = [Step("", "", float(r), response_ids=[0] * int(n)) for r, n in zip(reward.sum(1), mask.sum(1))]
    rows = Rows(["task"] * len(actions), given["traj_uid"], actions)
    assert rows.place.tolist() == list(range(len(actions))), "each episode's actions follow each other"
    batch, first = rows.batch, np.cumsum(mask.sum(1)) - mask.sum(1)
    batch.values = values[mask]

    raw = StepPO(**settings, normalize=False).advantages(batch)
    assert raw.returns is not None
    close(raw.values[first], expected["action_advantage_raw"], tolerance)
    close(raw.returns[first], expected["action_return"], tolerance)
    assert np.isnan(np.delete(raw.returns, first)).all(), "the critic learns before an action's first token alone"
    close(table(mask, StepPO(**settings).advantages(batch).values), expected["advantages"], tolerance)

    # The authors' baseline is PPO; its rewards stand at any token, so that each token is a step here.
    batch = by_token(mask, given["token_level_rewards"], given["traj_uid"])
    batch.values = values[mask]
    found = PPO(**settings).advantages(batch)
    assert found.returns is not None
    close(table(mask, found.values), expected["token_gae_advantages"], tolerance)
    close(table(mask, found.returns), expected["token_gae_returns"], tolerance)


def ragen_bi_level_gae(case: Case, tolerance: float) -> None:
    given, expected = case["inputs"], case["outputs"]
    mask, reward = np.array(given["loss_mask"]) > 0, np.array(given["token_level_rewards"])
    settings = {"gamma": given["high_level_gamma"], "inner": given["gamma"], "lam": given["lam"]}
    # By the episode: every rewarded token ends a step. By rewards: where steps are no turns, they are found anyway.
    episodes = [
        Trajectory("golden", "task", "task", 0, "train", steps=turns(reward[row][mask[row]].tolist()))
        for row in range(len(mask))
    ]
    trainer = {**{name: value for name, value in official("bi_level_gae").items() if name == "turns"}, **settings}
    by_episode, by_rewards = as_batch(episodes), by_token(mask, reward, [str(row) for row in range(len(mask))])
    for method, batch in ((BiLevelGAE(**settings), by_episode), (BiLevelGAE(**trainer), by_rewards)):
        batch.values = np.array(given["values"])[mask]
        found = method.advantages(batch)
        assert found.returns is not None
        close(table(mask, found.values), expected["advantages"], tolerance)
        close(table(mask, found.returns), expected["returns"], tolerance)


def turns(reward: list[float]) -> list[Step]:
    """Steps of which each ends with a rewarded token; reward: [T] of an episode's tokens."""
    ends = [place + 1 for place, r in enumerate(reward) if r]
    assert ends[-1] == len(reward)
    return [Step("", "", reward[end - 1], response_ids=[0] * (end - begin)) for begin, end in zip([0, *ends], ends)]


def by_token(mask: np.ndarray, reward: object, uids: list[str]) -> Batch:
    """A step for each token under the mask."""
    row, column = np.nonzero(mask)
    steps = [Step("", "", float(r), response_ids=[0]) for r in np.asarray(reward)[row, column]]
    return Rows(["task"] * len(steps), [uids[r] for r in row], steps).batch


def table(mask: np.ndarray, flat: np.ndarray) -> np.ndarray:
    """[rows, width] with what is said of the tokens under the mask, 0 elsewhere; nan stays away where a row has one value."""
    found = np.zeros(mask.shape)
    found[mask] = flat
    return found

"""Transforms of advantages: HICRA (hicra.json), D3S (d3s.json), attention (attention_credit.json), TW-GRPO (tw_grpo.json), HAPO
(hapo_heterogeneous.json). The first three have no official figures: they are examples of the definition."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from agents.training.divergence import by_place
from algorithms.base import Advantages, Algorithm, Batch, Floats, Scored
from algorithms.grpo import GRPO
from algorithms.hapo import HAPO
from algorithms.surrogates import HAPO as HAPOLoss
from algorithms.surrogates import Clip, Tokens
from algorithms.transforms.attention import changes
from algorithms.transforms.hicra import HICRA
from envs.trajectory import Step
from tests.algorithms.golden_rows import Case, Padded, Rows, close, scored


class Given(Algorithm):
    """A method whose advantages [T] are given."""

    values: Floats

    def credit(self, batch: Scored) -> Advantages:
        return Advantages(self.values, level="token")


def transformed(values: Any, batch: Batch, *transforms: dict[str, Any]) -> Advantages:
    """Advantages [T] of a batch after the transforms."""
    method = Given(transforms=list(transforms))
    method.values = np.asarray(values, dtype=np.float64).ravel()
    return method.advantages(batch)


def rows_of(index: list[str], lengths: list[int]) -> Batch:
    """An episode of one step for each row."""
    steps = [Step("", "", response_ids=[0] * n) for n in lengths]
    rows = Rows(index, [str(row) for row in range(len(steps))], steps)
    assert rows.place.tolist() == list(range(len(steps)))
    return rows.batch


def hicra(case: Case, tolerance: float) -> None:
    given = case["inputs"]
    mask = np.array(given["planning_mask"]) > 0
    batch = rows_of(["task"] * len(mask), [mask.shape[1]] * len(mask))
    batch.token_text = ["plan " if one else "act " for one in mask.ravel()]
    found = transformed(given["advantages"], batch, {"name": "hicra", "alpha": given["alpha"], "grams": ["plan"]})
    assert HICRA(grams=["plan"]).planning(batch).tolist() == mask.ravel().tolist()
    close(found.values.reshape(mask.shape), case["outputs"]["advantages"], tolerance)


def d3s(case: Case, tolerance: float) -> None:
    given, expected = case["inputs"], case["outputs"]
    entropy = np.array(given["entropy"])
    batch = rows_of(given["index"], [entropy.shape[1]] * len(entropy))
    batch.entropy = entropy.ravel()
    tasks = len(set(given["index"]))
    of_tasks = given["per_task"] * tasks
    shares = {"task_share": of_tasks / len(entropy), "batch_share": [given["per_batch"] / of_tasks] * 2}
    settings: dict[str, Any] = {**shares, "token_share": [given["token_share"]] * 2}
    advantages = np.repeat(given["advantage"], entropy.shape[1])
    whole = transformed(advantages, batch, {"name": "d3s", **settings, "token_share": [1.0, 1.0]})
    kept = whole.defined.reshape(entropy.shape)
    assert np.flatnonzero(kept.any(axis=1)).tolist() == expected["kept"]
    assert np.array_equal(kept.any(axis=1), kept.all(axis=1)), "episodes are kept as wholes"
    found = transformed(advantages, batch, {"name": "d3s", **settings})
    assert np.argwhere(found.defined.reshape(entropy.shape)).tolist() == expected["tokens"]
    close(found.values, advantages * found.defined, tolerance)


def attention_credit(case: Case, tolerance: float) -> None:
    given, expected = case["inputs"], case["outputs"]
    batch = rows_of(["task"], [len(given["waad"])])
    batch.waad, batch.fai = np.array(given["waad"]), np.array(given["fai"])
    close(changes(batch, batch.waad), expected["delta"], tolerance)
    settings = {"share": given["q"], "amplify": given["amplify"]}
    for form, name in (("preplan", "local"), ("anchor", "global")):
        found = transformed(given["advantages"], batch, {"name": "attention", "form": form, **settings})
        close(found.values, expected[f"advantages_{name}"], tolerance)
        ones = transformed(np.ones(len(batch.waad)), batch, {"name": "attention", "form": form, **settings})
        close(ones.values, expected[f"gamma_{name}"], tolerance)


def tw_grpo(case: Case, tolerance: float) -> None:
    given, expected = case["inputs"], case["outputs"]
    lengths, size = given["lengths"], given["num_generations"]
    index = [str(row // size) for row in range(len(lengths))]
    rows = scored(index, [str(row) for row in range(len(lengths))], given["reward"], lengths)
    batch = rows.batch
    logp = torch.tensor(given["logits"], dtype=torch.float64).log_softmax(-1)
    columns = []
    for first in range(0, len(lengths), size):
        of_group = lengths[first : first + size]
        flat = torch.cat([logp[first + row, :n] for row, n in enumerate(of_group)])
        place = np.concatenate([np.arange(n) for n in of_group])
        columns.append(by_place(flat, place, size).numpy()[place])
    batch.divergence = np.concatenate(columns)
    table = np.arange(logp.shape[1]) < np.array(lengths)[:, None]
    official = {"name": "tw_grpo", "alpha": given["alpha"], "lowest": "padding"}
    weights = transformed(np.ones(len(batch.divergence)), batch, official)
    close(filled(table, weights.values), expected["token_weights"], tolerance)
    method = GRPO(epsilon=1e-4, transforms=[official])
    found = method.advantages(batch)
    close(found.parts["episode"][np.cumsum(lengths) - lengths], expected["row_adv"], tolerance)
    close(filled(table, found.values), expected["weighted_adv"], tolerance)


def hapo_heterogeneous(case: Case, tolerance: float) -> None:
    given, expected, tokens = case["inputs"], case["outputs"], Padded(case["inputs"])
    batch = rows_of(["task"] * len(tokens.mask), tokens.mask.sum(1).tolist())
    batch.entropy = tokens.flat("entropy").numpy()
    advantages = tokens.flat("advantages")
    entry = {"name": "hapo", "pivot": given["pivot"], "below": "positive"}
    score = torch.from_numpy(transformed(advantages, batch, entry).beside["entropy_score"])
    close(score, torch.tensor(expected["h_hat"])[tokens.mask], tolerance)
    loss = HAPOLoss(Clip(given["eps_low"], given["eps_high"]), given["clip_alpha"], given["adv_beta"])
    for found, name in zip(loss.bounds(score), ("clip_low", "clip_high")):
        close(found, torch.tensor(expected[name])[tokens.mask], tolerance)
    logp = tokens.flat("ratio").log()
    taken = loss.advantages(Tokens(logp, torch.zeros_like(logp), advantages, tokens.sequence, {"entropy_score": score}))
    close(taken, torch.tensor(expected["adaptive_advantages"])[tokens.mask], tolerance)

    # By the paper, a sure token's lower bound is wider, too; scores above 0 are the same.
    negative = torch.from_numpy(transformed(advantages, batch, {**entry, "below": "negative"}).beside["entropy_score"])
    low, high = loss.bounds(negative)
    assert torch.equal(negative.abs(), score)
    close(low, given["eps_low"] * (1 + score * (negative < 0)), tolerance)
    close(high, given["eps_high"] * (1 + score * (negative > 0)), tolerance)

    lengths = given["group_lengths"]
    table = np.arange(max(lengths)) < np.array(lengths)[:, None]
    rows = scored(["task"] * len(lengths), [str(row) for row in range(len(lengths))], given["group_scores"], lengths)
    of_row = HAPO().advantages(rows.batch).values[rows.place]
    close(filled(table, np.repeat(of_row, lengths)), np.where(table, expected["hapo_group_advantages"], 0.0), tolerance)


def filled(table: np.ndarray, flat: np.ndarray) -> np.ndarray:
    """A table with a row's values one after the other where `table` is True, 0 elsewhere."""
    found = np.zeros(table.shape)
    found[table] = flat
    return found

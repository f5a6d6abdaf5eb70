"""Golden checks of the methods that have episodes played on from inside."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import numpy as np

from algorithms.base import Batch, Ints
from algorithms.spo_chain import SPOChain
from algorithms.spo_tree import SPOTree
from algorithms.tree_grpo import TreeGRPO
from algorithms.vineppo import VinePPO
from envs.trajectory import Step, Trajectory
from tests.algorithms.batches import as_batch
from tests.algorithms.golden_rows import Case, Rows, close, per_token


def trajectory(rewards: list[float], tokens: list[int], group: str = "task") -> Trajectory:
    pairs = zip(rewards, tokens, strict=True)
    steps = [Step("", "", reward, state_key="-", response_ids=[0] * number) for reward, number in pairs]
    return Trajectory("golden", group, group, 0, "train", steps=steps)


def vineppo(case: Case, tolerance: float) -> None:
    given, expected = case["inputs"], case["outputs"]
    for number, one in enumerate(given["episodes"]):
        rewards, rollouts = one["step_rewards"], one["rollouts"]
        # A token belongs to the step in which its first character lies; the end token to that of the last token.
        ends = np.array(list(accumulate(map(len, one["steps"]))))
        begins = np.cumsum([0, *map(len, one["tokens"])][:-1])
        of = np.searchsorted(ends, begins, side="right").tolist()
        of += of[-1:] if one["eos"] else []
        batch = as_batch([trajectory(rewards, np.bincount(of, minlength=len(rewards)).tolist())])
        penalty = given["unfinished_penalty"]
        means = [
            np.nan if k is None else float(np.mean([penalty if r is None else r for r in k])) if k else 0.0 for k in rollouts
        ]
        batch.state_values = np.array(means)
        found = VinePPO().advantages(batch)
        close([*found.parts["value"], 0.0], expected["values"][number], tolerance)
        close(found.values, expected["step_advantages"][number], tolerance)
        close(found.per_token(batch)[0].double(), expected["token_advantages"][number], 1e-6)


def spo_chain(case: Case, tolerance: float) -> None:
    given, expected = case["inputs"], case["outputs"]
    # The official function sets sure tokens to 0; that they are not trained on is left to its loss.
    method = SPOChain(interval=given["cutpoint_interval"], certain="zero")
    episodes = given["episodes"]
    batch = as_batch([trajectory([one["score"]], [len(one["response_prob"])]) for one in episodes])
    batch.logprobs = np.log(np.concatenate([one["response_prob"] for one in episodes]))
    cuts = method.places(batch)
    first = np.cumsum(batch.tokens) - batch.tokens
    official = [one + begin + 1 for one, begin in zip(expected["cutpoints"], first, strict=True) for one in one]
    assert cuts.tolist() == official
    batch.prefix_values = np.full(len(batch.logprobs), np.nan)
    batch.prefix_values[cuts] = np.concatenate([one["cutpoint_values"] for one in episodes])
    close(method.advantages(batch).values, np.concatenate(expected["advantages"]), tolerance)


def spo_tree(case: Case, tolerance: float) -> None:
    given, expected = case["inputs"], case["outputs"]["tree"]
    leaves: list[tuple[list[int], float]] = []
    nodes: list[dict[str, Any]] = []

    def walk(node: dict[str, Any], known: dict[str, Any], path: list[int]) -> None:
        if "answer" in node:
            leaves.append((path, float(node["answer"] == given["gold"])))
        for child, known_child in zip(node.get("children", ()), known.get("children", ()), strict=True):
            nodes.append(known_child)
            walk(child, known_child, [*path, len(nodes) - 1])

    walk(given["tree"], expected, [])
    batch = as_batch([trajectory([score], [len(path)]) for path, score in leaves])
    batch.segment = np.concatenate([path for path, _ in leaves])
    batch.tree = np.zeros(len(leaves), dtype=np.int64)
    found = SPOTree(certain="credited").advantages(batch)
    for name, values in (("score", found.parts["value"]), ("advantage", found.parts["segment"])):
        close(values, [nodes[segment][name] for segment in batch.segment], tolerance)
    # Every segment is trained on once, with its own advantage.
    trained = batch.segment[found.defined]
    assert sorted(trained) == list(range(len(nodes)))
    close(found.values[found.defined], [nodes[segment]["advantage"] for segment in trained], tolerance)


def tree_grpo(case: Case, tolerance: float) -> None:
    given, expected = case["inputs"], case["outputs"]
    lengths = given["response_lengths"]
    steps = [Step("", "", score, state_key="-", response_ids=[0] * length) for score, length in zip(given["score"], lengths)]
    rows = Leaves(given["index"], [str(number) for number in range(len(steps))], steps)
    rows.tree = np.unique(given["tree"], return_inverse=True)[1]
    method = TreeGRPO(singleton_group="raw", epsilon=given["epsilon"])
    found = method.advantages(rows.batch)
    close(found.parts["task"], expected["inter_tree_adv"], tolerance)
    close(found.parts["tree"], expected["intra_tree_adv"], tolerance)
    close(found.values, expected["row_adv"], tolerance)
    close(per_token(method, rows, lengths, len(expected["advantages"][0])), expected["advantages"], tolerance)
    nested = TreeGRPO(combine="nested", singleton_group="raw", epsilon=given["epsilon"])
    close(nested.advantages(rows.batch).values, expected["tree_2norm_row_adv"], tolerance)


class Leaves(Rows):
    """Rows that are whole trajectories, leaves of trees."""

    tree: Ints
    """[N]"""

    @property
    def batch(self) -> Batch:
        batch = super().batch
        batch.tree = self.tree
        return batch

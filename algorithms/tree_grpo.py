"""Tree-GRPO (arXiv 2509.21240): an episode among all leaves of its task, and once more among the leaves of its own tree.

A leaf is a whole episode; leaves of a tree share its beginning up to where they were branched, so what their returns differ by
is due to what they did afterwards. conf/algo/tree_grpo_official.yaml sets what the authors' trainer computes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from algorithms.base import Advantages, Batch, Bools, Floats, Ints, Need, Scored
from algorithms.branching import TreeMethod, first_tokens
from algorithms.stats import Lone, Normalize, normalize
from envs.common.structured import Natural, NonNegative, Positive


@dataclass
class TreeGRPO(TreeMethod):
    """A(leaf) = (R - mean) / F among its task's leaves + (R - mean) / F among its tree's leaves, given to every token of it.

    rollout.group_size is the number of a task's trees. What leaves share counts for each of them.
    """

    expansions: Natural = 1
    """Rounds in which trees grow; 0: none does, and a tree has one leaf."""
    nodes: Positive = 2
    """From how many of its states, drawn at random with replacement, a tree grows in a round. The first state may be drawn, the
    one behind a leaf's last step may not."""
    leaves: Positive | None = 3
    """How many leaves of a tree, drawn at random, are learned from; null: all, 1 + expansions x nodes."""
    combine: Literal["sum", "nested"] = "sum"
    """sum: both advantages added; nested: those among the task's leaves normalized once more within each tree, instead of the
    sum (the authors' tree_2norm)."""
    normalize: Normalize = "std"
    """std: divide by the standard deviation of the leaves (ddof 1) plus epsilon; mean: only subtract the mean (F = 1)."""
    singleton_group: Lone = "zero"
    """Of a leaf that is alone in its task or tree. zero: 0, as there is nothing to compare with; raw: the score itself
    (official)."""
    epsilon: NonNegative = 1e-6
    """Added to the standard deviation."""

    min_group_size: ClassVar[int] = 2
    needs: ClassVar[frozenset[Need]] = frozenset({"tree"})
    credits_steps: ClassVar[bool] = False

    @property
    def rounds(self) -> int:
        return self.expansions

    @property
    def most_branches(self) -> int:
        return self.expansions * self.nodes

    def places(self, tree: Batch, round_: int, draw: np.random.Generator) -> Ints:
        """[B] first tokens of the steps that the drawn states stand before."""
        nodes, position = first_tokens(tree)[tree.tokens > 0], tree.position[tree.tokens > 0]
        if tree.segment is not None and len(nodes):  # a state that leaves share is one: before it stands the same token
            before = np.where(position > 0, tree.segment[nodes - 1], -1)
            nodes = nodes[np.sort(np.unique([before, position], axis=1, return_index=True)[1])]
        return draw.choice(nodes, size=self.nodes) if len(nodes) else nodes

    def kept(self, tree: Batch, draw: np.random.Generator) -> Ints:
        """Numbers of `leaves` leaves, drawn without replacement."""
        there = np.arange(len(tree.faulted))
        if self.leaves is None or len(there) <= self.leaves:
            return there
        return np.sort(draw.choice(there, size=self.leaves, replace=False))

    def credit(self, batch: Scored) -> Advantages:
        """One value a step [S], the same for all steps of a leaf. Raises ValueError without batch.tree."""
        if batch.tree is None:
            raise ValueError("Tree-GRPO needs batch.tree, the number of the tree that each trajectory is a leaf of")
        score, first, tree = batch.scores(), batch.position == 0, batch.tree[batch.episode]  # [S]
        among_task = self.among(batch.group, score, first)
        if self.combine == "nested":
            return Advantages(self.among(tree, among_task, first), parts={"task": among_task})
        among_tree = self.among(tree, score, first)
        return Advantages(among_task + among_tree, parts={"task": among_task, "tree": among_tree})

    def among(self, group: Ints, values: Floats, counted: Bools) -> Floats:
        """[S] (value - mean) / F of its group's leaves, of which the `counted` steps stand for one each."""
        return normalize(values, group, counted, self.normalize, self.epsilon, self.singleton_group)

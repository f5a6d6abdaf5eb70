"""The graphs of merged rollouts: states are nodes, steps are edges, and equal states of a task's episodes are one node.

All tasks are treated at once, as numbers of nodes differ between them. What a method makes of a graph is left to the method.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from algorithms.base import Batch, Bools, Floats, Ints
from algorithms.grouping import same_state, similar


@dataclass(eq=False)
class Graph:
    """Each step [S] as an edge of its task's graph."""

    source: Ints
    """[S] number of the node in which the step was taken."""
    target: Ints
    """[S] number of the node that it led to; -1 if that is not known."""


def of_states(batch: Batch) -> Graph:
    """Equal state keys are one node. Raises ValueError if a step has no state key, or the batch no states after its steps."""
    if batch.next_state is None:
        raise ValueError("a graph needs batch.next_state, the states that steps led to; this batch has none")
    return Graph(same_state(batch), batch.next_state)


def of_similar_texts(batch: Batch, threshold: float, won: Bools) -> Graph:
    """Similar observations are one node, see `grouping.similar`; where steps that `won` [S] lead to is never looked at.

    Texts come in batch order, each trajectory's last one after its steps'. The batch has no trajectory without steps.
    """
    if batch.state_text is None or batch.final_text is None:
        raise ValueError("nodes=similarity needs batch.state_text and batch.final_text; this batch lacks one")
    place = np.arange(len(batch.group)) + batch.episode  # [S] of each step's text, with one more text in every trajectory
    end = place[last_steps(batch)] + 1  # [N]
    texts = np.empty(len(batch.group) + len(end), dtype=object)
    texts[place] = batch.state_text
    texts[end] = np.where(won[last_steps(batch)], "", np.array(batch.final_text, dtype=object))
    task = np.zeros(len(texts), dtype=np.int64)
    task[place], task[place + 1] = batch.group, batch.group
    node = similar(task.tolist(), texts.tolist(), threshold)
    node[end] = np.where(texts[end] == "", -1, node[end])
    return Graph(node[place], node[place + 1])


def last_steps(batch: Batch) -> Bools:
    """[S] whether the step is its trajectory's last."""
    return batch.position == batch.length[batch.episode] - 1


def distances(graph: Graph, task: Ints, won: Bools) -> tuple[Floats, Floats]:
    """Fewest edges to success from each step's source and from its target, [S]; task [S].

    The edges of steps that `won` [S] lead to success itself, wherever they end. A node without a path to success, and one that
    is not known, is as far away as the farthest node of its task's graph that has one, and 1 more: 1 if nobody won.
    """
    nodes = int(max(graph.source.max(initial=-1), graph.target.max(initial=-1))) + 1
    away = np.zeros(nodes + 1, dtype=np.int64)  # 0: not reached yet; the last entry is that of target -1, which never is
    away[graph.source[won]] = 1
    source, target = graph.source[~won], graph.target[~won]
    reached = 1
    while len(source):  # breadth first from success, a round for each distance, for all tasks at once
        unreached = away[source] == 0
        source, target = source[unreached], target[unreached]
        found = source[away[target] == reached]
        if not len(found):
            break
        reached += 1
        away[found] = reached
    here = away[graph.source]
    farthest = np.zeros(int(task.max(initial=-1)) + 1, dtype=np.int64)
    np.maximum.at(farthest, task, here)
    without = farthest[task] + 1.0
    there = away[graph.target]
    return np.where(here > 0, here, without), np.where(won, 0.0, np.where(there > 0, there, without))


def combined(*columns: Ints) -> Ints:
    """[S] numbers from 0, equal in two steps if and only if all columns [S], of numbers from -1 on, are."""
    key = columns[0]
    for column in columns[1:]:
        key = np.unique(key * (column.max(initial=0) + 2) + column + 1, return_inverse=True)[1]
    return key

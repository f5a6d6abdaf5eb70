"""Methods on graphs of merged rollouts: graphgpo.json, g2po.json, proxmo.json, salt.json.

The authors' trainers tell success from rewards: GraphGPO by the last one, G2PO by the return. Here it is the episode's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from algorithms.g2po import G2PO
from algorithms.graph import distances, last_steps, of_similar_texts, of_states
from algorithms.graphgpo import GraphGPO
from algorithms.grouping import same_state
from algorithms.proxmo import ProxMO
from algorithms.salt import SALT
from algorithms.shaping.invalid_action import InvalidAction
from envs.trajectory import Step
from tests.algorithms.examples import official, shape
from tests.algorithms.golden_rows import NORMS, Case, Rows, canonical, close, per_token


def rows_of(given: Case) -> Rows:
    """Rows of steps with state, reward, validity and response; the penalty for invalid actions is among the shaped rewards."""
    steps = [
        Step(str(seen), "", reward, valid=bool(valid), state_key=str(seen), response_ids=[0] * length)
        for seen, reward, valid, length in zip(
            given["anchor_obs"], given["rewards"], given["is_action_valid"], given["response_lengths"], strict=True
        )
    ]
    rows = Rows(given["index"], given["traj_uid"], steps)
    shape(InvalidAction(given["invalid_action_penalty_coef"]), rows.trajectories, "invalid_action")
    return rows


def end_in(rows: Rows, after: Sequence[str]) -> None:
    """Let trajectories end in what stands after their last row; after [rows]."""
    batch = rows.batch
    ordered = np.array(after, dtype=object)[np.argsort(rows.place)]
    ends = np.cumsum(batch.length)
    for one, end in zip(rows.trajectories, ends.tolist(), strict=True):
        one.final_state_key = one.final_observation = str(ordered[end - 1])
        within = ordered[end - len(one.steps) : end - 1].tolist()
        assert within == [step.state_key for step in one.steps[1:]], "a step does not begin where the one before ended"


def family(given: Case) -> dict[str, Any]:
    """Settings that the methods of the authors' code base have in common."""
    return {"normalize": NORMS.get(given["mode"], "mean"), "epsilon": given["epsilon"]}


def graphgpo(case: Case, tolerance: float) -> None:
    given, expected = case["inputs"], case["outputs"]
    rows = rows_of(given)
    end_in(rows, given["next_obs"])
    for one in rows.trajectories:
        one.success = one.steps[-1].reward > 0
    settings = {
        **family(given),
        "gamma": given["gamma"],
        "nodes": "similarity" if given["enable_similarity"] else "exact",
        "similarity": given["similarity_thresh"],
        "graph_weight": given["step_advantage_w"],
        "episode_weight": given["episode_advantage_w"],
    }
    if given["normalize_distance"]:
        settings["exponent"] = "progress"
    trainer = GraphGPO(**{**official("graphgpo"), **settings})
    batch = trainer.score(rows.batch)

    won = last_steps(batch) & batch.success[batch.episode]
    graph = of_similar_texts(batch, trainer.similarity, won) if given["enable_similarity"] else of_states(batch)
    here, there = distances(graph, batch.group, won)
    for side, states in ((here, given["anchor_obs"]), (there, given["next_obs"])):
        for task, state, distance in zip(given["index"], states, side[rows.place].tolist(), strict=True):
            known = expected["distance_to_success"][task]
            if state in known or not given["enable_similarity"]:  # merged states are listed under their first text
                assert distance == known[state]

    close(trainer.returns(batch, here, there)[rows.place], expected["step_rewards_after_penalty"], tolerance)
    without = GraphGPO(**{**official("graphgpo"), **settings, "shaped_at": {"invalid_action": "none"}})
    plain = without.score(rows.batch)
    close(without.returns(plain, here, there)[rows.place], expected["step_returns_before_penalty"], tolerance)
    if "paper_step_returns" in expected and not given["normalize_distance"]:
        paper = GraphGPO(gamma=given["gamma"], shaped_at={"invalid_action": "none"})
        close(paper.returns(plain, here, there)[rows.place], expected["paper_step_returns"], tolerance)
    compare(trainer, rows, given, expected, tolerance, step="graph")


def g2po(case: Case, tolerance: float) -> None:
    given, expected = case["inputs"], case["outputs"]
    rows = rows_of(given)
    for one in rows.trajectories:
        one.success = one.total_reward == given["success_reward"]
    settings = {
        **family(given),
        "gamma": given["value_gamma"],
        "omega": given["step_advantage_w"],
        "success_value": given["success_reward"],
        "node_penalty": given["step_penalty"],
    }
    trainer = G2PO(**{**official("g2po"), **settings})
    batch = trainer.score(rows.batch)
    before, behind = trainer.values(batch, same_state(batch))
    close(before[rows.place], expected["state_value"], tolerance)
    close(behind[rows.place], expected["next_value"], tolerance)
    compare(trainer, rows, given, expected, tolerance, step="node", also="edge")


def proxmo(case: Case, tolerance: float) -> None:
    given, expected = case["inputs"], case["outputs"]
    rows = rows_of(given)
    reach = given["psc_target_range"] / (1 / (1 + math.exp(-1)) - 0.5)
    close(reach, expected.get("psc_beta", reach), tolerance)
    settings = {
        **family(given),
        "gamma": given["gamma"],
        "omega": given["step_advantage_w"],
        "alpha": given["psc_alpha"],
        "beta": reach if given["enable_psc"] else 0.0,
        "grouping": "soft" if given["mode"] == "soft_grouping" else "exact",
        "temperature": given["temperature"],
    }
    trainer = ProxMO(**{**official("proxmo"), **settings})
    batch = trainer.score(rows.batch)
    close(batch.returns(trainer.gamma)[rows.place], expected["step_rewards_after_penalty"], tolerance)
    compare(trainer, rows, given, expected, tolerance)


def compare(
    method: GraphGPO | G2PO | ProxMO,
    rows: Rows,
    given: Case,
    expected: Case,
    tolerance: float,
    step: str = "step",
    also: str | None = None,
) -> None:
    """Scores, parts and advantages of rows and tokens; `step` and `also`: the parts that make up the step's."""
    found = method.advantages(rows.batch)
    close(method.score(rows.batch).scores()[rows.place], expected["episode_score_row"], tolerance)
    close(found.parts["episode"][rows.place], expected["episode_adv"], tolerance)
    of_step = found.parts[step] + (found.parts[also] if also else 0.0)
    of_tokens = per_token(method, rows, given["response_lengths"], np.shape(expected["advantages"])[1])
    for value, name in ((of_step[rows.place], "step_adv"), (found.values[rows.place], "row_adv"), (of_tokens, "advantages")):
        # A task of one row is nan in G2PO's code; a number is right there.
        assert np.isfinite(value).all()
        close(np.where(np.isnan(np.array(expected[name], float)), np.nan, value), expected[name], tolerance)
    if "step_group_labels" in expected:
        assert found.step_group is not None
        assert canonical(found.step_group[rows.place].tolist()) == expected["step_group_labels"]


def salt(case: Case, tolerance: float) -> None:
    given, expected = case["inputs"], case["outputs"]
    steps = [Step("", action, state_key=state) for state, action in zip(given["state"], given["action"], strict=True)]
    rows = Rows(given["index"], given["traj_uid"], steps)
    end_in(rows, given["next_state"])
    for one, name in zip(rows.trajectories, dict.fromkeys(given["traj_uid"]), strict=True):
        one.steps[-1].reward = given["reward"][name]
    found = SALT(epsilon=given["epsilon"]).advantages(rows.batch)
    close(found.parts["episode"][rows.place], expected["episode_adv"], tolerance)
    close(found.values[rows.place], expected["row_adv"], tolerance)
    assert found.step_group is not None
    close(np.bincount(found.step_group)[found.step_group][rows.place], expected["edge_size"], tolerance)

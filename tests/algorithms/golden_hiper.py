"""HiPER's hierarchical advantages (hiper_hae.json), from rows with masks to trajectories and back."""

from __future__ import annotations

import numpy as np

from algorithms.batch import Part
from algorithms.hiper import HIGH, LOW, TERM, HiPER
from algorithms.shaping.invalid_action import InvalidAction
from envs.trajectory import Step
from tests.algorithms.examples import shape
from tests.algorithms.golden_rows import Case, Rows, close

MASKS = {Part.SWITCH: "switch_mask", Part.SUBGOAL: "subgoal_mask", Part.ACTION: "action_mask"}


def hiper_hae(case: Case, tolerance: float) -> None:
    given, expected = case["inputs"], case["outputs"]
    order = np.lexsort((given["turn_idx"], given["traj_uid"]))  # a trajectory's rows in the order of time
    at = {key: [value[row] for row in order] for key, value in given.items() if isinstance(value, list)}
    lengths = at["response_lengths"]
    steps = [
        Step("", "", reward, valid=bool(valid), state_key="-", truncated=not done, response_ids=ids[:length])
        for reward, valid, done, ids, length in zip(
            at["rewards"], at["is_action_valid"], at["dones"], at["responses"], lengths, strict=True
        )
    ]
    rows = Rows(["task"] * len(steps), at["traj_uid"], steps)
    shape(InvalidAction(given["invalid_action_penalty_coef"]), rows.trajectories, "invalid_action")
    batch = rows.batch
    mask = np.arange(len(at["responses"][0])) < np.array(lengths)[:, None]
    parts = np.zeros(mask.shape, dtype=np.int64)
    for part, name in MASKS.items():
        parts[np.array(at[name]) > 0] = part
    batch.parts, batch.switches = parts[mask], np.array(at["switch"], dtype=bool)
    batch.values = np.stack([np.array(at[f"value_{level}"])[mask] for level in ("low", "high", "term")], axis=-1)
    method = HiPER(
        gamma=given["gamma"],
        lam_turn=given["lam_turn"],
        lam_seg=given["lam_seg"],
        normalize=given["norm_adv"],
        bootstrap_truncated=given["bootstrap_truncated"],
        keep_penalty=given["keep_penalty"],
        keep_penalty_mode=given["keep_penalty_mode"],
        consistency_penalty=given["keep_consistency_penalty"],
        consistency_requires_both=given["keep_consistency_requires_both"],
        shaped_at={"invalid_action": "reward"},
    )
    found = method.advantages(batch)
    assert found.returns is not None
    tables = {"advantages": found.values, "returns_low": found.returns[:, LOW], "returns_high": found.returns[:, HIGH]}
    tables |= {"returns_term": found.returns[:, TERM], "advantages_low": found.parts["action"]}
    tables |= {"advantages_high": found.parts["subgoal"], "advantages_term": found.parts["switch"]}
    assert set(tables) == set(expected)
    for name, values in tables.items():
        table = np.zeros(mask.shape)
        table[mask] = np.nan_to_num(values)
        close(table, np.array(expected[name])[order], tolerance)

"""Weights and rejection where engine and trainer differ (verl_rollout_correction.json)."""

from __future__ import annotations

import torch

from algorithms.correction import correction_weights, kept_tokens
from tests.algorithms.golden_rows import Case, Padded, close


def verl_rollout_correction(case: Case, tolerance: float) -> None:
    given, tokens = case["inputs"], Padded(case["inputs"])
    r = tokens.flat("log_ratio")
    pair = r, torch.zeros_like(r)
    if "level" in given:
        floor, cap = bounds(str(given["threshold"]))
        weights = correction_weights(
            *pair, given["level"], sequence=tokens.sequence, cap=cap, floor=floor, mean_one=given["batch_normalize"]
        )
        close(tokens.table(weights), case["outputs"]["weights"], tolerance)
        return
    options, thresholds = given["option"].split(","), str(given["threshold"]).split(",")
    kept = torch.ones_like(r, dtype=torch.bool)
    for option, threshold in zip(options, thresholds * (len(options) if len(thresholds) == 1 else 1), strict=True):
        floor, cap = bounds(threshold)
        if floor is None:  # where verl is given one bound, the other is its inverse
            floor = 1 / cap
        kept &= kept_tokens(*pair, option.strip(), cap=cap, floor=min(floor, cap), sequence=tokens.sequence)
    close(tokens.table(kept), case["outputs"]["modified_mask"], tolerance)


def bounds(threshold: str) -> tuple[float | None, float]:
    """Of "cap" or "floor_cap"."""
    floor, _, cap = threshold.rpartition("_")
    return float(floor) if floor else None, float(cap)

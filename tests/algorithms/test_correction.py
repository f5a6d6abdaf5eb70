"""Which tokens are left out where the engine and the trainer differ too much."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from algorithms.correction import kept_tokens

TRAIN = torch.tensor([-1.0, -1.0, -2.0, -1.0], dtype=torch.float64)
ROLLOUT = torch.tensor([-1.0, -2.0, -1.0, -1.1], dtype=torch.float64)  # r = 0, 1, -1 and 0.1
SEQUENCE = torch.tensor([0, 0, 1, 2])


@pytest.mark.parametrize(
    ("measure", "cap", "floor", "kept"),
    [
        ("token_k1", 1.5, None, [True, True, False, True]),  # exp(-r) = 1, 0.37, 2.72 and 0.9
        ("token_k1", 3.0, 0.5, [True, False, True, True]),
        ("token_k2", 0.3, None, [True, False, False, True]),
        ("token_k3", 0.5, None, [True, False, True, True]),  # 0, 0.72, 0.37 and 0.005
        ("seq_sum_k1", 1.5, 0.5, [False, False, False, True]),
        ("seq_mean_k1", 1.5, 0.5, [True, True, False, True]),  # exp(-1 / 2) = 0.61
        ("seq_sum_k2", 0.3, None, [False, False, False, True]),
        ("seq_mean_k2", 0.3, None, [True, True, False, True]),
        ("seq_max_k2", 0.3, None, [False, False, False, True]),
        ("seq_sum_k3", 0.5, None, [False, False, True, True]),
        ("seq_mean_k3", 0.36, None, [True, True, False, True]),
        ("seq_max_k3", 0.5, None, [False, False, True, True]),
    ],
)
def test_rejection_looks_at_tokens_or_at_whole_sequences(
    measure: Any, cap: float, floor: float | None, kept: list[bool]
) -> None:
    assert kept_tokens(TRAIN, ROLLOUT, measure, cap=cap, floor=floor, sequence=SEQUENCE).tolist() == kept


def test_a_measure_or_bound_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="the measure is 'seq_max_k1'; allowed: token_k1"):
        kept_tokens(TRAIN, ROLLOUT, "seq_max_k1", cap=2.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="needs `sequence`"):
        kept_tokens(TRAIN, ROLLOUT, "seq_max_k2", cap=2.0)
    with pytest.raises(ValueError, match="the floor between 0 and the cap"):
        kept_tokens(TRAIN, ROLLOUT, "token_k1", cap=0.5, floor=2.0)

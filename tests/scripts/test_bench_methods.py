"""The measurement of methods: which are measured, whose episodes are their own, and what the table says."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from agents.config import compose, loading
from envs.common.structured import ConfigError
from scripts.bench import methods


def row(rollout: float, update: float, **more: Any) -> dict[str, Any]:
    seconds = {f"{name}_s": 0.0 for name in (*methods.PARTS, "policy")}
    sizes = {"update_tokens": 4000.0, "peak_mb": 500.0, "added_mb": 100.0, "own_rollouts": False}
    times = {"rollout_s": rollout, "rollout_work_s": rollout, "update_s": update, "update_work_s": update}
    return {**seconds, **sizes, **times, **more}


def test_all_methods_that_have_a_file_are_measured_after_the_reference() -> None:
    first, *others = methods.chosen([])
    assert first == methods.REFERENCE
    assert sorted(one for one in [first, *others] if "+" not in one) == compose.groups()["algo"]
    assert {"grpo+hicra", "grpo+attention"} <= {*others}
    assert {"dapo", "dr_grpo", "gspo", "twosome"} <= {*others}


def test_named_methods_are_measured_once_each() -> None:
    assert methods.chosen(["gigpo", "grpo", "gigpo"]) == ["grpo", "gigpo"]


def test_a_mistyped_method_is_refused_before_anything_is_played() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'grpo'"):
        methods.chosen(["gigpo", "grop"])


@pytest.mark.parametrize(
    ("method", "own"), [("gigpo", False), ("remax", True), ("vineppo", True), ("dapo", True), ("twosome", True)]
)
def test_a_method_that_plays_otherwise_has_episodes_of_its_own(method: str, own: bool) -> None:
    reference, config = (loading.load(["env=alfworld", f"algo={name}"]) for name in (methods.REFERENCE, method))
    assert methods.plays_its_own(config, reference) is own


def test_the_table_has_the_cheapest_first_and_ratios_to_the_reference() -> None:
    figures = {
        "grpo": row(1.0, 1.0),
        "dear": row(1.0, 3.0, own_rollouts=True, added_mb=150.0),
        "cheap": row(1.0, 0.0004),
    }
    console = Console(width=200, force_terminal=False)
    with console.capture() as printed:
        console.print(methods.table(figures))
    lines = [line.split() for line in printed.get().splitlines()]
    cheap, grpo, dear = (line for line in lines if line and line[0].strip("*") in figures)
    assert (cheap[0], grpo[0], dear[0]) == ("cheap", "grpo", "dear*")
    assert dear[1:] == ["1.000", "3.000", "3.00", "2.00", "4,000", "500", "150", "1.50"]
    assert cheap[1:4] == ["1.000", "0.00", "0.50"]  # as good as no seconds are not written

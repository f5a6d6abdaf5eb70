"""An update is the same whatever the number of ranks (invariant 11): numbers, weights, and what is saved of it."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from agents.models import ranks
from tests.agents.training.ranked import CASES, updated

ROOT = Path(__file__).resolve().parents[3]
COUNTS = (2, 4)
CASES_OF = {2: [*CASES], 4: ["grpo", "ppo, whole critic", "oprl, lora"]}
EACH = [(count, case) for count in COUNTS for case in CASES_OF[count]]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, Any]]:
    """By number of ranks, then by case."""
    folder = tmp_path_factory.mktemp("ranks")
    made: dict[int, dict[str, Any]] = {1: {name: updated(words) for name, words in CASES.items()}}
    for count in COUNTS:
        file = folder / f"{count}.pt"
        command = [sys.executable, "-m", "tests.agents.training.ranked", str(file), str(count), *CASES_OF[count]]
        subprocess.run(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True, timeout=600)
        made[count] = torch.load(file, weights_only=False)
    return made


@pytest.mark.parametrize(("count", "case"), EACH)
def test_updates_are_those_of_one_process(found: dict[int, dict[str, Any]], count: int, case: str) -> None:
    alone, together = found[1][case], found[count][case]
    for one, other in zip(alone["metrics"], together["metrics"], strict=True):
        kept = {key for key in one if not key.startswith("time/")}
        assert kept == {key for key in other if not key.startswith("time/")}
        differing = {key: (one[key], other[key]) for key in kept if not close(one[key], other[key]) and key not in PADDED}
        assert not differing
    for name, tensor in alone["weights"].items():
        torch.testing.assert_close(together["weights"][name], tensor, rtol=1e-5, atol=1e-5)
    assert together["published"].keys() == alone["published"].keys()
    assert shapes(together["state"]) == shapes(alone["state"])


@pytest.mark.parametrize(("count", "case"), EACH)
def test_what_is_saved_is_whole_and_is_taken_up_again_to_the_bit(
    found: dict[int, dict[str, Any]], case: str, count: int
) -> None:
    saved, again = flat(found[count][case]["state"]), flat(found[count][case]["again"])
    assert saved.keys() == again.keys()
    for key, value in saved.items():
        same = torch.equal(value, again[key]) if isinstance(value, torch.Tensor) else value == again[key]
        assert same, key


def test_the_updates_did_something(found: dict[int, dict[str, Any]]) -> None:
    for case, results in found[1].items():
        assert results["metrics"][0]["update/grad_norm"] > 1e-4, case


def test_all_are_given_about_the_same_and_equally_many(monkeypatch: pytest.MonkeyPatch) -> None:
    costs = [9, 1, 8, 2, 7, 3, 6, 4, 5, 5, 10]
    monkeypatch.setattr(ranks, "size", lambda: 4)
    shares = []
    for number in range(4):
        monkeypatch.setattr(ranks, "rank", lambda number=number: number)
        shares.append(ranks.dealt(range(len(costs)), costs))
    assert {len(share) for share in shares} == {3}
    assert sorted(at for share in shares for at in share if at is not None) == list(range(len(costs)))
    loads = [sum(costs[at] for at in share if at is not None) for share in shares]
    assert max(loads) - min(loads) <= max(costs) / 2


PADDED = ("update/padded_tokens",)
"""Passes without rows are counted too."""


def close(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=1e-4, abs_tol=1e-5) or (math.isnan(one) and math.isnan(other))


def flat(tree: Any, name: str = "") -> dict[str, Any]:
    """Leaves of dicts and lists by their paths."""
    if isinstance(tree, dict):
        return {path: leaf for key, value in tree.items() for path, leaf in flat(value, f"{name}/{key}").items()}
    if isinstance(tree, list):
        return {path: leaf for number, value in enumerate(tree) for path, leaf in flat(value, f"{name}/{number}").items()}
    return {name: tree}


def shapes(tree: Any) -> dict[str, Any]:
    return {key: tuple(value.shape) if isinstance(value, torch.Tensor) else None for key, value in flat(tree).items()}

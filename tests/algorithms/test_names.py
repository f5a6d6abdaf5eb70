"""Methods and shapings by name, their settings, and plug-ins of other packages."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from algorithms import base, shaping
from algorithms.base import Algorithm
from algorithms.gigpo import GiGPO
from algorithms.grpo import GRPO
from algorithms.shaping.invalid_action import InvalidAction
from envs.common.registry import Registry


def test_methods_are_found_by_name() -> None:
    assert {"gigpo", "grpo", "reinforce_pp_baseline", "rloo"} <= set(base.names())
    assert base.build({"name": "gigpo", "omega": 0.8}) == GiGPO(omega=0.8)


@pytest.mark.parametrize(
    ("config", "error", "parts"),
    [
        ({"name": "gigppo"}, LookupError, ["no method 'gigppo'", ", ".join(base.names()), "Did you mean 'gigpo'"]),
        ({"omega": 1.0}, ValueError, ["has no name", ", ".join(base.names())]),
        ({"name": "gigpo", "gama": 0.9}, ValueError, ["no setting 'gama'", "Did you mean 'gamma'", "omega"]),
        ({"name": "gigpo", "normalize": "var"}, ValueError, ["normalize is 'var'", "std, mean"]),
        ({"name": "gigpo", "gamma": 1.5}, ValueError, ["gamma is 1.5", "at most 1"]),
        ({"name": "grpo", "epsilon": -1.0}, ValueError, ["epsilon is -1.0"]),
        (
            {"name": "grpo", "shaped_at": {"calm": "befor"}},
            ValueError,
            ["shaped_at.calm is 'befor'", "reward, return, advantage, none"],
        ),
    ],
)
def test_a_mistake_in_a_methods_settings_is_named(config: dict[str, Any], error: type[Exception], parts: list[str]) -> None:
    with pytest.raises(error) as caught:
        base.build(config)
    for part in parts:
        assert part in str(caught.value)


def test_a_name_cannot_be_taken_twice() -> None:
    with pytest.raises(ValueError, match="'gigpo' is registered already"):
        base.register("gigpo", GRPO)


def test_shapings_are_found_by_name() -> None:
    assert shaping.names() == [
        "aligndistil",
        "calm",
        "cdpo",
        "critique",
        "grounded_prm",
        "implicit_prm",
        "invalid_action",
        "latent",
        "length",
        "progress",
        "t_reg",
        "tgdpo",
        "token_reward",
    ]
    assert shaping.build("invalid_action", {"coefficient": 0.2}) == InvalidAction(0.2)
    with pytest.raises(ValueError, match="coefficient is -1"):
        shaping.build("invalid_action", {"coefficient": -1})


def test_a_plug_in_adds_a_method_and_a_broken_one_leaves_the_others_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "credit_plugin.py").write_text(
        "from dataclasses import dataclass\n"
        "from algorithms.base import Algorithm\n"
        "@dataclass\n"
        "class Mine(Algorithm):\n"
        "    weight: float = 0.5\n"
    )
    info = tmp_path / "credit_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: credit-plugin\nVersion: 1.0\n")
    points = "[stepcredit.algorithms]\nmine = credit_plugin:Mine\nbroken = credit_plugin:Missing\n"
    (info / "entry_points.txt").write_text(points)
    monkeypatch.syspath_prepend(tmp_path)
    registry: Registry[type[Algorithm]] = Registry("method", "stepcredit.algorithms")
    registry.register("gigpo", GiGPO)
    with pytest.warns(RuntimeWarning, match="'broken' of package 'credit-plugin'"):
        assert registry.names() == ["gigpo", "mine"]
    assert registry.build("mine", {"weight": 2.0}).weight == 2.0  # type: ignore[attr-defined]
    with pytest.raises(LookupError, match="did not load: 'broken'"):
        registry.get("broken")


def test_a_users_loss_is_found_by_its_entry_point_and_not_imported_before_it_is_asked_for(
    tmp_path: Path,
) -> None:
    (tmp_path / "loss_plugin.py").write_text(
        "from dataclasses import dataclass\n"
        "import torch\n"
        "from algorithms.surrogates import Surrogate, TokenLoss\n"
        "@dataclass(frozen=True)\n"
        "class Mine(Surrogate):\n"
        '    """The return itself, by which nobody should train."""\n'
        "    def __call__(self, tokens):\n"
        "        return TokenLoss(-tokens.advantages * tokens.logp, torch.zeros_like(tokens.logp, dtype=torch.bool))\n"
    )
    info = tmp_path / "loss_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: loss-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[stepcredit.losses]\nmine = loss_plugin:Mine\n")
    code = (
        "import sys; from agents.config import help, loading\n"
        "assert loading.load(['loss.surrogate=ppo']).loss.surrogate == 'ppo'\n"
        "assert 'torch' not in sys.modules\n"
        "from envs.common.structured import ConfigError\n"
        "try: loading.load(['loss.surrogate=mien'])\n"
        "except ConfigError as error: assert \"Did you mean 'mine'?\" in str(error), error\n"
        "else: raise AssertionError('an unknown loss was taken')\n"
        "assert 'torch' not in sys.modules\n"
        "shown = help.text('train', ['loss'])\n"
        "assert 'gspo, hapo, mine, ppo, sapo, sequence_ppo' in ' '.join(shown.split()), shown\n"
        "assert 'The return itself' in shown, shown\n"
        "assert loading.load(['loss.surrogate=mine']).loss.surrogate == 'mine'\n"
    )
    root = Path(__file__).resolve().parents[2]
    path = f"{tmp_path}{os.pathsep}{root}"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root, env={**os.environ, "PYTHONPATH": path})


def test_names_and_settings_need_no_torch() -> None:
    code = (
        "import sys; from algorithms import base, shaping; base.build({'name': 'gigpo'}); base.build({'name': 'grpo'});"
        "shaping.build('invalid_action', {}); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).resolve().parents[2])

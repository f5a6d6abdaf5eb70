"""The rules against gym-sokoban's, where that is installed."""

from __future__ import annotations

import sys

import pytest

from scripts import sokoban_parity


def test_moves_and_rewards_are_those_of_gym_sokoban(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("gym_sokoban", reason="gym-sokoban is not installed: pip install gym-sokoban imageio requests")
    assert sokoban_parity.main(["--episodes", "6", "--steps", "60"]) == 0
    assert "rewards of +10.9" in capsys.readouterr().out


def test_where_it_is_not_installed_the_script_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "gym_sokoban.envs.sokoban_env", None)
    assert sokoban_parity.main([]) == 2
    assert "pip install gym-sokoban imageio requests" in capsys.readouterr().out

"""What a judge of MiniHack reads, and what the rules say: against a replay in MiniHack itself, which can find them wrong."""

from __future__ import annotations

import pytest

from agents.config import loading
from agents.judges.measuring.forms import Form
from agents.judges.measuring.playing import at_random, told
from agents.judges.question import question
from agents.judges.transitions import transitions
from envs.minihack import subgoals
from envs.minihack.config import MiniHackConfig
from envs.minihack.env import MiniHackEnv
from envs.trajectory import Trajectory
from scripts import minihack_events, minihack_levels, minihack_starts


def episodes(config: MiniHackConfig, number: int) -> list[Trajectory]:
    env = MiniHackEnv(config)
    return [at_random(env, "stepcredit/MiniHack-v0", t, n, "train", n) for n, t in enumerate(env.tasks("train")[:number])]


def test_episodes_are_told_with_either_map_and_without_the_last_action() -> None:
    config = loading.load_judge(["env=minihack/keyroom", "judge=smollm2"])
    played = episodes(config.env.settings, 3)
    cropped, full = (told(config, played, Form(name, False, "preset")) for name in ("crop", "full"))
    for original, crop, whole in zip(played, cropped, full):
        assert [s.subgoals for s in crop.steps] == [s.subgoals for s in original.steps]
        assert any("Last action" in s.observation for s in original.steps)
        assert not any("Last action" in s.observation for t in (crop, whole) for s in t.steps)
        assert any(a.observation != b.observation for a, b in zip(crop.steps, whole.steps))


def test_a_question_shows_the_map_with_its_legend_and_the_action_only_if_asked() -> None:
    env = MiniHackEnv(MiniHackConfig(last_action=False))
    played = at_random(env, "stepcredit/MiniHack-v0", "KeyRoom-S5/train/000000", 0, "train", 0)
    step, asked = next(transitions(played, window=1))
    names, action = env.subgoals(played.task_id), played.steps[step].action
    texts = [question(asked, "reach the stairs", names, actions=actions) for actions in (True, False)]
    assert all("Legend: " in text and "@" in text for text in texts)
    assert [f"  {action}\n" in text for text in texts] == [True, False]


@pytest.mark.parametrize("level", minihack_events.LEVELS)
def test_the_rules_and_an_independent_replay_agree(level: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert minihack_events.main([level, "--episodes", "12"]) == 0
    assert "12 episodes, 0 with a difference" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["pick up the key", "open the door"])
def test_the_replay_finds_a_rule_that_misses(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(subgoals._RULES, name, lambda before, after: False)
    assert minihack_events.main(["KeyRoom-S5", "--episodes", "12"]) == 1


def test_the_replay_knows_its_levels(capsys: pytest.CaptureFixture[str]) -> None:
    assert minihack_events.main(["Zap"]) == 2
    assert "known: KeyRoom-S5" in capsys.readouterr().err


def test_levels_are_checked_and_played(capsys: pytest.CaptureFixture[str]) -> None:
    assert minihack_levels.main(["--levels", "river", "Zap", "--steps", "600", "--no-check"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "6 levels, 600 random steps" in said
    assert "MultiRoom-*: its maps come from minigrid" in said
    assert minihack_levels.main(["--levels", "nowhere"]) == 2


def test_starts_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    assert minihack_starts.main(["Room-15x15", "KeyRoom-S15", "--tasks", "20"]) == 0
    rows = [line.split("│") for line in capsys.readouterr().out.splitlines() if "15 " in line]
    always_alike, never_alike = ([int(cell) for cell in row[2:6]] for row in rows)
    assert always_alike == [20, 1, 120, 120]
    assert never_alike == [20, 20, 120, 0]
    assert minihack_starts.main(["nowhere"]) == 2

"""The checker finds each breach of the contract, says what to do, and is silent about a sound environment."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from envs.base import TextEnv
from envs.checker import check
from envs.checker.__main__ import main
from envs.checker.hooks import hooks
from envs.checker.playing import Play
from envs.prompt import Prompt
from tests.envs import toys

ROOT = Path(__file__).parents[2]
PLAY = Play(0, "length-3")


def test_a_sound_environment_has_no_problem() -> None:
    assert check(toys.Corridor) == []


@pytest.mark.parametrize(
    ("env", "what"),
    [
        (toys.LeaksRandomness, "differs when it is played in another instance"),
        (toys.LeaksState, "differs when it is played again in the same instance"),
        (toys.HashOrder, "observation differs in a fresh process"),
        (toys.NoKey, "info['state_key'] is ''"),
        (toys.HalfACharacter, "half of a surrogate pair, which no tokenizer reads"),
        (toys.CoarseKey, "has different outcomes"),
        (toys.Overlapping, "is in split 'train' and in 'eval'"),
        (toys.ShufflesPanels, "split 'train' differs between two instances"),
        (toys.EarlySuccess, "success, though the episode goes on"),
        (toys.BigScore, "info['score'] is 10.0"),
        (toys.RefusesItsOwnActions, "listed as admissible, but answered as invalid"),
        (toys.EndsOnNonsense, "the action 'xyzzy the plugh' ends the episode"),
        (toys.RaisesOnNonsense, "the action 'xyzzy the plugh' raises: ValueError"),
        (toys.TimesOutAsTerminated, "with max_steps=3, step 3 is terminated=True, truncated=False"),
        (toys.GoesOnAfterTheEnd, "step() after the end is answered"),
        (toys.DrawsGlobalRandom, "differs when random, numpy.random and torch were seeded otherwise before"),
        (toys.DrawsGlobalNumpy, "differs when random, numpy.random and torch were seeded otherwise before"),
        (toys.DrawsGlobalTorch, "it draws from the process's generator torch"),
        (toys.ConsumesGlobalRandom, "it draws from the process's generator random"),
        (toys.SeedsGlobalRandom, "it seeds the process's generator random"),
        (toys.PanelsByGlobalRandom, "split 'train' differs"),
        (toys.EndsAtOnce, "the first action ends every episode, whichever it is (15 were tried)"),
        (toys.NothingToDo, "reset: no action is admissible, though the episode goes on"),
        (toys.StopsOnThirdNonsense, "2 impossible actions end the episode"),
        (toys.GoesOnAfterTheTimeLimit, "step() after the time limit is answered"),
        (toys.SharesItsPlace, "differs when other instances play in between"),
        (toys.RacesInThreads, "in threads, while others play"),
        (toys.ChangesWhenRead, "when somebody reads its tasks meanwhile"),
        (toys.ReusesItsList, "info['admissible_actions'] changes when the episode goes on"),
        (toys.HasALockedTask, "task 'length-9' of split 'eval' cannot be started: TaskError: length-9 is locked"),
        (toys.AnswersInNumbers, "answer('ball-0') is 7"),
        (toys.AnswersText, "act() returns 'You go.', a str"),
        (toys.ListsTuples, "info['admissible_actions'] is ('left', 'right', 'wait')"),
        (toys.WrongFrame, "info['frame'] is ['#@#']"),
        (toys.WrongChanged, "info['changed'] is 'no'"),
        (toys.Broken, "it cannot be made: FileNotFoundError: the map of the corridor is missing"),
    ],
)
def test_each_breach_is_found_and_comes_with_advice(env: type[TextEnv], what: str) -> None:
    problems = check(env)
    assert any(what in problem.what for problem in problems), [str(problem) for problem in problems]
    assert all(problem.fix for problem in problems)


@pytest.mark.parametrize(
    ("action", "what"),
    [
        ("go  left", "has white space that answers do not keep"),
        (" left", "has white space that answers do not keep"),
        ("left\n", "has white space that answers do not keep"),
        ("go\tleft", "has white space that answers do not keep"),
        ("go\u00a0left", "has white space that answers do not keep"),
        ("say </action>", "holds a tag that ends or begins an answer"),
        ("left", "the action 'left' is listed twice"),
        ("", "info['admissible_actions'] is ['left', 'right', 'wait', '']"),
    ],
)
def test_a_listed_action_that_no_model_can_take_is_found(action: str, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toys.Lists, "more", action)
    problems = check(toys.Lists)
    assert any(what in problem.what for problem in problems), [str(problem) for problem in problems]


def test_the_process_is_left_as_it_was() -> None:
    random.seed(7)
    before = random.getstate(), sys.getswitchinterval()
    check(toys.SeedsGlobalRandom)
    check(toys.Corridor)
    assert (random.getstate(), sys.getswitchinterval()) == before


def test_the_report_tells_the_optional_parts_that_are_given_from_those_that_are_not() -> None:
    said = {line.split()[1]: line.split()[0] for line in hooks(toys.Generous(toys.CorridorConfig()), toys.GenerousPrompt, PLAY)}
    assert set(said.values()) == {"yes"}
    assert set(said) > {
        "task_type",
        "subgoals",
        "demonstration",
        "stochastic",
        "StepResult.frame",
        "StepResult.changed",
        "Prompt.parse",
    }
    said = {line.split()[1]: line.split()[0] for line in hooks(toys.Corridor(toys.CorridorConfig()), Prompt, PLAY)}
    assert [name for name, given in said.items() if given == "yes"] == ["StepResult.admissible_actions", "StepResult.subgoals"]


def test_chance_by_the_episode_seed_is_sound_if_the_class_says_so() -> None:
    assert check(toys.Corridor, slippery=0.5) != []
    assert check(toys.Slippery, slippery=0.5) == []


def test_chance_that_is_drawn_anew_follows_the_seed_and_is_another() -> None:
    for env, what in ((toys.Planned, "what it would have done anyway"), (toys.Unseeded, "when it was reseeded by")):
        problems = check(env, slippery=0.5)
        assert [what in problem.what and "chance(rng)" in problem.fix for problem in problems] == [True]
    assert check(toys.Fixed, slippery=0.5) == []
    assert check(toys.Planned, slippery=0.0) == []  # no chance was seen at work


def test_the_command_tells_problems_apart_from_mistakes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tests.envs.toys:Corridor", "max_steps=9"]) == 0
    assert "no problem found; splits: train 3 (" in capsys.readouterr().out
    assert main(["tests.envs.toys:NoKey"]) == 1
    assert "-> info['state_key'] must be a non-empty text" in capsys.readouterr().out
    assert main(["tests.envs.toys:Corridor", "max_step=9"]) == 2
    refused = capsys.readouterr().err
    assert "unknown key 'Corridor.max_step'. Did you mean 'Corridor.max_steps'?" in refused
    assert "keys of Corridor: max_steps, slippery" in refused
    assert main(["tests.envs.toys:Maze"]) == 2
    assert main(["maze"]) == 2
    assert "no environment 'maze'; registered:" in capsys.readouterr().err


def test_it_runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "envs.checker", "tests.envs.toys:BigScore"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "a number from 0 to 1" in done.stdout

"""The vocabulary of a model made from scratch: whole episodes are read, also where actions are not listed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from agents.config.sections import ModelConfig
from agents.models.sources import load_policy
from agents.models.tokenizer import UNK, build
from agents.rollout.corpus import corpus
from agents.rollout.dialogue import Plain
from agents.training.demonstrations import demonstrate
from agents.training.warmstart import as_trajectory
from envs.alfworld.config import ALFWorldConfig
from envs.alfworld.env import ALFWorldEnv
from envs.alfworld.prompt import ALFWorldPrompt
from envs.base import NoOracle, Split, StepResult, TextEnv
from envs.prompt import Prompt

ROOMS = ["cellar", "kitchen", "attic", "garden", "library", "stable", "tower", "harbour", "market", "chapel"] * 3


@dataclass
class RiddleConfig:
    max_steps: int = 40
    oracle: bool = True
    listed: bool = False


class Riddle(TextEnv):
    """Thirty rooms one after another, each entered by its number in brackets; nobody lists what can be said."""

    name = "riddle"

    def __init__(self, config: RiddleConfig) -> None:
        super().__init__(config.max_steps)
        self.config = config

    def tasks(self, split: Split) -> Sequence[str]:
        return [f"{split}-{number}" for number in range(100)]

    def start(self, task_id: str, rng: np.random.Generator) -> StepResult:
        self.room, self.tried = 0, 0
        return self._turn("Your task is to reach the last room!")

    def act(self, action: str) -> StepResult:
        if action != f"[{self.room}]":
            self.tried += 1
            return self._turn(f"Wrong: that was blunder number {self.tried}.", valid=False)
        self.room += 1
        return self._turn("The door opens.")

    def _turn(self, text: str, valid: bool = True) -> StepResult:
        over = self.room == len(ROOMS)
        place = "Rejoice" if over else f"{ROOMS[self.room]} {self.room}; say [{self.room}]"
        return StepResult(
            observation=f"{text} {place}.",
            state_key=f"{self.room}:{self.tried}",
            reward=float(over),
            terminated=over,
            valid=valid,
            success=over,
            score=float(over),
            admissible_actions=None if not self.config.listed else [] if over else [f"[{self.room}]", "wait"],
        )

    def demonstration(self, task_id: str, rng: np.random.Generator) -> list[str]:
        if not self.config.oracle:
            raise NoOracle("no oracle")
        return [f"[{number}]" for number in range(len(ROOMS))]


class Wordy(Prompt):
    """A user's prompt with some words of the language, by far not all."""

    def lexicon(self) -> tuple[Sequence[str], Sequence[str]]:
        return ["The door opens"], ["room"]


@pytest.mark.parametrize("config", [RiddleConfig(), RiddleConfig(listed=True), RiddleConfig(oracle=False)])
def test_every_turn_of_whole_episodes_is_read_to_their_end(config: RiddleConfig) -> None:
    texts = list(corpus(Riddle(config), Prompt()))
    assert any("cellar 0" in text for text in texts)
    assert any("blunder number 1" in text for text in texts)
    if config.oracle:  # who only tries does not get to the end within the time limit
        assert any(text == "The door opens. Rejoice." for text in texts)
        assert "[29]" in texts
    else:
        assert any("[1]" in text for text in texts)
        assert any("blunder number 12" in text for text in texts)


def test_the_corpus_is_the_same_whatever_the_process_drew_before() -> None:
    first = list(corpus(Riddle(RiddleConfig()), Prompt()))
    random.seed(4711)
    np.random.seed(4711)
    assert list(corpus(Riddle(RiddleConfig()), Prompt())) == first


@pytest.mark.parametrize("prompt", [Prompt(), Wordy()])
@pytest.mark.parametrize("listed", [False, True])
def test_a_demonstration_of_a_foreign_environment_has_no_unknown_token(prompt: Prompt, listed: bool) -> None:
    env = Riddle(RiddleConfig(listed=listed))
    policy = load_policy(ModelConfig(name="tiny", prompt="plain"), prompt, corpus(env, prompt), "cpu", 0)
    dialogue = Plain(policy.tokenizer, prompt)
    for task in env.tasks("train")[70:72]:
        shown = as_trajectory(demonstrate(env, task, 0, 0.0, False), dialogue, prompt, "full", 0)
        ids = [i for step in shown.steps for i in (*step.prompt_ids, *step.response_ids)]
        assert policy.tokenizer.convert_tokens_to_ids(UNK) not in ids


@pytest.mark.parametrize(("text", "prompt", "read"), [
    ("auto", Prompt(), "[7] It's 3.14!"),
    ("auto", Wordy(), "<unk> <unk> <unk> <unk> <unk> <unk>"),
    ("exact", Wordy(), "[7] It's 3.14!"),
    ("words", Prompt(), "<unk> <unk> <unk> <unk> <unk> <unk>"),
])  # fmt: skip
def test_the_setting_says_what_is_kept_of_texts(text: str, prompt: Prompt, read: str) -> None:
    config = ModelConfig(name="tiny", prompt="plain")
    config.tiny.text = text  # type: ignore[assignment]
    tokenizer = load_policy(config, prompt, ["hello"], "cpu", 0).tokenizer
    said = tokenizer.decode(tokenizer("[7] It's 3.14!", add_special_tokens=False).input_ids)
    assert said == read or (read.startswith("<unk>") and set(said.split()) == {"<unk>"})


def test_an_answer_in_free_text_is_executed_as_it_was_written() -> None:
    env, prompt = Riddle(RiddleConfig()), Prompt()
    policy = load_policy(ModelConfig(name="tiny", prompt="plain"), prompt, corpus(env, prompt), "cpu", 0)
    dialogue = Plain(policy.tokenizer, prompt)
    assert dialogue.action([*dialogue.spell("[12]", None), *dialogue.stop_ids], None) == ("[12]", True)


def test_the_vocabulary_of_an_environment_whose_lexicon_is_whole_stays_that_of_its_published_numbers() -> None:
    env, prompt = ALFWorldEnv(ALFWorldConfig(max_steps=20, train_games=16000)), ALFWorldPrompt()
    assert len(build(corpus(env, prompt), *prompt.lexicon())) == 509


class Crumbling(Riddle):
    """Some rooms fall in; with depth=0 all do."""

    depth = 3

    def act(self, action: str) -> StepResult:
        if self._steps >= self.depth:
            raise ZeroDivisionError("the room has fallen in")
        return super().act(action)

    def start(self, task_id: str, rng: np.random.Generator) -> StepResult:
        if self.depth < 0:
            raise ZeroDivisionError("there is no room")
        return super().start(task_id, rng)


@pytest.mark.fault("an environment fails while the vocabulary is collected", lost="what that episode would still have shown")
def test_what_an_episode_shows_before_it_breaks_down_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    env = Crumbling(RiddleConfig(oracle=False))
    assert any("blunder number 3" in text for text in corpus(env, Prompt()))
    monkeypatch.setattr(Crumbling, "depth", -1)
    with pytest.raises(ZeroDivisionError, match="there is no room"):
        list(corpus(env, Prompt()))

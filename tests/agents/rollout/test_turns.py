"""Turns in three parts: how they are written and read, which token belongs to which part, and what demonstrations say."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest

from agents.config.loading import load
from agents.models.tokenizer import build, build_exact
from agents.rollout.dialogue import Chat, Dialogue, Plain
from agents.rollout.turns import BARS, Plan, texts
from agents.training.warmstart import as_trajectory
from algorithms.batch import Part
from envs.alfworld.prompt import ALFWorldPrompt
from envs.common.structured import ConfigError
from envs.prompt import Window
from tests.agents.models.chat_templates import CHATML, tokenizer_for
from tests.agents.parts import opened
from tests.agents.test_training import SMALL

ACTIONS = ["open fridge 1", "go to desk 1"]
PLANS = [Plan(True, "hold target"), Plan(False, "hold target")]
WORDS = ["go to desk 1", "open fridge 1", *texts(["hold target"])]


def prompt(thinking: bool = False) -> ALFWorldPrompt:
    made = ALFWorldPrompt(thinking)
    made.hierarchy = True
    return made


DIALOGUES = {
    "chat": lambda: Chat(tokenizer_for(CHATML), prompt()),
    "chat that thinks": lambda: Chat(tokenizer_for(CHATML), prompt(thinking=True)),
    "words": lambda: Plain(build(WORDS), prompt()),
    "exact": lambda: Plain(build_exact(WORDS), prompt()),
    "base model": lambda: Plain(tokenizer_for(None), prompt()),
}


@pytest.fixture(params=DIALOGUES.values(), ids=DIALOGUES)
def dialogue(request: pytest.FixtureRequest) -> Dialogue:
    made: Dialogue = request.param()
    return made


def tokenizer(dialogue: Dialogue) -> object:
    return dialogue.template.tokenizer if isinstance(dialogue, Chat) else dialogue._tokenizer  # type: ignore[attr-defined]


def said(dialogue: Dialogue, ids: list[int], part: Part) -> str:
    """The text of a part."""
    mine = [token for token, one in zip(ids, dialogue.parts(ids)[0], strict=True) if one == part]
    return str(tokenizer(dialogue).decode(mine)).strip()  # type: ignore[attr-defined]


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("action", ACTIONS)
def test_what_is_written_is_read_again_and_every_token_has_its_part(dialogue: Dialogue, plan: Plan, action: str) -> None:
    ids = [*dialogue.spell(action, ACTIONS, plan), dialogue.stop_ids[0]]
    parts, found = dialogue.parts(ids)
    assert found == plan
    assert dialogue.action(ids, ACTIONS) == (action, True)
    assert parts == sorted(parts)
    assert set(parts) == {Part.SWITCH, Part.SUBGOAL, Part.ACTION}
    word = said(dialogue, ids, Part.SWITCH).lower().removesuffix("</switch>").rstrip(" |")
    assert word.endswith("switch" if plan.switch else "keep")
    assert "hold target" in said(dialogue, ids, Part.SUBGOAL)
    assert action in said(dialogue, ids, Part.ACTION)


def test_a_turn_that_only_acts_is_all_action_and_keeps_its_subgoal(dialogue: Dialogue) -> None:
    ids = [*dialogue.spell(ACTIONS[0], ACTIONS), dialogue.stop_ids[0]]
    parts, plan = dialogue.parts(ids)
    assert set(parts) == {Part.ACTION}
    assert plan == Plan(False, "")
    assert dialogue.action(ids, ACTIONS) == (ACTIONS[0], True)


def test_a_turn_that_ends_too_soon_has_the_parts_it_has(dialogue: Dialogue) -> None:
    whole = dialogue.spell(ACTIONS[0], ACTIONS, PLANS[0])
    parts, _ = dialogue.parts(whole)
    for length in range(len(whole)):
        cut, _ = dialogue.parts(whole[:length])
        ended = max((number for number, part in enumerate(parts[:length]) if part != parts[number + 1]), default=-1)
        # Of a part that has not come to its mark nobody knows yet that it is not the action.
        assert cut == [*parts[: ended + 1], *([int(Part.ACTION)] * (length - ended - 1))]


def test_a_switch_that_is_only_thought_of_is_none() -> None:
    one = Chat(tokenizer_for(CHATML), prompt(thinking=True))
    text = (
        "<think>Shall I <switch>SWITCH</switch> to <subgoal>sleep</subgoal>?</think>\n"
        "<switch> Keep </switch>\n<subgoal>hold  target</subgoal><action>go to desk 1</action>"
    )
    ids = one.template.encode(text)
    _, plan = one.parts(ids)
    assert plan == Plan(False, "hold target")
    assert one.action(ids, ACTIONS) == ("go to desk 1", True)
    assert said(one, ids, Part.SWITCH).endswith("<switch> Keep </switch>")


@pytest.mark.parametrize(("word", "switches"), [("KEEP", False), ("", False), ("SWITCH", True), ("change it", True)])
def test_whatever_is_not_keep_switches(word: str, switches: bool) -> None:
    one = Chat(tokenizer_for(CHATML), prompt())
    ids = one.template.encode(f"<switch>{word}</switch><subgoal>x</subgoal><action>go to desk 1</action>")
    assert one.parts(ids)[1].switch is switches


def test_a_rebuilt_prompt_says_which_subgoal_is_pursued() -> None:
    now = Window("put a pen on the desk", [], 1, "You see a desk 1.", ACTIONS, subgoal="hold the pen")
    assert "Your subgoal: hold the pen" in prompt().window(now)
    assert "subgoal" not in ALFWorldPrompt().window(Window("put a pen on the desk", [], 1, "You see a desk 1.", ACTIONS))
    for words in ("<switch>KEEP</switch>", "<subgoal>", "<action>"):
        assert words in prompt().answer_format()
    assert "<think>" in prompt(thinking=True).answer_format()
    assert "<switch>" not in ALFWorldPrompt().answer_format()


@pytest.fixture(scope="module")
def shown() -> Iterator[list[tuple[str, Plan]]]:
    """A demonstration as the small model reads it: what was seen after each step, and what the step said before it acted."""
    with opened(load([*SMALL, "algo=hiper"])) as parts:
        (trajectory,) = parts.demonstrations(list(parts.env.tasks("train"))[:1], 1)
        dialogue = parts.sampler.player.dialogue
        after = [step.observation for step in trajectory.steps[1:]] + [""]
        unknown = parts.policy.tokenizer.unk_token_id
        assert not any(unknown in step.response_ids for step in trajectory.steps)
        for step in trajectory.steps:
            assert dialogue.action(step.response_ids, [step.action]) == (step.action, True)
        yield [(seen, dialogue.parts(step.response_ids)[1]) for seen, step in zip(after, trajectory.steps)]


def test_a_demonstration_names_the_subgoal_that_is_reached_next(shown: list[tuple[str, Plan]]) -> None:
    plans = [plan for _, plan in shown]
    assert plans[0].switch
    assert len({plan.subgoal for plan in plans}) > 1
    for before, now in pairwise(plans):
        assert now.switch == (now.subgoal != before.subgoal)
    taken = next(number for number, (seen, _) in enumerate(shown) if "pick up" in seen)
    assert plans[taken].subgoal.startswith("hold")
    assert plans[taken + 1] == Plan(True, plans[taken + 1].subgoal)


def test_without_hierarchy_nothing_is_said_before_an_action() -> None:
    with opened(load(SMALL)) as parts:
        step = ("You see a desk 1.", ACTIONS, True, "go to desk 1", "hold target")
        trajectory = as_trajectory([step], parts.sampler.player.dialogue, ALFWorldPrompt(), "full", 0)
        assert BARS.ends[0] not in parts.policy.tokenizer.decode(trajectory.steps[0].response_ids)


@pytest.mark.parametrize("constrained", ["admissible", "scored"])
def test_listed_actions_leave_no_room_for_a_plan(constrained: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"engine\.constrained is '{constrained}'.*env\.hierarchy=true.*allowed with it: none"
    ):
        load(["env.hierarchy=true", f"engine.constrained={constrained}"])


def test_hiper_without_such_turns_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"env\.hierarchy is false, but algo\.name=hiper"):
        load(["algo=hiper", "env.hierarchy=false"])

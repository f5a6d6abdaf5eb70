"""What is thought, what is said, and where an answer ends."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agents.models.answers import THINK, Listener, Stop
from agents.rollout.engines.base import Request, Sampling
from agents.rollout.engines.hf import HFEngine
from envs.prompt import Prompt
from tests.agents.judges.chat_model import chat_policy
from tests.agents.models.chat_templates import CHATML, tokenizer_for

CHANNEL = ("<|channel|>analysis<|message|>", "<|end|>")
ACTION = "</action>"


class Letters:
    """A tokenizer whose tokens are characters."""

    def decode(self, ids: list[int]) -> str:
        return "".join(map(chr, ids))


def heard(stop: Stop, text: str) -> str:
    """As much of `text` as is taken, token by token."""
    listener = Listener(stop, Letters())
    ids = [ord(letter) for letter in text]
    for n in range(1, len(ids) + 1):
        if listener.ends(ids[:n], ()):
            return text[:n]
    return text


parts = st.lists(st.sampled_from(["<think>", "</think>", ACTION, "<action>", "look", " ", "<", ">", *CHANNEL]), max_size=12)


@given(parts, st.booleans())
def test_an_answer_ends_at_the_first_stop_string_that_is_said(pieces: list[str], thinking: bool) -> None:
    text = "".join(pieces)
    stop = Stop((ACTION,), (THINK, CHANNEL), thinking)
    taken = heard(stop, text)
    reading = stop.read(taken)
    assert reading.said.count(ACTION) == (1 if taken != text or reading.said.endswith(ACTION) else 0)
    if taken != text:
        assert reading.said.endswith(ACTION)
        assert not reading.thinking


@given(parts, st.booleans())
def test_no_letter_of_an_answer_is_lost_but_the_tags(pieces: list[str], thinking: bool) -> None:
    text = "".join(pieces)
    reading = Stop((), (THINK,), thinking).read(text)

    def letters(text: str) -> Counter[str]:
        return Counter(text.replace("</think>", "").replace("<think>", ""))

    assert letters((reading.thoughts or "") + "|" + reading.said) == letters(text + "|")


@pytest.mark.parametrize(
    ("text", "thinking", "thoughts", "said"),
    [
        ("go", False, None, "go"),
        ("<think>a</think>go", False, "a", "go"),
        ("a</think>go", True, "a", "go"),
        ("a <think> b</think>go", True, "a <think> b", "go"),
        ("<think>a", False, "a", ""),
        ("go <think>a</think> now", False, "a", "go  now"),
        ("a", True, "a", ""),
        ("<think></think>go", False, "", "go"),
    ],
)
def test_thoughts_are_told_from_what_is_said(text: str, thinking: bool, thoughts: str | None, said: str) -> None:
    reading = Stop((), (THINK,), thinking).read(text)
    assert (reading.thoughts, reading.said) == (thoughts, said)


@pytest.mark.parametrize("length", [1, 5, 17, 40, 200])
def test_stop_strings_of_any_length_match(length: int) -> None:
    stop = "x" * (length - 1) + "!"
    assert heard(Stop((stop,)), "see " + stop + " more") == "see " + stop
    tokenizer = tokenizer_for(CHATML)
    ids = tokenizer("see " + stop + " more", add_special_tokens=False).input_ids
    listener = Listener(Stop((stop,)), tokenizer)
    n = next(n for n in range(1, len(ids) + 1) if listener.ends(ids[:n], ()))
    assert tokenizer.decode(ids[:n]).startswith("see " + stop)


def test_an_end_token_that_closes_thoughts_ends_those_alone() -> None:
    tokenizer = tokenizer_for(None, special=("<|channel|>", "<|message|>", "<|end|>", "<|return|>"))
    end, back = (tokenizer.convert_tokens_to_ids(token) for token in ("<|end|>", "<|return|>"))
    ids = tokenizer("<|channel|>analysis<|message|>hm<|end|>go<|end|>", add_special_tokens=False).input_ids
    listener = Listener(Stop((), (CHANNEL,)), tokenizer)
    assert [listener.ends(ids[:n], (end, back)) for n in range(1, len(ids) + 1)] == [False] * (len(ids) - 1) + [True]
    listener = Listener(Stop((), (CHANNEL,)), tokenizer)
    thought = [*ids[:4], back]
    assert listener.ends(thought[:1], (end, back)) is False
    assert [listener.ends(thought[:n], (end, back)) for n in range(2, 6)][-1] is True


def test_an_engine_goes_on_after_a_stop_string_in_thoughts() -> None:
    policy = chat_policy()
    text = "<think>inside <action> </action> tags</think>hm <action>look</action> and more"
    ids = policy.tokenizer(text, add_special_tokens=False).input_ids
    written = iter(ids)

    def forward(*arguments: object) -> torch.Tensor:
        logits = torch.zeros(1, policy.causal.config.vocab_size)
        logits[0, next(written)] = 100.0
        return logits

    policy.forward = forward  # type: ignore[assignment]  # a model that writes this text
    sampling = Sampling(max_tokens=200, stop=Stop((ACTION,), (THINK,)))
    done = asyncio.run(HFEngine(policy, lean=False).generate(Request("a", [1, 5, 6], sampling, 5)))
    assert done.stop_reason == "stop"
    assert policy.tokenizer.decode(done.ids) == text.removesuffix(" and more")


@pytest.mark.parametrize("end", ["", "<|end|>I will wait."])
def test_thoughts_that_speak_of_think_tags_hide_no_action_in_what_is_said(end: str) -> None:
    text = "<|channel|>analysis<|message|>They want <think> </think> tags, then <action>look</action> maybe."
    reading = Stop((), (CHANNEL, THINK)).read(text + end)
    assert Prompt(thinking=False).parse(reading.marked) is None
    assert Prompt(thinking=True).parse(reading.marked) is None

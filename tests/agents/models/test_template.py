"""The dialogue with real chat templates: where turns begin and end, what is thought, and what a growing conversation reads."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pytest

from agents.models.answers import THINK, Listener
from agents.models.policy import PolicyError
from agents.models.template import THOUGHTS_STAY, Template
from agents.rollout.dialogue import Chat, Plain
from envs.alfworld.prompt import ALFWorldPrompt
from envs.prompt import Window
from tests.agents.models.chat_templates import CHATML, family, templates, tokenizer_for

REAL = templates()
ACTIONS = ["go to cabinet 1", "open fridge 1"]
ROOM = "You are in a room. You see a fridge 1."
needs_trl = pytest.mark.skipif(not REAL, reason="chat templates of real models come with trl, which is not installed")
LEAVES_THOUGHTS_OUT = re.compile(r"deepseek.*|qwen3|qwen3_5_(no)?think|qwen3_6")
LEAVES_REAL_THOUGHTS_OUT = re.compile(r"nemotron_3.*|glm4moe.*|gptoss.*|lfm2_2_5.*|(diffusion_gemma|gemma4)(_v\d)?(_training)?")
"""Templates that render an earlier turn without the thoughts that were read and written in it, empty ones included or not."""
ORIGINAL = [name for name in REAL if not name.endswith("_training")]
cases = [
    pytest.param(name, thinking, id=f"{name}{'-thinking' if thinking else ''}") for name in REAL for thinking in (False, True)
]


def chat(name: str, thinking: bool = False, **settings: Any) -> Chat:
    return Chat(family(name, REAL[name]), ALFWorldPrompt(thinking), **settings)


def heard(chat: Chat, ids: Sequence[int]) -> list[int]:
    """As much of `ids` as an engine takes before the answer ends."""
    listener = Listener(chat.stop, chat.template.tokenizer)
    for n in range(1, len(ids) + 1):
        if listener.ends(ids[:n], chat.stop_ids):
            return list(ids[:n])
    raise AssertionError(f"the answer never ends: {chat.template.tokenizer.decode(list(ids))!r}")


def intended(chat: Chat, answer: str, thoughts: str | None) -> str:
    """What the makers of a model want it to write after the prompt, its end included, as their template renders it."""
    t = chat.template
    user = {"role": "user", "content": "U"}
    said: dict[str, Any] = {"role": "assistant", "content": answer}
    keys = ("reasoning_content", "reasoning", "thinking")
    prompt = t.render([user])
    for extra in (dict.fromkeys(keys, thoughts), {}) if thoughts else ({},):
        rendered = t.render([user, {**said, **extra}], answer_follows=False)
        if rendered.startswith(prompt) and (thoughts is None or thoughts in rendered):
            text = rendered[len(prompt) :]
            # GLM's turns end with the token that begins the user's.
            return text if text.partition(answer)[2] else text + t.tokenizer.convert_ids_to_tokens(t.stop_ids[0])
    # The template writes no thoughts, or opens them in the prompt and leaves them out of what is rendered later.
    end = rendered.partition(answer)[2]
    opening, closing = t.stop.thoughts[0]
    if thoughts is None:
        return f"{t.lead}{answer}{end}"
    return f"{'' if t.stop.thinking else opening}{thoughts}\n{closing}\n\n{answer}{end}"


@needs_trl
def test_the_templates_are_the_ones_that_were_looked_at() -> None:
    assert (len(ORIGINAL), len(REAL)) == (41, 72)


@needs_trl
@pytest.mark.parametrize(("name", "thinking"), cases)
def test_an_answer_as_its_makers_intend_ends_where_they_end_it_and_is_valid(name: str, thinking: bool) -> None:
    one = chat(name, thinking)
    thoughts = "I could say <action>look</action> to see more." if thinking else None
    text = intended(one, "<action>open fridge 1</action>", thoughts)
    ids = one.template.encode(text)
    response = heard(one, ids)
    assert one.template.tokenizer.decode(response) == text[: text.rindex("</action>") + len("</action>")]
    assert one.action(response, ACTIONS) == ("open fridge 1", True)
    # Without stop strings the same answer ends with the turn, and not before.
    free = chat(name, thinking, stop=())
    whole = heard(free, ids)
    assert free.action(whole, ACTIONS) == ("open fridge 1", True)
    assert one.template.tokenizer.decode(whole).startswith(text[: text.rindex("</action>") + len("</action>")])
    assert len(whole) <= len(response) + 1


@needs_trl
@pytest.mark.parametrize(("name", "thinking"), [case for case in cases if case.values[0] in ORIGINAL])
def test_an_answer_that_is_written_here_is_valid_and_ends_the_turn(name: str, thinking: bool) -> None:
    one = chat(name, thinking)
    for action in ACTIONS:
        response = [*one.spell(action, ACTIONS), one.stop_ids[0]]
        assert one.action(response, ACTIONS) == (action, True)
        assert one.tries.action(ACTIONS, response) == action
        free = chat(name, thinking, stop=())
        assert heard(free, [*response, *one.turn("Fine.", ACTIONS, True, response)]) == response


@needs_trl
@pytest.mark.parametrize(("name", "thinking"), [case for case in cases if case.values[0] in ORIGINAL])
def test_a_true_answer_is_said_and_not_thought(name: str, thinking: bool) -> None:
    one = chat(name, thinking)
    lead, answer = one.answered("a red ball")
    reading = one.template.read([*lead, *answer])
    assert (reading.said.strip(), reading.thinking) == ("The answer is: a red ball", False)
    assert one.template.tokenizer.decode(answer).strip() == "a red ball"
    other, _ = one.answered("blue")
    assert other == lead


@needs_trl
@pytest.mark.parametrize(("name", "thinking"), cases)
def test_three_turns_are_the_official_rendering_or_the_difference_is_named(name: str, thinking: bool) -> None:
    one = chat(name, thinking)
    t, prompt = one.template, ALFWorldPrompt(thinking)
    observations = [ROOM, "Nothing happens.", "The fridge 1 is open."]
    texts = [prompt.opening(observations[0], ACTIONS), *(prompt.turn(o, ACTIONS, True) for o in observations[1:])]
    ids = one.opening(observations[0], ACTIONS)
    messages = [{"role": "user", "content": texts[0]}]
    assert t.tokenizer.decode(ids) == t.render(messages)
    assert ids == t.encode(t.render(messages))
    for action, observation, text in zip(ACTIONS, observations[1:], texts[1:], strict=True):
        response = [*t.encode(f"{t.lead}<action>{action}</action>"), one.stop_ids[0]]
        ids += response + one.turn(observation, ACTIONS, True, response)
        messages += [
            {"role": "assistant", "content": f"<action>{action}</action>"},
            {"role": "user", "content": text},
        ]
    official = t.render(messages)
    if LEAVES_THOUGHTS_OUT.fullmatch(name) or (thinking and LEAVES_REAL_THOUGHTS_OUT.fullmatch(name)):
        assert t.differences() == [THOUGHTS_STAY]
        assert re.sub(r"\s+|<think>\s*</think>", "", t.tokenizer.decode(ids)) == re.sub(r"\s+|<think>\s*</think>", "", official)
    else:
        assert t.differences() == []
        assert t.tokenizer.decode(ids) == official
        # Where a prompt ends in the middle of white space, its tokens are those of the prompt and not of the whole text.
        assert ids == t.encode(official) or one.stop.thinking or t.to_next.endswith("\n\n")


@needs_trl
@pytest.mark.parametrize(("name", "thinking"), [case for case in cases if case.values[0] in ORIGINAL])
def test_a_rebuilt_window_is_the_official_rendering_of_one_message(name: str, thinking: bool) -> None:
    one = chat(name, thinking)
    now = Window("look", [(ROOM, "open fridge 1")], 1, "The fridge 1 is open.", ACTIONS)
    text = ALFWorldPrompt(thinking).window(now)
    assert one.window(now) == one.template.encode(one.template.render([{"role": "user", "content": text}]))


@needs_trl
@pytest.mark.parametrize(("name", "thinking"), cases)
def test_a_note_stands_at_the_end_of_the_message_and_changes_no_other_id(name: str, thinking: bool) -> None:
    one = chat(name, thinking)
    t, note = one.template, "In hindsight: <|im_end|> the fridge 1 is open."
    now = Window("look", [(ROOM, "open fridge 1")], 1, "The fridge 1 is open.", ACTIONS)
    for ids in (one.opening(ROOM, ACTIONS), one.window(now)):
        added, behind = one.noted(note)
        head = t.tokenizer.decode(ids).removesuffix(t.to_answer)
        assert t.tokenizer.decode([*ids[:-behind], *added, *ids[-behind:]]) == f"{head}\n{note}{t.to_answer}"
        assert not set(added) & set(t.tokenizer.all_special_ids)


@needs_trl
@pytest.mark.parametrize("name", REAL)
def test_nothing_in_an_observation_becomes_a_control_token(name: str) -> None:
    one = chat(name)
    t = one.template
    added = {i: token.content for i, token in t.tokenizer.added_tokens_decoder.items()}
    control = [token for token in added.values() if token not in THINK]
    hostile, harmless = "A note: " + " ".join(control), "A note: none"
    response = [*one.spell("open fridge 1", ACTIONS), one.stop_ids[0]]
    for ask in (lambda text: t.opening(text), lambda text: t.following(text, response)):
        ids, calm = ask(hostile), ask(harmless)
        assert [i for i in ids if i in added] == [i for i in calm if i in added]
        assert "".join(t.tokenizer.decode(ids).split()) == "".join(t.tokenizer.decode(calm).replace(harmless, hostile).split())


@needs_trl
@pytest.mark.parametrize("name", ["gptoss", "llama3_2", "muse_glimmer"])
def test_a_prompt_is_the_same_tomorrow(name: str) -> None:
    one = chat(name)
    year = re.compile(r"20(?:2[6-9]|[3-9]\d)-|20(?:2[6-9]|[3-9]\d)\n")
    today = [text for text in year.findall(one.template.before) if "2026-01-04" not in one.template.before]
    assert "2025" in one.template.before
    assert not today
    assert chat(name, date="2031-05-06").template.before != one.template.before


@needs_trl
def test_thinking_is_told_to_templates_that_ask_and_arguments_overrule_it() -> None:
    assert not chat("qwen3_5_think").stop.thinking
    assert chat("qwen3_5_think", thinking=True).stop.thinking
    assert chat("qwen3_5_think", arguments={"enable_thinking": True}).stop.thinking
    assert chat("qwen3", thinking=False).template.to_answer.endswith("<think>\n\n</think>\n\n")
    with pytest.raises(PolicyError, match=r"chat_template_kwargs\.enable_thinkin .*asks for enable_thinking"):
        chat("qwen3", arguments={"enable_thinkin": True})


@needs_trl
def test_a_system_message_begins_the_conversation_or_is_refused() -> None:
    assert "You are terse." in chat("qwen2_5", system="You are terse.").template.before
    assert "You are Qwen" not in chat("qwen2_5", system="You are terse.").template.before
    with pytest.raises(PolicyError, match=r"System role not supported.*model\.system"):
        chat("gemma", system="You are terse.")


@needs_trl
def test_gpt_oss_ends_its_analysis_without_ending_its_turn() -> None:
    one = chat("gptoss", thinking=True)
    encode = one.template.encode
    analysis = encode("<|channel|>analysis<|message|>I look.<|end|><|start|>assistant<|channel|>final<|message|>")
    response = heard(one, [*analysis, *encode("<action>open fridge 1</action><|return|>")])
    assert one.action(response, ACTIONS) == ("open fridge 1", True)
    plain = [*analysis, *encode("1. open the fridge<|return|>")]
    assert one.template.read(plain).said == "1. open the fridge"


def test_a_turn_that_ends_with_another_token_than_eos_ends_there() -> None:
    gemma = (
        "{{ bos_token }}{% for m in messages %}{{ '<start_of_turn>' + ('model' if m['role'] == 'assistant' else m['role']) "
        "+ '\n' + m['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
    )
    one = Chat(tokenizer_for(gemma), ALFWorldPrompt())
    tokenizer = one.template.tokenizer
    assert tokenizer.convert_ids_to_tokens(list(one.stop_ids)) == ["<end_of_turn>", "<eos>"]
    response = [*one.spell("open fridge 1", ACTIONS), one.stop_ids[0]]
    assert tokenizer.decode(response + one.turn("Fine.", None, True, response)) == (
        "<action>open fridge 1</action><end_of_turn>\n<start_of_turn>user\nFine.<end_of_turn>\n<start_of_turn>model\n"
    )


def test_further_end_tokens_of_the_model_end_an_answer() -> None:
    tokenizer = tokenizer_for(CHATML, special=("<|endoftext|>",))
    further = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    one = Chat(tokenizer, ALFWorldPrompt(), end_ids=[further])
    ids = one.template.encode("I wait.<|endoftext|>I go on.")
    assert heard(one, ids) == one.template.encode("I wait.<|endoftext|>")


@pytest.mark.parametrize("gap", ["", " ", "\n"])
def test_an_answer_that_is_written_here_ends_as_the_template_ends_it(gap: str) -> None:
    llama2 = (
        "{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]{% else %} {{ m.content }}GAP</s>"
        "{% endif %}{% endfor %}"
    )
    one = Chat(tokenizer_for(llama2.replace("GAP", gap), eos="</s>"), ALFWorldPrompt())
    response = [*one.spell("open fridge 1", ACTIONS), one.stop_ids[0]]
    ids = one.opening(ROOM, ACTIONS) + response + one.turn("Fine.", ACTIONS, True, response)
    prompt = ALFWorldPrompt()
    said = [prompt.opening(ROOM, ACTIONS), "<action>open fridge 1</action>", prompt.turn("Fine.", ACTIONS, True)]
    roles = ["user", "assistant", "user"]
    assert one.template.differences() == []
    assert one.template.tokenizer.decode(ids) == one.template.render(
        [{"role": role, "content": text} for role, text in zip(roles, said, strict=True)]
    )
    assert one.action(response, ACTIONS) == ("open fridge 1", True)


def test_a_template_without_end_tokens_ends_a_turn_with_its_text() -> None:
    turns = "{% for m in messages %}### {{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    alpaca = turns + "{% if add_generation_prompt %}### assistant:{% endif %}"
    one = Chat(tokenizer_for(alpaca), ALFWorldPrompt(), stop=())
    assert "'<eos>\\n### user" in one.summary  # answers written here end with eos
    text = " I wait.\n### user: and you?"
    response = heard(one, one.template.encode(text))
    assert one.template.tokenizer.decode(response) == " I wait.\n### user:"
    assert one.action(response, ACTIONS) == ("I wait.", False)
    assert one.template.tokenizer.decode(response + one.turn("Fine.", None, True, response)) == (
        " I wait.\n### user: Fine.\n### assistant:"
    )


def test_a_model_whose_prompt_opens_its_thoughts_acts_validly_with_and_without_being_asked_to_think() -> None:
    opened = CHATML.replace("assistant\n{% endif", "assistant\n<think>\n{% endif")
    for thinking in (False, True):
        for special in ((), ("<think>", "</think>")):
            one = Chat(tokenizer_for(opened, special=special), ALFWorldPrompt(thinking))
            said = "I see <action>look</action> is possible.\n</think>\n\n<action>open fridge 1</action>"
            response = heard(one, one.template.encode(said))
            assert one.template.tokenizer.decode(response) == said
            assert one.action(response, ACTIONS) == ("open fridge 1", True)


BLOCKS = (
    "{% for m in messages %}{% if m.role == 'user' %}<|user|>{{ m.content }}<|end|>{% else %}<|bot|>"
    "{% if m.content is string %}{{ m.content }}{% else %}OTHER{% endif %}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|bot|>{% endif %}"
)
PARTS = (
    "{% for c in m.content %}{% if c.type == 'thinking' %}[THINK]{{ c.thinking }}[/THINK]{% else %}{{ c.text }}{% endif %}"
    "{% endfor %}"
)
INNER = (
    "{% for c in m.content.blocks %}{% if c.type == 'thoughts' %}<|inner_prefix|>{{ c.text }}<|inner_suffix|>"
    "{% else %}{{ c.text }}{% endif %}{% endfor %}"
)
OPENED = CHATML.replace("assistant\n{% endif", "assistant\n<thought>\n{% endif").replace(
    "m['content']", "m['content'].split('</thought>')[-1]"
)


@pytest.mark.parametrize("thinking", [False, True])
@pytest.mark.parametrize(
    ("template", "tags"),
    [
        (BLOCKS.replace("OTHER", PARTS), ("[THINK]", "[/THINK]")),  # Magistral; Command A writes <|START_THINKING|> so
        (BLOCKS.replace("OTHER", INNER), ("<|inner_prefix|>", "<|inner_suffix|>")),  # Apertus
        (OPENED, ("<thought>", "</thought>")),  # EXAONE Deep
    ],
)
def test_tags_of_thoughts_are_found_however_a_template_is_handed_them(
    template: str, tags: tuple[str, str], thinking: bool
) -> None:
    one = Chat(tokenizer_for(template, special=tags), ALFWorldPrompt(thinking))
    assert one.stop.thoughts[0] == tags
    text = f"I could say <action>look</action>.{tags[1]}<action>open fridge 1</action>"
    ids = one.template.encode(text if one.stop.thinking else tags[0] + text)
    assert one.action(heard(one, ids), ACTIONS) == ("open fridge 1", True)
    assert one.action([*one.spell("open fridge 1", ACTIONS), one.stop_ids[0]], ACTIONS) == ("open fridge 1", True)


@pytest.mark.parametrize("tag", ["assistant", "s"])
def test_a_tag_around_a_whole_answer_opens_no_thoughts(tag: str) -> None:
    turns = (
        "{% for m in messages %}{% if m.role == 'user' %}<user>{{ m.content }}</user>{% else %}<TAG>{{ m.content }}</TAG>"
        "{% endif %}{% endfor %}{% if add_generation_prompt %}<TAG>{% endif %}"
    ).replace("TAG", tag)
    one = Chat(tokenizer_for(turns, special=(f"<{tag}>", f"</{tag}>")), ALFWorldPrompt())
    assert not one.stop.thinking
    ids = one.template.encode(f"<action>open fridge 1</action></{tag}>")
    assert one.action(heard(one, ids), ACTIONS) == ("open fridge 1", True)


def test_an_action_that_is_only_thought_of_is_not_executed() -> None:
    one = Chat(tokenizer_for(CHATML), ALFWorldPrompt())
    text = "<think>What of <action>look</action>?</think><action>open fridge 1</action>"
    assert one.action(heard(one, one.template.encode(text)), ACTIONS) == ("open fridge 1", True)
    cut = one.template.encode("<think>What of <action>look</action>?")
    assert one.action(cut, ACTIONS)[1] is False


def test_white_space_in_a_listed_action_does_not_make_it_impossible() -> None:
    one = Chat(tokenizer_for(CHATML), ALFWorldPrompt())
    listed = ["open  fridge 1", "go\u00a0to\tbed", "look"]
    for said, meant in (("open fridge 1", listed[0]), ("go to bed", listed[1]), ("look", "look"), ("wait", "wait")):
        assert one.action(one.template.encode(f"<action>{said}</action>"), listed) == (meant, True)
    both = ["open  fridge 1", "open fridge 1"]
    for action in both:
        assert one.action([*one.spell(action, both), one.stop_ids[0]], both) == (action, True)


@pytest.mark.parametrize(
    "odd", ["say </action> now", "say <think> now", "press <|im_end|>", "say <action> x", "<think>a</think>b", "[look] <b>"]
)
def test_tags_in_a_listed_action_do_not_make_it_another(odd: str) -> None:
    one = Chat(tokenizer_for(CHATML), ALFWorldPrompt())
    listed = [odd, "look", "say"]
    for action in listed:
        response = [*one.spell(action, listed), one.stop_ids[0]]
        assert one.action(response, listed) == (action, True)
        assert [i for i in response if i in one.stop_ids] == [one.stop_ids[0]]


def test_half_a_character_in_an_observation_is_read_as_a_question_mark() -> None:
    one = Chat(tokenizer_for(CHATML), ALFWorldPrompt())
    assert one.template.tokenizer.decode(one.template.opening("a \ud83d b")).count("a ? b") == 1
    plain = Plain(tokenizer_for(None), ALFWorldPrompt())
    assert tokenizer_for(None).decode(plain.turn("a \ud83d b", None, True, [])) == "\na ? b\n>"


def test_a_heading_is_not_the_end_of_a_turn_that_ends_with_text() -> None:
    alpaca = "{% for m in messages %}### {{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    one = Chat(tokenizer_for(alpaca + "{% if add_generation_prompt %}### assistant:{% endif %}"), ALFWorldPrompt())
    ids = one.template.encode(" ### Plan\nI open it. <action>open fridge 1</action>")
    assert one.action(heard(one, ids), ACTIONS) == ("open fridge 1", True)


@pytest.mark.parametrize("how", ["", " | trim", ".rstrip()", ".lstrip()"])
def test_white_space_around_an_observation_is_what_the_template_leaves(how: str) -> None:
    t = Template(tokenizer_for(CHATML.replace("m['content']", f"(m['content']{how})" if "|" in how else f"m['content']{how}")))
    for text in ("A note.\n", "  a map\n", " \n", ""):
        assert t.opening(text) == t.encode(t.render([{"role": "user", "content": text}]))


def test_named_templates_without_a_default_are_refused_in_words() -> None:
    tokenizer = tokenizer_for(None, special=("<|im_start|>", "<|im_end|>", "<named>"))
    tokenizer.chat_template = {"default": CHATML, "tool_use": "x"}
    assert Template(tokenizer).stop_ids
    tokenizer.chat_template = {"tool_use": CHATML, "rag": CHATML}
    with pytest.raises(PolicyError, match="chat templates for rag, tool_use and none called default"):
        Template(tokenizer)


def test_a_difference_of_white_space_alone_is_not_said_to_be_one_of_thoughts() -> None:
    wide = CHATML.replace("assistant\n{% endif", "assistant\n\n{% endif")
    (difference,) = Template(tokenizer_for(wide)).differences()
    assert difference.startswith("the template writes '<action>first")
    assert r"the conversation has '\n<action>first" in difference


def test_a_template_that_moves_its_system_message_is_known_not_to_grow() -> None:
    mistral = (
        "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}[INST] "
        "{% if loop.last and messages[0]['role'] == 'system' %}{{ messages[0]['content'] }}\n\n{% endif %}"
        "{{ m['content'] }}[/INST]"
        "{% elif m['role'] == 'assistant' %} {{ m['content'] }}</s>{% endif %}{% endfor %}"
    )
    assert Template(tokenizer_for(mistral, eos="</s>")).grows
    assert not Template(tokenizer_for(mistral, eos="</s>"), system="Be terse.").grows


def test_a_template_that_changes_or_refuses_messages_is_refused_in_words() -> None:
    with pytest.raises(PolicyError, match="changes its messages"):
        Template(tokenizer_for("{% for m in messages %}{{ m['content'] | upper }}{% endfor %}"))
    with pytest.raises(PolicyError, match="refuses the conversation: not today"):
        Template(tokenizer_for("{{ raise_exception('not today') }}"))
    silent = "{% for m in messages if m['role'] != 'system' %}<u>{{ m['content'] }}</u>{% endfor %}"
    with pytest.raises(PolicyError, match=r"leaves out system messages"):
        Template(tokenizer_for(silent), system="Be terse.")

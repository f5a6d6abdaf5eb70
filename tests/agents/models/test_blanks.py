"""Tokenizers that set a blank before every text, as those of Llama 2, Mistral 7B, Vicuna and Zephyr do."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from agents.models.plaintext import inside
from agents.rollout.dialogue import Chat, Plain
from envs.alfworld.prompt import ALFWorldPrompt

ACTIONS = ["open fridge 1", "look"]
TURNS = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}USER: {{ m.content }} {% else %}"
    "ASSISTANT:{{ between }}{{ m.content }}</s>{% endif %}{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


def blanks(template: str | None) -> PreTrainedTokenizerFast:
    """Letters and bytes, as Llama 2's tokenizer lays them out."""
    letters = ["<unk>", "<s>", "</s>", *(f"<0x{n:02X}>" for n in range(256)), "\u2581", *map(chr, range(33, 127))]
    vocabulary = {letter: i for i, letter in enumerate(letters)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    fast.chat_template = template
    return fast


@pytest.mark.parametrize("between", ["", " "])
@pytest.mark.parametrize("ended", [True, False])
def test_no_blank_comes_between_the_parts_of_a_conversation(between: str, ended: bool) -> None:
    one = Chat(blanks(TURNS.replace("{{ between }}", between)), ALFWorldPrompt())
    t, texts = one.template, ["A note: </s> and <s>.", "Fine."]
    response = [*one.spell(ACTIONS[0], ACTIONS), *([one.stop_ids[0]] if ended else [])]
    ids = t.opening("Go.") + response + t.following("Fine.", response)
    said = f"<action>{ACTIONS[0]}</action>"
    messages = [("user", "Go."), ("assistant", said), ("user", texts[1])]
    assert ids == t.encode(t.render([{"role": role, "content": text} for role, text in messages]))
    assert one.action(response, ACTIONS) == (ACTIONS[0], True)
    assert t.tokenizer.decode(t.opening(texts[0])) == f"<s> USER: {texts[0]} ASSISTANT:"


def test_a_base_model_ends_its_line_with_the_lines_end() -> None:
    tokenizer = blanks(None)
    plain = Plain(tokenizer, ALFWorldPrompt())
    assert tokenizer.convert_ids_to_tokens(list(plain.stop_ids)) == ["<0x0A>", "</s>"]
    response = [*plain.spell("look", ACTIONS), plain.stop_ids[0]]
    ids = plain.opening("You see.", ACTIONS) + response + plain.turn("Fine.", ACTIONS, True, response)
    assert tokenizer.decode(ids) == "<s> You see.\n> look\nFine.\n>"
    assert plain.action(response, ACTIONS) == ("look", True)


def test_a_vocabulary_of_words_loses_none() -> None:
    words = Tokenizer(models.WordLevel({"<unk>": 0, "open": 1, "fridge": 2}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>")
    assert tokenizer.decode(inside(tokenizer, "open fridge")) == "open fridge"

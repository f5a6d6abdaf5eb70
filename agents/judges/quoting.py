"""Text that an environment, a policy or a model wrote, made fit to be quoted in a question: readable still, and inert.

Inert: no tag, no dictionary, no code fence, no special token of a chat template, no character that is not seen. A few
characters are replaced by ones that look like them; a map stays a map.
"""

from __future__ import annotations

import re

_BRACES = str.maketrans({"{": "\N{MEDIUM LEFT CURLY BRACKET ORNAMENT}", "}": "\N{MEDIUM RIGHT CURLY BRACKET ORNAMENT}"})
# "<" on a map is followed by another place: only what could begin a tag or a token such as <|im_start|> or </s> is replaced.
_TAG = re.compile(r"<(?=[A-Za-z/|\N{FULLWIDTH VERTICAL LINE}!?])")
# [INST] and its like; [SEP] is no token of a model that chats, and stands between all parts of a page of a shop.
_BRACKET = re.compile(r"\[(?=/?[A-Z_]+\])(?!SEP\])")
_FENCE = re.compile(r"`{3,}|~{3,}")


def quoted(text: str, longest: int) -> str:
    """`text` with its lines, at most about `longest` characters: the middle of a longer one is left out, and said to be."""
    if len(text) > longest:
        head = longest * 3 // 4
        gap = f" [... {len(text) - longest} characters left out ...] "
        text = text[:head] + gap + text[len(text) - (longest - head) :]
    text = "\n".join(text.splitlines())
    text = "".join(c if c.isprintable() or c == "\n" else " " if c.isspace() else "\N{REPLACEMENT CHARACTER}" for c in text)
    text = _TAG.sub("\N{SINGLE LEFT-POINTING ANGLE QUOTATION MARK}", text)
    text = _BRACKET.sub("\N{MATHEMATICAL LEFT WHITE SQUARE BRACKET}", text)
    text = _FENCE.sub(lambda fence: "\N{MODIFIER LETTER GRAVE ACCENT}" * len(fence[0]), text)
    return text.translate(_BRACES)


def quoted_line(text: str, longest: int) -> str:
    """The same as one line, with single spaces."""
    return " ".join(quoted(text, longest).split())

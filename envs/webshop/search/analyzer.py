"""From text to terms, as Lucene 9.5 and Anserini do it for English: words, possessives, stop words, stems.

Words follow the word boundaries of Unicode's Annex #29 in Lucene's reading: "7.8", "shoes's", "description:solid" and "a_b" are
one word each, a Han or Hiragana character and an emoji sequence are words of their own, runs of Thai and its like are kept
together. `word_break.json` says which class a character is in, from the Unicode 12 database that Lucene has, so that terms do
not depend on the version of Python.

Text is put in lower case first, with `str.lower`, as the official shop does with queries and documents; Lucene's own
lower-casing then changes nothing. The stemmer is in `porter.py`.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from functools import lru_cache
from importlib.resources import files

import orjson

from envs.webshop.search.porter import stem

MAX_WORD = 255
"""Longer words are cut into pieces of this many characters (Lucene counts those beyond U+FFFF twice)."""

_STOP_WORDS = (
    "a an and are as at be but by for if in into is it no not of on or such that the their then there these they this to was "
    "will with"
)
STOP_WORDS = frozenset(_STOP_WORDS.split())

# What follows reads strings of classes, one letter a character:
#   A letter, H Hebrew letter, K Katakana, N digit, _ joiner of words; : . ' between letters, , . ' between digits, " in Hebrew
#   J Han or Hiragana, S Thai and its like, s its marks
#   P pictograph, L pictograph and letter (as the circled M), M skin tone, R regional indicator, # base of a keycap, k keycap
#   z joiner of emoji, F v selectors of presentation, T t tags of flags, x other marks and format characters; a space: the rest
_EXTEND = "[xzskvFMTt]*+"  # rule WB4: marks belong to the character before them
_TAIL = "[xzskMTt]*"  # the same without the selectors, which end an emoji
# A part of a word: letters and digits in any order, with one sign between two letters or two digits; or Katakana.
_BETWEEN = f"(?:[:.']{_EXTEND}[AHL]{_EXTEND})*+"
_RUN = (
    f"(?:[AL][ALxzskvFMTt]*+{_BETWEEN}|N[NxzskvFMTt]*+(?:[,.']{_EXTEND}N{_EXTEND})*+"
    f"|H{_EXTEND}(?:\"{_EXTEND}H{_EXTEND}|'{_EXTEND}|{_BETWEEN}))++"
)
_PART = f"(?:{_RUN}|K[KxzskvFMTt]*+)"
# A word: parts with joiners before, between and after them.
_JOINER = f"(?:_{_EXTEND})"
_WORD = f"{_JOINER}*+{_PART}(?:{_JOINER}++{_PART})*+{_JOINER}*+"
# An emoji: a chain of pictographs and skin tones, a flag, or a keycap.
_JOIN = f"(?:{_TAIL}z|{_TAIL}Fz+)"
_CHAIN = f"[PL](?:{_JOIN}[PL])*"
_EMOJI = (
    f"(?:z*[PL]{_TAIL}FT+t"
    f"|(?:z*|M{_TAIL}z){_CHAIN}(?:{_TAIL}FzM{_TAIL}z{_CHAIN})*(?:{_TAIL}FzM{_TAIL}|{_TAIL}F?)"
    f"|M{_TAIL}|\\#{_TAIL}F?k{_TAIL}|R{_EXTEND}R{_EXTEND})"
)
# The longest match counts: an emoji that begins with a letter is one only if it goes on with what is none. Joiners that join
# nothing are skipped as a whole, so that long rows of them take no quadratic time; the first look ahead only saves time.
_TOKEN = re.compile(f"(?! )(?:((?=L(?:{_JOIN}L)*{_JOIN}P){_EMOJI}|{_WORD}|{_EMOJI}|[Ss][SsxzkvFMTt]*+|J{_EXTEND})|_++|z++)")


class _Classes(dict[int, str]):
    """Class of each code point, looked up when a text first has it; made for `str.translate`."""

    def __init__(self) -> None:
        table = orjson.loads(files(__package__).joinpath("word_break.json").read_bytes())
        spans = [(span.partition("-"), letter) for letter, text in table.items() for span in text.split()]
        self._spans = sorted((int(first, 16), int(last or first, 16), letter) for (first, _, last), letter in spans)
        self._firsts = [first for first, _, _ in self._spans]

    def __missing__(self, code: int) -> str:
        _, last, letter = self._spans[bisect_right(self._firsts, code) - 1]
        # The first span begins above 0: for a code below it, the lookup wraps round to the last span.
        found = self[code] = letter if self._firsts[0] <= code <= last else " "
        return found


_CLASSES = _Classes()


def words(text: str) -> Iterator[str]:
    """The words of a text, as they stand there."""
    classes = text.translate(_CLASSES)
    place = 0
    while match := _TOKEN.search(classes, place):
        start, place = match.span()
        if match.lastindex and place - start > MAX_WORD:
            match = _TOKEN.match(classes, start, start + MAX_WORD)
            place = match.end() if match and match.lastindex else start + 1
        if match and match.lastindex:
            yield text[start:place]


def terms(text: str) -> list[str]:
    """The index terms of a text, in order and with repeats."""
    return [term for word in words(text.lower()) if (term := _term(word))]


@lru_cache(maxsize=1 << 18)
def _term(word: str) -> str:
    """The term of a word in lower case; empty for a stop word."""
    if word.endswith(("'s", "\u2019s", "\uff07s")):
        word = word[:-2]
    return "" if word in STOP_WORDS else stem(word)

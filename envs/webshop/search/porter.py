"""Porter's stemmer: "running", "runs" and "run" are one term.

The algorithm of M. F. Porter, "An algorithm for suffix stripping" (Program 14(3), 1980), with the two changes that its author
made later and that Lucene has: "-bli" becomes "-ble" (in the paper only "-abli") and "-logi" becomes "-log". Steps are numbered
as in the paper. A word's form is its letters as c (consonant) and v (vowel); its measure is how often v is followed by c. Words
come in lower case; stop words and possessives are left to the analyzer.
"""

from __future__ import annotations

_STEP_2 = {
    "ational": "ate",
    "tional": "tion",
    "enci": "ence",
    "anci": "ance",
    "izer": "ize",
    "bli": "ble",
    "alli": "al",
    "entli": "ent",
    "eli": "e",
    "ousli": "ous",
    "ization": "ize",
    "ation": "ate",
    "ator": "ate",
    "alism": "al",
    "iveness": "ive",
    "fulness": "ful",
    "ousness": "ous",
    "aliti": "al",
    "iviti": "ive",
    "biliti": "ble",
    "logi": "log",
}
_STEP_3 = {"icate": "ic", "ative": "", "alize": "al", "iciti": "ic", "ical": "ic", "ful": "", "ness": ""}
_STEP_4_ENDINGS = "al ance ence er ic able ible ant ement ment ent ion ou ism ate iti ous ive ize"
_STEP_4 = dict.fromkeys(_STEP_4_ENDINGS.split(), "")
_LONGEST = max(map(len, _STEP_2))


def stem(word: str) -> str:
    """The word without its endings; words of one or two letters stay as they are."""
    if len(word) < 3 and len(word.encode("utf-16-le", "surrogatepass")) < 6:  # Lucene counts UTF-16 units
        return word
    word = _step_1(word)
    if word.endswith("y") and "v" in _form(word[:-1]):
        word = word[:-1] + "i"
    word = _replaced(word, _STEP_2, 0)
    word = _replaced(word, _STEP_3, 0)
    word = _replaced(word, _STEP_4, 1)
    return _step_5(word)


def _form(word: str) -> str:
    """`word` as c and v: y is a vowel after a consonant, and all that is no letter of English is a consonant."""
    form = ""
    for letter in word:
        form += "v" if letter in "aeiou" or (letter == "y" and form.endswith("c")) else "c"
    return form


def _measure(word: str) -> int:
    return _form(word).count("vc")


def _is_short(word: str) -> bool:
    """Whether it ends like "hop": consonant, vowel, consonant, and the last is none of w, x, y."""
    return _form(word).endswith("cvc") and word[-1] not in "wxy"


def _is_double(word: str) -> bool:
    """Whether it ends in the same consonant twice."""
    return len(word) > 1 and word[-1] == word[-2] and word[-1] < "\U00010000" and _form(word)[-1] == "c"


def _step_1(word: str) -> str:
    """Plurals, -ed and -ing."""
    if word.endswith("sses"):
        word = word[:-2]
    elif word.endswith("ies"):
        word = word[:-3] + "i"
    elif word.endswith("s") and not word.endswith("ss"):
        word = word[:-1]
    if word.endswith("eed"):
        return word[:-1] if _measure(word[:-3]) > 0 else word
    rest = word[:-2] if word.endswith("ed") else word[:-3] if word.endswith("ing") else ""
    if "v" not in _form(rest):
        return word
    if rest.endswith(("at", "bl", "iz")):
        return rest + "e"
    if _is_double(rest):
        return rest if rest[-1] in "lsz" else rest[:-1]
    return rest + "e" if _measure(rest) == 1 and _is_short(rest) else rest


def _replaced(word: str, endings: dict[str, str], measure: int) -> str:
    """Its longest ending exchanged, if what stands before it has more than the given measure."""
    for length in range(min(_LONGEST, len(word)), 1, -1):
        ending = word[-length:]
        if ending not in endings:
            continue
        rest = word[:-length]
        if ending == "ion" and not rest.endswith(("s", "t")):
            continue
        return rest + endings[ending] if _measure(rest) > measure else word
    return word


def _step_5(word: str) -> str:
    """A final e, and the second of two final l."""
    measure = _measure(word)
    if word.endswith("e") and (measure > 1 or (measure == 1 and not _is_short(word[:-1]))):
        word = word[:-1]
    return word[:-1] if word.endswith("ll") and measure > 1 else word

"""Reads JSON files: an object at once, an array of several GB one element at a time.

What an element means is left to others. A file that is missing, cut short or malformed is a TaskError that names the file and
the place in it, and ends with the caller's advice.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from envs.base import TaskError
from envs.common.files import regular

_CHUNK = 1 << 20
_LONGEST_ELEMENT = 1 << 24
"""Characters: the search for the end of a broken element stops there, not at the end of a file of several GB."""
_BLANK = re.compile(r"\s*")
_FOLLOWS = re.compile(r"\s*([,\]])")


def read_object(file: Path, advice: str) -> dict[str, Any]:
    """All of a JSON object. Raises TaskError."""
    try:
        data = orjson.loads(regular(file).read_bytes())
    except OSError as error:
        raise TaskError(f"{file}: cannot be read ({error.strerror}); {advice}") from None
    except orjson.JSONDecodeError as error:
        raise TaskError(
            f"{file}: not JSON at line {error.lineno}, column {error.colno} ({error.msg}): broken or cut short; {advice}"
        ) from None
    if not isinstance(data, dict):
        raise TaskError(f"{file}: holds a JSON {type(data).__name__}; expected an object; {advice}")
    return data


def read_array(file: Path, advice: str) -> Iterator[Any]:
    """The elements of a JSON array, each read when its turn comes. Raises TaskError, also while reading."""
    decode = json.JSONDecoder().raw_decode
    count = 0
    try:
        with regular(file).open(encoding="utf-8") as stream:
            text = stream.read(_CHUNK)
            start = re.match(r"\s*\[", text)
            if start is None:
                raise TaskError(f"{file}: begins with {text[:20]!r}; expected a JSON array; {advice}")
            at = start.end()
            while True:
                try:
                    at = _BLANK.match(text, at).end()  # type: ignore[union-attr]
                    element, end = decode(text, at)
                    follows, wrong = _FOLLOWS.match(text, end), "neither ',' nor ']' after it"
                except json.JSONDecodeError as error:
                    follows, wrong = None, error.msg
                except (RecursionError, ValueError) as error:  # nested too deeply, or a number of thousands of digits
                    raise TaskError(f"{file}, record {count}: cannot be read ({error}); {advice}") from None
                if follows is None:  # the element goes on after this chunk, unless it is broken
                    chunk = stream.read(_CHUNK)
                    if not chunk or len(text) - at > _LONGEST_ELEMENT:
                        raise TaskError(f"{file}, record {count}: not JSON ({wrong}): broken or cut short; {advice}")
                    text, at = text[at:] + chunk, 0
                    continue
                yield element
                count += 1
                if follows[1] == "]":
                    return
                at = follows.end()
    except OSError as error:
        raise TaskError(f"{file}: cannot be read ({error.strerror}); {advice}") from None
    except UnicodeDecodeError as error:
        raise TaskError(f"{file}, after record {count - 1}: not UTF-8 ({error.reason}); {advice}") from None

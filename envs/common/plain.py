"""Python values in terms of JSON, so that what is read equals what was written.

Values that JSON lacks are written as an object with one "$" key: {"$float": "inf" | "-inf" | "nan"}, {"$int": "..."} beyond
64 bits, {"$tuple": [...]}, {"$str": hex of UTF-16} for text that is not Unicode (a lone surrogate), {"$dict": [[key, value],
...]} for keys that are no plain text or begin with "$".
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def plain(value: Any, where: str) -> Any:
    """`value` in terms of JSON; numpy scalars become Python's. Raises TypeError for an object; `where` names its place."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, np.generic):
        return plain(value.item(), where)
    if isinstance(value, str):
        return value if value.isascii() or _is_unicode(value) else {"$str": value.encode("utf-16-le", "surrogatepass").hex()}
    if isinstance(value, int):
        return int(value) if -(1 << 63) <= value < 1 << 64 else {"$int": str(value)}
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"$float": str(float(value))}
    if isinstance(value, (list, tuple)):
        kinds = set(map(type, value))
        simple = (kinds == {float} and all(map(math.isfinite, value))) or (
            kinds == {int} and -min(value) < 1 << 63 > max(value)
        )
        items = list(value) if simple else [plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
        return {"$tuple": items} if isinstance(value, tuple) else items
    if isinstance(value, dict):
        if all(isinstance(key, str) and not key.startswith("$") and (key.isascii() or _is_unicode(key)) for key in value):
            return {key: plain(item, f"{where}.{key}") for key, item in value.items()}
        return {"$dict": [[plain(key, f"a key of {where}"), plain(item, f"{where}.{key}")] for key, item in value.items()]}
    raise TypeError(
        f"{where} is a {type(value).__name__}, which JSON cannot hold; "
        "allowed: None, bool, int, float, str, list, tuple, dict and numpy scalars"
    )


def restored(value: Any) -> Any:
    """The value that `plain` was given."""
    if isinstance(value, list):
        return value if set(map(type, value)) <= {int, float, str} else [restored(item) for item in value]
    if not isinstance(value, dict):
        return value
    match next(iter(value.items()), None):
        case ("$float", str(text)):
            return float(text)
        case ("$int", str(text)):
            return int(text)
        case ("$str", str(text)):
            return bytes.fromhex(text).decode("utf-16-le", "surrogatepass")
        case ("$tuple", list(items)):
            return tuple(restored(item) for item in items)
        case ("$dict", list(pairs)):
            return {restored(key): restored(item) for key, item in pairs}
    return {key: restored(item) for key, item in value.items()}


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True

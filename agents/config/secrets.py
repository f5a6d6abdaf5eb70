"""What nobody else may read in files, logs and services: passwords in addresses, keys, and what the environment calls a secret.

A setting that was written as an interpolation (`${oc.env:TOKEN}`) stays one wherever it is written; of everything else the
secret parts are masked. In texts of unknown origin that is best effort.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from envs.common.structured import Interpolated

MASK = "<masked>"
IN_ADDRESS = re.compile(r"(?<=//)[^\s/?#'\"]+(?=@)")
"""A user's name and password, in a mistyped address (`http//`), too."""
IN_QUERY = re.compile(
    r"(?i)(?<=[?&])((?:[\w.-]*[_.-])?(?:(?:api|access)?key|token|secret|pass(?:word|wd)?|credentials?|sig(?:nature)?))=[^\s&#'\"]+"
)
OF_FORM = re.compile(
    r"(?<!\w)(?:sk-[\w-]{16,}|hf_\w{20,}|gh[pousr]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|xox[abprs]-[\w-]{10,}"
    r"|AKIA[0-9A-Z]{16}|(?<=Bearer )[\w.~+/=-]{8,})"
)
"""Keys that tell by their form what they are."""
SETTING = re.compile(
    r"(?i)(?:.*_)?(?:(?:api|access|auth|secret|private)_?(?:key|token)|secret|pass(?:word|wd|phrase)|credentials?)"
)
"""Names of settings whose value is a secret; those that end in `token` or `key` alone mostly hold something else."""
VARIABLE = re.compile(r"(?i).*(?:KEY|TOKEN|SECRET|PASS(?:WORD|WD|PHRASE)?|_PW|CREDENTIALS?)")
"""Names of environment variables whose value is one."""
SHORTEST = 8
"""Characters that such a value must have to be masked wherever it stands."""


def masked(text: str) -> str:
    """`text` with what looks like a secret, or is one by the name of an environment variable, replaced by MASK."""
    for name, value in os.environ.items():
        if len(value) >= SHORTEST and value in text and VARIABLE.fullmatch(name) and not value.startswith("/"):
            text = text.replace(value, MASK)
    return OF_FORM.sub(MASK, IN_QUERY.sub(rf"\1={MASK}", IN_ADDRESS.sub(MASK, text)))


def masked_word(word: str) -> str:
    """A word of the command line as others may see it."""
    key, equals, value = word.partition("=")
    secret = equals and "${" not in value and SETTING.fullmatch(key.rpartition(".")[2])
    return f"{key}={MASK}" if secret else masked(word)


def shown(settings: Any) -> Any:
    """Settings as people and services may see them: interpolations as they were written, and secrets masked."""
    return _each(settings, lambda name, text: _safe(name, text))


def stored(settings: Any) -> Any:
    """The same, as OmegaConf reads them back: where `${` stands for itself it is escaped."""
    return _each(settings, lambda name, text: text.raw if isinstance(text, Interpolated) else _escaped(_safe(name, text)))


def unresolved(settings: Any) -> Any:
    """Settings, secrets included, as OmegaConf can join them with others."""
    return _each(settings, lambda name, text: text.raw if isinstance(text, Interpolated) else _escaped(text))


def masks(settings: Any, path: str = "") -> Iterator[str]:
    """Names of the settings that a file had in part masked."""
    if isinstance(settings, Mapping):
        for key, one in settings.items():
            yield from masks(one, f"{path}.{key}" if path else str(key))
    elif isinstance(settings, (list, tuple)):
        for one in settings:
            yield from masks(one, path)
    elif isinstance(settings, str) and MASK in settings:
        yield path


def _each(settings: Any, change: Callable[[str, str], str], name: str = "") -> Any:
    """Settings with every text changed, which is told the name of its setting."""
    if isinstance(settings, Mapping):
        return {key: _each(one, change, str(key)) for key, one in settings.items()}
    if isinstance(settings, (list, tuple)):
        return [_each(one, change, name) for one in settings]
    return change(name, settings) if isinstance(settings, str) else settings


def _safe(name: str, text: str) -> str:
    if isinstance(text, Interpolated):
        return text.raw
    return MASK if text and SETTING.fullmatch(name) else masked(text)


def _escaped(text: str) -> str:
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", text)

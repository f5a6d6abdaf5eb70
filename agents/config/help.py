"""`--help`: what can be chosen and set, with the values in force for the command that is given and where they come from.

Read from the YAML files, from what is registered, and from the text below each field in the dataclasses.
"""

from __future__ import annotations

import ast
import inspect
import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import cache
from typing import Any, get_args, get_type_hints

from agents.config import compose, secrets
from agents.config.commands import COMMANDS, Job
from agents.config.loading import composed, finish, to_dict
from agents.config.overrides import command_line
from agents.config.sections import EnvConfig
from algorithms import base, shaping, surrogates, transforms
from envs import registry
from envs.common.structured import ConfigError, describe, plain, suggestion

USAGE: dict[Job, str] = {
    "train": """\
Train a language-model agent in a text environment with credit to steps and
tokens.

usage: python -m agents.train [group=option ...] [key=value ...] [options]

  python -m agents.train env=alfworld algo=gigpo
      the small model, on a CPU, while you watch
  python -m agents.train algo=grpo seed=1 iterations=50
      another method, another seed
  python -m agents.train model=hub model.name=Qwen/Qwen2.5-0.5B-Instruct \\
      env.context=window
  python -m agents.train +experiment=gigpo_alfworld_qwen2.5_1.5b --dry-run
  python -m agents.train resume=runs/<name> iterations=300
      go on after an interruption
  python -m agents.train --multirun algo=gigpo,grpo seed=0,1,2
      six runs, one after the other

options:
  --help             this text; beside group=option and key=value, for that run
  --help <section>   the keys of a section: meaning, value, and where it is from
                     (--help optim; --help warmstart env=webshop)
  --cfg job          print the resolved configuration and stop
  --dry-run          print what the run would need (tokens, memory) and stop
  --multirun, -m     run every combination of values given as a,b,c
""",
    "evaluate": """\
Measure success on a split of tasks, with 95% intervals, by task type.

usage: python -m agents.evaluate run=runs/<name> [key=value ...]
           a run's newest checkpoint
       python -m agents.evaluate env=... model=... [key=value ...]
           a model as it is

  python -m agents.evaluate run=runs/<name> evaluation.split=test \\
      evaluation.temperature=[0.4,1.0]
  python -m agents.evaluate run=runs/<name> checkpoint=50 evaluation.repeats=4
  python -m agents.evaluate env=alfworld model=smollm2 evaluation.episodes=20

An evaluation that was stopped goes on where it was when the same command is
given again. With --help, key=value shows the values of that command, and
a section its keys (--help evaluation run=runs/<name>).
""",
    "judge": """\
Measure a judge of subgoals against the environment's own rules: precision,
recall and F1 with 95% intervals, cost and latency, for each way to put the
question.

usage: python -m agents.judge [env=...] [judge=...] [key=value ...]
           episodes of a random policy
       python -m agents.judge run=runs/<name> [judge=...] ...
           of a trained one

  python -m agents.judge env=alfworld judge=smollm2 episodes=20
  python -m agents.judge env=alfworld judge=rules judge.noise=0.3
  python -m agents.judge judge=endpoint judge.model=<name> \\
      judge.base_url=http://localhost:8000/v1 forms.subgoals=[preset]

A measurement that was stopped goes on where it was when the same command is
given again: answers are kept. With --help, key=value shows the values of that
command, and a section its keys (--help judge judge=smollm2).
""",
    "audit": """\
Measure the credit of methods against true advantages: states are valued by
continuing episodes from them, and each method credits the same episodes.

usage: python -m agents.audit run=runs/<name> [methods=[...]] [key=value ...]
           a run's newest checkpoint
       python -m agents.audit env=... model=... [methods=[...]] ...
           a model as it is, after its warm start if it gets one

  python -m agents.audit env=alfworld methods=[grpo,gigpo,hgpo]
  python -m agents.audit run=runs/<name> methods=[run,grpo,ppo] episodes=128
  python -m agents.audit run=runs/<name> continuations=16 tokens=100

An audit that was stopped goes on where it was when the same command is given
again; with other methods it credits the episodes that were valued before. With
--help, key=value shows the values of that command, and a section its keys.
""",
}
CHOICES = {"env": "environment", "algo": "method", "shaping": "shaping"}
"""Groups whose options bring settings of their own."""


@dataclass(frozen=True)
class Key:
    """A setting as the command given would have it."""

    name: str
    value: Any
    default: Any
    """MISSING where the dataclass has none."""
    source: str
    kind: str
    """What it may be, in words."""
    text: str


def text(job: Job, words: Sequence[str] = ()) -> str:
    """The help of a command for the overrides among `words`: the overview, or the keys of the sections that are named.

    Raises ConfigError for a section that does not exist, and where the overrides do not compose.
    """
    overrides = [word for word in words if "=" in word or word.startswith("~")]
    sections = [word for word in words if word not in overrides]
    known = keys(job, overrides)
    if sections:
        command = command_line(f"agents.{job}", *map(secrets.masked_word, overrides))
        lines = _wrapped(f"With {command}; a value that names no source is the default.", 0)
        for section in sections:
            lines += ["", *_section(section, known)]
    else:
        lines = _overview(job, overrides, known)
    try:
        finish(COMMANDS[job], composed(job, overrides))
    except ConfigError as exc:
        lines += ["", f"As it stands, this command is refused: {exc}"]
    return "\n".join(lines)


def keys(job: Job, overrides: Sequence[str] = ()) -> list[Key]:
    """Every setting of a command as `overrides` make it, even if it cannot run like that. Raises ConfigError."""
    values = composed(job, overrides)
    with suppress(ConfigError):
        values = to_dict(finish(COMMANDS[job], values))
    return list(_walk(COMMANDS[job], "", secrets.shown(values), composed(job, overrides, compose.sources)))


def _overview(job: Job, overrides: Sequence[str], known: Sequence[Key]) -> list[str]:
    lines = [USAGE[job]]
    available, chosen = compose.groups(), compose.choices(job, overrides)
    shown = [group for group in available if group in chosen or (job == "train" and chosen)]
    if shown:
        lines.append("groups (group=option; * is in force):")
    for group in shown:
        lines.append(f"  {group}")
        for option in compose.options(group, available[group]):
            mark = "*" if option in chosen.get(group, "").split(", ") else " "
            lines += _entry(f"  {mark} {option}", _option_text(group, option))
    lines += [
        "",
        "keys (section.key=value) with their values; --help <section> says what they mean",
        "and where a value comes from:",
    ]
    sections: dict[str, list[Key]] = {}
    for key in known:
        sections.setdefault(key.name.partition(".")[0], []).append(key)
    for section, inner in sections.items():
        if inner[0].name == section:
            lines += _entry(f"  {section}={_shown(inner[0].value)}", inner[0].text)
        else:
            inside = (f"{key.name.partition('.')[2]}={_shown(key.value)}".replace(" ", "\0") for key in inner)
            lines += [line.replace("\0", " ") for line in _entry(f"  {section}", ", ".join(inside))]
    return lines


def _section(section: str, known: Sequence[Key]) -> list[str]:
    inside = [key for key in known if key.name == section or key.name.startswith(f"{section}.")]
    if not inside and section != "shaping":
        sections = list(dict.fromkeys(key.name.rpartition(".")[0] for key in known if "." in key.name))
        near = suggestion(section, [*sections, *(key.name for key in known)])
        raise ConfigError(f"no section '{section}'; sections: {', '.join(sections)}.{near}")
    lines = []
    for key in inside:
        source = f"from {key.source}" if key.source else ""
        if source and key.default is not MISSING:
            source += f", default {_shown(key.default)}"
        head, width = f"  {key.name} = {_shown(key.value)}", _width()
        together = f"{head}    {source}".rstrip()
        lines += (
            [together] if len(together) <= width else [*_wrapped(head.strip(), 2), *(_wrapped(source, 6) if source else [])]
        )
        lines += _wrapped(f"{key.text} ({key.kind})".strip(), 6)
    if section == "loss":
        lines += ["", "loss.surrogate, all with a ratio r = pi / pi_old of a token or a sequence:"]
        for name in surrogates.names():
            lines += _entry(f"  {name}", _option_text("loss", name))
    if section == "algo":
        lines += ["", "algo.transforms, applied to the advantages of any method in the order given:"]
        for name in transforms.names():
            lines += _entry(f"  {name}", _option_text("transforms", name))
    if section in CHOICES:
        available = compose.options(section, compose.groups().get(section, []))
        another = f"Settings of another {CHOICES[section]}: --help {section} {section}=<one of {', '.join(available)}>"
        lines += ["", *_wrapped(another, 0)]
    return lines


def _walk(cls: type, path: str, values: Mapping[str, Any], sources: Mapping[str, Any]) -> Iterator[Key]:
    """Every key of a dataclass, sections inside it included, with the settings of what is chosen by name."""
    hints, texts = get_type_hints(cls, include_extras=True), _field_texts(cls)
    for field in (field for field in fields(cls) if field.init):
        name = f"{path}.{field.name}" if path else field.name
        inner = _section_class(hints[field.name])
        if cls is EnvConfig and field.name == "settings":
            yield from _settings_of("env", str(_at(values, "env.name")), "env", values, sources)
        elif not path and field.name == "algo":
            method = str(_at(values, "algo.name"))
            yield Key("algo.name", method, MISSING, _source(sources, "algo.name"), "text", texts["algo"])
            yield from _settings_of("algo", method, "algo", values, sources)
        elif not path and field.name == "shaping":
            for one in values.get("shaping") or {}:
                yield from _settings_of("shaping", one, f"shaping.{one}", values, sources)
        elif inner is not None:
            # Only a section that may be null has null as its default: it is off, and its keys say what it would have.
            if _at(values, name) in (None, MISSING) and field.default is None:
                yield Key(name, None, None, "", "a section; null: off", texts.get(field.name, ""))
            yield from _walk(inner, name, values, sources)
        else:
            default, value = _default(field), _at(values, name)
            source = "" if value is MISSING or (default is not MISSING and value == default) else _source(sources, name)
            value = default if value is MISSING else value
            yield Key(name, value, default, source, describe(hints[field.name]), texts.get(field.name, ""))


def _settings_of(group: str, name: str, path: str, values: Mapping[str, Any], sources: Mapping[str, Any]) -> Iterator[Key]:
    """The keys of an environment, a method or a shaping, each in its own dataclass; none if it cannot be imported."""
    cls = _registered_class(group, name, settings=True)
    if cls is not None:
        yield from _walk(cls, path, values, sources)


def _registered_class(group: str, name: str, settings: bool = False) -> type | None:
    """What is registered as an option of a group, or the dataclass of its settings; None if nothing is, or it is broken."""
    try:
        if group == "env" and name in registry.names():
            return registry.spec(name).config if settings else registry.spec(name).env
        if group in ("algo", "shaping", "transforms", "loss"):
            named: Any = {"algo": base, "shaping": shaping, "transforms": transforms, "loss": surrogates}[group]
            found: type | None = named.get(name) if name in named.names() else None
            return found
    except Exception:  # a stranger's code may fail in any way; the others must still be listed
        return None
    return None


def _at(values: Any, path: str) -> Any:
    """The value under a dotted name; MISSING if there is none."""
    for part in path.split("."):
        if not isinstance(values, Mapping) or part not in values:
            return MISSING
        values = values[part]
    return values


def _source(sources: Mapping[str, Any], path: str) -> str:
    """Where a value comes from; of a mapping, where its last entry does."""
    found = _at(sources, path)
    while isinstance(found, Mapping) and found:
        found = list(found.values())[-1]
    return found if isinstance(found, str) else ""


def _section_class(hint: Any) -> type | None:
    """The dataclass behind a field, also where it may be null; None for a plain value."""
    for option in (hint, *get_args(hint)):
        if is_dataclass(option) and isinstance(option, type):
            return option
    return None


def _default(field: Field[Any]) -> Any:
    if field.default is not MISSING:
        return plain(field.default)
    return MISSING if field.default_factory is MISSING else plain(field.default_factory())


def _shown(value: Any) -> str:
    """A value as one would type it."""
    if value == "???":
        return "(must be given)"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_shown(one)}" for key, one in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_shown, value)) + "]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


@cache
def _field_texts(cls: type) -> dict[str, str]:
    """The string below each annotated field, fields of base classes included; of code without its source, nothing."""
    texts: dict[str, str] = {}
    for one in reversed([one for one in cls.__mro__ if is_dataclass(one)]):
        try:
            body = ast.parse(textwrap.dedent(inspect.getsource(one))).body[0]
        except (OSError, SyntaxError):
            continue
        assert isinstance(body, ast.ClassDef)
        for before, after in zip(body.body, body.body[1:]):
            if isinstance(before, ast.AnnAssign) and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                assert isinstance(before.target, ast.Name)
                texts[before.target.id] = " ".join(str(after.value.value).split())
    return texts


def _option_text(group: str, option: str) -> str:
    """What an option is: the first sentence of the comment its YAML file opens with, or the first line of its docstring."""
    for folder in compose.search_path():
        path = folder / group / f"{option}.yaml"
        if path.exists():
            comments = []
            for line in path.read_text(encoding="utf-8").splitlines():
                if not line.startswith("#"):
                    break
                if "@package" not in line:
                    comments.append(line.lstrip("# "))
            if comments:
                return " ".join(comments).split(". ")[0].rstrip(".")
    cls = _registered_class(group, option)
    if cls is None:
        return ""
    written = inspect.cleandoc(cls.__doc__ or "")
    # A dataclass without a docstring is given its signature for one.
    return "" if written.startswith(f"{cls.__name__}(") else written.partition("\n")[0].rstrip(".")


def _entry(head: str, text: str) -> list[str]:
    """A name and its text in two columns; a name that is too long has a line of its own."""
    if not text:
        return [head]
    column = 24
    lines = _wrapped(text, column)
    if len(head) >= column:
        return [head, *lines]
    return [f"{head:<{column}}{lines[0].lstrip()}", *lines[1:]]


def _wrapped(text: str, indent: int) -> list[str]:
    """Lines that fit the terminal, or 80 columns where the output is none; a word that is longer stays whole."""
    space = " " * indent
    return textwrap.wrap(
        text, _width(), initial_indent=space, subsequent_indent=space, break_long_words=False, break_on_hyphens=False
    )


def _width() -> int:
    return min(120, max(40, shutil.get_terminal_size((80, 24)).columns - 1))

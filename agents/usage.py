"""`--help`: what can be chosen and set, read from the YAML files and from the text below each field in the dataclasses."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from typing import Any, get_args, get_type_hints

from agents.compose import groups, search_path
from agents.config import EnvConfig, EvalConfig, EvaluateConfig, FormsConfig, JudgeConfig, JudgeRunConfig, TrainConfig
from envs.structured import ConfigError, describe, keys, plain, suggestion

EVALUATE = """\
Measure success on a panel of tasks, with 95% intervals, by task type.

usage: python -m agents.evaluate run=runs/<name> [key=value ...]        a run's newest checkpoint
       python -m agents.evaluate env=... model=... [key=value ...]      a model as it is

  python -m agents.evaluate run=runs/<name> evaluation.panel=test evaluation.temperature=[0.4,1.0]
  python -m agents.evaluate run=runs/<name> checkpoint=50 evaluation.repeats=4
  python -m agents.evaluate env=alfworld model=smollm2 evaluation.episodes=20

An evaluation that was stopped goes on where it was when the same command is given again.

keys:
"""
JUDGE = """\
Measure a judge of subgoals against the environment's own rules: precision, recall and F1 with 95% intervals, cost and latency,
for each way to put the question.

usage: python -m agents.judge [env=...] [judge=...] [key=value ...]     episodes of a random policy
       python -m agents.judge run=runs/<name> [judge=...] ...           of a trained one

  python -m agents.judge env=alfworld judge=smollm2 episodes=20
  python -m agents.judge env=alfworld judge=rules judge.noise=0.3
  python -m agents.judge judge=endpoint judge.model=<name> judge.base_url=http://localhost:8000/v1 forms.subgoals=[preset]

A measurement that was stopped goes on where it was when the same command is given again: answers are kept.

keys:
"""
USAGE = """\
Train a language-model agent in a text environment with credit to steps and tokens.

usage: python -m agents.train [group=option ...] [key=value ...] [options]

  python -m agents.train env=alfworld algo=gigpo                 the small model, on a CPU, while you watch
  python -m agents.train algo=grpo seed=1 iterations=50          another method, another seed
  python -m agents.train model=hub model.name=Qwen/Qwen2.5-0.5B-Instruct env.context=window
  python -m agents.train +experiment=gigpo_alfworld_qwen2.5_1.5b --dry-run
  python -m agents.train resume=runs/<name> iterations=300       go on after an interruption
  python -m agents.train --multirun algo=gigpo,grpo seed=0,1,2   six runs, one after the other

options:
  --help [section]   this text, or the keys of a section with their meaning (--help optim)
  --cfg job          print the resolved configuration and stop
  --dry-run          print what the run would need (tokens, memory) and stop
  --multirun, -m     run every combination of values given as a,b,c
"""


def show(sections: Sequence[str] = ()) -> None:
    """Print the overview, or the keys of `sections`. Raises ConfigError for a section that does not exist."""
    if not sections:
        print(USAGE)
        print("groups (group=option):")
        for group, options in groups().items():
            print(f"  {group}")
            for option in options:
                print(_entry(option, _comment(group, option), 4))
        print("\nkeys (section.key=value; meaning and default with --help <section>):")
        for field in fields(TrainConfig):
            inner = _section_class(get_type_hints(TrainConfig)[field.name])
            inside = ", ".join(name for name in keys(inner) if inner is not EnvConfig or name != "settings") if inner else ""
            print(_entry(field.name, inside or _field_texts(TrainConfig).get(field.name, ""), 2))
        return
    for section in sections:
        print("\n".join(_section(section)))


def evaluate_help() -> str:
    """The help text of `python -m agents.evaluate`."""
    return EVALUATE + "\n".join([*_plain_keys(EvaluateConfig), *_keys(EvalConfig, "evaluation")])


def judge_help() -> str:
    """The help text of `python -m agents.judge`."""
    sections = [*_keys(FormsConfig, "forms"), *_keys(JudgeConfig, "judge")]
    return JUDGE + "\n".join([*_plain_keys(JudgeRunConfig), *sections])


def _plain_keys(cls: type) -> list[str]:
    """The keys of an entry point that are no sections."""
    texts = _field_texts(cls)
    return [_entry(name, texts.get(name, ""), 2) for name, hint in get_type_hints(cls).items() if _section_class(hint) is None]


def _section(section: str) -> list[str]:
    from algorithms import base, shaping
    from envs import registry

    # What is registered by name has its own settings, each in its own dataclass.
    if section == "algo":
        return [line for name in base.names() for line in (f"algo={name}:", *_keys(base.get(name), "algo"), "")]
    if section == "shaping":
        return [line for name in shaping.names() for line in _keys(shaping.get(name), f"shaping.{name}")]
    cls: type = TrainConfig
    for part in section.split("."):
        inner = {name: _section_class(hint) for name, hint in get_type_hints(cls).items()}
        known = ["algo", "shaping", *(name for name, one in inner.items() if one is not None)]
        if part not in known:
            raise ConfigError(f"no section '{section}'; sections: {', '.join(known)}.{suggestion(part, known)}")
        cls = inner[part] or cls
    lines = _keys(cls, section)
    if cls is EnvConfig:
        for name in registry.names():
            lines += ["", f"with env={name}:", *_keys(registry.spec(name).config, section)]
    return lines


def _keys(cls: type, section: str) -> list[str]:
    texts = _field_texts(cls)
    hints = get_type_hints(cls, include_extras=True)
    lines = []
    for field in fields(cls):
        if field.name == "settings" and cls is EnvConfig:
            continue
        name = f"{section}.{field.name}"
        inner = _section_class(hints[field.name])
        if inner is not None:
            lines += _keys(inner, name)
        else:
            text = textwrap.wrap(texts.get(field.name, ""), 120, initial_indent=" " * 6, subsequent_indent=" " * 6)
            lines += [f"  {name} ({describe(hints[field.name])}; default {_default(field)})", *text]
    return lines


def _section_class(hint: Any) -> type | None:
    """The dataclass behind a field, also where it may be null; None for a plain value."""
    for option in (hint, *get_args(hint)):
        if is_dataclass(option) and isinstance(option, type):
            return option
    return None


def _default(field: Field[Any]) -> str:
    if field.default is not MISSING:
        return "null" if field.default is None else str(field.default)
    return "none" if field.default_factory is MISSING else str(plain(field.default_factory()))


@cache
def _field_texts(cls: type) -> dict[str, str]:
    """The string below each annotated field, fields of base classes included."""
    texts: dict[str, str] = {}
    for one in reversed([one for one in cls.__mro__ if is_dataclass(one)]):
        body = ast.parse(textwrap.dedent(inspect.getsource(one))).body[0]
        assert isinstance(body, ast.ClassDef)
        for before, after in zip(body.body, body.body[1:]):
            if isinstance(before, ast.AnnAssign) and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                assert isinstance(before.target, ast.Name)
                texts[before.target.id] = " ".join(str(after.value.value).split())
    return texts


def _comment(group: str, option: str) -> str:
    """The first sentence of the comment a YAML file opens with."""
    for folder in search_path():
        path = folder / group / f"{option}.yaml"
        if path.exists():
            comments = []
            for line in path.read_text(encoding="utf-8").splitlines():
                if not line.startswith("#"):
                    break
                if "@package" not in line:
                    comments.append(line.lstrip("# "))
            return " ".join(comments).split(". ")[0].rstrip(".")
    return ""


def _entry(name: str, text: str, indent: int) -> str:
    """A name and its text in two columns; a name that is too long has a line of its own."""
    head = f"{'':{indent}}{name}"
    if not text:
        return head
    column = " " * 27
    lines = textwrap.wrap(text, 120, initial_indent=column, subsequent_indent=column)
    if len(head) >= len(column):
        return "\n".join([head, *lines])
    lines[0] = f"{head:<27}{lines[0].lstrip()}"
    return "\n".join(lines)

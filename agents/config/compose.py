"""Hydra's part of the configuration: config groups, their files (this project's and plug-ins'), and overrides.

Every `key=value` is passed on whether or not a YAML file names the key: the dataclasses in agents.config.commands decide
which keys exist, so that one place reports every mistake in one way.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError  # type: ignore[import-untyped]

from agents.config.commands import COMMANDS, TrainConfig
from agents.config.overrides import parse, quoted
from agents.config.renamed import translated
from agents.config.secrets import MASK, masks, unresolved
from algorithms import base, shaping
from envs import registry
from envs.common.plugins import entry_points_of
from envs.common.structured import ConfigError, Interpolated, keys, not_among, suggestion
from envs.common.text import first_line, printable

ROOT = Path(__file__).resolve().parents[2] / "conf"
LAST = keys(TrainConfig)[-1]
"""The setting at the end of a run's config.yaml."""
SHAPE = "the weights that were saved have another shape"
FIXED = {
    "run": "a run goes on under its own name",
    "out": "a run goes on in its own folder",
    "seed": "what follows would no longer be the run that was begun",
    **dict.fromkeys(("critic.hidden", "critic.trains"), SHAPE),
}
"""Keys that cannot be given with resume=, and why."""
PLUGIN_GROUPS = tuple(
    f"stepcredit.{kind}" for kind in ("envs", "algorithms", "shaping", "transforms", "losses", "engines", "trackers")
)


def compose(job: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The plain mapping that `conf/<job>.yaml` and `overrides` give, interpolations resolved. Raises ConfigError."""
    parsed = parse(overrides)
    run = named_run(job, parsed)
    if run:
        return of_run(run[1], [one for one in parsed if one.key_or_group != run[0]], run[0], keys(COMMANDS[job]))
    with _hydra():
        named_values = _resolved(hydra_compose(job, _lines(parsed)))
    _refuse_half_a_method(parsed, named_values)
    return named_values


@contextmanager
def _hydra() -> Iterator[None]:
    """Within: Hydra composes from `conf/`."""
    try:
        with initialize_config_dir(str(ROOT), version_base="1.3"):
            yield
    except (HydraException, OmegaConfBaseException) as exc:
        raise ConfigError(f"the configuration does not compose: {exc}") from exc


def _resolved(config: Any) -> dict[str, Any]:
    """A plain mapping, in which texts that were interpolated know what was written. Raises ConfigError."""

    def values(node: DictConfig | ListConfig) -> Any:
        if isinstance(node, DictConfig):
            return {str(key): value(node, key) for key in node}
        return [value(node, place) for place in range(len(node))]

    def value(node: Any, key: Any) -> Any:
        if OmegaConf.is_missing(node, key):
            return "???"
        found = node[key]
        if isinstance(found, (DictConfig, ListConfig)):
            return values(found)
        if isinstance(found, str) and OmegaConf.is_interpolation(node, key):
            written: Any = OmegaConf.to_container(node, resolve=False)
            return Interpolated(found, written[key])
        return found

    try:
        found: dict[str, Any] = values(config)
    except OmegaConfBaseException as exc:
        unset = re.search(r"Environment variable '(.*?)' not found", str(exc))
        why = f"set the environment variable {unset[1]}, which it names" if unset else first_line(exc)
        raise ConfigError(f"{exc.full_key or 'the configuration'} cannot be resolved: {why}") from exc
    return found


def sources(job: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """For each value of `compose(job, overrides)` where it comes from: a file, or the command line. Raises ConfigError."""
    parsed = parse(overrides)
    run = named_run(job, parsed)
    found: dict[str, Any] = {}
    if run:
        saved = Path(run[1]) / "config.yaml"
        _note(found, read_saved(saved), str(saved))
    else:
        folders = search_path()
        for one in _defaults(job, parsed):
            files = [(folder, folder / f"{one.config_path}.yaml") for folder in folders]
            folder, file = next((folder, file) for folder, file in files if file.is_file())
            content = OmegaConf.to_container(OmegaConf.load(file))
            assert isinstance(content, dict)
            content.pop("defaults", None)
            above = folder.parent if folder == ROOT else folder.parent.parent
            _note(found, _placed(one.package or "", content), file.relative_to(above).as_posix())
    available = groups()
    for override in parsed:
        key, value = override.key_or_group, override.value()
        if key in available and key in ("env", "algo") and value not in available[key]:
            _note(found, {key: {"name": value}}, f"{key}={value}")
        elif key not in available and not override.is_delete():
            _note(found, _placed(key, value), "the command line")
    return found


def method(name: str) -> dict[str, Any]:
    """What choosing the method `algo=<name>` sets, by section. Raises ConfigError."""
    available = groups()["algo"]
    if name not in options("algo", available):
        raise not_among("algo", name, options("algo", available))
    if name not in available:
        return {"algo": {"name": name}}
    with _hydra():
        return _resolved(hydra_compose(overrides=[*_lines([]), f"+algo={name}"]))


def joined(values: Mapping[str, Any], more: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """`values` with those of `more` over them, and single values that `overrides` give over both."""
    config = OmegaConf.merge(OmegaConf.create(unresolved(values)), OmegaConf.create(unresolved(more)))
    for override in parse(overrides):
        OmegaConf.update(config, override.key_or_group, override.value(), force_add=True)
    return _resolved(config)


def _placed(place: str, content: Any) -> Any:
    """`content` under the dotted name `place`."""
    for part in reversed(place.split(".") if place else []):
        content = {part: content}
    return content


def choices(job: str, overrides: Sequence[str] = ()) -> dict[str, str]:
    """The option in force of each config group, as `algo: gigpo`; none where a run brings its configuration."""
    parsed = parse(overrides)
    if named_run(job, parsed):
        return {}
    chosen: dict[str, str] = {}
    for name in (one.config_path for one in _defaults(job, parsed) if one.parent == job):
        group, _, option = str(name).partition("/")
        chosen[group] = f"{chosen[group]}, {option}" if group in chosen else option
    return chosen | {one.key_or_group: str(one.value()) for one in parsed if one.key_or_group in ("env", "algo")}


def named_run(job: str, parsed: Sequence[Override]) -> tuple[str, str] | None:
    """The setting that names a run to go on with, or to evaluate, which brings its own configuration; and that run."""
    key = "resume" if job == "train" else "run"
    named = [override for override in parsed if override.key_or_group == key and override.value() is not None]
    return (key, str(named[-1].value())) if named else None


def _lines(parsed: Sequence[Override]) -> list[str]:
    """The overrides in Hydra's words."""
    folders = search_path()
    available = groups(folders)
    lines = [f"hydra.searchpath=[{','.join(quoted(f'file://{folder}') for folder in folders[1:])}]"] if folders[1:] else []
    for override in parsed:
        if override.key_or_group in available:
            lines += _group_override(override, available[override.key_or_group])
        elif override.is_delete():
            lines.append(str(override.input_line))
        else:
            lines.append("++" + str(override.input_line).lstrip("+"))
    return lines


def _defaults(job: str, parsed: Sequence[Override]) -> list[Any]:
    """The files that Hydra joins, in their order: the later one counts."""
    with _hydra():
        loader = GlobalHydra.instance().config_loader()
        joined = loader.compute_defaults_list(job, _lines(parsed), RunMode.RUN).defaults
    return [one for one in joined if not str(one.config_path).startswith("hydra/")]


def _note(found: dict[str, Any], content: Any, source: str) -> None:
    """Write `source` for every value in `content` over what was noted for it before."""
    for key, value in content.items():
        if isinstance(value, Mapping) and value:
            below = found.setdefault(str(key), {})
            if not isinstance(below, dict):
                below = found[str(key)] = {}
            _note(below, value, source)
        else:
            interpolated = isinstance(value, str) and "${" in value
            found[str(key)] = f"{source}, {value}" if interpolated else source


def _refuse_half_a_method(parsed: Sequence[Override], values: dict[str, Any]) -> None:
    """A recipe is composed after the method, so one that was made for another method may undo what belongs to this one."""
    chosen = {override.key_or_group: override.value() for override in parsed}
    if "experiment" not in chosen or "algo" not in chosen:
        return
    set_by_method = OmegaConf.create(method(str(chosen["algo"])))
    lost = []
    for key in _leaves(OmegaConf.to_container(set_by_method)):
        wanted, got = OmegaConf.select(set_by_method, key), OmegaConf.select(OmegaConf.create(values), key)
        if not key.startswith("algo.") and key not in chosen and wanted != got:
            lost.append(f"{key}={'null' if wanted is None else wanted}")
    if lost:
        raise ConfigError(
            f"experiment={chosen['experiment']} undoes what algo={chosen['algo']} sets: say it again beside them, as it is or "
            f"otherwise: {' '.join(lost)}"
        )


def _leaves(tree: Any, path: str = "") -> list[str]:
    if not isinstance(tree, dict):
        return [path]
    return [leaf for key, value in tree.items() for leaf in _leaves(value, f"{path}.{key}" if path else str(key))]


def search_path() -> list[Path]:
    """Folders with config groups: this project's, then the `conf` folder of every installed plug-in package that has one."""
    folders = [ROOT]
    for group in PLUGIN_GROUPS:
        for point in entry_points_of(group):
            # The package is located, not imported: a plug-in may be slow to import.
            found = importlib.util.find_spec(point.module.split(".")[0])
            for place in (found.submodule_search_locations or []) if found else []:
                folder = Path(place) / "conf"
                if folder.is_dir() and folder.resolve() not in folders:
                    folders.append(folder.resolve())
    return folders


def groups(folders: Sequence[Path] | None = None) -> dict[str, list[str]]:
    """Config groups and their options."""
    found: dict[str, set[str]] = {}
    for folder in folders or search_path():
        for path in folder.glob("*/**/*.yaml"):
            group, *option = path.relative_to(folder).with_suffix("").parts
            found.setdefault(group, set()).add("/".join(option))
    return {group: sorted(options) for group, options in sorted(found.items())}


def options(group: str, available: Sequence[str]) -> list[str]:
    """All options of a group: files, and what is registered by name and ships none, whose dataclass has the defaults."""
    return sorted({*available, *_registered(group)})


def _group_override(override: Override, available: Sequence[str]) -> list[str]:
    """The override as Hydra wants it, its options checked first because Hydra's own message is long."""
    group, chosen = override.key_or_group, override.value()
    if override.is_delete() or chosen is None:
        return [f"~{group}"]
    asked = [str(option) for option in (chosen if isinstance(chosen, list) else [chosen])]
    bare = [option for option in asked if option not in available]
    for option in bare:
        known = options(group, available)
        if option not in known:
            raise not_among(group, option, known)
    if bare and group == "shaping":
        others = [option for option in asked if option in available] or ["none"]
        return [f"shaping=[{','.join(others)}]", *(f"++shaping.{option}={{}}" for option in bare)]
    if bare and len(asked) == 1:
        return [f"~{group}", f"++{group}.name={bare[0]}"]
    value = str(override.input_line).partition("=")[2]
    # Groups outside the defaults list (whole recipes) are added, all others replaced.
    return [f"{'+' if group == 'experiment' else ''}{group}={value}"]


def _registered(group: str) -> list[str]:
    """Names of environments, methods or shapings; to know them, plug-ins are imported."""
    known: Any = {"env": registry, "algo": base, "shaping": shaping}.get(group)
    return known.names() if known else []


def of_run(
    run: str, overrides: Sequence[Override], key: str = "run", used: Collection[str] = keys(TrainConfig)
) -> dict[str, Any]:
    """The configuration a run was started with, single values replaced. Raises ConfigError.

    key: the setting that names the run; with key=run only those sections are there that are `used`.
    """
    folder = Path(run)
    saved = folder / "config.yaml"
    if not saved.is_file():
        near = [str(path.parent) for path in folder.parent.glob("*/config.yaml")] if folder.parent.is_dir() else []
        known = f"; run folders there: {', '.join(sorted(near))}" if near else ""
        raise ConfigError(f"{key} is '{run}', but there is no {saved}{known}.{suggestion(run, near)}")
    available = groups()
    if not saved.stat().st_size:
        raise ConfigError(
            f"{key} is '{run}', a run that was stopped before it had begun (its config.yaml is empty): delete that folder, and "
            "start again"
        )
    older = read_saved(saved)
    translated(older)
    if key == "run":
        # Of a training run these are a name, a place and a schedule, which mean nothing to an evaluation; and what it does not
        # use may name environment variables that are not set here.
        unused = {"run", "out", "checkpoint", "resume"} | {name for name in keys(TrainConfig) if name not in used}
        older = {name: value for name, value in older.items() if name not in unused}
    config = OmegaConf.create(older)
    fixed = FIXED | {
        f"shaping.{name}.{setting}": SHAPE
        for name in config.get("shaping") or {}
        for setting in shaping.get(str(name)).shapes_weights
    }
    for override in overrides:
        if override.key_or_group in available:
            raise ConfigError(
                f"'{override.input_line}' together with {key}={run}: the run's own choice in {saved} counts. "
                f"Single values ({'iterations=300' if key == 'resume' else 'evaluation.episodes=50'}) may be changed; another "
                "choice needs a run of its own"
            )
        if key == "resume" and override.key_or_group in fixed:
            raise ConfigError(
                f"'{override.input_line}' together with resume={run}: {fixed[override.key_or_group]}. Leave it away, or start "
                "a new run without resume="
            )
        OmegaConf.update(config, override.key_or_group, override.value(), force_add=True)
    values = _resolved(config)
    if hidden := list(masks(values)):
        raise ConfigError(
            f"{', '.join(hidden)}: {saved} has {MASK} in place of a secret. Give it again, for example "
            f"'{hidden[0]}=${{oc.env:MY_SECRET}}', which is stored as it is written"
        )
    return {**values, key: run}


def read_saved(file: Path) -> dict[str, Any]:
    """What a config.yaml holds, interpolations as they are written. Raises ConfigError, with what to do, for a damaged one."""
    try:
        values = OmegaConf.to_container(OmegaConf.load(file))
        whole = isinstance(values, dict) and LAST in values
        why = "" if whole else "it was cut off" if isinstance(values, dict) and values else "it holds no settings"
    except (OSError, ValueError, RecursionError, YAMLError, OmegaConfBaseException) as exc:
        values, why = {}, first_line(exc) or type(exc).__name__
    if why:
        raise ConfigError(f"{file} is damaged ({printable(why)}): restore it from a copy; without it the run cannot be used")
    assert isinstance(values, dict)
    return {str(name): value for name, value in values.items()}

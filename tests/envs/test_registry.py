"""The registry: environments by name and id, configuration by keyword, and plug-ins that cannot harm each other."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal

import gymnasium
import pytest

import envs
from envs import registry
from envs.common.structured import AtLeast, ConfigError, build
from tests.envs import toys

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def corridor_registered() -> Iterator[None]:
    known, aliases = dict(registry._registry._known), dict(registry._registry._aliases)
    envs.register("corridor", "toys/Corridor-v0", "tests.envs.toys:Corridor", toys.CorridorConfig, toys.CorridorPrompt)
    yield
    registry._registry._known, registry._registry._aliases = known, aliases
    gymnasium.registry.pop("toys/Corridor-v0", None)


def run(program: str, path: Path | None = None) -> str:
    """Output of a fresh interpreter, errors included."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, filter(None, [path, ROOT])))}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], env=environment, cwd=ROOT, capture_output=True, text=True
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize("name", ["corridor", "toys/Corridor-v0"])
def test_an_environment_is_made_by_name_or_id(name: str) -> None:
    env = envs.make(name, max_steps=7, slippery=1)
    assert isinstance(env, toys.Corridor)
    assert env.config == toys.CorridorConfig(max_steps=7, slippery=1.0)


def test_gymnasium_makes_it_with_configuration_as_keywords() -> None:
    env = gymnasium.make("toys/Corridor-v0", max_steps=7)
    assert isinstance(env, toys.Corridor)
    assert env.max_steps == 7
    assert env.spec is not None
    assert env.spec.id == "toys/Corridor-v0"
    assert env.reset(seed=1)[1]["task_id"] in env.tasks("train")


def test_the_spec_holds_the_classes() -> None:
    spec = envs.spec("corridor")
    assert (spec.name, spec.id) == ("corridor", "toys/Corridor-v0")
    assert (spec.env, spec.config, spec.prompt) == (toys.Corridor, toys.CorridorConfig, toys.CorridorPrompt)


def test_the_built_in_ids_are_known_to_gymnasium_after_one_import() -> None:
    assert {"alfworld"} <= set(envs.names())
    assert "stepcredit/ALFWorld-v0" in gymnasium.registry


def test_importing_envs_imports_no_environment_and_nothing_heavy() -> None:
    found = run(
        "import sys, envs; heavy = ('envs.', 'agents', 'torch', 'hydra', 'omegaconf', 'yaml');"
        "print(sorted(m for m in sys.modules if m.startswith(heavy)))"
    )
    light = [
        "base",
        "common",
        "common.plugins",
        "common.registry",
        "common.seeding",
        "common.structured",
        "prompt",
        "registry",
        "state_key",
    ]
    assert ast.literal_eval(found) == [f"envs.{name}" for name in light]


def test_an_unknown_name_is_answered_with_the_names_and_the_nearest() -> None:
    with pytest.raises(
        envs.UnknownEnvironment, match=r"no environment 'coridor'; registered: .*corridor.*Did you mean 'corridor'"
    ):
        envs.make("coridor")


def test_a_name_is_not_registered_twice_for_two_things() -> None:
    envs.register("corridor", "toys/Corridor-v0", "tests.envs.toys:Corridor", toys.CorridorConfig, toys.CorridorPrompt)
    with pytest.raises(ValueError, match=r"environment 'corridor' is registered already \(.*toys/Corridor-v0"):
        envs.register("corridor", "toys/Other-v0", toys.Corridor, toys.CorridorConfig)
    with pytest.raises(ValueError, match=r"'tests\.envs\.toys' is not of the form 'module:attribute'"):
        envs.register("other", "toys/Other-v0", "tests.envs.toys", toys.CorridorConfig)


def test_a_registration_that_names_a_missing_class_says_so() -> None:
    envs.register("lost", "toys/Lost-v0", "tests.envs.toys:Lost", toys.CorridorConfig)
    with pytest.raises(ImportError, match=r"'lost' is registered as 'tests.envs.toys:Lost', but tests.envs.toys has no 'Lost'"):
        envs.make("lost")
    gymnasium.registry.pop("toys/Lost-v0")


# -- configuration ----------------------------------------------------------------------------------------------------------


@dataclass
class Inner:
    size: int = 1

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size is {self.size}")


class Color(Enum):
    RED = 1


@dataclass
class Everything:
    needed: str
    number: int = 0
    share: Annotated[float, AtLeast(0)] = 0.5
    on: bool = False
    kind: Literal["aa", "b"] = "aa"
    level: Literal[1, 2] = 1
    path: str | None = None
    pair: tuple[int, float] = (1, 2.0)
    names: list[str] = field(default_factory=list)
    plain: tuple = ()  # type: ignore[type-arg]
    weights: dict[str, float] = field(default_factory=dict)
    inner: Inner = field(default_factory=Inner)
    color: Color = Color.RED
    anything: Any = None


def test_values_of_the_right_type_are_taken() -> None:
    values: dict[str, Any] = {
        "needed": "x",
        "share": 1,
        "on": True,
        "kind": "b",
        "path": "p",
        "pair": [3, 4],
        "names": ("n",),
        "plain": [1, "b"],
        "weights": {"w": 1},
        "inner": {"size": 2},
        "anything": [1],
    }
    made = build(Everything, values)
    assert made == Everything("x", 0, 1.0, True, "b", 1, "p", (3, 4.0), ["n"], (1, "b"), {"w": 1.0}, Inner(2), Color.RED, [1])
    assert isinstance(made.share, float)
    assert isinstance(made.pair, tuple)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"nmber": 1}, r"unknown key 'toy.nmber'. Did you mean 'toy.number'\?\nkeys of toy: anything, color, inner, "),
        ({"number": "3"}, r"toy.number is '3' \(str\); it must be a whole number"),
        ({"number": True}, r"toy.number is True \(bool\); it must be a whole number"),
        ({"number": 3.5}, r"toy.number is 3.5 \(float\); it must be a whole number"),
        ({"share": float("nan")}, r"toy.share is nan \(float\); it must be a number"),
        ({"share": -1}, r"toy.share is -1; it must be at least 0"),
        ({"on": 1}, r"toy.on is 1 \(int\); it must be true or false"),
        ({"kind": "bb"}, r"toy.kind is 'bb'; allowed: aa, b. Did you mean 'b'\?"),
        ({"level": True}, r"toy.level is True; allowed: 1, 2"),
        ({"path": [3]}, r"toy.path is \[3\] \(list\); it must be text"),
        ({"pair": [1]}, r"toy.pair has 1 values; it must have 2"),
        ({"pair": 1}, r"toy.pair is 1 \(int\); it must be a list of a whole number and a number in brackets"),
        ({"names": ["a", True]}, r"toy.names\[1\] is True \(bool\); it must be text"),
        ({"names": "ab"}, r"toy.names is 'ab' \(str\); it must be a list of text in brackets"),
        ({"plain": 3}, r"toy.plain is 3 \(int\); it must be a list of anything in brackets"),
        ({"weights": {"w": "x"}}, r"toy.weights.w is 'x' \(str\); it must be a number"),
        ({"weights": 3}, r"toy.weights is 3 \(int\); it must be a section"),
        ({"color": "red"}, r"toy.color is 'red' \(str\); it must be Color"),
        ({"inner": {"sise": 1}}, r"unknown key 'toy.inner.sise'. Did you mean 'toy.inner.size'\?\nkeys of toy.inner: size"),
        ({"inner": {"size": 0}}, r"toy.inner: size is 0"),
    ],
)
def test_a_wrong_value_is_refused_by_key_and_expected_type(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(Everything, {"needed": "x", **values}, "toy")


def test_a_missing_value_is_named() -> None:
    with pytest.raises(ConfigError, match=r"toy\.needed has no value; set it, for example toy.needed=<text>"):
        build(Everything, {}, "toy")


@pytest.mark.parametrize("make", [envs.make, gymnasium.make])
def test_a_wrong_key_of_an_environment_is_refused_by_name(make: Any) -> None:
    with pytest.raises(ConfigError, match=r"'corridor.max_step'. Did you mean .*max_steps'\?\n.*: max_steps, slippery"):
        make("toys/Corridor-v0", max_step=3)


# -- plug-ins ---------------------------------------------------------------------------------------------------------------


def install(folder: Path, package: str, entry: str, source: str) -> None:
    """A package with an entry point, as an installer would lay it out."""
    (folder / f"{package}.py").write_text(textwrap.dedent(source))
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[stepcredit.envs]\n{entry}\n")


GOOD = """
import envs
def register():
    envs.register("{0}", "plug/{0}-v0", "tests.envs.toys:Corridor", "tests.envs.toys:CorridorConfig")
"""


def test_a_plug_in_is_a_module_that_registers_or_a_function(tmp_path: Path) -> None:
    install(tmp_path, "plug_a", "a = plug_a", GOOD.format("Aaa") + "register()")
    install(tmp_path, "plug_b", "b = plug_b:register", GOOD.format("Bbb"))
    out = run(
        "import envs; print(envs.names(), envs.make('Bbb', max_steps=3).max_steps, envs.spec('plug/Aaa-v0').name)", tmp_path
    )
    assert out == "['Aaa', 'Bbb', 'alfworld', 'minihack', 'sokoban', 'webshop'] 3 Aaa\n"


@pytest.mark.fault("a broken plug-in", lost="the plug-in")
def test_a_broken_plug_in_is_one_line_and_harms_no_other(tmp_path: Path) -> None:
    install(tmp_path, "plug_bad", "a = plug_bad", "import no_such_module")
    install(tmp_path, "plug_exit", "b = plug_exit", "raise SystemExit('bye')")
    install(tmp_path, "plug_clash", "c = plug_clash:register", GOOD.format("alfworld"))
    install(tmp_path, "plug_good", "d = plug_good:register", GOOD.format("Good"))
    out = run("import envs; print(envs.names())", tmp_path)
    assert "['Good', 'alfworld', 'minihack', 'sokoban', 'webshop']" in out
    warned = [line for line in out.splitlines() if "RuntimeWarning" in line]
    assert len(warned) == 3
    assert "'a' of package 'plug_bad' (ModuleNotFoundError: No module named 'no_such_module')" in warned[0]
    assert "'b' of package 'plug_exit' (SystemExit: bye)" in warned[1]
    assert "'c' of package 'plug_clash' (ValueError: environment 'alfworld' is registered already" in warned[2]
    out = run("import envs; envs.make('bad')", tmp_path)
    assert "Plug-ins that did not load: 'a' of package 'plug_bad'" in out

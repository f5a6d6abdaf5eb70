"""What there is, by name: environments, methods and shapings; how one is made, and how your own are added.

Everything here is thin over the registries (envs.registry, algorithms.base, algorithms.shaping), which commands use as well.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from envs import registry
from envs.prompt import Prompt

if TYPE_CHECKING:
    from algorithms.base import Algorithm
    from algorithms.shaping import Shaping
    from envs.base import TextEnv

T = TypeVar("T", bound=type)


def make(name: str, **settings: Any) -> TextEnv:
    """The environment that `env=<name>` trains on, with `settings` over those of its configuration file.

        env = stepcredit.make("alfworld", max_steps=30)
        observation, info = env.reset(seed=0)
        observation, reward, terminated, truncated, info = env.step("look")

    `name` is one of `environments()`, or a gymnasium id ("stepcredit/ALFWorld-v0"), for which the defaults of the class count
    as they do for `gymnasium.make`. `env.reset(options={"task": id})` begins the named task; `env.tasks("eval")` lists ids.
    Raises UnknownEnvironment and ConfigError, with the nearest name or key.
    """
    chosen, defaults = _option(name)
    return registry.make(chosen, **{**defaults, **settings})


def environments() -> list[str]:
    """Names that `make` and `env=` know: environments, their variants ("minihack/river"), and those of plug-ins."""
    from agents.config.compose import groups, options

    return options("env", groups()["env"])


def methods() -> list[str]:
    """Names of the credit-assignment methods that `algo=` knows, the variants included that are another method's settings.

    `advantages` takes the same names. Of a variant it uses the method's settings only: dapo there equals grpo, because its
    loss and sampling play no part.
    """
    from agents.config.compose import groups, options

    return options("algo", groups()["algo"])


def register_environment(
    name: str, env: type[TextEnv] | str, config: type | str, prompt: type[Prompt] | str = Prompt, id: str | None = None
) -> None:
    """Add an environment of your own: `make(name)`, `gymnasium.make(id)` and `train(env=name)` find it in this process.

    env: the class, which takes an instance of `config` and nothing else; config: the dataclass of its settings; prompt: the
    class of its texts for a model. Each may be "module:attribute", which is imported when it is needed. id: its gymnasium id,
    by default `local/<name>-v0`. Commands in other processes find environments by an entry point (docs/add-an-environment.md).
    Raises ValueError where another environment has the name; the same class once more (a cell that runs again) replaces it.
    """
    registry.register(name, id or f"local/{name}-v0", env, config, prompt)


def register_method(name: str, method: type[Algorithm] | str) -> None:
    """Add a credit-assignment method of your own: `train(algo=name)` and `advantages(name, ...)` find it in this process.

    method: a subclass of `Algorithm`, a dataclass whose fields are its settings, or "module:attribute" of one; docs/methods.md
    has an example.
    Raises ValueError where another method has the name; the same class once more (a cell that runs again) replaces it.
    """
    from algorithms import base

    base.register(name, method)


def register_shaping(name: str, shaping: type[Shaping] | str) -> None:
    """Add a further reward of your own: `train(shaping=name)` finds it in this process. As `register_method`."""
    from algorithms import shaping as shapings

    shapings.register(name, shaping)


@cache
def _option(name: str) -> tuple[str, dict[str, Any]]:
    """The registered name of an environment, and the settings that its configuration file gives it."""
    from agents.config.compose import compose, groups
    from agents.config.sections import EnvConfig
    from envs.common.structured import keys

    if name not in groups()["env"]:
        return name, {}
    values = compose("train", [f"env={name}"])["env"]
    return values["name"], {key: value for key, value in values.items() if key not in keys(EnvConfig)}

"""Text environments: the contract, the registry, and the built-in ones. Importing it registers them and loads none."""

from envs.base import SPLITS, Split, StepResult, TaskError, TextEnv, Unsolvable
from envs.common.structured import ConfigError
from envs.prompt import Prompt
from envs.registry import EnvSpec, UnknownEnvironment, make, names, register, spec

__all__ = [
    "SPLITS",
    "ConfigError",
    "EnvSpec",
    "Prompt",
    "Split",
    "StepResult",
    "TaskError",
    "TextEnv",
    "UnknownEnvironment",
    "Unsolvable",
    "make",
    "names",
    "register",
    "spec",
]

register(
    name="alfworld",
    id="stepcredit/ALFWorld-v0",
    env="envs.alfworld.env:ALFWorldEnv",
    config="envs.alfworld.config:ALFWorldConfig",
    prompt="envs.alfworld.prompt:ALFWorldPrompt",
)
register(
    name="webshop",
    id="stepcredit/WebShop-v0",
    env="envs.webshop.env:WebShopEnv",
    config="envs.webshop.config:WebShopConfig",
    prompt="envs.webshop.prompt:WebShopPrompt",
)
register(
    name="minihack",
    id="stepcredit/MiniHack-v0",
    env="envs.minihack.env:MiniHackEnv",
    config="envs.minihack.config:MiniHackConfig",
    prompt="envs.minihack.prompt:MiniHackPrompt",
)
register(
    name="sokoban",
    id="stepcredit/Sokoban-v0",
    env="envs.sokoban.env:SokobanEnv",
    config="envs.sokoban.config:SokobanConfig",
    prompt="envs.sokoban.prompt:SokobanPrompt",
)

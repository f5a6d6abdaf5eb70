"""`python -m agents.export model=runs/<name>/model out=<folder>`: a model with its LoRA adapter merged in, as one folder.

Other programs read it like any model; nothing is trained or sampled here.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from envs.common import disk
from envs.common.structured import ConfigError, build

USAGE = """python -m agents.export model=<folder or hub name> out=<new folder> [dtype=float32] [trust_remote_code=true]

Writes the model with its LoRA adapter merged into its base. model: of a run with LoRA its folder model/.
dtype: number format of the weights that are written, float32 (default) or bfloat16."""


@dataclass(frozen=True)
class ExportConfig:
    """What is exported, and where to."""

    model: str
    out: str
    dtype: Literal["float32", "bfloat16"] = "float32"
    trust_remote_code: Literal["true", "false"] = "false"


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    from agents.runs.failures import command

    return command(arguments, lambda words: USAGE, load, export)


def load(arguments: Sequence[str]) -> ExportConfig:
    """The export that the command line describes. Raises ConfigError."""
    values = {}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals:
            raise ConfigError(f"'{argument}' is no setting; settings are written key=value\n{USAGE}")
        values[key.removeprefix("model.")] = value  # as the other commands call it
    config = build(ExportConfig, values)
    if Path(config.out).exists() and (not Path(config.out).is_dir() or any(Path(config.out).iterdir())):
        raise ConfigError(f"out is '{config.out}', which is there already: name a new folder")
    return config


def export(config: ExportConfig) -> None:
    """Write the merged model. Raises PolicyError where it cannot be loaded."""
    from agents.config.sections import ModelConfig
    from agents.models.sources import load_pretrained

    trusted = config.trust_remote_code == "true"
    wanted = ModelConfig(config.model, dtype=config.dtype, max_length=16, trust_remote_code=trusted)
    policy = load_pretrained(wanted, "cpu")
    disk.folder(Path(config.out).absolute().parent)
    with disk.aside(Path(config.out)) as folder:
        policy.save(folder)
    print(f"written: {config.out}")


if __name__ == "__main__":
    sys.exit(main())

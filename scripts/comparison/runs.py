"""Runs the plan: a process a run, some at a time; what is finished stays, what was cut off goes on, what fails fails alone."""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from agents.config.overrides import assignment, command_line
from agents.runs.children import Child, Children
from envs.common.files import read_json
from envs.common.text import printable

from . import evidence
from .plan import Plan, Run

INTERVAL = 0.5
"""Seconds between looks at the processes."""


class Stopped(Exception):
    """The user asked to stop; every run has ended and says in its folder how far it is."""


def final_file(run: Run) -> Path:
    """Where the final evaluation of its own is written."""
    return run.folder.path / "final.json"


def next_command(run: Run, repeats: int) -> list[str] | None:
    """What is still to be done for a run: training, going on with it, its final evaluation, or nothing."""
    if run.status != "finished":
        return ["agents.train", *([assignment("resume", run.folder.path)] if run.status else run.overrides)]
    if repeats > 1 and not _evaluated(run, repeats):
        places = assignment("run", run.folder.path), assignment("out", final_file(run))
        return ["agents.evaluate", *places, f"evaluation.repeats={repeats}"]
    return None


def shown(run: Run) -> str:
    """The command that trains the run from the beginning, as one would type it."""
    return command_line("agents.train", *run.overrides)


def execute(plan: Plan, show: Callable[[dict[str, str]], None]) -> None:
    """Run everything that is missing; `show` gets what each run is doing, by its name.

    A run that fails is marked and the others go on. Raises Stopped after a signal, ConfigError if runs cannot be compared.
    """
    plan.out.mkdir(parents=True, exist_ok=True)
    waiting = list(plan)
    going: dict[str, tuple[Run, Child]] = {}
    states = {run.name: "waiting" for run in plan}
    begun = 0
    with Children() as children:
        stop = children.came
        while going or (waiting and not stop):
            for run in [] if stop else list(waiting):
                if len(going) >= plan.jobs:
                    break
                command = next_command(run, plan.repeats)
                if command is None:
                    states[run.name] = "finished"
                elif _waits_for_warm_start(run, plan):
                    continue
                else:
                    states[run.name] = "evaluating" if command[0] == "agents.evaluate" else "training"
                    going[run.name] = (run, _start(run, command, children))
                waiting.remove(run)
            for name, (run, process) in list(going.items()):
                code = process.poll()
                if code is None:
                    continue
                del going[name]
                if code == 0:
                    waiting.insert(0, run)
                elif not stop:
                    run.failed, states[name] = printable(_reason(run, code)), "failed"
            if begun != (begun := sum(map(evidence.has_begun, plan))):
                evidence.refuse_unequal(plan)
            show(states)
            if going:
                time.sleep(INTERVAL)
        if stop:
            raise Stopped


def _evaluated(run: Run, repeats: int) -> bool:
    file = final_file(run)
    return file.exists() and bool(read_json(file, evidence.AGAIN)["repeats"] == repeats)


def _start(run: Run, command: Sequence[str], children: Children) -> Child:
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    if run.config.threads:
        environment["OMP_NUM_THREADS"] = str(run.config.threads)
    with log_file(run).open("ab") as log:
        log.write(f"\n$ python -m {shlex.join(command)}\n".encode())
        log.flush()
        return children.start(command[0], command[1:], stdout=log, stderr=subprocess.STDOUT, env=environment)


def log_file(run: Run) -> Path:
    """What the run's processes print."""
    return run.folder.path.with_name(run.folder.path.name + ".log")


def _waits_for_warm_start(run: Run, plan: Plan) -> bool:
    """Whether another arm is still making the warm start of this seed, which this run can then take from the cache."""
    maker = next(one for one in plan if one.seed == run.seed)
    if run is maker or maker.failed or not run.config.warm_starts:
        return False
    return not evidence.has_begun(maker)


def _reason(run: Run, code: int) -> str:
    said = run.folder.get_status()
    if said.get("status") == "failed" and said.get("reason"):
        return str(said["reason"])
    lines = [line for line in log_file(run).read_text(errors="replace").splitlines() if line.strip()]
    said_last = next(
        (line for line in reversed(lines) if line.startswith("error: ")), lines[-1] if lines else "it said nothing"
    )
    return f"exit code {code}: {said_last}"

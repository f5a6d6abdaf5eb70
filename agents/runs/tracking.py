"""Where a run's numbers go: metrics.jsonl always; terminal, Weights & Biases and TensorBoard if configured.

The trainer calls `log` once an iteration with flat names. Names the terminal and the plots know (all others are written too):
    train/success  train/reward  train/steps  train/valid      means over the iteration's episodes
    train/cut_off/context  train/faults                         episodes that outgrew the context (lost); cut off by a fault
    eval/success@<temperature>                                  share of held-out episodes won; cut_off and faults likewise
    eval/random_success                                         the same for random actions, iteration 0 only
    time/rollout  time/update  time/evaluation                  seconds of this iteration
    time/wall  time/cpu                                         seconds since the run began, resumed parts included
    tokens_per_s                                                sampled tokens a second of rollout
A tracker that fails is left out with a warning: training is worth more than its display.
"""

from __future__ import annotations

import logging
import math
import os
import shlex
import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

import orjson

from agents.config.sections import TensorboardConfig, TrackerConfig, WandbConfig
from envs.trajectory import Trajectory

log = logging.getLogger("stepcredit.tracking")

CONNECT_S = 15.0
"""Seconds for W&B's server to take a new run, unless WANDB_INIT_TIMEOUT says otherwise; W&B itself would wait for 90."""
Mode = Literal["online", "offline", "disabled"]
MODES: dict[str, Mode] = {
    "online": "online",
    "run": "online",
    "offline": "offline",
    "dryrun": "offline",
    "disabled": "disabled",
}
"""What W&B's own mode may be, and what each means."""
PUBLIC_SERVERS = ("https://api.wandb.ai", "https://api.forge.coreweave.com")
"""Names of W&B's public server, old and new: a key for either opens it."""


class Tracker(Protocol):
    """Something that shows or keeps a run's numbers."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """The metrics of iteration `step`; 0 is before training."""

    def episodes(self, step: int, trajectories: Sequence[Trajectory]) -> None:
        """The iteration's episodes."""

    def progress(self, stage: str, done: int, total: int, metrics: Mapping[str, float]) -> None:
        """How far a stage within an iteration is (warm start, rollout, update, evaluation)."""

    def say(self, message: str) -> None:
        """Something to be read at once: a warning, or why a number is missing."""

    def artifact(self, path: Path) -> None:
        """A file or folder the run produced (a checkpoint, the model)."""

    def close(self, status: str) -> None:
        """The run ended as `status`: finished, interrupted or failed."""


class Silent:
    """A tracker that does nothing; the others override what they show."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None: ...

    def episodes(self, step: int, trajectories: Sequence[Trajectory]) -> None: ...

    def progress(self, stage: str, done: int, total: int, metrics: Mapping[str, float]) -> None: ...

    def say(self, message: str) -> None: ...

    def artifact(self, path: Path) -> None: ...

    def close(self, status: str) -> None: ...


class MetricsFile(Silent):
    """metrics.jsonl: one flushed line an iteration, `{"iteration": 3, "train/success": 0.5, ...}`."""

    def __init__(self, path: Path, resume_at: int | None = None) -> None:
        """`resume_at`: lines of later iterations are dropped, because they will be written again."""
        if path.exists():
            kept = [line for line in read_metrics(path) if resume_at is not None and line["iteration"] <= resume_at]
            temporary = path.with_name(path.name + ".writing")
            temporary.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in kept))
            os.replace(temporary, path)
        self._file = path.open("ab")

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._file.write(orjson.dumps({"iteration": step, **finite(metrics)}, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n")
        self._file.flush()

    def close(self, status: str) -> None:
        self._file.close()


def finite(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """None, in JSON null, where there is no number: JSON has no NaN."""
    return {name: value if math.isfinite(value) else None for name, value in metrics.items()}


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl; a last line that was cut off by a kill is left out. Raises ValueError for any other."""
    lines = path.read_bytes().split(b"\n")
    read = []
    for number, line in enumerate(lines):
        if not line.strip():
            continue
        try:
            read.append(orjson.loads(line))
        except orjson.JSONDecodeError as exc:
            if number == len(lines) - 1:
                break
            raise ValueError(f"{path}, line {number + 1} is not JSON: {exc}") from exc
    return read


class Tensorboard(Silent):
    """TensorBoard event files."""

    def __init__(self, config: TensorboardConfig, folder: Path, resume_at: int | None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # Points after the checkpoint are hidden, as in metrics.jsonl.
        purge = None if resume_at is None else resume_at + 1
        self._writer = SummaryWriter(str(folder / "tensorboard"), flush_secs=config.flush_s, purge_step=purge)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)

    def close(self, status: str) -> None:
        self._writer.close()


class Wandb(Silent):
    """Weights & Biases; a resumed run goes on under the same id. One that its server does not take is recorded offline."""

    def __init__(self, config: WandbConfig, folder: Path, settings: Mapping[str, Any]) -> None:
        import wandb

        self._wandb, self._config = wandb, config
        id_file = folder / "wandb_id"
        if not id_file.exists():
            id_file.write_text(uuid.uuid4().hex[:12])
        wait = {} if "WANDB_INIT_TIMEOUT" in os.environ else {"init_timeout": CONNECT_S}

        def begin(mode: Mode) -> Any:
            return wandb.init(
                project=config.project,
                entity=config.entity,
                mode=mode,
                tags=config.tags,
                name=folder.resolve().name,
                id=id_file.read_text(),
                resume="allow" if mode == "online" else None,
                dir=str(folder),
                config=dict(settings),
                settings=wandb.Settings(silent=True, console="off", **wait),
            )

        mode, why = _mode(config, wandb)
        try:
            self._run = begin(mode)
        except Exception as exc:
            if mode != "online":
                raise
            wandb.teardown(exit_code=1)  # its service still holds the run's id
            mode, why = "offline", f"the server did not take the run: {next(iter(str(exc).splitlines()), '')}"
            self._run = begin(mode)
        later = f"; upload it later: wandb sync {shlex.quote(str(folder / 'wandb'))}/offline-run-*" if mode == "offline" else ""
        print(f"W&B: {mode} ({why}){later}", flush=True)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._run.log(dict(metrics), step=step)

    def episodes(self, step: int, trajectories: Sequence[Trajectory]) -> None:
        if not self._config.episodes:
            return
        table = self._wandb.Table(columns=["iteration", "task", "success", "reward", "steps", "transcript"])
        for one in trajectories[: self._config.episodes]:
            transcript = "\n".join(f"{step_.observation}\n> {step_.action}" for step_ in one.steps)
            table.add_data(step, one.task_id, one.success, one.total_reward, len(one.steps), transcript)
        self._run.log({"episodes": table}, step=step)

    def artifact(self, path: Path) -> None:
        if not self._config.artifacts:
            return
        artifact = self._wandb.Artifact(f"{self._run.id}-{path.parent.name}", type="checkpoint")
        (artifact.add_dir if path.is_dir() else artifact.add_file)(str(path))
        self._run.log_artifact(artifact, aliases=["latest", path.name])

    def close(self, status: str) -> None:
        self._run.summary["status"] = status
        self._run.finish(exit_code=0 if status == "finished" else 1)


def _mode(config: WandbConfig, wandb: Any) -> tuple[Mode, str]:
    """How to record, and what says so: the setting, WANDB_MODE, `wandb offline`, or whether anybody is logged in."""
    said = os.environ.get("WANDB_MODE", "").lower()
    if config.mode != "auto":
        ignored = f"; WANDB_MODE={said} does not count" if said and MODES.get(said) != config.mode else ""
        return config.mode, f"tracker.wandb.mode={config.mode}{ignored}"
    if said:
        if said not in MODES:
            raise ValueError(f"WANDB_MODE is '{said}'; allowed: {', '.join(MODES)}")
        return MODES[said], f"WANDB_MODE={said}"
    try:
        settings = wandb.setup().settings
        usual, server, key = MODES.get(settings.mode, "online"), settings.base_url, settings.api_key
    except Exception:  # a broken file of W&B's settings: opening the run says so
        usual, server, key = "online", "", None
    if usual != "online":
        return usual, "W&B's settings file"
    return ("online", "logged in") if key or _logged_in(server) else ("offline", "nobody is logged in")


def _logged_in(server: str) -> bool:
    """True if a key for the server is at hand without asking anybody."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    import netrc
    from urllib.parse import urlsplit

    host = urlsplit(server or os.environ.get("WANDB_BASE_URL") or PUBLIC_SERVERS[0]).netloc
    hosts = {urlsplit(one).netloc for one in PUBLIC_SERVERS}
    try:
        keys = netrc.netrc(os.environ.get("NETRC"))
    except (OSError, netrc.NetrcParseError):
        return False
    return any(keys.authenticators(one) is not None for one in (hosts if host in hosts else {host}))


class Trackers:
    """All trackers of a run as one."""

    def __init__(self, trackers: Sequence[Tracker]) -> None:
        self._trackers = list(trackers)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """The metrics of iteration `step`; 0 is before training."""
        plain = {name: float(value) for name, value in metrics.items()}
        self._each("log", step, plain)

    def episodes(self, step: int, trajectories: Sequence[Trajectory]) -> None:
        """The iteration's episodes."""
        self._each("episodes", step, trajectories)

    def progress(self, stage: str, done: int, total: int, **metrics: float) -> None:
        """How far a stage within an iteration is."""
        self._each("progress", stage, done, total, metrics)

    def say(self, message: str) -> None:
        """Something to be read at once."""
        self._each("say", message)

    def artifact(self, path: Path) -> None:
        """A file or folder the run produced."""
        self._each("artifact", path)

    def close(self, status: str) -> None:
        """The run ended as `status`."""
        self._each("close", status)
        self._trackers = []

    def _each(self, method: str, *arguments: Any) -> None:
        for tracker in list(self._trackers):
            try:
                getattr(tracker, method)(*arguments)
            except Exception as exc:
                # metrics.jsonl is the record of the run: without it there is nothing to go on with.
                if isinstance(tracker, MetricsFile):
                    raise
                log.warning("tracker %s failed and is left out from here on: %s", type(tracker).__name__, exc)
                self._trackers.remove(tracker)


def open_trackers(
    config: TrackerConfig, folder: Path, settings: Mapping[str, Any], iterations: int, resume_at: int | None = None
) -> Trackers:
    """The trackers of the run in `folder`. `settings` is the resolved configuration; `resume_at` the checkpoint's iteration."""
    trackers: list[Tracker] = [MetricsFile(folder / "metrics.jsonl", resume_at)]
    if config.console is not None:
        from agents.runs.console import Console

        past = read_metrics(folder / "metrics.jsonl")
        trackers.append(Console(config.console, folder.name, iterations, past))
    optional: list[Callable[[], Tracker]] = []
    if config.wandb is not None:
        optional.append(partial(Wandb, config.wandb, folder, settings))
    if config.tensorboard is not None:
        optional.append(partial(Tensorboard, config.tensorboard, folder, resume_at))
    for open_one in optional:
        try:
            trackers.append(open_one())
        except Exception as exc:  # a service that is down must not cost a run
            log.warning("a tracker could not be opened and is left out: %s: %s", type(exc).__name__, exc)
    return Trackers(trackers)

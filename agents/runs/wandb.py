"""Weights & Biases: a run's numbers, episodes and checkpoints on its server, or offline for a later upload."""

from __future__ import annotations

import logging
import os
import re
import shlex
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from agents.config.secrets import masked_word
from agents.config.sections import WandbConfig
from agents.runs.tracker import Tracker
from envs.common import disk
from envs.common.text import first_line
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


class Wandb(Tracker):
    """Weights & Biases; a resumed run goes on under the same id. One that its server does not take is recorded offline."""

    def __init__(self, config: WandbConfig, folder: Path, settings: Mapping[str, Any]) -> None:
        import wandb

        self._wandb, self._config = wandb, config
        id_file = folder / "wandb_id"
        run_id = id_file.read_text(errors="replace").strip() if id_file.exists() else ""
        if not re.fullmatch(r"[\w-]{1,64}", run_id, re.ASCII):
            if id_file.exists():
                log.warning("%s is damaged: the run begins anew at W&B, under another id", id_file)
            run_id = uuid.uuid4().hex[:12]
            disk.write(id_file, run_id.encode())
        wait = {} if "WANDB_INIT_TIMEOUT" in os.environ else {"init_timeout": CONNECT_S}

        def begin(mode: Mode) -> Any:
            return wandb.init(
                project=config.project,
                entity=config.entity,
                mode=mode,
                tags=config.tags,
                name=folder.resolve().name,
                id=run_id,
                resume="allow" if mode == "online" else None,
                dir=str(folder),
                config=dict(settings),
                settings=wandb.Settings(silent=True, console="off", **wait),
            )

        with _masked_arguments():
            mode, why = _mode(config, wandb)
            try:
                self._run = begin(mode)
            except Exception as exc:
                if mode != "online":
                    raise
                wandb.teardown(exit_code=1)  # its service still holds the run's id
                mode, why = "offline", f"the server did not take the run: {first_line(exc)}"
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


@contextmanager
def _masked_arguments() -> Iterator[None]:
    """Within: W&B, which records the command line, finds no secret in it."""
    given = sys.argv
    sys.argv = [masked_word(word) for word in given]
    try:
        yield
    finally:
        sys.argv = given


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

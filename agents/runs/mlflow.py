"""MLflow: a run's settings and numbers on a tracking server, or in a database beside the runs (`mlflow ui`)."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agents.config.differences import flat
from agents.config.secrets import masked
from agents.config.sections import MlflowConfig
from agents.runs.metrics import finite
from agents.runs.tracker import Tracker
from envs.common import disk
from envs.common.text import first_line

log = logging.getLogger("stepcredit.tracking")
OWN_DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
}
"""Variables of MLflow where the user sets none: it would tell its makers of its use, and wait minutes for a server."""
ENDS = {"finished": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}
MOST_SETTINGS = 100
"""That a server takes at once."""
LONGEST = 500
"""Characters of a setting; longer ones are cut off, because servers refuse them."""


class Mlflow(Tracker):
    """MLflow; a resumed run goes on under the same id."""

    def __init__(self, config: MlflowConfig, folder: Path, settings: Mapping[str, Any]) -> None:
        for name, value in OWN_DEFAULTS.items():
            os.environ.setdefault(name, value)
        logging.getLogger("alembic").setLevel(logging.WARNING)  # it tells of every table of a new database
        from mlflow import MlflowClient

        database = f"sqlite:///{folder.resolve().parent / 'mlflow.db'}"
        uri = config.uri or os.environ.get("MLFLOW_TRACKING_URI") or database
        self._client: Any = MlflowClient(tracking_uri=uri)
        print(f"MLflow: {masked(uri)}; look at it: mlflow ui --backend-store-uri {masked(uri)}", flush=True)
        self._id = self._known(folder / "mlflow_id") or self._new(config, folder, settings)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        known = {name: value for name, value in finite(metrics).items() if value is not None}
        self._client.log_batch(self._id, metrics=[Metric(allowed(name), value, now, step) for name, value in known.items()])

    def close(self, status: str) -> None:
        self._client.set_terminated(self._id, ENDS.get(status, "FAILED"))

    def _known(self, file: Path) -> str | None:
        """The id that the run has there, if it is gone on with."""
        if not file.exists():
            return None
        written = file.read_text(errors="replace").strip()
        try:
            self._client.update_run(written, status="RUNNING")
        except Exception as exc:
            log.warning("the run begins anew at MLflow, which does not know the one of %s: %s", file, first_line(exc))
            return None
        return written

    def _new(self, config: MlflowConfig, folder: Path, settings: Mapping[str, Any]) -> str:
        from mlflow.entities import Param

        made = self._client.create_run(self._experiment(config.experiment), run_name=folder.resolve().name)
        identity = str(made.info.run_id)
        disk.write(folder / "mlflow_id", identity.encode())
        values = [Param(allowed(name), str(value)[:LONGEST]) for name, value in flat(settings).items()]
        for at in range(0, len(values), MOST_SETTINGS):
            self._client.log_batch(identity, params=values[at : at + MOST_SETTINGS])
        return identity

    def _experiment(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(self._client.create_experiment(name))
            except Exception:  # another run, started at the same moment, may have made it
                found = self._client.get_experiment_by_name(name)
                if found is None:
                    raise
        return str(found.experiment_id)


def allowed(name: str) -> str:
    """A metric's name as MLflow takes it: `eval/success:1` for eval/success@1."""
    return re.sub(r"[^\w/ .:-]", "_", name.replace("@", ":"), flags=re.ASCII)

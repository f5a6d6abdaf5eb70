"""`python -m agents.train env=alfworld algo=gigpo`: read the configuration, run the trainer, say plainly what went wrong.

The loop itself is in agents.training.trainer, exit codes in agents.runs.failures. Nothing heavy is imported before the
configuration has been checked.
"""

from __future__ import annotations

import argparse
import logging
import sys
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from agents.config import loading
from agents.config.commands import TrainConfig
from agents.runs.failures import noted, reported, tell
from agents.runs.stopping import heard
from envs.common import streams
from envs.common.structured import ConfigError

if TYPE_CHECKING:
    from agents.runs.folder import RunFolder


@streams.guarded()
def main(arguments: Sequence[str] | None = None) -> int:
    """Train as the command line says; returns the exit code."""
    logging.basicConfig(format="%(levelname)s: %(message)s")
    parser = argparse.ArgumentParser(prog="python -m agents.train", add_help=False, exit_on_error=False)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("--cfg", choices=["job"], nargs="?", const="job")
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("-m", "--multirun", action="store_true")
    with reported() as outcome:
        try:
            options, unknown = parser.parse_known_intermixed_args(arguments)
        except argparse.ArgumentError as exc:
            raise ConfigError(f"{exc.message} (see --help)") from exc
        if unknown:
            raise ConfigError(f"unknown option {unknown[0]}; settings are written key=value, for example optim.lr=1e-4")
        if options.help:
            from agents.config import help as usage

            return tell(usage.text("train", options.overrides))
        if options.multirun:
            from agents.runs.sweep import sweep

            return sweep(options.overrides)
        config = loading.load(options.overrides)
        if options.cfg:
            return tell(loading.to_yaml(config).rstrip("\n"))
        if options.dry_run:
            from agents.runs.dryrun import report

            report(config)
            return streams.code()
        from agents.runs import launcher

        if launcher.starts(config):
            return launcher.launch(config, options.overrides)
        if config.launcher.name == "torchrun":
            return _as_rank(config)
        tell(train(config).last_lines())
    return outcome.code


def _as_rank(config: TrainConfig) -> int:
    """Be one of several processes that somebody has started; returns the exit code."""
    from agents.models import ranks
    from agents.training.following import follow, joined

    with joined(config):
        if ranks.rank() > 0:
            follow(config)
            return 0
        folder = train(config)
    return tell(folder.last_lines())


def train(config: TrainConfig, stop: threading.Event | None = None) -> RunFolder:
    """Train as a checked configuration says; returns the run's folder, which also says how a run ended that failed.

    The first signal (agents.runs.stopping), or `stop` set by another thread, ends the run after its iteration, saved. Raises
    Interrupted then, ConfigError and RunFolderError for what cannot begin, and whatever ends a run that has begun.
    """
    from agents.runs.folder import RunFolder
    from agents.runs.preflight import preflight

    preflight(config)
    folder = RunFolder.open(config)
    with heard(), noted(folder):
        from agents.training.begin import begun

        begun(config, folder).run(stop)
    return folder


if __name__ == "__main__":
    sys.exit(main())

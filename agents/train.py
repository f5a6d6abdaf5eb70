"""`python -m agents.train env=alfworld algo=gigpo`: read the configuration, run the trainer, say plainly what went wrong.

The loop itself is in agents.training.trainer, exit codes in agents.runs.failures. Nothing heavy is imported before the
configuration has been checked.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from collections.abc import Sequence

from agents.config import loading
from agents.config.sections import TrainConfig
from agents.runs.failures import reported, tell
from agents.runs.preflight import preflight
from envs.common.structured import ConfigError


def main(arguments: Sequence[str] | None = None) -> int:
    """Train as the command line says; returns the exit code."""
    logging.basicConfig(format="%(levelname)s: %(message)s")
    parser = argparse.ArgumentParser(prog="python -m agents.train", add_help=False, exit_on_error=False)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("--cfg", choices=["job"], nargs="?", const="job")
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("-m", "--multirun", action="store_true")
    try:
        options, unknown = parser.parse_known_intermixed_args(arguments)
        if unknown:
            raise ConfigError(f"unknown option {unknown[0]}; settings are written key=value, for example optim.lr=1e-4")
        if options.help:
            from agents.config import help as usage

            tell(usage.text("train", options.overrides))
            return 0
        if options.multirun:
            from agents.runs.sweep import sweep

            return sweep(options.overrides)
        config = loading.load(options.overrides)
        if options.cfg:
            tell(loading.to_yaml(config).rstrip("\n"))
            return 0
        if options.dry_run:
            from agents.runs.dryrun import report

            report(config)
            return 0
        preflight(config)
    except argparse.ArgumentError as exc:
        return _say(f"error: {exc.message} (see --help)", 2)
    except ConfigError as exc:
        return _say(f"error: {exc}", 2)
    return train(config)


def train(config: TrainConfig) -> int:
    """Run the trainer on a checked configuration; returns the exit code. The run's folder says how it ended."""
    from agents.runs.folder import RunFolder, RunFolderError

    try:
        folder = RunFolder.open(config)
    except RunFolderError as exc:
        return _say(f"error: {exc}", 2)
    # A cluster that takes the machine away sends SIGTERM: the same as Ctrl-C.
    signal.signal(signal.SIGTERM, lambda number, frame: signal.raise_signal(signal.SIGINT))
    with reported(folder) as outcome:
        from agents.training.trainer import Interrupted, Trainer

        try:
            Trainer(config, folder).run()
            tell(folder.last_lines())
        except Interrupted as exc:
            outcome.code = _say(f"{exc}\n{folder.last_lines()}", 130)
    return outcome.code


def _say(message: str, code: int) -> int:
    print(message, file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())

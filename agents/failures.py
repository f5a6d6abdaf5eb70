"""How an entry point ends when something goes wrong: one clear message, an exit code, and a note in the run's folder.

Exit codes: 0 well, 1 failed, 2 the configuration cannot be run, 130 interrupted. The message of an error that this project
raises itself is written for people and shown as it is; the traceback of any other is kept for a report.
"""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from agents.loading import Job
from agents.runfolder import RunFolder
from envs.structured import ConfigError

T = TypeVar("T")
OWN = ("agents", "envs", "algorithms")
"""Packages whose own exceptions are written for people."""


@dataclass
class Outcome:
    """How the block under `reported` ended."""

    code: int = 0


@contextmanager
def reported(folder: RunFolder | None = None) -> Iterator[Outcome]:
    """Turn whatever ends the block into a message and an exit code; a run's `folder` gets status.json and the traceback.

    A run that fails before there is anything to go on with leaves no folder: its resume would fail alike.
    """
    outcome = Outcome()
    try:
        yield outcome
    except Exception as raised:
        if folder is not None:
            folder.discard()
        exc = innermost(raised)
        outcome.code = 2 if isinstance(exc, ConfigError) else 1
        message = explain(exc)
        if message is None:
            text = "".join(traceback.format_exception(raised))
            message = f"{type(exc).__name__}: {exc}\nThis was not foreseen; the traceback is "
            message += f"in {folder.traceback}" if folder and _written(folder, text) else f"below\n{text}"
        _tell("failed", f"error: {message}", folder)
    except BaseException as raised:
        if not isinstance(innermost(raised), KeyboardInterrupt):
            raise
        outcome.code = 130
        _tell("interrupted", "stopped at once", folder)


def command(arguments: Sequence[str] | None, job: Job, load: Callable[[list[str]], T], run: Callable[[T], object]) -> int:
    """An entry point whose settings are key=value: print its help, or load the settings and run. Returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if {"-h", "--help"} & set(given):
            from agents import usage

            tell(usage.text(job, [word for word in given if word not in ("-h", "--help")]))
            return 0
        settings = load(given)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    with reported() as outcome:
        run(settings)
    return outcome.code


def tell(text: str) -> None:
    """Print for a reader who may leave before the end (`--help | head`), which is no mistake of anybody's."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left must not be written again at exit


def explain(exc: BaseException) -> str | None:
    """What went wrong, in words; None for an error nobody foresaw."""
    if type(exc).__module__.partition(".")[0] in OWN:
        return str(exc)
    if type(exc).__name__ == "OutOfMemoryError" or isinstance(exc, MemoryError):
        first = (str(exc).splitlines() or [""])[0]
        return (
            f"out of memory: {first}\nLower optim.token_budget, engine.max_batch or model.max_length, or set "
            "model.gradient_checkpointing=true; --dry-run estimates what a run needs"
        )
    if isinstance(exc, OSError) and exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full: {exc}"
    return None


def innermost(exc: BaseException) -> BaseException:
    """The error inside task groups, where there is exactly one."""
    while isinstance(exc, BaseExceptionGroup) and len(exc.exceptions) == 1:
        exc = exc.exceptions[0]
    return exc


def _tell(status: str, message: str, folder: RunFolder | None) -> None:
    if folder is not None and folder.begun:
        try:
            folder.set_status("interrupted" if status == "interrupted" else "failed", message.removeprefix("error: "))
        except OSError:
            message += f"\n{folder.status} could not be written"
        if folder.resume_command not in message:
            begun = folder.checkpoints.is_dir() and any(folder.checkpoints.iterdir())
            message += f"\nTo {'go on from the newest checkpoint' if begun else 'begin again'}: {folder.resume_command}"
    print(message, file=sys.stderr)


def _written(folder: RunFolder, text: str) -> bool:
    try:
        folder.traceback.write_text(text, encoding="utf-8")
    except OSError:
        return False
    return True

"""How an entry point ends when something goes wrong: one clear message, an exit code, and a note in the run's folder.

Exit codes: 0 well, 1 failed, 2 the configuration cannot be run, 130 interrupted. The message of an error that this project
raises itself is written for people and shown as it is; the traceback of any other is kept for a report. Of several errors at
once (episodes are played side by side, and fail so) the commonest that can be explained is told, and all are counted.
"""

from __future__ import annotations

import errno
import re
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from agents.config.secrets import masked
from agents.runs.folder import RunFolder, RunFolderError, Status
from agents.runs.stopping import like_ctrl_c
from envs.common import streams
from envs.common.structured import ConfigError
from envs.common.text import first_line, printable, said

T = TypeVar("T")
OWN = ("agents", "envs", "algorithms", "stepcredit")
"""Packages whose own exceptions are written for people."""
NO_MEMORY = re.compile(
    r"out of memory|(can't|cannot|unable to) allocate|not enough memory|_ALLOC_FAILED|bad_alloc", re.IGNORECASE
)
"""What allocators say: torch's for CPU and GPU, numpy's, cuBLAS's and its sisters, C++, the operating system."""
NO_UNICODE = re.compile(r"surrogates not allowed|Text(Encode|Sequence)?Input(Sequence)? must be")
"""What Python and tokenizers say of half a surrogate pair; the latter take it for something that is no text."""
NO_FILE = (errno.ENAMETOOLONG, errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR, errno.ENOTDIR, errno.EIO, errno.ESTALE)
"""Errors of the system that say all with the name of the file or folder."""
MOST_OTHERS = 3
"""Kinds of further errors that are named."""


AT_ONCE = "stopped at once"
_ABOUT_EXIT = " (the environment, or something else that the run uses, called sys.exit)"
UNFORESEEN = "This was not foreseen; the traceback is "


class Interrupted(KeyboardInterrupt):
    """The user asked to stop; the run is saved. The message says how to go on."""


@dataclass
class Outcome:
    """How the block under `reported` ended."""

    code: int = 0


@contextmanager
def reported() -> Iterator[Outcome]:
    """Turn whatever ends the block into a message and an exit code; a SystemExit of something in it is a failure, too."""
    outcome = Outcome()
    try:
        yield outcome
    except BaseException as raised:
        if (interruption := _interruption(raised)) is not None:
            outcome.code = 130
            _print([str(interruption) or AT_ONCE, *_notes(raised)])
            return
        outcome.code = 2 if isinstance(innermost(raised), (ConfigError, RunFolderError)) else 1
        lines = [f"error: {_account(raised)}", *_notes(raised)]
        if _unforeseen(raised) and not any(line.startswith(UNFORESEEN) for line in lines):
            lines.append(f"{UNFORESEEN}below\n{_traceback(raised)}")
        _print(lines)


@contextmanager
def noted(folder: RunFolder) -> Iterator[None]:
    """Write into a run's folder how the block ended, and add to the error what to do next (PEP 678); the error goes on.

    A run that fails before there is anything to go on with leaves no folder: its resume would fail alike.
    """
    try:
        yield
    except Interrupted as raised:
        raised.add_note(folder.last_lines())
        raise
    except BaseException as raised:
        folder.refuse_if_gone()  # which then is why the block failed
        if (interruption := _interruption(raised)) is not None:
            _note(raised, folder, "interrupted", str(interruption) or AT_ONCE)
            raise
        folder.discard()
        message = _account(raised)
        if _unforeseen(raised) and _written(folder, _traceback(raised)):
            raised.add_note(f"{UNFORESEEN}in {folder.traceback}")
            message += f"\n{UNFORESEEN}in {folder.traceback}"
        _note(raised, folder, "failed", message, getattr(innermost(raised), "resume_with", ""))
        raise


@streams.guarded()
def command(
    arguments: Sequence[str] | None,
    usage: Callable[[list[str]], str],
    load: Callable[[list[str]], T],
    run: Callable[[T], object],
) -> int:
    """An entry point whose settings are key=value: print its `usage` of the words given, or load the settings and run.

    Returns the exit code.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    with reported() as outcome:
        if {"-h", "--help"} & set(given):
            return tell(usage([word for word in given if word not in ("-h", "--help")]))
        settings = load(given)
        with like_ctrl_c():
            run(settings)
    return outcome.code


def tell(text: str) -> int:
    """Print what a command was asked for; returns its exit code."""
    print(text)
    return streams.code()


def explain(exc: BaseException) -> str | None:
    """What went wrong, in words; None for an error nobody foresaw."""
    if type(exc).__module__.partition(".")[0] in OWN:
        return str(exc)
    if isinstance(exc, MemoryError) or (isinstance(exc, (RuntimeError, OSError)) and NO_MEMORY.search(said(exc))):
        return (
            f"out of memory: {first_line(exc)}\nLower optim.tokens_per_microbatch, engine.max_batch or model.max_length, or "
            "set model.gradient_checkpointing=true; --dry-run estimates what a run needs"
        )
    if isinstance(exc, OSError) and exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full: {exc}"
    if isinstance(exc, OSError) and exc.errno in (errno.EMFILE, errno.ENFILE):
        return f"too many files are open at once: {exc}\nRaise the limit (ulimit -n 4096), or lower env.pool.workers"
    if isinstance(exc, OSError) and exc.errno in NO_FILE and exc.filename is not None:
        return f"{printable(str(exc.filename))} cannot be used: {exc.strerror}"
    if isinstance(exc, (UnicodeEncodeError, TypeError)) and NO_UNICODE.search(said(exc)):
        return (
            "a text that the model was to read is no Unicode text: it holds half of a surrogate pair, such as '\\ud83d'. Let "
            "the environment that wrote it replace such characters: text.encode('utf-8', 'replace').decode()"
        )
    return None


def innermost(exc: BaseException) -> BaseException:
    """The error inside task groups; of several the commonest that can be explained, or else the commonest."""
    errors = _leaves(exc)
    known = [one for one in errors if explain(one) is not None] or errors
    kind, _ = Counter(map(_kind, known)).most_common(1)[0]  # of equally common ones the first
    return next(one for one in known if _kind(one) == kind)


def _interruption(raised: BaseException) -> KeyboardInterrupt | None:
    return next((one for one in _leaves(raised) if isinstance(one, KeyboardInterrupt)), None)


def _leaves(exc: BaseException) -> list[BaseException]:
    """The errors of a group and the groups within it, or the error itself."""
    if not isinstance(exc, BaseExceptionGroup):
        return [exc]
    return [leaf for one in exc.exceptions for leaf in _leaves(one)]


def _kind(exc: BaseException) -> str:
    """What is the same in errors of one cause: they may tell different numbers of tasks, bytes or processes."""
    return re.sub(r"\d+", "#", f"{type(exc).__name__}: {first_line(exc)}")


def _account(raised: BaseException) -> str:
    """What went wrong, and how often at the same time."""
    told, errors = innermost(raised), _leaves(raised)
    about = explain(told) or f"{type(told).__name__}: {said(told)}{_ABOUT_EXIT * isinstance(told, SystemExit)}"
    if len(errors) == 1:
        return masked(printable(about))
    others = [one for one in errors if _kind(one) != _kind(told)]
    alike = len(errors) - len(others)
    share = "all alike" if not others else f"{alike} of them alike" if alike > 1 else "among them"
    lines = [f"{len(errors)} failures at once, {share}: {about}"]
    if others:
        kinds = Counter(map(_kind, others)).most_common()
        examples = {_kind(one): f"{type(one).__name__}: {first_line(one)}" for one in reversed(others)}
        named = [f"{examples[kind]}{f' ({count} times)' if count > 1 else ''}" for kind, count in kinds[:MOST_OTHERS]]
        left = len(kinds) - len(named)
        lines.append(f"the others: {'; '.join(named)}{f'; {left} further kinds' if left else ''}")
    return masked(printable("\n".join(lines)))


def _note(raised: BaseException, folder: RunFolder, status: Status, reason: str, cure: str = "") -> None:
    """cure: a setting without which what was begun would fail alike when it is gone on with."""
    if not folder.begun:
        return
    try:
        folder.set_status(status, reason)
    except OSError:
        raised.add_note(f"{folder.status} could not be written")
    if "resume=" not in reason:
        begun = folder.checkpoints.is_dir() and any(folder.checkpoints.iterdir())
        what = "go on from the newest checkpoint" if begun else "begin again"
        raised.add_note(f"To {what}: {' '.join(filter(None, (folder.resume_command, cure)))}")


def _notes(raised: BaseException) -> list[str]:
    return list(getattr(raised, "__notes__", ()))


def _unforeseen(raised: BaseException) -> bool:
    return any(explain(one) is None for one in _leaves(raised))


def _traceback(raised: BaseException) -> str:
    return masked("".join(traceback.format_exception(raised)))


def _print(lines: Iterable[str]) -> None:
    """To people, and to the log files of clusters."""
    print(masked("\n".join(lines)), file=sys.stderr)


def _written(folder: RunFolder, text: str) -> bool:
    try:
        folder.traceback.write_text(text, encoding="utf-8")
    except OSError:
        return False
    return True

"""How a run that fails ends: in words, with an exit code, and with a note in its folder."""

import asyncio
import errno
import re
import resource
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agents.config import loading
from agents.rollout.engines.base import Request, Sampling
from agents.rollout.engines.hf import HFEngine
from agents.runs.checkpoint import CheckpointError
from agents.runs.failures import explain, innermost, noted, reported
from agents.runs.folder import RunFolder
from envs.base import TaskError
from envs.common.structured import ConfigError
from envs.pool import Pool
from tests.agents.models.models_for_tests import small_policy
from tests.agents.runs.test_folder import HASHES, SPLIT_TASKS
from tests.envs.pool_tools import maker
from tests.envs.toys import Broken, Corridor, Speechless


def end(exc: BaseException, folder: RunFolder | None = None) -> int:
    with reported() as outcome, noted(folder) if folder else nullcontext():
        raise exc
    return outcome.code


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """Of a run that has begun, and has numbers."""
    config = loading.load([f"out={tmp_path}", "run=it"])
    folder = RunFolder.open(config)
    folder.begin(config, SPLIT_TASKS, HASHES)
    folder.metrics.write_text("{}\n")
    return folder


def test_a_block_that_ends_well_has_code_0(capsys: pytest.CaptureFixture[str]) -> None:
    with reported() as outcome:
        pass
    assert outcome.code == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("exc", [TaskError("game 7 is broken"), CheckpointError("no room"), ConfigError("unknown key 'x'")])
def test_an_error_written_for_people_is_shown_as_it_is(exc: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    assert end(exc) == (2 if isinstance(exc, ConfigError) else 1)
    assert capsys.readouterr().err == f"error: {exc}\n"


def test_an_error_inside_a_task_group_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    end(ExceptionGroup("unhandled errors", [ExceptionGroup("again", [TaskError("game 7 is broken")])]))
    assert capsys.readouterr().err == "error: game 7 is broken\n"


@pytest.mark.fault("out of memory", lost="what came after the newest checkpoint")
@pytest.mark.parametrize("episodes", [1, 2, 5])
def test_out_of_memory_while_any_number_of_episodes_waits_is_told_with_advice(
    episodes: int, folder: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = small_policy()

    def forward(*_: Any, **__: Any) -> torch.Tensor:
        return torch.empty(1 << 50, dtype=torch.uint8)

    policy.forward = forward  # type: ignore[method-assign]
    engine = HFEngine(policy)

    async def sample() -> None:
        async with asyncio.TaskGroup() as tasks:
            for number in range(episodes):
                tasks.create_task(engine.generate(Request(f"{number}", [5, 6, 7], Sampling(), number)))

    with reported() as outcome, noted(folder):
        asyncio.run(sample())
    shown = capsys.readouterr().err
    assert outcome.code == 1
    assert shown.startswith(
        "error: out of memory: " if episodes == 1 else f"error: {episodes} failures at once, all alike: out of"
    )
    assert "Lower optim.tokens_per_microbatch, engine.max_batch" in shown
    assert "Traceback" not in shown
    assert not folder.traceback.exists()
    assert "out of memory" in folder.get_status()["reason"]


def _raised(provoke: Any) -> BaseException:
    with pytest.raises(Exception) as caught:  # noqa: PT011
        provoke()
    return caught.value


@pytest.mark.fault("out of memory", lost="what came after the newest checkpoint")
@pytest.mark.parametrize(
    "exc",
    [
        _raised(lambda: torch.empty(1 << 50, dtype=torch.uint8)),
        _raised(lambda: np.empty(1 << 50, dtype=np.uint8)),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 7.79 GiB"),
        torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:80] data. DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes"
        ),
        RuntimeError("HIP out of memory. Tried to allocate 20.00 MiB"),
        RuntimeError("MPS backend out of memory (MPS allocated: 9.0 GB)"),
        RuntimeError("std::bad_alloc"),
        MemoryError("std::bad_alloc"),
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ],
    ids=lambda exc: f"{type(exc).__name__} {exc}"[:60],
)
def test_every_allocator_that_runs_out_is_told_with_advice(exc: BaseException) -> None:
    assert "Lower optim.tokens_per_microbatch" in (explain(exc) or "")
    assert explain(innermost(ExceptionGroup("two", [ValueError("x"), exc]))) == explain(exc)


def test_an_error_that_speaks_of_memory_otherwise_is_not_taken_for_want_of_it() -> None:
    assert explain(RuntimeError("The size of tensor a (3) must match the size of tensor b (4)")) is None
    assert explain(ValueError("memory is a setting of ours")) is None


trees = st.recursive(st.integers(0, 3), lambda inner: st.lists(inner, min_size=1, max_size=3), max_leaves=6)
"""Errors by their number among KINDS, and groups of them."""
KINDS = [
    TaskError("game 7 is broken"),
    MemoryError(),
    ZeroDivisionError("division by zero"),
    KeyError("x"),
    TaskError("game 8 is broken"),
]


def _grouped(tree: Any, interrupted: bool = False) -> Any:
    if isinstance(tree, int):
        return KINDS[tree]
    return BaseExceptionGroup("unhandled errors", [_grouped(one) for one in tree] + [KeyboardInterrupt()] * interrupted)


def _numbers(tree: Any) -> list[int]:
    return [tree] if isinstance(tree, int) else [number for one in tree for number in _numbers(one)]


@pytest.mark.fault("several failures at once", lost="what came after the newest checkpoint")
@given(trees)
def test_of_any_group_the_commonest_error_with_words_is_told(tree: Any) -> None:
    numbers = _numbers(tree)
    known = [number for number in numbers if number < 2] or numbers
    assert innermost(_grouped(tree)) is KINDS[max(known, key=known.count)]


@pytest.mark.fault("several failures at once", lost="what came after the newest checkpoint")
@pytest.mark.parametrize(
    ("tree", "lines"),
    [
        ([0, 0, [0]], ["error: 3 failures at once, all alike: game 7 is broken"]),
        ([4, 0, [0]], ["error: 3 failures at once, all alike: game 8 is broken"]),
        (
            [2, [0, 2], 3],
            [
                "error: 4 failures at once, among them: game 7 is broken",
                "the others: ZeroDivisionError: division by zero (2 times); KeyError: 'x'",
            ],
        ),
        (
            [3, 2, 2],
            ["error: 3 failures at once, 2 of them alike: ZeroDivisionError: division by zero", "the others: KeyError: 'x'"],
        ),
        ([3], ["error: KeyError: 'x'"]),
    ],
)
def test_several_failures_are_told_in_a_sentence_with_the_commonest_cause_and_a_count(
    tree: Any, lines: list[str], folder: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert end(_grouped(tree), folder) == 1
    assert capsys.readouterr().err.splitlines()[: len(lines)] == lines
    assert folder.traceback.exists() == any(number in (2, 3) for number in _numbers(tree))
    assert lines[0].removeprefix("error: ") in folder.get_status()["reason"]


def test_many_kinds_of_errors_are_named_up_to_a_few(capsys: pytest.CaptureFixture[str]) -> None:
    end(ExceptionGroup("many", [TaskError("broken"), *(TaskError(f"broken {letter}") for letter in "abcdefghi")]))
    assert capsys.readouterr().err.splitlines() == [
        "error: 10 failures at once, among them: broken",
        "the others: TaskError: broken a; TaskError: broken b; TaskError: broken c; 6 further kinds",
    ]


@pytest.mark.fault("workers that cannot start", lost="nothing: no run begins")
@pytest.mark.parametrize("count", [1, 3])
def test_workers_that_cannot_start_are_told_once_with_what_to_do(count: int, capsys: pytest.CaptureFixture[str]) -> None:
    async def run() -> None:
        async with Pool(maker(Broken), mode="processes") as pool, asyncio.TaskGroup() as tasks:
            for seed in range(count):
                tasks.create_task(pool.slot().reset(seed=seed))

    with reported() as outcome:
        asyncio.run(run())
    shown = capsys.readouterr().err
    assert outcome.code == 1
    assert ("all alike: an environment worker cannot start: " in shown) == (count > 1)
    assert "an environment worker cannot start: " in shown
    assert "This was not foreseen" not in shown


def test_ctrl_c_among_other_errors_stays_an_interruption(folder: RunFolder) -> None:
    assert end(_grouped([0, [2]], interrupted=True), folder) == 130
    assert folder.get_status()["status"] == "interrupted"


@pytest.mark.fault("a library calls sys.exit", lost="what came after the newest checkpoint")
@pytest.mark.parametrize("error", [SystemExit(0), SystemExit(None), SystemExit("bye"), GeneratorExit()], ids=repr)
def test_what_would_end_the_program_in_silence_is_a_failure_with_its_place(
    error: BaseException, folder: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert end(error, folder) == 1  # type: ignore[arg-type]
    status = folder.get_status()
    assert status["status"] == "failed"
    assert type(error).__name__ in status["reason"]
    assert "in end" in folder.traceback.read_text()
    assert f"resume={folder.path}" in capsys.readouterr().err


@pytest.mark.fault("an error that cannot be told", lost="what came after the newest checkpoint")
@pytest.mark.parametrize(
    ("error", "told"),
    [
        (Speechless(), "error: Speechless: it raises another error where it is to say what it is\n"),
        (OSError("\x1b[2Jcleared"), "error: OSError: \\x1b[2Jcleared\n"),
        (ValueError("a" * 1_000_000), f"error: ValueError: {'a' * 2000}...\n"),
        (TaskError("\x1b]0;title\x07"), "error: \\x1b]0;title\\x07\n"),
    ],
    ids=["no words", "terminal", "too many words", "own"],
)
@pytest.mark.parametrize("count", [1, 2])
def test_an_error_without_words_or_with_too_many_is_told_as_any_other(
    error: Exception, told: str, count: int, folder: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert end(error if count == 1 else ExceptionGroup("tasks", [error, error]), folder) == 1
    shown = capsys.readouterr().err
    assert shown.startswith(told if count == 1 else f"error: 2 failures at once, all alike: {told.removeprefix('error: ')}")
    assert "\x1b" not in shown
    assert len(shown) < 3000


@pytest.mark.fault("half of a surrogate pair in a text", lost="what came after the newest checkpoint")
def test_a_lone_surrogate_is_told_in_words_whoever_stumbles_over_it(capsys: pytest.CaptureFixture[str]) -> None:
    tokenizer = small_policy().tokenizer
    group = [_raised(lambda: "a \ud83d".encode()), _raised(lambda: tokenizer("a \ud83d"))]
    assert end(ExceptionGroup("two", group)) == 1  # type: ignore[type-var]
    shown = capsys.readouterr().err
    assert "half of a surrogate pair" in shown
    assert "Traceback" not in shown


@pytest.mark.fault("an error that nobody foresaw", lost="what came after the newest checkpoint")
def test_an_error_nobody_foresaw_keeps_its_traceback_in_the_folder(
    folder: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert end(ZeroDivisionError("division by zero"), folder) == 1
    shown = capsys.readouterr().err
    assert "ZeroDivisionError: division by zero" in shown
    assert str(folder.traceback) in shown
    assert "Traceback (most recent" not in shown
    assert "Traceback (most recent" in folder.traceback.read_text()
    assert folder.get_status()["status"] == "failed"
    assert f"resume={folder.path}" in shown


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("exc", [TaskError("game 7 is broken"), ZeroDivisionError("division by zero")])
def test_a_start_that_fails_leaves_no_folder_and_advises_no_resume(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], exc: Exception, begun: bool
) -> None:
    config = loading.load([f"out={tmp_path}", "run=it"])
    folder = RunFolder.open(config)
    if begun:
        folder.begin(config, SPLIT_TASKS, HASHES)
    assert end(exc, folder) == 1
    shown = capsys.readouterr().err
    assert str(exc) in shown
    assert "resume=" not in shown
    assert ("Traceback (most recent" in shown) == isinstance(exc, ZeroDivisionError)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("exc", [ConfigError("another model"), KeyboardInterrupt()])
def test_a_resume_that_ends_before_it_goes_on_leaves_the_status_alone(folder: RunFolder, exc: BaseException) -> None:
    folder.set_status("finished")
    before = folder.status.read_bytes()
    assert end(exc, RunFolder.open(loading.load([f"resume={folder.path}"]))) != 0
    assert folder.status.read_bytes() == before


def test_ctrl_c_is_no_failure_and_says_how_to_go_on(folder: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert end(KeyboardInterrupt(), folder) == 130
    assert f"resume={folder.path}" in capsys.readouterr().err
    assert folder.get_status()["status"] == "interrupted"
    assert not folder.traceback.exists()


@pytest.mark.fault("the system refuses a file", lost="what came after the newest checkpoint")
@pytest.mark.parametrize(
    ("exc", "said"),
    [
        (
            OSError(errno.EMFILE, "Too many open files"),
            "too many files are open at once: .*\nRaise the limit \\(ulimit -n 4096\\)",
        ),
        (OSError(errno.ENFILE, "Too many open files in system", "/x"), "too many files are open at once"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "n" * 280), "n{280} cannot be used: File name too long"),
        (PermissionError(errno.EACCES, "Permission denied", "/a/b\x1b"), r"/a/b\\x1b cannot be used: Permission denied"),
        (OSError(errno.EROFS, "Read-only file system", "/a"), "/a cannot be used: Read-only file system"),
        (IsADirectoryError(errno.EISDIR, "Is a directory", "/a"), "/a cannot be used: Is a directory"),
        (OSError(errno.EIO, "Input/output error", "/a"), "/a cannot be used: Input/output error"),
    ],
)
def test_what_the_system_refuses_is_told_by_the_name_of_the_file(
    exc: OSError, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert end(exc) == 1
    shown = capsys.readouterr().err
    assert re.search(said, shown)
    assert "Traceback" not in shown


@pytest.mark.fault("too few file descriptors", lost="nothing: no run begins")
@pytest.mark.parametrize("mode", ["threads", "processes"])
def test_too_few_descriptors_for_the_workers_are_told_with_what_to_do(mode: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Threads need none."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(list(Path("/proc/self/fd").iterdir())) + 8, hard))
    try:
        with reported() as outcome, Pool(maker(Corridor), workers=16, mode=mode):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert outcome.code == (mode == "processes")
    if mode == "processes":
        shown = capsys.readouterr().err
        assert "an environment worker cannot start: [Errno 24] Too many open files. Lower env.pool.workers (16 now)" in shown
        assert "Traceback" not in shown


def test_a_full_disk_and_full_memory_are_told_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    end(OSError(errno.ENOSPC, "No space left on device"))
    end(MemoryError())
    shown = capsys.readouterr().err
    assert "the disk is full" in shown
    assert "tokens_per_microbatch" in shown
    assert "Traceback" not in shown

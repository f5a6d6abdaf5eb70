"""Signals that ask a process to end: what each does, and what the programs around are left."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from agents.runs.stopping import Stopped, heard, like_ctrl_c
from envs.common.ending import SIGNALS


@pytest.fixture(autouse=True)
def usual() -> Iterator[None]:
    """As in a program that a terminal starts; tests may run in a shell's background, where Ctrl-C is ignored."""
    usual: dict[int, Any] = dict.fromkeys(SIGNALS, signal.SIG_DFL) | {signal.SIGINT: signal.default_int_handler}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    assert {number: signal.getsignal(number) for number in usual} == usual, "a handler was not put back"
    for number, handler in before.items():
        signal.signal(number, handler)


def told(capsys: pytest.CaptureFixture[str]) -> str:
    """What the user is told, by a thread of its own."""
    while not (said := capsys.readouterr().err).endswith("\n"):
        time.sleep(0.01)
    return said


@pytest.mark.fault("SIGHUP, SIGTERM, SIGUSR1, SIGUSR2, SIGXCPU, Ctrl-C")
@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_of_any_kind_only_asks(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    asked = threading.Event()
    with heard(asked) as came:
        signal.raise_signal(number)
        assert asked.is_set()
    assert came == [signal.Signals(number).name]
    assert "stopping after this iteration" in told(capsys)


@pytest.mark.fault("signals that are repeated", lost="nothing; at a second Ctrl-C what came after the newest checkpoint")
def test_signals_that_are_repeated_break_nothing_off_and_ctrl_c_does(capsys: pytest.CaptureFixture[str]) -> None:
    asked = threading.Event()
    with heard(asked):
        for number in (signal.SIGINT, *SIGNALS[1:], *SIGNALS[1:]):
            signal.raise_signal(number)
        assert told(capsys).count("stopping after this iteration") == 1
        with pytest.raises(Stopped) as raised:
            signal.raise_signal(signal.SIGINT)
        assert str(raised.value) == "stopped at once"


@pytest.mark.parametrize("number", SIGNALS)
def test_where_nothing_can_be_saved_yet_the_first_signal_stops_at_once(number: int) -> None:
    with pytest.raises(Stopped), heard():
        signal.raise_signal(number)


def test_what_nohup_or_the_program_around_has_decided_stays() -> None:
    came: list[int] = []

    def theirs(number: int, frame: object) -> None:
        came.append(number)

    asked = threading.Event()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, theirs)
    try:
        with heard(), heard(asked), like_ctrl_c():
            signal.raise_signal(signal.SIGHUP)
            signal.raise_signal(signal.SIGUSR1)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        assert came == [signal.SIGUSR1]
        assert not asked.is_set()
    finally:
        for number in (signal.SIGHUP, signal.SIGUSR1):
            signal.signal(number, signal.SIG_DFL)


@pytest.mark.fault("a signal in an evaluation", lost="the episodes under way")
@pytest.mark.parametrize("number", SIGNALS)
def test_in_an_event_loop_every_signal_ends_the_tasks_as_ctrl_c_does(number: int) -> None:
    ended = []

    async def work() -> None:
        signal.raise_signal(number)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    with pytest.raises(KeyboardInterrupt), like_ctrl_c():
        asyncio.run(work())
    assert ended == ["cancelled"]


@pytest.mark.fault("SIGTERM to a job in the background")
def test_a_background_job_of_a_script_which_ignores_ctrl_c_is_terminated_all_the_same() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        for around in (like_ctrl_c(), heard()):
            with around:
                signal.raise_signal(signal.SIGINT)
                with pytest.raises(Stopped, match="by SIGTERM"):
                    signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def test_outside_the_main_thread_nothing_changes() -> None:
    asked, handlers = threading.Event(), []

    def work() -> None:
        with heard(asked), like_ctrl_c():
            handlers.extend(signal.getsignal(number) for number in SIGNALS)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert handlers == [signal.default_int_handler, *[signal.SIG_DFL] * (len(SIGNALS) - 1)]

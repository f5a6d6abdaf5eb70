"""Work in a thread beside the event loop: its result, its errors, and that nothing of it is left when nobody waits."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import pytest

from agents.training.aside import IN_TURN, Aside

BESIDE = Aside(threaded=True)


def test_the_event_loop_goes_on_while_work_is_done() -> None:
    async def main() -> tuple[int, int]:
        ready = threading.Event()
        turns = 0

        async def others() -> None:
            nonlocal turns
            while turns < 3:
                await asyncio.sleep(0.001)
                turns += 1
            ready.set()

        going = asyncio.create_task(others())
        found = await BESIDE.run(lambda: threading.get_ident() if ready.wait(10) else 0)
        await going
        return found, turns

    thread, turns = asyncio.run(main())
    assert thread not in (0, threading.get_ident())
    assert turns == 3


def test_in_turn_it_is_done_where_one_is() -> None:
    async def number() -> int:
        return threading.get_ident()

    assert asyncio.run(IN_TURN.run(threading.get_ident)) == threading.get_ident()
    assert asyncio.run(IN_TURN.finish(number())) == threading.get_ident()
    assert asyncio.run(BESIDE.finish(number())) != threading.get_ident()


@pytest.mark.parametrize(("kind", "told"), [(ZeroDivisionError, ZeroDivisionError), (StopIteration, RuntimeError)])
def test_an_error_is_raised_where_one_waits(kind: type[Exception], told: type[Exception]) -> None:
    def fails() -> None:
        raise kind("an update")

    with pytest.raises(told):
        asyncio.run(BESIDE.run(fails))


def steps_for_ever() -> None:
    while True:
        time.sleep(0.001)


def catches_what_it_can() -> None:
    for _ in range(3):
        with suppress(Exception):
            steps_for_ever()


@pytest.mark.parametrize("work", [steps_for_ever, catches_what_it_can])
def test_work_that_nobody_waits_for_ends(work: Callable[[], None]) -> None:
    async def main() -> None:
        going = asyncio.create_task(BESIDE.run(work))
        await asyncio.sleep(0.01)
        going.cancel()
        with pytest.raises(asyncio.CancelledError):
            await going

    before = threading.active_count()
    asyncio.run(main())
    assert threading.active_count() == before

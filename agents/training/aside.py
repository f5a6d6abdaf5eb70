"""Where an update is computed: in the trainer's own thread, or with rollout.overlap beside it, so that sampling goes on.

Python cannot end a thread. One whose result nobody waits for any more (Ctrl-C twice, a rollout that failed) has an exception
raised in it wherever it stands, as Ctrl-C has in the main thread: it ends after the tensor operation it is at.
"""

from __future__ import annotations

import asyncio
import ctypes
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")


class _Abandoned(SystemExit):
    """Raised in a thread that nobody waits for; as any SystemExit it ends the thread without a word."""


@dataclass(frozen=True, slots=True)
class Aside:
    """Runs one piece of work after the other."""

    threaded: bool
    """In a thread of its own, while the event loop goes on."""

    async def run(self, work: Callable[[], T]) -> T:
        """What `work` returns; what it raises is raised. Cancelled, it returns when `work` has ended."""
        return await _in_thread(work) if self.threaded else work()

    async def finish(self, work: Coroutine[Any, Any, T]) -> T:
        """The same of a coroutine that computes, and awaits nothing of this event loop."""
        return await self.run(partial(asyncio.run, work)) if self.threaded else await work


IN_TURN = Aside(threaded=False)


async def _in_thread(work: Callable[[], T]) -> T:
    loop = asyncio.get_running_loop()
    outcome: Future[T] = Future()
    ended = asyncio.Event()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as raised:
            outcome.set_exception(raised)
        loop.call_soon_threadsafe(ended.set)

    thread = threading.Thread(target=run, name="update", daemon=True)
    thread.start()
    try:
        await ended.wait()
    finally:
        if not ended.is_set():
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(_Abandoned))
        thread.join()
    return outcome.result()

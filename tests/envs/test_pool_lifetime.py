"""A pool begins, is shared, and ends without leaving anything."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from envs.pool import EpisodeError, Mode, Pool, PoolError
from envs.pool.processes import ProcessWorker
from tests.envs.pool_tools import MODES, children, ends, fault, maker, walk
from tests.envs.toys import Broken, Moody

ROOT = Path(__file__).parents[2]


async def _reset(slot: Any) -> None:
    await slot.reset(seed=1)


@pytest.mark.fault("an environment cannot be made", lost="nothing: the run says so")
@pytest.mark.parametrize("mode", ["threads", "processes"])
def test_an_environment_that_cannot_be_made_stops_the_run(mode: Mode) -> None:
    async def run() -> None:
        async with Pool(maker(Broken), workers=2, mode=mode) as pool:
            for _ in range(2):
                with pool.slot() as env, pytest.raises(PoolError, match="map of the corridor is missing"):
                    await env.reset(seed=1)

    asyncio.run(run())


@pytest.mark.fault("a run ends while environments are at work")
@pytest.mark.parametrize("mode", MODES)
def test_a_closed_pool_says_so(mode: Mode) -> None:
    async def run() -> None:
        pool = Pool(maker(Moody), mode=mode)
        env = pool.slot()
        await env.reset(seed=1, task="length-5")
        under_way = asyncio.ensure_future(env.step("nap 0.1"))
        await asyncio.sleep(0.02)
        pool.close()
        pool.close()
        if mode != "inline":
            assert (await fault(under_way)).kind == "worker_lost"
            with pytest.raises((PoolError, EpisodeError)):
                await env.step("wait")
        with pytest.raises(PoolError, match="closed"):
            await pool.slot().reset(seed=1)

    asyncio.run(run())


@pytest.mark.fault("environments hang, die, and leave children behind")
def test_nothing_is_left_after_close(tmp_path: Path) -> None:
    """No process (nor what an environment started), no zombie, no descriptor and no thread: also after hangs and crashes."""

    async def run() -> list[int]:
        async with Pool(maker(Moody), workers=3, mode="processes", step_timeout=2.0) as pool:
            slots = [pool.slot() for _ in range(6)]
            for env in slots:
                await env.reset(seed=1, task="length-5")
            workers = [worker.pid for worker in pool._workers if isinstance(worker, ProcessWorker)]
            assert set(workers) <= set(children())
            await slots[0].step(f"child {tmp_path / 'a'}")
            await slots[1].step(f"child {tmp_path / 'b'}")
            await slots[2].step(f"child {tmp_path / 'c'}")
            await asyncio.gather(fault(slots[0].step("hang")), fault(slots[1].step("die")), slots[2].step("wait"))
            return workers

    gc.collect()
    threads = threading.active_count()
    before = set(os.listdir("/proc/self/fd"))
    workers = asyncio.run(run())
    assert len(workers) == 3
    assert not set(workers) & set(children())
    assert threading.active_count() == threads
    gc.collect()
    assert set(os.listdir("/proc/self/fd")) == before
    for name in "abc":
        assert ends(int((tmp_path / name).read_text()))


@pytest.mark.fault("a run is killed while its environments hang")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_workers_die_with_their_parent_even_while_they_hang(how: signal.Signals, tmp_path: Path) -> None:
    # A shell that starts the tests in the background makes them ignore SIGINT, and their children inherit that.
    program = f"""
import asyncio, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from envs.pool import Pool
from tests.envs.pool_tools import children, maker
from tests.envs.toys import Moody
async def run():
    async with Pool(maker(Moody), workers=2, mode="processes", step_timeout=None) as pool:
        slots = [pool.slot(), pool.slot()]
        for env in slots:
            await env.reset(seed=1, task="length-5")
        hung = asyncio.ensure_future(slots[0].step("hang"))
        await slots[1].step("child {tmp_path}/child")
        print(*children(), flush=True)
        await hung
asyncio.run(run())
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert parent.stdout is not None
    workers = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(workers) == 2
    parent.send_signal(how)
    parent.wait()
    parent.stdout.close()
    for pid in [*workers, int((tmp_path / "child").read_text())]:
        assert ends(pid)


@pytest.mark.fault("an episode is broken off", lost="the episode")
def test_a_cancelled_episode_leaves_its_worker_in_order() -> None:
    async def run() -> None:
        async with Pool(maker(Moody), mode="processes") as pool:
            with pool.slot() as env:
                await env.reset(seed=1, task="length-5")
                step = asyncio.ensure_future(env.step("nap 0.3"))
                await asyncio.sleep(0.1)
                step.cancel()
            assert len(await walk(pool, seed=0)) > 2
            assert not pool.counts

    asyncio.run(run())


@pytest.mark.parametrize("mode", MODES)
def test_one_pool_serves_one_event_loop_after_the_other(mode: Mode) -> None:
    with Pool(maker(Moody), workers=2, mode=mode, step_timeout=1.0) as pool:
        first = asyncio.run(walk(pool, seed=5))
        assert asyncio.run(walk(pool, seed=5)) == first
        if mode != "inline":

            async def hang() -> None:
                with pool.slot() as env:
                    await env.reset(seed=1)
                    assert (await fault(env.step("nap 2"))).kind == "timeout"

            asyncio.run(hang())
        slot = pool.slot()
        asyncio.run(_reset(slot))
        slot.release()
        assert asyncio.run(walk(pool, seed=5)) == first

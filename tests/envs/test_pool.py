"""The pool: an episode's fault is its own, what hangs or dies is replaced, and workers change nothing about what happens."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from envs.base import TextEnv
from envs.pool import EpisodeError, Mode, Pool, PoolError
from envs.pool.processes import ProcessWorker
from tests.envs.toys import Broken, Corridor, CorridorConfig, HangsAtReset, Moody

MODES: list[Mode] = ["inline", "threads", "processes"]
ROOT = Path(__file__).parents[2]


def maker(env: type[TextEnv], **config: Any) -> Callable[[], TextEnv]:
    return partial(_make, env, config)


def _make(env: type[TextEnv], config: dict[str, Any]) -> TextEnv:
    return env(CorridorConfig(**config))  # type: ignore[arg-type, call-arg]


async def fault(call: Any) -> EpisodeError:
    with pytest.raises(EpisodeError) as caught:
        await call
    return caught.value


async def walk(pool: Pool, seed: int, steps: int = 12) -> list[Any]:
    """All that one episode sees."""
    with pool.slot() as env:
        seen: list[Any] = [await env.reset(seed=seed)]
        for step in range(steps):
            seen.append(await env.step(("right", "left", "right", "fly")[(seed + step) % 4]))
            if seen[-1][2] or seen[-1][3]:
                break
        return seen


@pytest.mark.parametrize("mode", MODES)
def test_an_episode_goes_from_reset_to_its_end(mode: Mode) -> None:
    async def run() -> None:
        async with Pool(maker(Corridor), mode=mode) as pool:
            with pool.slot() as env:
                observation, info = await env.reset(seed=3, task="length-4")
                assert "leave the corridor of 4 cells" in observation
                assert info["task_id"] == "length-4"
                while True:
                    _, reward, terminated, truncated, info = await env.step("right")
                    if terminated or truncated:
                        break
                assert (reward, terminated, truncated, info["success"]) == (1.0, True, False, True)

    asyncio.run(run())


def test_same_seed_same_behaviour_with_any_number_of_workers() -> None:
    async def run(mode: Mode, workers: int) -> list[Any]:
        async with Pool(maker(Corridor, slippery=0.3), workers=workers, mode=mode) as pool:
            return await asyncio.gather(*(walk(pool, seed) for seed in range(9)))

    reference = asyncio.run(run("inline", 1))
    assert len({str(episode) for episode in reference}) > 5
    for mode, workers in (("threads", 1), ("threads", 4), ("processes", 1), ("processes", 3)):
        assert asyncio.run(run(mode, workers)) == reference  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", MODES)
def test_an_exception_is_the_error_of_that_episode_with_its_message(mode: Mode) -> None:
    async def run() -> None:
        async with Pool(maker(Moody), mode=mode) as pool:
            with pool.slot() as good, pool.slot() as bad:
                await asyncio.gather(good.reset(seed=1, task="length-5"), bad.reset(seed=2, task="length-5"))
                error = await fault(bad.step("raise"))
                assert (error.kind, error.detail) == ("exception", "ZeroDivisionError: the corridor has no end")
                assert (await fault(bad.step("wait"))).kind == "exception"
                assert "You wait" in (await good.step("wait"))[0]
                await bad.reset(seed=2, task="length-5")
                assert "You wait" in (await bad.step("wait"))[0]
            assert pool.counts == {"exception": 1}

    asyncio.run(run())


@pytest.mark.parametrize("mode", MODES)
def test_a_task_that_cannot_be_played_is_an_error_of_its_episode(mode: Mode) -> None:
    async def run() -> None:
        async with Pool(maker(Corridor), mode=mode) as pool:
            with pool.slot() as env:
                error = await fault(env.reset(seed=1, task="maze"))
                assert (error.kind, error.detail) == ("exception", "TaskError: unknown task 'maze'; tasks are named length-N")
                assert (await env.reset(seed=1))[0]

    asyncio.run(run())


@pytest.mark.parametrize("mode", ["threads", "processes"])
def test_timeout_is_never_a_success(mode: Mode) -> None:
    """A hung step has no result at all that could count as one: it raises, and its slot gives nothing until a new reset."""

    async def run() -> None:
        async with Pool(maker(Moody), mode=mode, step_timeout=0.3) as pool:
            with pool.slot() as env:
                await env.reset(seed=1, task="length-5")
                error = await fault(env.step("nap 1.5"))
                assert (error.kind, error.detail) == ("timeout", "'step' took more than 0.3 s")
                assert (await fault(env.step("right"))).kind == "timeout"
                await asyncio.sleep(1.5)  # the late answer of an abandoned thread must not surface
                assert (await fault(env.step("right"))).kind == "timeout"
            assert pool.counts["timeout"] == 1

    asyncio.run(run())


@pytest.mark.parametrize("mode", ["threads", "processes"])
def test_a_hung_reset_is_a_timeout(mode: Mode) -> None:
    async def run() -> None:
        async with Pool(maker(HangsAtReset), mode=mode, reset_timeout=0.3) as pool:
            with pool.slot() as env:
                assert (await fault(env.reset(seed=1, task="length-5"))).kind == "timeout"
                assert (await env.reset(seed=1, task="length-4"))[1]["task_id"] == "length-4"

    asyncio.run(run())


def test_crash_is_reported_apart_from_failure() -> None:
    async def run() -> None:
        async with Pool(maker(Moody, max_steps=2), mode="processes") as pool:
            with pool.slot() as failed:
                await failed.reset(seed=1, task="length-5")
                await failed.step("left")
                *_, truncated, info = await failed.step("left")
                assert truncated
                assert not info["success"]
            assert not pool.counts  # an episode that reached nothing is a result
            with pool.slot() as crashed:
                await crashed.reset(seed=1, task="length-5")
                error = await fault(crashed.step("die"))
                assert (error.kind, error.detail) == ("crash", "the worker process ended with exit code 3")
            assert pool.counts == {"crash": 1, "workers_replaced": 1}

    asyncio.run(run())


def test_hung_worker_is_replaced_and_others_go_on() -> None:
    async def run() -> None:
        async with Pool(maker(Moody), workers=2, mode="processes", step_timeout=0.5) as pool:
            hung, elsewhere, neighbour, waiting = (pool.slot() for _ in range(4))
            for env in (hung, elsewhere, neighbour):  # fewest first: worker 0, worker 1, worker 0
                await env.reset(seed=1, task="length-5")
            error, other, late = await asyncio.gather(
                fault(hung.step("hang")), elsewhere.step("wait"), fault(neighbour.step("wait"))
            )
            assert error.kind == "timeout"
            assert "You wait" in other[0]
            assert late.kind == "worker_lost"
            await waiting.reset(seed=1, task="length-5")
            for env in (hung, neighbour):
                await env.reset(seed=1, task="length-5")
            for env in (hung, elsewhere, neighbour, waiting):
                assert "You wait" in (await env.step("wait"))[0]
                env.release()
            assert pool.counts == {"timeout": 1, "worker_lost": 1, "workers_replaced": 1}

    asyncio.run(run())


def test_an_idle_neighbour_of_a_crash_hears_of_it_at_its_next_step() -> None:
    async def run() -> None:
        async with Pool(maker(Moody), mode="processes") as pool:
            with pool.slot() as crashed, pool.slot() as idle:
                await crashed.reset(seed=1)
                await idle.reset(seed=2)
                await fault(crashed.step("die"))
                error = await fault(idle.step("wait"))
                assert error.kind == "worker_lost"
                assert "exit code 3" in error.detail

    asyncio.run(run())


def test_neighbours_of_a_hung_thread_go_on_where_they_were() -> None:
    others = _environment_threads()  # threads that hang in other tests cannot be ended

    async def run() -> None:
        async with Pool(maker(Moody), mode="threads", step_timeout=0.3) as pool:
            with pool.slot() as hung, pool.slot() as first, pool.slot() as second:
                for env in (hung, first, second):
                    await env.reset(seed=4, task="length-5")
                before = (await first.step("left"))[4]["state_key"]
                error, answer = await asyncio.gather(fault(hung.step("nap 1")), first.step("wait"))
                assert error.kind == "timeout"
                assert answer[4]["state_key"] == before
                assert "You wait" in (await second.step("wait"))[0]
            await asyncio.sleep(1.0)
            assert _environment_threads() == others + 1  # the abandoned one has ended by itself

    asyncio.run(run())
    assert _environment_threads() == others


def test_waiting_behind_a_slow_neighbour_is_no_timeout() -> None:
    async def run() -> None:
        async with Pool(maker(Moody), mode="processes", step_timeout=1.0) as pool:
            slots = [pool.slot() for _ in range(4)]
            await asyncio.gather(*(env.reset(seed=1, task="length-5") for env in slots))
            await asyncio.gather(*(env.step("nap 0.4") for env in slots))  # the last one waits 1.2 s for its turn
            assert not pool.counts

    asyncio.run(run())


def test_a_busy_neighbour_does_not_extend_the_time_of_a_hung_step() -> None:
    async def run() -> None:
        async with Pool(maker(Moody), mode="processes", step_timeout=0.5) as pool:
            with pool.slot() as hung:
                await hung.reset(seed=1, task="length-5")
                step = asyncio.ensure_future(fault(hung.step("hang")))
                while not step.done():  # would go on for ever if each message started the clock anew
                    with pool.slot() as neighbour:
                        asking = asyncio.ensure_future(neighbour.reset(seed=1))
                        await asyncio.sleep(0.05)
                        asking.cancel()
                assert step.result().kind == "timeout"

    asyncio.run(run())


def test_a_worker_that_is_killed_while_idle_is_replaced() -> None:
    async def run() -> None:
        async with Pool(maker(Corridor), mode="processes") as pool:
            with pool.slot() as env:
                await env.reset(seed=1, task="length-5")
                (worker,) = pool._workers
                assert isinstance(worker, ProcessWorker)
                os.kill(worker.pid, signal.SIGKILL)
                error = await fault(env.step("wait"))
                assert error.kind in ("crash", "worker_lost")  # as the step came before or after the news
                assert "killed by SIGKILL" in error.detail
                await env.reset(seed=1, task="length-5")
                assert pool.counts["workers_replaced"] == 1

    asyncio.run(run())


def test_a_busy_event_loop_is_no_timeout() -> None:
    async def run() -> None:
        async with Pool(maker(Moody), mode="processes", step_timeout=0.2) as pool:
            with pool.slot() as env:
                await env.reset(seed=1, task="length-5")
                step = asyncio.ensure_future(env.step("wait"))
                await asyncio.sleep(0)  # the step is asked for, but not yet sent
                time.sleep(0.5)
                assert "You wait" in (await step)[0]
                step = asyncio.ensure_future(env.step("wait"))
                for _ in range(3):
                    await asyncio.sleep(0)
                time.sleep(0.5)
                assert "You wait" in (await step)[0]

    asyncio.run(run())


def test_an_answer_that_cannot_travel_is_an_error_of_its_episode() -> None:
    async def run() -> None:
        async with Pool(maker(Moody), mode="processes") as pool:
            with pool.slot() as env:
                await env.reset(seed=1, task="length-5")
                error = await fault(env.step("garbage"))
                assert error.kind == "exception"
                assert "cannot be sent to another process" in error.detail
                await env.reset(seed=1)

    asyncio.run(run())


@pytest.mark.parametrize("mode", ["threads", "processes"])
def test_an_environment_that_cannot_be_made_stops_the_run(mode: Mode) -> None:
    async def run() -> None:
        async with Pool(maker(Broken), workers=2, mode=mode) as pool:
            for _ in range(2):
                with pool.slot() as env, pytest.raises(PoolError, match="map of the corridor is missing"):
                    await env.reset(seed=1)

    asyncio.run(run())


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
    with Pool(maker(Moody), workers=2, mode=mode, step_timeout=0.5) as pool:
        first = asyncio.run(walk(pool, seed=5))
        assert asyncio.run(walk(pool, seed=5)) == first
        if mode != "inline":

            async def hang() -> None:
                with pool.slot() as env:
                    await env.reset(seed=1)
                    assert (await fault(env.step("nap 1"))).kind == "timeout"

            asyncio.run(hang())
        slot = pool.slot()
        asyncio.run(_reset(slot))
        slot.release()
        assert asyncio.run(walk(pool, seed=5)) == first


async def _reset(slot: Any) -> None:
    await slot.reset(seed=1)


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


def test_nothing_is_left_after_close(tmp_path: Path) -> None:
    """No process (nor what an environment started), no zombie, no descriptor and no thread: also after hangs and crashes."""

    async def run() -> list[int]:
        async with Pool(maker(Moody), workers=3, mode="processes", step_timeout=0.3) as pool:
            slots = [pool.slot() for _ in range(6)]
            for env in slots:
                await env.reset(seed=1, task="length-5")
            workers = [worker.pid for worker in pool._workers if isinstance(worker, ProcessWorker)]
            assert set(workers) <= set(_children())
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
    assert not set(workers) & set(_children())
    assert threading.active_count() == threads
    gc.collect()
    assert set(os.listdir("/proc/self/fd")) == before
    for name in "abc":
        assert _ends(int((tmp_path / name).read_text()))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_workers_die_with_their_parent_even_while_they_hang(how: signal.Signals, tmp_path: Path) -> None:
    program = f"""
import asyncio
from envs.pool import Pool
from tests.envs.test_pool import maker, _children
from tests.envs.toys import Moody
async def run():
    async with Pool(maker(Moody), workers=2, mode="processes", step_timeout=None) as pool:
        slots = [pool.slot(), pool.slot()]
        for env in slots:
            await env.reset(seed=1, task="length-5")
        hung = asyncio.ensure_future(slots[0].step("hang"))
        await slots[1].step("child {tmp_path}/child")
        print(*_children(), flush=True)
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
    parent.wait(20)
    parent.stdout.close()
    for pid in [*workers, int((tmp_path / "child").read_text())]:
        assert _ends(pid)


def test_workers_do_not_import_the_training_program() -> None:
    async def run() -> None:
        async with Pool(_modules_maker, mode="processes") as pool:
            with pool.slot() as env:
                observation, _ = await env.reset(seed=1)
                assert "'torch'" not in observation
                assert "'agents'" not in observation

    asyncio.run(run())


class _Modules(Corridor):
    def start(self, task_id: str, rng: Any) -> Any:
        turn = super().start(task_id, rng)
        turn.observation = str(sorted(sys.modules))
        return turn


def _modules_maker() -> TextEnv:
    return _Modules(CorridorConfig())


def test_a_maker_that_cannot_travel_is_refused_with_advice() -> None:
    with pytest.raises(PoolError, match=r"functools\.partial"):
        Pool(lambda: Corridor(CorridorConfig()), mode="processes")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "fork"}, "mode is 'fork'; allowed: inline, threads, processes"),
        ({"workers": 0}, "workers is 0; it must be at least 1"),
        ({"step_timeout": 0}, "step_timeout is 0; it must be above 0, or None"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Pool(maker(Corridor), **arguments)


def _environment_threads() -> int:
    return sum(thread.name == "environment worker" for thread in threading.enumerate())


def _children() -> list[int]:
    """Processes started by this one that are alive or zombies."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError, ProcessLookupError):
            if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == os.getpid():
                found.append(int(entry.name))
    return found


def _ends(pid: int) -> bool:
    """Whether the process is gone (or a zombie that awaits init) within some seconds."""
    for _ in range(200):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False

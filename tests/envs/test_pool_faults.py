"""A fault is its own episode's: what hangs or dies is replaced, and the others go on."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from envs.common.ending import SIGNALS
from envs.pool import Mode, Pool, PoolError
from envs.pool.processes import ProcessWorker
from tests.envs.pool_tools import MODES, environment_threads, fault, maker
from tests.envs.toys import Corridor, CorridorConfig, HangsAtReset, Moody, Shaken

ROOT = Path(__file__).parents[2]


@pytest.mark.fault("an environment raises an exception", lost="the episode")
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


@pytest.mark.fault("an environment calls sys.exit", lost="the episode")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("action", ["exit", "end", "cancel", "nan"])
def test_what_ends_programs_and_a_wrong_answer_are_the_error_of_that_episode(mode: Mode, action: str) -> None:
    told = {
        "exit": "raises SystemExit(0)",
        "end": "raises End('all')",
        "cancel": "raises CancelledError()",
        "nan": "reward is nan (float)",
    }

    async def run() -> None:
        async with Pool(maker(Moody), mode=mode) as pool:
            with pool.slot() as good, pool.slot() as bad:
                await asyncio.gather(good.reset(seed=1, task="length-5"), bad.reset(seed=2, task="length-5"))
                error = await fault(bad.step(action))
                assert error.kind == "exception"
                assert f"environment moody, task length-5, step 1: {told[action]}" in error.detail
                assert (await fault(bad.step("wait"))).kind == "exception"
                assert "You wait" in (await good.step("wait"))[0]
            assert pool.counts == {"exception": 1}

    asyncio.run(run())


@pytest.mark.fault("a child that an environment forked comes back")
@pytest.mark.parametrize("mode", MODES)
def test_a_child_of_an_environment_ends_where_it_would_go_on_as_the_program(mode: Mode, tmp_path: Path) -> None:
    """A second one would train into the same folder, or give each answer of the worker twice."""

    async def run() -> None:
        async with Pool(maker(Moody), mode=mode) as pool:
            with pool.slot() as env:
                await env.reset(seed=1, task="length-5")
                for _ in range(3):
                    assert "Nothing happens" in (await env.step("fork"))[0]
                    with (tmp_path / "who goes on").open("a") as file:
                        file.write(f"{os.getpid()}\n")
                    assert "You wait" in (await env.step("wait"))[0]
            assert not pool.counts

    asyncio.run(run())
    assert (tmp_path / "who goes on").read_text() == f"{os.getpid()}\n" * 3


@pytest.mark.fault("an environment raises what cannot be told", lost="the episode")
@pytest.mark.parametrize("mode", MODES)
def test_an_exception_that_has_no_words_or_too_many_is_the_error_of_its_episode(mode: Mode) -> None:
    async def run() -> None:
        async with Pool(maker(Moody), mode=mode) as pool:
            with pool.slot() as env:
                await env.reset(seed=1, task="length-5")
                error = await fault(env.step("speechless"))
                assert error.detail.startswith("Speechless: it raises another error")
                await env.reset(seed=1, task="length-5")
                error = await fault(env.step("shout"))
                assert error.detail.startswith(r"ValueError: \x1b[2Jaaaa")
                assert len(error.detail) < 3000
                assert sum(map(len, getattr(error, "__notes__", []))) < 30_000
                await env.reset(seed=1)
                assert "You wait" in (await env.step("wait"))[0]

    asyncio.run(run())


@pytest.mark.fault("an environment calls sys.exit as it is made", lost="nothing: no run begins")
@pytest.mark.parametrize("mode", ["threads", "processes"])
def test_an_environment_that_exits_as_it_is_made_is_told(mode: Mode) -> None:
    async def run() -> None:
        async with Pool(_exits, mode=mode) as pool:
            with pool.slot() as env, pytest.raises(PoolError, match=r"cannot start: SystemExit: no license"):
                await env.reset(seed=1)

    asyncio.run(run())


def _exits() -> Corridor:
    raise SystemExit("no license")


def test_an_environment_that_exits_as_it_is_made_inline_is_an_error_of_its_episode() -> None:
    async def run() -> None:
        async with Pool(_exits, mode="inline") as pool:
            with pool.slot() as env:
                assert (await fault(env.reset(seed=1))).detail == "SystemExit: no license"

    asyncio.run(run())


@pytest.mark.fault("Ctrl-C while an environment is at work")
def test_ctrl_c_while_an_environment_is_at_work_is_no_fault() -> None:
    async def run() -> None:
        async with Pool(maker(Moody), mode="inline") as pool:
            with pool.slot() as env:
                await env.reset(seed=1)
                await env.step("interrupt")

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(run())


@pytest.mark.fault("an environment cannot be closed")
@pytest.mark.parametrize("mode", MODES)
def test_an_environment_that_cannot_be_closed_keeps_no_other_from_it(mode: Mode, tmp_path: Path) -> None:
    async def run() -> None:
        async with Pool(partial(_unclosable, tmp_path), mode=mode) as pool:
            for _ in range(2):
                await pool.slot().reset(seed=1)

    asyncio.run(run())
    assert len(list(tmp_path.iterdir())) == 2


class Unclosable(Corridor):
    """Leaves a file as it is closed, and then exits."""

    folder = Path()

    def close(self) -> None:
        (self.folder / str(id(self))).touch()
        raise SystemExit


def _unclosable(folder: Path) -> Corridor:
    env = Unclosable(CorridorConfig())
    env.folder = folder
    return env


@pytest.mark.fault("a task that cannot be played", lost="the episode")
@pytest.mark.parametrize("mode", MODES)
def test_a_task_that_cannot_be_played_is_an_error_of_its_episode(mode: Mode) -> None:
    async def run() -> None:
        async with Pool(maker(Corridor), mode=mode) as pool:
            with pool.slot() as env:
                error = await fault(env.reset(seed=1, task="maze"))
                assert (error.kind, error.detail) == ("exception", "TaskError: unknown task 'maze'; tasks are named length-N")
                assert (await env.reset(seed=1))[0]

    asyncio.run(run())


@pytest.mark.fault("an environment cannot draw chance anew", lost="the episode")
@pytest.mark.parametrize("mode", MODES)
def test_chance_that_fails_is_an_error_of_its_episode(mode: Mode) -> None:
    async def run() -> None:
        async with Pool(maker(Shaken), mode=mode) as pool:
            with pool.slot() as env:
                await env.reset(seed=1)
                error = await fault(env.reseed(7))
                assert (error.kind, error.detail) == ("exception", "ZeroDivisionError: the dice are gone")
                assert (await fault(env.step("wait"))).kind == "exception"
                assert (await fault(env.reseed(7))).kind == "exception"
                await env.reset(seed=1)
                assert "You wait" in (await env.step("wait"))[0]
            assert pool.counts == {"exception": 1}

    asyncio.run(run())


@pytest.mark.fault("an environment hangs", lost="the episode")
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


@pytest.mark.fault("an environment hangs", lost="the episode")
@pytest.mark.parametrize("mode", ["threads", "processes"])
def test_a_hung_reset_is_a_timeout(mode: Mode) -> None:
    async def run() -> None:
        async with Pool(maker(HangsAtReset), mode=mode, reset_timeout=1.0) as pool:
            with pool.slot() as env:
                assert (await fault(env.reset(seed=1, task="length-5"))).kind == "timeout"
                assert (await env.reset(seed=1, task="length-4"))[1]["task_id"] == "length-4"

    asyncio.run(run())


@pytest.mark.fault("an environment's process dies", lost="the episode")
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


@pytest.mark.fault("an environment hangs", lost="the episode; its neighbors are played again")
def test_hung_worker_is_replaced_and_others_go_on() -> None:
    async def run() -> None:
        async with Pool(maker(Moody), workers=2, mode="processes", step_timeout=2.0) as pool:
            hung, elsewhere, neighbor, waiting = (pool.slot() for _ in range(4))
            for env in (hung, elsewhere, neighbor):  # fewest first: worker 0, worker 1, worker 0
                await env.reset(seed=1, task="length-5")
            error, other, late = await asyncio.gather(
                fault(hung.step("hang")), elsewhere.step("wait"), fault(neighbor.step("wait"))
            )
            assert error.kind == "timeout"
            assert "You wait" in other[0]
            assert late.kind == "worker_lost"
            await waiting.reset(seed=1, task="length-5")
            for env in (hung, neighbor):
                await env.reset(seed=1, task="length-5")
            for env in (hung, elsewhere, neighbor, waiting):
                assert "You wait" in (await env.step("wait"))[0]
                env.release()
            assert pool.counts == {"timeout": 1, "worker_lost": 1, "workers_replaced": 1}

    asyncio.run(run())


@pytest.mark.fault("an environment's process dies", lost="the episode; its neighbors are played again")
def test_an_idle_neighbor_of_a_crash_hears_of_it_at_its_next_step() -> None:
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


@pytest.mark.fault("an environment hangs in a thread", lost="the episode")
def test_neighbors_of_a_hung_thread_go_on_where_they_were() -> None:
    others = environment_threads()  # threads that hang in other tests cannot be ended

    async def run() -> None:
        async with Pool(maker(Moody), mode="threads", step_timeout=1.0) as pool:
            with pool.slot() as hung, pool.slot() as first, pool.slot() as second:
                for env in (hung, first, second):
                    await env.reset(seed=4, task="length-5")
                before = (await first.step("left"))[4]["state_key"]
                error, answer = await asyncio.gather(fault(hung.step("nap 2")), first.step("wait"))
                assert error.kind == "timeout"
                assert answer[4]["state_key"] == before
                assert "You wait" in (await second.step("wait"))[0]
            while environment_threads() != others + 1:  # the abandoned one ends by itself
                await asyncio.sleep(0.05)

    asyncio.run(run())
    assert environment_threads() == others


@pytest.mark.fault("slow environments")
def test_waiting_behind_a_slow_neighbor_is_no_timeout() -> None:
    async def run() -> None:
        async with Pool(maker(Moody), mode="processes", step_timeout=2.0) as pool:
            slots = [pool.slot() for _ in range(4)]
            await asyncio.gather(*(env.reset(seed=1, task="length-5") for env in slots))
            await asyncio.gather(*(env.step("nap 0.7") for env in slots))  # the last one waits 2.1 s for its turn
            assert not pool.counts

    asyncio.run(run())


@pytest.mark.fault("an environment hangs beside a busy one", lost="the episode")
def test_a_busy_neighbor_does_not_extend_the_time_of_a_hung_step() -> None:
    async def run() -> None:
        async with Pool(maker(Moody), mode="processes", step_timeout=0.5) as pool:
            with pool.slot() as hung:
                await hung.reset(seed=1, task="length-5")
                step = asyncio.ensure_future(fault(hung.step("hang")))
                while not step.done():  # would go on for ever if each message started the clock anew
                    with pool.slot() as neighbor:
                        asking = asyncio.ensure_future(neighbor.reset(seed=1))
                        await asyncio.sleep(0.05)
                        asking.cancel()
                assert step.result().kind == "timeout"

    asyncio.run(run())


@pytest.mark.fault("an environment's process is killed", lost="the episode")
def test_a_worker_that_is_killed_while_idle_is_replaced() -> None:
    async def run() -> None:
        async with Pool(maker(Corridor), mode="processes") as pool:
            with pool.slot() as env:
                await env.reset(seed=1, task="length-5")
                (worker,) = pool._workers
                assert isinstance(worker, ProcessWorker)
                os.kill(worker.pid, signal.SIGKILL)
                error = await fault(env.step("wait"))
                assert error.kind == "crash"  # nobody else is to blame, so it is no neighbor's fault
                assert "killed by SIGKILL" in error.detail
                await env.reset(seed=1, task="length-5")
                assert pool.counts["workers_replaced"] == 1

    asyncio.run(run())


@pytest.mark.fault("a signal to all processes of a job, not only to the training")
def test_signals_that_ask_to_end_are_for_the_training_and_not_for_its_workers() -> None:
    async def run() -> None:
        async with Pool(maker(Moody), mode="processes") as pool:
            with pool.slot() as env:
                await env.reset(seed=1, task="length-5")
                (worker,) = pool._workers
                assert isinstance(worker, ProcessWorker)
                for number in SIGNALS:
                    os.kill(worker.pid, number)
                    await env.step("wait")
            assert pool.counts["workers_replaced"] == 0

    asyncio.run(run())


def test_what_an_environment_forks_can_be_ended_by_a_signal() -> None:
    program = (
        "import os, signal; from envs.common.ending import left_to_parent\n"
        "left_to_parent(); begun, said = os.pipe(); child = os.fork()\n"
        "if not child: os.write(said, b'x'); signal.alarm(60); signal.pause(); os._exit(0)\n"
        "os.read(begun, 1); os.kill(child, signal.SIGTERM); print(os.waitpid(child, 0)[1])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(done.stdout) == signal.SIGTERM


@pytest.mark.fault("a training that keeps environments waiting")
def test_a_busy_event_loop_is_no_timeout() -> None:
    async def run() -> None:
        async with Pool(maker(Moody), mode="processes", step_timeout=1.0) as pool:
            with pool.slot() as env:
                await env.reset(seed=1, task="length-5")
                step = asyncio.ensure_future(env.step("wait"))
                await asyncio.sleep(0)  # the step is asked for, but not yet sent
                time.sleep(1.5)
                assert "You wait" in (await step)[0]
                step = asyncio.ensure_future(env.step("wait"))
                for _ in range(3):
                    await asyncio.sleep(0)
                time.sleep(1.5)
                assert "You wait" in (await step)[0]

    asyncio.run(run())


@pytest.mark.fault("an environment's answer cannot be sent between processes", lost="the episode")
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

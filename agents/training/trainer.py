"""The training loop: episodes, credit, update, now and then an evaluation and a checkpoint.

Every seed is derived from the root seed by names (stage, iteration, task), so an iteration is a function of the weights and its
number: a run that was killed and resumed goes on exactly as the uninterrupted one.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from functools import partial

from agents import judges
from agents.config.commands import TrainConfig
from agents.models import ranks
from agents.models.policy import Policy
from agents.rollout.branching import Branch, continued
from agents.rollout.collect import Collected, collect
from agents.rollout.curriculum import Curriculum
from agents.rollout.planner import Planner, evaluation_episodes
from agents.rollout.sampler import OnEpisode, Sampler
from agents.rollout.stream import Stream
from agents.runs import checkpoint
from agents.runs.failures import Interrupted
from agents.runs.folder import RunFolder
from agents.runs.plots import plot_run
from agents.runs.signals import Signals
from agents.runs.stopping import heard
from agents.runs.tracking import Trackers
from agents.training import measures
from agents.training.aside import Aside
from agents.training.branches import Branches
from agents.training.credit import Credit
from agents.training.gathering import gather, learnable
from agents.training.learner import Learner
from agents.training.weights import WeightStore
from envs.base import TextEnv
from envs.common import disk
from envs.trajectory import Trajectory

MOST_INTERRUPTIONS = 16
"""That an event loop is given to end its tasks."""


class Trainer:
    """A training run that can go on from where it is; agents.training.begin makes new and resumed ones."""

    def __init__(
        self,
        config: TrainConfig,
        folder: RunFolder,
        env: TextEnv,
        policy: Policy,
        sampler: Sampler,
        trackers: Trackers,
        began: dict[str, float],
    ) -> None:
        """policy: after its warm start, if it gets one. began: wall-clock and CPU time from which the run's time counts."""
        self.config, self.folder, self.env, self.policy, self.sampler = config, folder, env, policy, sampler
        self.trackers, self._began = trackers, began
        self.runner = asyncio.Runner()
        rollout = config.rollout
        longest = env.max_steps if rollout.curriculum.unit == "turns" else config.engine.max_tokens
        curriculum = Curriculum.of(rollout.curriculum, longest, config.iterations)
        self.planner = Planner(env.tasks("train"), rollout.groups, rollout.group_size, config.seed, curriculum)
        self.held_out = evaluation_episodes(config.evaluation, env, config.seed)
        with ranks.together("the beginning"):
            ranks.alike(policy.model)
        self.learner = ranks.led(["learner"], Learner(policy, config))
        self._led_policy = ranks.led(["policy"], policy)
        self.aside = Aside(threaded=rollout.overlap > 0)
        build_judge = partial(judges.build, config.judge, config, env, sampler, policy)
        self.credit = Credit(self.learner, config, build_judge, sampler.player.dialogue.noted, self.aside)
        self.learner.shard(config.launcher.offload)
        self.store = WeightStore(self._led_policy, [sampler.player.engine], copies=rollout.overlap > 0)
        self.signals = Signals(config, policy.tokenizer, self._warn)
        sampler.faults.say = self._set_aside
        method = self.credit.method
        self._greedy, self._compares = "greedy" in method.needs, method.min_group_size > 1
        self.branches = Branches.of(method, self._play_on, config.seed, partial(learnable, config=config))
        """If the method has episodes played on from inside."""
        self._needs = method.reads
        self.stream: Stream | None = None
        """With overlap: what is played ahead."""
        if rollout.overlap:
            temperature = config.engine.temperature
            self.stream = Stream(self.planner, sampler, rollout, temperature, self._greedy, config.iterations)
        self.iteration = 0
        """The last one that is done."""
        self.env_steps = 0
        """Steps of environments in training so far, those of branches included."""
        self.saved = -1
        """Iteration of the newest checkpoint; -1: none yet."""
        self.metrics: dict[str, float] = {}
        """Of iteration 0: what happened before the first evaluation."""
        self.over = False
        """The last iteration, or the last that a budget allows, is done."""
        self._counted_since = time.perf_counter()

    # -- the run --------------------------------------------------------------------------------------------------------

    def run(self, stop: threading.Event | None = None) -> None:
        """Train to the end, the time budget, a signal, or until another thread sets `stop`. Raises Interrupted after saving."""
        asked = stop or threading.Event()
        with heard(asked) as signals:  # to the very end: a signal that is repeated must not break the saving off
            self._run(asked, signals)

    def _run(self, asked: threading.Event, signals: list[str]) -> None:
        """signals: names of those that came."""
        status = "failed"
        try:
            self.runner.run(self.store.publish(self.iteration))
            if self.saved < 0:
                self._before_training()
            self._count_anew()
            while self.iteration < self.config.iterations and not (self.over or asked.is_set()):
                self.runner.run(self._iterate(self.iteration + 1))
            if self.saved != self.iteration:
                self._save()
            if asked.is_set():
                status = "interrupted"
                raise Interrupted(
                    f"stopped and saved after iteration {self.iteration}; go on with: {self.folder.resume_command}"
                    if self.config.checkpoint.keep
                    else f"stopped after iteration {self.iteration}; with checkpoint.keep=0 nothing was saved"
                )
            self.folder.refuse_if_gone()
            with disk.aside(self.folder.model) as model:
                self._led_policy.save(model)
            plot_run(self.folder.metrics, self.folder.plots)
            status = "finished"
        except KeyboardInterrupt:
            status = "interrupted"
            raise
        finally:
            with ExitStack() as closing:  # from the last to the first, each whatever becomes of the others
                closing.callback(self.runner.close)
                closing.callback(self.sampler.close)
                closing.callback(lambda: self.runner.run(self.credit.close()))
                if self.stream is not None:
                    closing.callback(lambda stream: self.runner.run(stream.close()), self.stream)
                closing.callback(self._abandon)
                closing.callback(self.trackers.close, status)
                if status != "failed":
                    reason = f"asked to stop by {signals[0]}" if signals and status == "interrupted" else None
                    self.folder.set_status(status, reason, iteration=self.iteration)  # type: ignore[arg-type]

    def _abandon(self) -> None:
        """End what an interruption has left going in the event loop, where it is raised again by each task that it ended."""

        async def cancelled() -> None:
            left = asyncio.all_tasks() - {asyncio.current_task()}
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

        for _ in range(MOST_INTERRUPTIONS):
            with suppress(KeyboardInterrupt, SystemExit):
                self.runner.run(cancelled())
                break

    def _before_training(self) -> None:
        """Iteration 0: the evaluation before training."""
        metrics = dict(self.metrics)
        if self.config.evaluation.before:
            metrics |= self.runner.run(self._evaluate("before training"))
            metrics |= self.runner.run(measures.of_random_actions(self.sampler, self.held_out, self.trackers.say))
        self.trackers.log(0, {**metrics, **self._progress()})
        self._save()

    async def _iterate(self, iteration: int) -> None:
        """One rollout and update, and what is due after it."""
        c, stream, started = self.config, self.stream, time.perf_counter()
        if stream is None:
            self._count_anew()
        played = await self._collected(iteration)
        spent = self.env_steps / c.step_budget if c.step_budget else 0.0
        self.env_steps += sum(len(t.steps) for t in played.all) + played.late_steps
        rolled_out, counted_since = time.perf_counter(), self._counted_since
        metrics = measures.of_rollout(played, self.signals, self._count_anew(), rolled_out - counted_since)
        self.signals.look(played.sampled, f"iteration {iteration}")
        if self.branches is not None:
            played = await self._branched(self.branches, played, iteration)
            metrics |= measures.of_branches(played, took := self.sampler.branched.take())
            metrics["engine/restarts"] += float(self._count_anew()["restarts"])
            self.env_steps += took["steps"]
        branched = time.perf_counter()
        if stream is None:
            metrics |= await self._learn(played, iteration, spent)
        else:
            idle = stream.idle
            metrics |= await stream.beside(self._learn(played, iteration, spent))
            metrics["time/sampler_idle"] = stream.idle - idle
        self.signals.learned(played.learning, metrics, self._compares)
        updated = time.perf_counter()
        await self.store.publish(iteration)
        published = time.perf_counter()
        metrics["time/rollout"], metrics["time/update"] = rolled_out - started, updated - branched
        metrics["time/publish"] = published - updated
        if self.branches is not None:
            metrics["time/branches"] = branched - rolled_out
        self.trackers.episodes(iteration, played.learned)
        self.iteration = iteration
        self.over = iteration == c.iterations or self._out_of_budget()
        every = c.evaluation.every
        if (self.over and c.evaluation.after) or (every and iteration % every == 0):
            metrics |= await self._evaluate(f"after iteration {iteration}")
        self.trackers.log(iteration, {**metrics, **self._progress()})
        if c.checkpoint.every and iteration % c.checkpoint.every == 0:
            self._save()

    async def _collected(self, iteration: int) -> Collected:
        """The episodes that an iteration learns from."""
        if self.stream is not None:
            return await self.stream.take(iteration, self._watch)
        rounds, temperature = self.config.rollout.dynamic_sampling.rounds, self.learner.temperature
        return await collect(self.planner, self.sampler, iteration, temperature, rounds, self._greedy, self._watch)

    async def _play_on(self, branches: Sequence[Branch], *, on_episode: OnEpisode) -> list[Trajectory]:
        """Branches of this iteration's episodes, at their temperature."""
        return await continued(self.sampler, branches, self.learner.temperature, on_episode)

    async def _branched(self, branches: Branches, played: Collected, iteration: int) -> Collected:
        """The episodes with what was branched from them; all are on disk."""
        self.folder.write_trajectories(iteration, played.all)
        played = await branches.play(played, partial(self._watch, stage="branches"))
        self.folder.write_branches(iteration, played.branched)
        return played

    async def _learn(self, played: Collected, iteration: int, spent: float) -> dict[str, float]:
        """Credit and update. The episodes are on disk before anything is learned from them. Raises RolloutError."""

        def write() -> None:
            self.folder.write_trajectories(iteration, played.all)
            if played.grown is not None:
                self.folder.write_branches(iteration, played.branched)

        if self.credit.shapings:  # they may learn themselves, or ask a judge for minutes
            await self.aside.run(write)
        try:
            experience = gather(played, iteration, self.config, self.sampler, self.env, self._needs)
            metrics = await self.credit.assign(experience, (iteration - 1) / self.config.iterations)
        finally:
            await self.aside.run(write)  # with each step's credit, if it came to that
        if self.stream is None:  # and no judge asks any more
            await self.sampler.player.engine.rest()
        metrics |= await self.aside.run(partial(self.learner.update, experience, iteration, spent))
        metrics["train/left_out"] = float(len(played.learned) - len(experience.trajectories))
        return metrics

    def _count_anew(self) -> dict[str, int]:
        """The engine's tokens since the last call; with overlap those of an evaluation in between are among them."""
        self._counted_since = time.perf_counter()
        return self.sampler.player.engine.stats.take()

    def _watch(self, episodes: int, stage: str = "rollout") -> OnEpisode:
        """Shows how far a rollout of so many episodes is."""
        done = known = won = 0

        def ended(trajectory: Trajectory) -> None:
            nonlocal done, known, won
            done, known, won = done + 1, known + (trajectory.error is None), won + trajectory.success
            self.trackers.progress(stage, done, episodes, **({"success": won / known} if known else {}))

        return ended

    async def _evaluate(self, when: str) -> dict[str, float]:
        temperatures = self.config.evaluation.temperature
        return await measures.of_evaluation(self.sampler, self.held_out, temperatures, self.env, self.signals, when)

    def _warn(self, message: str) -> None:
        """Tell the user, and keep it beside the run's numbers."""
        self.folder.add_warning(message)
        self.trackers.say(f"warning: {message}")

    def _set_aside(self, message: str) -> None:
        """A task is played no more: say so, in status.json too."""
        self._warn(message)
        self.folder.set_aside = sorted(self.sampler.faults.set_aside)
        self.folder.set_status("running", iteration=self.iteration)

    # -- state ----------------------------------------------------------------------------------------------------------

    def _save(self) -> None:
        """Checkpoint of what the next iteration depends on."""
        if not self.config.checkpoint.keep:
            self.saved = self.iteration
            return
        self.folder.refuse_if_gone()
        target = checkpoint.folder_of(self.folder.checkpoints, self.iteration)
        state = {
            "iteration": self.iteration,
            "spent": self._spent(),
            "env_steps": self.env_steps,
            "faults": self.sampler.faults.state(),
            "update": self.learner.state() | self.credit.state(),
            "random": checkpoint.random_states(),
        } | ({} if self.stream is None else {"stream": self.stream.state()})
        checkpoint.save(target, self._led_policy.weights(), state, self.config.checkpoint.keep)
        self.saved = self.iteration
        self.trackers.artifact(target)

    def _spent(self) -> dict[str, float]:
        return {name: now - self._began[name] for name, now in clocks().items()}

    def _progress(self) -> dict[str, float]:
        counts = {"env/steps": float(self.env_steps), "env/set_aside": float(len(self.sampler.faults.set_aside))}
        return {f"time/{name}": seconds for name, seconds in self._spent().items()} | counts

    def _out_of_budget(self) -> bool:
        return out_of_budget(self.config, self._spent()["wall"], self.env_steps) is not None


def out_of_budget(config: TrainConfig, seconds: float, env_steps: int) -> str | None:
    """The budget that a run has spent after so many seconds and steps of environments, resumed parts included; None: none."""
    spent = {"time_budget_s": seconds, "step_budget": env_steps}
    limits = {"time_budget_s": config.time_budget_s, "step_budget": config.step_budget}
    return next((name for name, limit in limits.items() if limit is not None and spent[name] >= limit), None)


def clocks() -> dict[str, float]:
    """Seconds of wall-clock and of the processor, from some beginning."""
    return {"wall": time.monotonic(), "cpu": time.process_time()}

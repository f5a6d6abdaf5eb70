"""The training loop: rollout, credit, update, now and then an evaluation and a checkpoint.

Every seed is derived from the root seed by names (stage, iteration, task), so an iteration is a function of the weights and its
number: a run that was killed and resumed goes on exactly as the uninterrupted one.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from types import FrameType
from typing import Any

from agents.config.sections import TrainConfig
from agents.rollout.assembly import assemble, describe, weights
from agents.rollout.planner import Played, TrainingEpisodes, grouped, returns_alike
from agents.runs import checkpoint
from agents.runs.evaluation import Rate, by_type, mean, rate
from agents.runs.folder import RunFolder
from agents.runs.plots import plot_run
from agents.runs.random_policy import random_policy
from agents.runs.signals import Signals
from agents.runs.tracking import Trackers, open_trackers
from agents.training.packing import rebuild_tokens
from agents.training.update import Update
from agents.training.warmstart import demonstrations, warm_start
from algorithms import base as algorithms
from envs.base import SPLITS
from envs.common.structured import ConfigError
from envs.trajectory import CONTEXT, Trajectory


class Interrupted(Exception):
    """The user asked to stop; the run is saved. The message says how to go on."""


class Trainer:
    """One training run. Holds all its state; `run` is the way in."""

    def __init__(self, config: TrainConfig, folder: RunFolder | None = None) -> None:
        self.config = config
        self.folder = folder or RunFolder.open(config)
        restored = checkpoint.load_latest(self.folder.path) if config.resume else None
        if restored is not None:
            self._refuse_if_nothing_is_left(restored.state["iteration"])
        self.parts = assemble(config)
        env = self.parts.env
        self.panels = {split: list(env.tasks(split)) for split in SPLITS}
        hashes = {split: env.panel_hash(split) for split in SPLITS}
        self.folder.refuse_other_tasks(self.panels, hashes)
        print("tasks:", ", ".join(f"{split} {len(ids)} ({hashes[split]})" for split, ids in self.panels.items()), flush=True)
        print("weights:", weights(self.parts.policy, config.model), flush=True)
        if self.parts.prompter.summary:
            print("dialogue:", self.parts.prompter.summary, flush=True)
        self.update: Update | None = None
        """Made after the warm start."""
        self.iteration = 0
        self.env_steps = 0
        """Steps of environments in training so far."""
        self.spent = {"wall": 0.0, "cpu": 0.0}
        self._saved = -1
        """Iteration of the newest checkpoint."""
        self._over = False
        """The last iteration, or the last that the time budget allows, is done."""
        self._warm = False
        self._stop_asked = False
        if restored is not None:
            self._restore(restored)
        self.folder.begin(config, self.panels, hashes)
        self._began = {"wall": time.monotonic() - self.spent["wall"], "cpu": time.process_time() - self.spent["cpu"]}
        self.trackers: Trackers = open_trackers(
            config.tracker, self.folder.path, asdict(config), config.iterations, self.iteration if self._warm else None
        )
        method = algorithms.get(config.algo["name"])
        self.episodes = TrainingEpisodes(self.parts, config, self.panels["train"], self.trackers, "greedy" in method.needs)
        self._compares = method.smallest_group > 1
        self.signals = Signals(config, self.parts.policy.tokenizer, self._warn)

    # -- the run --------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Train to the end, the time budget or Ctrl-C. Raises Interrupted after saving."""
        status = "failed"
        try:
            with self._asking_to_stop():
                if not self._warm:
                    self._begin()
                while self.iteration < self.config.iterations and not self._stop_asked and not self._over:
                    self._iterate(self.iteration + 1)
            if self._saved != self.iteration:
                self._save()
            if self._stop_asked:
                status = "interrupted"
                raise Interrupted(
                    f"stopped and saved after iteration {self.iteration}; go on with: {self.folder.resume_command}"
                )
            self._finish()
            status = "finished"
        except KeyboardInterrupt:
            status = "interrupted"
            raise
        finally:
            if status != "failed":
                self.folder.set_status(status, iteration=self.iteration)  # type: ignore[arg-type]
            self.trackers.close(status)
            if self.update is not None:
                self.update.close()
            self.parts.close()

    def _begin(self) -> None:
        """Iteration 0: warm start and the evaluation before training."""
        metrics: dict[str, float] = {}
        started = time.process_time()
        self.parts.policy.tokenizer.save_pretrained(self.folder.tokenizer)
        if self.config.warm_starts:
            done = warm_start(
                self.parts.policy,
                self._demonstrated(),
                self.config.warmstart,
                self.config.seed,
                lambda step, loss: self.trackers.progress("warm start", step, self.config.warmstart.steps, loss=loss),
            )
            metrics["warmstart/cached"] = float(bool(done["cached"]))
            metrics["warmstart/cpu"] = time.process_time() - started
        self._warm = True
        self.update = Update(self.parts, self.config)
        self.parts.engine.update_weights(self.parts.policy, 0)
        metrics.update({f"model/{k}": float(v) for k, v in describe(self.parts.policy).items()})
        if self.config.evaluation.before:
            metrics.update(self._evaluate(0))
            metrics.update(self._random_policy())
        self.trackers.log(0, {**metrics, **self._progress()})
        self._save()

    def _iterate(self, iteration: int) -> None:
        """One rollout and update, and what is due after it."""
        started = time.perf_counter()
        self.parts.engine.stats.take()
        played = self.episodes.play(iteration)
        spent = self.env_steps / self.config.step_budget if self.config.step_budget else 0.0
        self.env_steps += sum(len(t.steps) for t in played.all)
        rolled_out = time.perf_counter()
        metrics = self._rollout_metrics(played, rolled_out - started)
        self.signals.look([*played.trajectories, *played.dropped], f"iteration {iteration}")
        assert self.update is not None
        metrics.update(self.update.run(played, iteration, spent))
        self.signals.learnt(grouped(played.trajectories), metrics, self._compares)
        metrics["time/rollout"], metrics["time/update"] = rolled_out - started, time.perf_counter() - rolled_out
        self.parts.engine.update_weights(self.parts.policy, iteration)
        self.folder.write_trajectories(iteration, played.all)
        self.trackers.episodes(iteration, played.trajectories)
        self.iteration = iteration
        evaluation = self.config.evaluation
        self._over = iteration == self.config.iterations or self._out_of_budget()
        if (self._over and evaluation.after) or (evaluation.every and iteration % evaluation.every == 0):
            metrics.update(self._evaluate(iteration))
        self.trackers.log(iteration, {**metrics, **self._progress()})
        every = self.config.checkpoint.every
        if every and iteration % every == 0:
            self._save()

    def _rollout_metrics(self, played: Played, seconds: float) -> dict[str, float]:
        trajectories = [*played.trajectories, *played.dropped]
        summary = rate(trajectories)
        ended = [t for t in trajectories if t.error is None]
        counts = self.parts.engine.stats.take()
        metrics = {
            "train/success": summary.success,
            "train/score": summary.score,
            "train/reward": mean(t.total_reward for t in ended),
            "train/steps": summary.steps,
            **{f"train/{name}": value for name, value in self.signals.measure(ended).items()},
            **_apart(summary, "train/{}"),
            "train/retried": float(played.retried),
            "train/dropped": float(len(played.dropped)),
            "tokens_per_s": counts["sampled"] / max(seconds, 1e-9),
            "tokens/prefill": float(counts["prefill"]),
            "tokens/sampled": float(counts["sampled"]),
            "tokens/rollout": float(counts["computed"]),
            "tokens/rebuild_rollout": float(rebuild_tokens(played.all)),
        }
        if self.config.rollout.group_size > 1:
            metrics["train/alike"] = mean(returns_alike(group) for group in grouped(trajectories))
        if played.greedy:
            metrics["train/greedy_faults"] = float(rate(played.greedy).faults)
        return metrics

    def _evaluate(self, iteration: int) -> dict[str, float]:
        """Success on the evaluation panel at each temperature; the same episodes seeds every time."""
        metrics: dict[str, float] = {}
        started = time.perf_counter()
        when = f"after iteration {iteration}" if iteration else "before training"
        for temperature in self.config.evaluation.temperature:
            played = self.parts.play(self.parts.rollout(temperature), self.parts.panel())
            at = f"@{temperature:g}"
            # The totals come last: a task type may have the name of one.
            for kind, result in by_type(played, self.parts.env.task_type).items():
                metrics[f"eval/{kind}{at}"] = result.success
            metrics |= {f"eval/success{at}": rate(played).success, **_apart(rate(played), f"eval/{{}}{at}")}
            self.signals.look(played, f"the evaluation {when}, temperature {temperature:g},")
        metrics["time/evaluation"] = time.perf_counter() - started
        return metrics

    def _random_policy(self) -> dict[str, float]:
        """What random actions reach on the evaluation panel: once a run, before training."""
        found = random_policy(self.parts, self.parts.panel())
        if found.rate is None:
            self.trackers.say(f"success of random actions is not measured: {found.skipped}")
            return {}
        return {
            "eval/random_success": found.rate.success,
            "eval/random_score": found.rate.score,
            "eval/random_faults": float(found.rate.faults),
            "time/random": found.seconds,
        }

    def _warn(self, message: str) -> None:
        """Tell the user, and keep it beside the run's numbers."""
        self.folder.add_warning(message)
        self.trackers.say(f"warning: {message}")

    def _demonstrated(self) -> list[Trajectory]:
        """Demonstrations on train tasks for the warm start."""
        wanted = self.config.warmstart.demonstrations

        def made(n: int) -> None:
            if n % 50 == 0 or n == wanted:
                self.trackers.progress("demonstrations", n, wanted)

        return demonstrations(self.parts, self.config, self.panels["train"], wanted, on_made=made)

    # -- state ----------------------------------------------------------------------------------------------------------

    def _save(self) -> None:
        """Checkpoint of what the next iteration depends on."""
        target = checkpoint.folder_of(self.folder.checkpoints, self.iteration)
        state = {
            "iteration": self.iteration,
            "spent": self._spent(),
            "env_steps": self.env_steps,
            "update": self.update.state() if self.update else {},
            "random": checkpoint.random_states(),
        }
        weights = {name: p.detach() for name, p in self.parts.policy.model.state_dict().items()}
        checkpoint.save(target, weights, state, self.config.checkpoint.keep)
        self._saved = self.iteration
        self.trackers.artifact(target)

    def _refuse_if_nothing_is_left(self, iteration: int) -> None:
        """A run that was stopped right after its last iteration still lacks its final model; a finished one lacks nothing."""
        finished = self.folder.get_status().get("status") == "finished"
        if iteration > self.config.iterations or (finished and iteration == self.config.iterations):
            raise ConfigError(
                f"nothing is left to do: {self.folder.path} has done {iteration} iterations and iterations is "
                f"{self.config.iterations}. To train on, give more: {self.folder.resume_command} iterations={2 * iteration}"
            )

    def _restore(self, saved: checkpoint.Checkpoint) -> None:
        try:
            self.parts.policy.model.load_state_dict(saved.tensors)
        except RuntimeError as exc:
            raise checkpoint.CheckpointError(
                f"the checkpoint in {self.folder.checkpoints} is of another model; model.* and the environment must be "
                "those of the run that is resumed"
            ) from exc
        self.update = Update(self.parts, self.config)
        self.update.load_state(saved.state["update"])
        checkpoint.restore_random_states(saved.state["random"])
        self.iteration, self.spent = saved.state["iteration"], saved.state["spent"]
        self.env_steps = saved.state["env_steps"]
        self._saved = self.iteration
        self._warm = True
        self.parts.engine.update_weights(self.parts.policy, self.iteration)

    def _finish(self) -> None:
        """Final model and plots."""
        self.parts.policy.save(self.folder.model)
        plot_run(self.folder.metrics, self.folder.plots)

    # -- clocks and signals ---------------------------------------------------------------------------------------------

    def _spent(self) -> dict[str, float]:
        return {"wall": time.monotonic() - self._began["wall"], "cpu": time.process_time() - self._began["cpu"]}

    def _progress(self) -> dict[str, float]:
        return {f"time/{name}": seconds for name, seconds in self._spent().items()} | {"env/steps": float(self.env_steps)}

    def _out_of_budget(self) -> bool:
        seconds, steps = self.config.time_budget_s, self.config.step_budget
        out_of_time = seconds is not None and self._spent()["wall"] >= seconds
        return out_of_time or (steps is not None and self.env_steps >= steps)

    @contextmanager
    def _asking_to_stop(self) -> Iterator[None]:
        """The first Ctrl-C ends the run after its iteration, saved; the second at once, back to the last checkpoint."""

        def asked(number: int, frame: FrameType | None) -> None:
            if self._stop_asked or not self._warm:
                raise KeyboardInterrupt
            self._stop_asked = True
            print("\nstopping after this iteration, then saving; Ctrl-C again stops at once", flush=True)

        try:
            before: Any = signal.signal(signal.SIGINT, asked)
        except ValueError:  # not the main thread: somebody else handles signals
            yield
            return
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)


def _apart(of: Rate, name: str) -> dict[str, float]:
    """Counts of episodes that were cut off, by reason, and of faults, which are in no rate."""
    cut_off = {CONTEXT: 0, "time_limit": 0, **of.cut_off}
    return {name.format("faults"): float(of.faults)} | {
        name.format(f"cut_off/{reason}"): float(number) for reason, number in cut_off.items()
    }

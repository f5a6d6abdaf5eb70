"""How a run begins: a new one with its warm start, or one that is resumed from its newest checkpoint."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from agents.config.commands import TrainConfig
from agents.config.loading import to_dict
from agents.config.secrets import shown
from agents.models.policy import Policy
from agents.models.sources import in_words
from agents.rollout.build import fresh_policy, make_env, open_sampler
from agents.rollout.sampler import Sampler
from agents.runs import checkpoint, recovery
from agents.runs.folder import RunFolder
from agents.runs.tracking import Trackers, open_trackers
from agents.training.trainer import Trainer, clocks, out_of_budget
from agents.training.warmstart import warm_up
from envs.base import SPLITS, Split, TextEnv
from envs.common import disk
from envs.common.structured import ConfigError
from envs.common.text import first_line

log = logging.getLogger("stepcredit.run")


def begun(config: TrainConfig, folder: RunFolder) -> Trainer:
    """The run in `folder`, which goes on: a new one, or where the configuration resumes one as its newest checkpoint has it."""
    saved = checkpoint.load_latest(folder.path) if config.resume else None
    if config.resume and saved is None:
        if not config.checkpoint.keep:
            raise ConfigError(f"{folder.named} has no checkpoint to go on from: it was trained with checkpoint.keep=0")
        print(f"{folder.named} has no checkpoint yet: it begins again", flush=True)
    return start(config, folder) if saved is None else resume(config, folder, saved)


def start(config: TrainConfig, folder: RunFolder) -> Trainer:
    """A new run, warm-started where the configuration says so."""
    policy = fresh_policy(config)
    with _opened(config, folder, policy, None, {"wall": 0.0, "cpu": 0.0}) as (env, sampler, trackers, began):
        with disk.aside(folder.tokenizer) as tokenizer:
            policy.tokenizer.save_pretrained(tokenizer)
        metrics = _warm_up(config, policy, env, sampler, trackers) if config.warm_starts else {}
        run = Trainer(config, folder, env, policy, sampler, trackers, began)
        run.metrics = metrics | {f"model/{name}": float(value) for name, value in policy.size.items()}
        return run


def resume(config: TrainConfig, folder: RunFolder, saved: checkpoint.Checkpoint) -> Trainer:
    """The run as it was at a checkpoint. Raises CheckpointError, ConfigError."""
    state = saved.state
    with _reading(saved):
        iteration, so_far = int(state["iteration"]), {name: float(state["spent"][name]) for name in clocks()}
        spent = out_of_budget(config, so_far["wall"], int(state["env_steps"]))
    _refuse_if_nothing_is_left(config, folder, iteration, spent)
    for gap in recovery.missing(folder, iteration):
        log.warning(gap)
    policy = fresh_policy(config)
    try:
        policy.model.load_state_dict(saved.tensors)
    except RuntimeError as exc:
        raise checkpoint.CheckpointError(
            f"the checkpoint in {folder.checkpoints} is of another model; model.* and the environment must be those of the "
            "run that is resumed"
        ) from exc
    with _opened(config, folder, policy, iteration, so_far) as (env, sampler, trackers, began):
        run = Trainer(config, folder, env, policy, sampler, trackers, began)
        run.iteration = run.saved = iteration
        with _reading(saved):
            run.learner.load_state(state["update"])
            run.credit.load_state(state["update"])
            checkpoint.restore_random_states(state["random"])
            run.env_steps = int(state["env_steps"])
            if "faults" in state:  # a checkpoint of an earlier version has none
                sampler.faults.load_state(state["faults"])
                folder.set_aside = sorted(sampler.faults.set_aside)
            if run.stream is not None:
                left = state.get("stream") or {"next": iteration * config.rollout.groups, "open": []}
                run.stream.load_state(left)
                if left["open"]:
                    print(f"rollouts: {len(left['open'])} groups that were being played are played anew", flush=True)
        if spent is not None:
            run.over = True
            print(f"its {spent} is spent: nothing is trained any more, what is left is to write the model", flush=True)
        return run


@contextmanager
def _reading(saved: checkpoint.Checkpoint) -> Iterator[None]:
    """Within: what a checkpoint holds is taken up. Raises CheckpointError where it was edited, or is of another version."""
    try:
        yield
    except ConfigError:
        raise
    except checkpoint.ODD as exc:
        raise checkpoint.CheckpointError(
            f"{saved.folder} does not hold what a run goes on with ({type(exc).__name__}: {first_line(exc)}). Delete that "
            "folder to go on from the checkpoint before it, or start a new run"
        ) from exc


@contextmanager
def _opened(
    config: TrainConfig, folder: RunFolder, policy: Policy, at: int | None, spent: dict[str, float]
) -> Iterator[tuple[TextEnv, Sampler, Trackers, dict[str, float]]]:
    """Environment, sampler, trackers and the clocks' beginnings of a run; let go of again if the block fails.

    at: iteration of the checkpoint, None for a new run; spent: seconds before it.
    """
    env, sampler, status, trackers = make_env(config), open_sampler(config, policy), "failed", Trackers([])
    try:
        splits: dict[Split, list[str]] = {split: list(env.tasks(split)) for split in SPLITS}
        hashes = {split: env.split_hash(split) for split in SPLITS}
        folder.refuse_other_tasks(splits, hashes)
        print("tasks:", ", ".join(f"{split} {len(ids)} ({hashes[split]})" for split, ids in splits.items()), flush=True)
        print("weights:", in_words(policy, config.model), flush=True)
        if sampler.player.dialogue.summary:
            print("dialogue:", sampler.player.dialogue.summary, flush=True)
        folder.begin(config, splits, hashes)
        began = {name: now - spent[name] for name, now in clocks().items()}
        trackers = open_trackers(config.tracker, folder.path, shown(to_dict(config)), config.iterations, at)
        yield env, sampler, trackers, began
    except BaseException as raised:
        if isinstance(raised, KeyboardInterrupt) and folder.begun:
            status = "interrupted"
            folder.set_status("interrupted", iteration=at or 0)
        trackers.close(status)
        sampler.close()
        raise


def _warm_up(config: TrainConfig, policy: Policy, env: TextEnv, sampler: Sampler, trackers: Trackers) -> dict[str, float]:
    """The warm start on train tasks; returns its metrics."""
    started, player = time.process_time(), sampler.player
    cached = warm_up(policy, env, player.dialogue, player.prompt, config, trackers.progress)
    return {"warmstart/cached": float(cached), "warmstart/cpu": time.process_time() - started}


def _refuse_if_nothing_is_left(config: TrainConfig, folder: RunFolder, iteration: int, spent: str | None) -> None:
    """A run that was stopped right after its last iteration still lacks its final model; a finished one lacks nothing.

    spent: the budget that there is nothing left of.
    """
    finished = folder.get_status().get("status") == "finished"
    if iteration > config.iterations or (finished and iteration == config.iterations):
        raise ConfigError(
            f"nothing is left to do: {folder.named} has done {iteration} iterations and iterations is {config.iterations}. To "
            f"train on, give more: {folder.resume_command} iterations={2 * iteration}"
        )
    if finished and spent is not None:
        limit = getattr(config, spent)
        raise ConfigError(
            f"nothing is left to do: {folder.named} has spent its {spent}={limit:.12g}. To train on, give more: "
            f"{folder.resume_command} {spent}={2 * limit:.12g}"
        )

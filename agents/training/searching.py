"""What a run has learned of single tokens, as a search for answers goes by it: the reward model of its checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from agents.config.checks import searched_by
from agents.config.commands import EvaluateConfig
from agents.config.compose import read_saved
from agents.models import ranks
from agents.models.policy import Policy
from agents.models.voice import Voice
from agents.rollout.engines.beam import BeamEngine, Ratio
from agents.runs.checkpoint import Checkpoint, CheckpointError
from agents.training.reward_model import RewardModel
from algorithms import shaping
from algorithms.shaping.outcome_model import OutcomeModel


def searching(config: EvaluateConfig, policy: Policy, saved: Checkpoint) -> tuple[BeamEngine, str]:
    """An engine that searches answers of `policy`, a checkpoint's, by the reward model in it; and the name of its shaping.

    q is the model against what the shaping measures it against: the policy before RL, or the one that acts. Of several such
    shapings the first counts. Raises CheckpointError where the checkpoint lacks the model.
    """
    run = Path(config.run or "")
    name = searched_by(str(run))[0]
    settings = cast(OutcomeModel, shaping.build(name, read_saved(run / "config.yaml")["shaping"][name]))
    # Nothing is learned here: rate, size of micro-batches and seed are those of nobody.
    model = RewardModel(policy, settings, lr=1.0, tokens_per_microbatch=1, temperature=config.engine.temperature, seed=0)
    learned: dict[str, Any] = saved.state["update"]
    try:
        if policy.has_frozen:
            ranks.put(learned["frozen"], policy.frozen().model.state_dict())
        model.load_state(learned["reward_models"][name])
    except (KeyError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"{saved.folder} holds no model of shaping {name} that fits its configuration ({error}): take another checkpoint"
        ) from error
    base = model.before() if settings.reads_reference else Voice(policy)
    ratio = Ratio(model.voice(), base, config.engine.temperature, config.evaluation.beam_score)
    assert config.evaluation.beams is not None
    return BeamEngine(policy, ratio, config.evaluation.beams, config.engine.max_batch), name

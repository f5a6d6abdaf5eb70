"""What a model says of sampled tokens for methods that ask: entropies, and log-probabilities once the outcome is told."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from agents.config.commands import TrainConfig
from agents.config.loading import load
from agents.models.policy import Policy
from agents.training.experience import Experience
from agents.training.hindsight import rows_with_notes
from agents.training.learner import Learner
from agents.training.packing import Row
from algorithms.base import Floats
from envs.trajectory import Step, Trajectory
from tests.agents.models.models_for_tests import full_logprobs, small_policy
from tests.agents.training.test_passes import END, forest, tries
from tests.algorithms.batches import as_batch

ASIDE = [40, 41, 42]
"""What a note reads as; it stands before a prompt's last token."""


def noted(note: str) -> tuple[list[int], int]:
    return ASIDE[: len(note)], 1


def learner(policy: Policy, *settings: str) -> Learner:
    config = load(["model.tiny.hidden=64", "optim.tokens_per_microbatch=64", *settings])
    assert isinstance(config, TrainConfig)
    return Learner(policy, config)


def contexts(trajectories: list[Trajectory], note: str = "") -> list[tuple[list[int], Step]]:
    """For each step what was read before it, by hand."""
    found = []
    for t in trajectories:
        ids: list[int] = []
        for number, step in enumerate(t.steps):
            prompt = step.prompt_ids
            if t.context == "window" or number == 0:
                prompt = [*prompt[:-1], *ASIDE[: len(note)], prompt[-1]]
            ids = [*(ids if t.context == "full" else []), *prompt]
            found.append((ids, step))
            ids = [*ids, *step.response_ids]
    return found


def direct(policy: Policy, trajectories: list[Trajectory], temperature: float, constrained: bool) -> Floats:
    """[T] entropies by one plain forward pass a step, with the allowed tokens of each place by hand."""
    found = []
    for ids, step in contexts(trajectories):
        with torch.no_grad():
            logits = policy.causal(input_ids=torch.tensor([[*ids, *step.response_ids]])).logits[0].double() / temperature
        listed = [[*map(int, action.split()), END] for action in step.admissible_actions or []]
        for place in range(len(step.response_ids)):
            said = step.response_ids[:place]
            line = logits[len(ids) + place - 1]
            if constrained:
                line = line[sorted({one[place] for one in listed if one[:place] == said})]
            p = torch.softmax(line, -1)
            found.append(float(-(p * p.log()).sum()))
    return np.array(found)


@pytest.mark.parametrize("context", ["full", "window"])
@pytest.mark.parametrize(("constrained", "temperature"), [(False, 1.0), (False, 0.6), (True, 1.0), (True, 1.7)])
def test_entropies_are_those_of_the_distribution_that_sampled(context: str, constrained: bool, temperature: float) -> None:
    policy, trajectories = small_policy(), forest(3, context)
    data = Experience.of(trajectories, tries() if constrained else None)
    learner(policy, f"engine.temperature={temperature}").observe(data, {"entropy"})
    assert data.entropy is not None
    np.testing.assert_allclose(data.entropy, direct(policy, trajectories, temperature, constrained), atol=1e-5)
    if constrained:
        forced = ~data.chosen.numpy()
        assert forced.any()
        assert not data.entropy[forced].any(), "a forced token was no choice"
        assert (data.entropy[~forced] > 0).all()
    assert as_batch(trajectories).entropy is None


@pytest.mark.parametrize("context", ["full", "window"])
@pytest.mark.parametrize("note", ["n", "nnn"])
def test_hindsight_is_the_mean_log_probability_behind_prompts_that_tell_the_outcome(context: str, note: str) -> None:
    policy, trajectories = small_policy(), forest(5, context)
    data = Experience.of(trajectories)
    notes = [note if number % 2 == 0 else None for number in range(len(trajectories))]
    rows = list(rows_with_notes(data, notes, noted, longest=512))
    learner(policy, "engine.temperature=1").observe(data, {"hindsight"}, rows)
    assert data.hindsight is not None
    expected: list[float] = []
    for trajectory, told in zip(trajectories, notes):
        for ids, step in contexts([trajectory], note):
            logp = full_logprobs(policy, [*ids, *step.response_ids])[len(ids) :]
            expected.append(float(logp.mean()) if told else np.nan)
    np.testing.assert_allclose(data.hindsight, expected, atol=1e-4)
    plain = [
        float(np.mean(full_logprobs(policy, [*ids, *s.response_ids])[len(ids) :].numpy())) for ids, s in contexts(trajectories)
    ]
    assert np.nanmax(np.abs(data.hindsight - plain)) > 1e-3, "the note is read"


@pytest.mark.parametrize("context", ["full", "window"])
def test_a_note_changes_what_is_read_and_nothing_that_was_sampled(context: str) -> None:
    data = Experience.of(forest(7, context))
    plain = data.plain_rows()
    told = list(rows_with_notes(data, ["nn"] * len(data.trajectories), noted, longest=512))
    assert len(told) == len(plain)
    for row, other in zip(told, plain):
        assert row.tokens == other.tokens
        assert row.ids[row.targets].tolist() == other.ids[other.targets].tolist()
        assert len(row) == len(other) + 2
        assert [i for i in row.ids.tolist() if i not in ASIDE] == [i for i in other.ids.tolist() if i not in ASIDE]


def test_a_row_that_no_longer_fits_is_left_out_and_its_steps_stay_unknown() -> None:
    policy, data = small_policy(), Experience.of(forest(2, "window"))
    lengths = [len(row) for row in data.plain_rows()]
    longest = sorted(lengths)[len(lengths) // 2]
    rows: list[Row] = list(rows_with_notes(data, ["nn"] * len(data.trajectories), noted, longest))
    assert [len(row) for row in rows] == [n + 2 for n in lengths if n + 2 <= longest]
    learner(policy).observe(data, {"hindsight"}, rows)
    assert data.hindsight is not None
    assert np.isnan(data.hindsight).tolist() == [n + 2 > longest for n in lengths]
    nobody = Experience.of(forest(2, "full"))
    learner(policy).observe(nobody, {"hindsight"}, [])
    assert nobody.hindsight is not None
    assert np.isnan(nobody.hindsight).all()


def test_what_is_measured_does_not_depend_on_micro_batches() -> None:
    policy, found = small_policy(), []
    for budget in (16, 100_000):
        data = Experience.of(forest(4, "full"), tries())
        rows = list(rows_with_notes(data, ["n"] * len(data.trajectories), noted, 512))
        learner(policy, f"optim.tokens_per_microbatch={budget}").observe(data, {"entropy", "hindsight"}, rows)
        found.append((data.entropy, data.hindsight))
    for one, other in zip(*found):
        np.testing.assert_allclose(one, other, atol=1e-5)  # type: ignore[arg-type]

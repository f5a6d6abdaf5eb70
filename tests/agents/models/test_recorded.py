"""Recorded decoding steps: their buckets, and that they are dropped when what they read has moved. CUDA itself: tests/gpu."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from agents.config.sections import EngineConfig
from agents.models.lean import Decoder
from agents.models.lean_slots import LeanSlots
from agents.models.memory import Part
from agents.models.policy import Policy
from agents.models.recorded import bucket
from agents.rollout.engines.hf import HFEngine
from agents.training.weights import WeightStore
from tests.agents.models.models_for_tests import small_policy
from tests.agents.models.test_lean import assert_samples_from, shift


@pytest.fixture(autouse=True)
def _weights_lie_where_the_model_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU."""
    monkeypatch.setattr("agents.models.lean._packs", lambda weight: False)


class Tape:
    """Records as CUDA graphs do, by running the computation again over the tensors it was recorded with."""

    def __init__(self, error: Exception | None = None) -> None:
        self.recordings = self.replays = 0
        self.error = error

    def __call__(self, run: Callable[[], Tensor]) -> Callable[[], Tensor]:
        if self.error:
            raise self.error
        self.recordings += 1

        def replay() -> Tensor:
            self.replays += 1
            return run()

        return replay


def recording(policy: Policy, tape: Tape) -> HFEngine:
    engine = HFEngine.open(policy, EngineConfig())
    engine._memory = LeanSlots(Decoder(engine.policy), tape)
    return engine


def test_buckets_are_quarters_of_powers_of_two() -> None:
    assert [bucket(n) for n in (1, 2, 3, 5, 9, 16, 17, 33, 100, 128, 129)] == [1, 2, 3, 6, 12, 16, 24, 48, 128, 128, 192]


def test_steps_are_recorded_once_a_bucket_and_give_the_models_numbers() -> None:
    policy, tape = small_policy(), Tape()
    engine = recording(policy, tape)
    assert_samples_from(engine, policy)
    first = tape.recordings
    assert tape.replays > 2 * first > 0
    for _ in range(2):  # other sessions in other slots: those that take no part keep what they have read
        assert_samples_from(engine, policy)
    assert tape.recordings <= first + 1


def test_weights_at_the_same_place_need_no_new_recording_and_moved_ones_do() -> None:
    policy, tape = small_policy(), Tape()
    engine = recording(policy, tape)
    store = WeightStore(policy, [engine])
    asyncio.run(store.publish(0))
    assert_samples_from(engine, policy)
    recorded = tape.recordings
    shift(policy)
    asyncio.run(store.publish(1))
    assert_samples_from(engine, policy)
    assert tape.recordings == recorded
    for p in policy.model.parameters():
        p.data = p.data.clone()
    asyncio.run(store.publish(2))
    assert_samples_from(engine, policy)
    assert tape.recordings > recorded


@pytest.mark.fault("CUDA graphs cannot be recorded", lost="speed")
def test_where_recording_fails_steps_are_computed_as_elsewhere(caplog: pytest.LogCaptureFixture) -> None:
    policy, tape = small_policy(), Tape(RuntimeError("operation not permitted when stream is capturing"))
    engine = recording(policy, tape)
    assert_samples_from(engine, policy)
    assert [r.getMessage() for r in caplog.records] == [
        "decoding without CUDA graphs: RuntimeError: operation not permitted when stream is capturing"
    ]


def test_sessions_that_wait_keep_what_they_have_read() -> None:
    """A step of a few low slots is padded to its bucket: the others' keys stay as they were."""
    policy, tape = small_policy(), Tape()
    engine = recording(policy, tape)
    memory = engine._memory

    with torch.inference_mode():
        for place in range(9):
            memory.read(engine.policy, [Part(place, 0, [5 + place, 6, 7])])
        before = [(layer.keys.clone(), layer.values.clone()) for layer in memory._buffers]  # type: ignore[union-attr]
        memory.read(engine.policy, [Part(place, 3, [9]) for place in (1, 4)])
        assert tape.replays == 1
        for (keys, values), layer in zip(before, memory._buffers, strict=True):  # type: ignore[union-attr]
            for old, new in ((keys, layer.keys), (values, layer.values)):
                changed = (old != new[: len(old), :, : old.shape[2]])[:9].any(-1).any(1).nonzero().tolist()
                assert changed == [[1, 3], [4, 3]]

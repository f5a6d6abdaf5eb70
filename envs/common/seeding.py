"""Seeds derived from one root by name, so that nothing depends on call order or on a worker's number."""

from __future__ import annotations

import hashlib

import numpy as np


def sequence(root: int, *names: str | int) -> np.random.SeedSequence:
    """The seed sequence that `names` denote under `root`; equal names give equal streams on every machine."""
    keys = [int.from_bytes(hashlib.sha256(str(name).encode()).digest()[:8], "little") for name in names]
    return np.random.SeedSequence(entropy=root, spawn_key=keys)


def derive(root: int, *names: str | int) -> int:
    """A 63-bit integer seed derived from `root` by `names`."""
    return int(sequence(root, *names).generate_state(1, np.uint64)[0] >> np.uint64(1))


def generator(root: int, *names: str | int) -> np.random.Generator:
    """A numpy generator on the stream that `names` denote under `root`."""
    return np.random.default_rng(sequence(root, *names))

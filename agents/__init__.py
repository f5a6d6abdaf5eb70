"""Joins environments and credit assignment with a language model: configuration, rollout, update, evaluation."""

import os

# Read when torch is imported: OpenMP threads that spin while they wait take the cores from any other process.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

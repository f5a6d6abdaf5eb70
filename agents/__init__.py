"""Joins environments and credit assignment with a language model: configuration, rollout, update, evaluation."""

import os

from agents.namesakes import refuse

refuse("envs", "algorithms")
# Read when torch is imported: OpenMP threads that spin while they wait take the cores from any other process.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

"""What it asks for that a shaping replaces the environment's reward by its own, which divides the same return otherwise."""

from __future__ import annotations

from algorithms.base import Algorithm


def refuse_elsewhere(name: str, replaces: bool, method: Algorithm) -> None:
    """Raises ValueError where the environment's reward would be taken off at another place than it enters, or is read apart."""
    if not replaces:
        return
    where = method.shaped_at.get(name, "reward")
    if where != "reward":
        raise ValueError(
            f"replaces is true, which takes the environment's reward off where it enters, and algo.shaped_at.{name} is "
            f"'{where}'; allowed with it: reward, or replaces=false"
        )
    if method.reads_sources:
        raise ValueError(
            "replaces is true, which takes the environment's reward off within the shaped one, and this method reads the two "
            "apart; allowed with it: replaces=false"
        )

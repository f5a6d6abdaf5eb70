"""Small trainings by five methods in three environments: seconds each, with a warm start, and with something to learn from."""

from __future__ import annotations

SETTINGS = (
    *("iterations=4", "checkpoint.every=1", "threads=1", "device=cpu", "tracker.console=null"),
    *("model.tiny.hidden=32", "model.tiny.intermediate=32", "model.tiny.layers=1"),
    *("warmstart.batch=8", "warmstart.suboptimal_share=0", "warmstart.detours=0", "warmstart.lr=1e-2"),
    *("rollout.groups=3", "rollout.group_size=3", "optim.warmup=1", "evaluation.every=2", "evaluation.episodes=2"),
)
ENVIRONMENTS = {
    "alfworld": (
        *("env=alfworld", "env.max_steps=12", "env.train_games=6", "env.eval_games=2", "env.test_games=2"),
        *("warmstart.steps=60", "warmstart.demonstrations=20"),
    ),
    "webshop": (
        *("env=webshop", "env.pays=score", "env.products=60", "env.eval_goals=6", "env.max_steps=6"),
        *("warmstart.steps=30", "warmstart.demonstrations=20"),
    ),
    "minihack": ("env=minihack/room", "env.max_steps=10", "warmstart.steps=20", "warmstart.demonstrations=10"),
}
METHODS = {
    "gigpo": ("algo=gigpo",),
    "ppo": ("algo=ppo",),
    "vineppo": ("algo=vineppo", "algo.continuations=2", "algo.max_states=2"),
    "grpo": ("algo=grpo",),
    "oprl": ("algo=oprl",),
}


def shapes() -> dict[str, tuple[str, ...]]:
    """The settings of each, by "method environment". Neighbors differ in both."""
    count = len(METHODS) * len(ENVIRONMENTS)  # without a common divisor, all pairs come up
    pairs = [([*METHODS][n % len(METHODS)], [*ENVIRONMENTS][n % len(ENVIRONMENTS)]) for n in range(count)]
    return {f"{method} {place}": (*SETTINGS, *ENVIRONMENTS[place], *METHODS[method]) for method, place in pairs}

"""Checks of a training: whether method, shapings, loss, sampling and branches go together. Nothing heavy is imported."""

from __future__ import annotations

import importlib.util
from contextlib import suppress
from dataclasses import fields

from agents.config.commands import TrainConfig
from agents.config.judge import check_judge
from algorithms import base, shaping, surrogates, transforms
from algorithms.branching import BRANCHED, MonteCarloMethod, TreeMethod
from envs import registry
from envs.base import TextEnv
from envs.common.structured import ConfigError, unknown_key

BAND = frozenset({"entropy_low", "entropy_high"})
"""What loss.entropy_band reads of each token."""
EXTRAS = ("wandb", "tensorboard", "trackio", "mlflow")


def check_training(config: TrainConfig) -> None:
    """Combinations that cannot work in a training. Raises ConfigError."""
    _check_launcher(config)
    _check_surrogate(config)
    _check_reference(config)
    _check_trackers(config)
    _check_groups(config)
    _check_resampling(config)
    _check_branches(config)
    _check_temperature(config)
    _check_curriculum(config)
    _check_composition(config)


def asks_a_judge(config: TrainConfig) -> set[str | None]:
    """What the run asks its judge for; nothing: it needs none."""
    built = (shaping.build(name, settings) for name, settings in config.shaping.items())
    return {one.needs_judge for one in built if one.asks}


def _check_groups(config: TrainConfig) -> None:
    size = config.rollout.group_size
    asking: dict[str, int] = {f"algo.name={config.algo['name']}": base.get(config.algo["name"]).min_group_size}
    asking |= {f"shaping.{name}": shaping.get(name).min_group_size for name in config.shaping}
    for what, smallest in asking.items():
        if size < smallest:
            raise ConfigError(
                f"rollout.group_size is {size}, but {what} compares episodes of the same task: at least {smallest}"
            )


def _check_resampling(config: TrainConfig) -> None:
    if config.rollout.dynamic_sampling.rounds and base.get(config.algo["name"]).min_group_size < 2:
        raise ConfigError(
            f"rollout.dynamic_sampling.rounds is {config.rollout.dynamic_sampling.rounds}, but algo.name={config.algo['name']} "
            "compares no episodes, and learns from groups whose episodes all return the same too; allowed with it: 0"
        )


def _check_branches(config: TrainConfig) -> None:
    """A method that has episodes played on from inside, between rollout and update."""
    name, rollout = config.algo["name"], config.rollout
    method = base.get(name)
    asked = sorted(method.needs & BRANCHED)
    if not asked:
        return
    if not issubclass(method, MonteCarloMethod | TreeMethod):
        raise ConfigError(
            f"algo.name={name} needs {asked[0]}, which comes of branches, but does not say where they begin: let its class "
            "derive from algorithms.branching.MonteCarloMethod or TreeMethod"
        )
    if rollout.overlap:
        raise ConfigError(
            f"rollout.overlap is {rollout.overlap}, but algo.name={name} has finished episodes played on from inside before "
            "the update, with the weights that played them; allowed with it: 0"
        )
    if rollout.dynamic_sampling.rounds:
        raise ConfigError(
            f"rollout.dynamic_sampling.rounds is {rollout.dynamic_sampling.rounds}, but algo.name={name} compares leaves of "
            "trees, which do not stand yet when groups are replaced; allowed with it: 0"
        )


def _check_temperature(config: TrainConfig) -> None:
    """A temperature that follows the entropy of tokens: the sampler must draw them by it, and the learner know it."""
    tau, engine = config.rollout.temperature_tau, config.engine
    if not tau:
        return
    why = ""
    if engine.name != "hf":
        why = f"engine.name={engine.name} samples at one temperature: set engine.name=hf"
    elif engine.constrained == "scored":
        why = "with engine.constrained=scored no token is drawn: set engine.constrained=admissible or none"
    elif config.rollout.overlap:
        why = (
            f"with rollout.overlap={config.rollout.overlap} an iteration learns from episodes of several temperatures: set "
            "rollout.overlap=0"
        )
    elif config.loss.entropy_band:
        why = f"loss.entropy_band={config.loss.entropy_band:g} compares entropies at one temperature: set loss.entropy_band=0"
    if why:
        raise ConfigError(
            f"rollout.temperature_tau is {tau:g}, so that the temperature follows the entropy of tokens, but {why}, or "
            "rollout.temperature_tau=0"
        )


def _check_curriculum(config: TrainConfig) -> None:
    """A budget of training episodes, and what rewards by it."""
    curriculum, unit = config.rollout.curriculum, config.rollout.curriculum.unit
    if unit == "none":
        given = [key for key in ("first", "last", "iterations") if getattr(curriculum, key) is not None]
        if given:
            raise ConfigError(
                f"rollout.curriculum.{given[0]} is set, but rollout.curriculum.unit is 'none'; set turns or tokens"
            )
        if by_budget := [name for name in config.shaping if shaping.get(name).needs_budget]:
            raise ConfigError(
                f"shaping.{by_budget[0]} rewards episodes by their budget, and rollout.curriculum.unit is 'none': set "
                "rollout.curriculum.unit=turns (or tokens) and rollout.curriculum.last=<the budget at the end>"
            )
        return
    if curriculum.last is None:
        raise ConfigError(
            f"rollout.curriculum.last has no value, with unit={unit}; set it, for example rollout.curriculum.last=10"
        )
    limit = "env.max_steps" if unit == "turns" else "engine.max_tokens"
    longest = getattr(config.env.settings, "max_steps", None) if unit == "turns" else config.engine.max_tokens
    for key in ("first", "last"):
        size = getattr(curriculum, key)
        if curriculum.enforced and longest is not None and size is not None and size > longest:
            raise ConfigError(
                f"rollout.curriculum.{key} is {size}, which {limit}={longest} never lets happen; allowed: up to that"
            )
    if curriculum.enforced and unit == "tokens" and config.engine.constrained != "none":
        raise ConfigError(
            f"rollout.curriculum.unit is 'tokens', but with engine.constrained={config.engine.constrained} an action is never "
            "cut off; allowed with it: turns, or rollout.curriculum.enforced=false"
        )
    if curriculum.enforced and base.get(config.algo["name"]).needs & BRANCHED:
        raise ConfigError(
            f"rollout.curriculum.unit is '{unit}', but algo.name={config.algo['name']} plays episodes on from inside, which "
            "have no budget; allowed with it: none, or rollout.curriculum.enforced=false"
        )


def _check_composition(config: TrainConfig) -> None:
    """A method with a shaping and a way of sampling: what each would take from the other must be there."""
    name, scored = config.algo["name"], config.engine.constrained == "scored"
    method = base.get(name)
    wanted = method.reads_shaping
    if wanted is not None and wanted not in config.shaping:
        raise ConfigError(
            f"algo.name={name} credits steps by what shaping '{wanted}' says, which is not among the shapings of this run "
            f"({', '.join(config.shaping) or 'none'}): add shaping.{wanted}={{}}, or choose it with shaping={wanted}"
        )
    for shaped in config.algo.get("shaped_at", {}):
        if shaped not in shaping.names():
            raise unknown_key(f"algo.shaped_at.{shaped}", shaping.names())
    built = base.build(config.algo)
    try:
        built.check(list(config.shaping))
    except ValueError as exc:
        raise ConfigError(f"algo.{exc}") from exc
    for one in config.shaping:
        shaped_by = shaping.build(one, config.shaping[one])
        try:
            shaped_by.check(built)
        except ValueError as exc:
            raise ConfigError(f"shaping.{one}.{exc} (here algo.name={name})") from exc
    if asks_a_judge(config):
        _check_judge(config)
    by_all = {f"algo.name={name}": method.needs, **{_transform(one): by.needs for one, by in built.changes.items()}}
    for what, needs in by_all.items():
        if needs & {"sum_pi_squared", "entropy", "divergence", "influence"} and config.engine.top_p < 1:
            raise ConfigError(
                f"engine.top_p is {config.engine.top_p:g}, but {what} weighs tokens by probabilities of the whole "
                "vocabulary; allowed with it: 1"
            )
    _check_beside(config, built)
    below_zero = getattr(config.env.settings, "pays_below_zero", None)
    if method.divides_by_rewards and below_zero:
        raise ConfigError(f"{below_zero}, but algo.name={name} divides by a task's mean return, which must be at least 0")
    if "answers" in method.needs:
        _check_answers(config)
    if "parts" in method.needs and not config.env.hierarchy:
        raise ConfigError(
            f"env.hierarchy is false, but algo.name={name} credits the parts of turns that say KEEP or SWITCH and name a "
            "subgoal; allowed with it: true"
        )
    if not scored:
        return
    if config.engine.top_p < 1:
        raise ConfigError(
            f"engine.top_p is {config.engine.top_p:g}, but with engine.constrained=scored no token is drawn; allowed with it: 1"
        )
    by_token = [f"algo.name={name}"] if built.credits_tokens or method.needs & {"entropy", "hindsight"} else []
    by_token += [_transform(one) for one in built.changes]
    by_token += [f"shaping.{one}" for one in config.shaping if shaping.get(one).needs_model in ("tokens", "policy")]
    if by_token:
        raise ConfigError(
            f"engine.constrained is 'scored', where an action is drawn as a whole, but {by_token[0]} looks at its single "
            "tokens; allowed with it: none, admissible (with a critic, algo=ppo algo.level=action goes with scored: twosome)"
        )


def _transform(name: str) -> str:
    return f"algo.transforms=[{name}]"


def _check_beside(config: TrainConfig, method: base.Algorithm) -> None:
    """What the loss reads beside the advantage must be given by a transform, and what is given must be read."""
    loss = config.loss
    with suppress(ImportError, AttributeError):
        reads = {f"loss.surrogate={loss.surrogate}": surrogates.get(loss.surrogate).reads}
        reads |= {f"loss.entropy_band={loss.entropy_band:g}": BAND} if loss.entropy_band else {}
        given = {name: one.gives for name, one in method.changes.items() if one.gives}
        for what, columns in reads.items():
            if missing := columns - frozenset().union(*given.values()):
                able = [one for one in transforms.names() if missing & transforms.get(one).gives]
                raise ConfigError(
                    f"{what} reads {', '.join(sorted(missing))} of each token, which no transform of this run gives: add "
                    f"{' or '.join(map(_transform, able)) or 'one that does'}"
                )
        for name, columns in given.items():
            if not columns & frozenset().union(*reads.values()):
                able = [f"loss.surrogate={one}" for one in surrogates.names() if columns & surrogates.get(one).reads]
                able += ["loss.entropy_band above 0"] if columns & BAND else []
                raise ConfigError(
                    f"{_transform(name)} gives {', '.join(sorted(columns))} of each token to the loss, which does not read it: "
                    f"set {' or '.join(able) or 'a loss that does'}"
                )


def _check_answers(config: TrainConfig) -> None:
    """Raises ConfigError for an environment whose tasks have no answer."""

    def knows(name: str) -> bool:
        with suppress(ImportError):
            return registry.spec(name).env.answer is not TextEnv.answer
        return False

    if knows(config.env.name):
        return
    raise ConfigError(
        f"algo.name={config.algo['name']} follows how likely the policy finds a task's true answer, and the tasks of "
        f"env.name={config.env.name} have none (its class defines no `answer`); environments that know theirs: "
        f"{', '.join(filter(knows, registry.names())) or 'none'}"
    )


def _check_judge(config: TrainConfig) -> None:
    check_judge(config.judge)
    if config.judge.kind == "rules" and "factors" in asks_a_judge(config):
        raise ConfigError(
            "shaping.latent.factors is null, so the judge is to write them, and judge.kind is 'rules', which write nothing: "
            "set judge=smollm2, endpoint or policy, or give them, for example shaping.latent.factors=[new_subgoals,valid]"
        )
    if config.judge.kind == "policy" and config.model.prompt == "plain":
        raise ConfigError(
            f"judge.kind is 'policy', but model.name={config.model.name} with model.prompt=plain has no chat template to be "
            "asked in; allowed with it: rules, model, endpoint (judge=smollm2)"
        )


ON_ONE_RANK: frozenset[str] = frozenset({"divergence", "influence", "waad", "fai", "answers"})
"""What a method or its transforms may read and ranks do not compute together."""


def _check_launcher(config: TrainConfig) -> None:
    if config.launcher.name == "here":
        if config.launcher.processes > 1:
            raise ConfigError(f"launcher.processes is {config.launcher.processes}, which needs launcher=torchrun")
        return
    if config.rollout.overlap:
        raise ConfigError(
            f"rollout.overlap is {config.rollout.overlap}, but ranks (launcher=torchrun) update between rollouts: set "
            "rollout.overlap=0"
        )
    method = base.build(config.algo)
    alone = [f"algo.name={config.algo['name']} with its transforms"] * bool(method.reads & ON_ONE_RANK)
    alone += [f"shaping.{name}" for name in config.shaping if shaping.get(name).needs_model in ("policy", "factors")]
    alone += [f"shaping.{name}" for name in config.shaping if shaping.get(name).needs_other or shaping.get(name).distills]
    if alone:
        raise ConfigError(
            f"{alone[0]} reads numbers that only one process computes so far, and launcher is 'torchrun'; allowed with it: "
            "launcher=here"
        )


def _check_surrogate(config: TrainConfig) -> None:
    loss = config.loss
    try:
        whole = surrogates.get(loss.surrogate).whole_sequences and loss.sequence == "episode"
    except (ImportError, AttributeError) as exc:
        raise ConfigError(f"loss.surrogate is '{loss.surrogate}', which cannot be imported: {exc}") from exc
    for key, value in (("env.context", config.env.context), ("engine.constrained", config.engine.constrained)):
        if whole and value in ("window", "scored"):
            raise ConfigError(
                f"loss.surrogate is '{loss.surrogate}', which needs a whole sequence in one row, and with {key}={value} an "
                f"episode is many rows: set loss.sequence=row, or another {key}"
            )
    correction = loss.correction
    for low, high in (("floor", "cap"), ("reject_floor", "reject_cap")):
        least, most = getattr(correction, low), getattr(correction, high)
        if least is not None and least > most:
            raise ConfigError(f"loss.correction.{low} is {least:g}; it must be at most loss.correction.{high}={most:g}")


def _check_reference(config: TrainConfig) -> None:
    if config.warm_starts and config.model.lora.enabled and config.loss.kl.kind != "none":
        raise ConfigError(
            f"loss.kl.kind is '{config.loss.kl.kind}' with model.lora.enabled=true and a warm start: an adapter's reference is "
            "the model without it, which the warm start never saw. Set warmstart.enabled=false, or loss.kl.kind=none, or train "
            "without LoRA"
        )
    if not (config.warm_starts and config.model.lora.enabled):
        return
    if "values" in base.get(config.algo["name"]).needs and config.critic.trains == "head":
        raise ConfigError(
            "critic.trains is 'head' with model.lora.enabled=true and a warm start: the critic reads hidden states of the "
            "model without adapters, which the warm start never saw. Set critic.trains=all, or warmstart.enabled=false, or "
            "train without LoRA"
        )
    for name, settings in config.shaping.items():
        built = shaping.build(name, settings)
        if built.learns and built.needs_model == "steps" and settings["trains"] == "head":
            raise ConfigError(
                f"shaping.{name}.trains is 'head' with model.lora.enabled=true and a warm start: its model reads hidden states "
                f"of the model without adapters, which the warm start never saw. Set shaping.{name}.trains=all, or "
                "warmstart.enabled=false, or train without LoRA"
            )
        if built.learns and built.reads_reference:
            raise ConfigError(
                f"shaping.{name} compares with the policy before RL, and with model.lora.enabled=true and a warm start that is "
                "the model without adapters, which the warm start never saw. Set warmstart.enabled=false, or train without LoRA"
            )
        if settings.get("kind") == "adapter":
            raise ConfigError(
                f"shaping.{name}.kind is 'adapter' with model.lora.enabled=true and a warm start: its reward model would start "
                f"as the model without adapters, which the warm start never saw. Set shaping.{name}.kind=copy, or "
                "warmstart.enabled=false, or train without LoRA"
            )


def _check_trackers(config: TrainConfig) -> None:
    for field in fields(config.tracker):
        name, wanted = field.name, getattr(config.tracker, field.name) is not None
        if wanted and name in EXTRAS and importlib.util.find_spec(name) is None:
            raise ConfigError(f"tracker '{name}' needs the package {name}: pip install 'stepcredit[{name}]'")

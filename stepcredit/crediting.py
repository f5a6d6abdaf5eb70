"""Credit for steps that were played anywhere: any method of this project on flat arrays, without a model and without torch."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from algorithms import base
from algorithms.base import Algorithm, Batch, Bools, Entry, Floats, Ints
from algorithms.batch import Part, following

if TYPE_CHECKING:
    Labels = Sequence[Hashable] | NDArray[Any]
    PerEpisode = Mapping[Any, bool] | Sequence[bool] | NDArray[np.bool_]

READS = {
    "logprobs": "the log-probability of each token under the policy that sampled it",
    "switches": "whether each turn switches to another subgoal",
    "values": "the critic's value of what stands before each token",
    "sum_pi_squared": "the sum of the squared probabilities of all tokens at each token's place",
    "greedy": "the return of the greedy episode of each step's task",
    "token_ids": "the number of each token in its vocabulary",
    "entropy": "the entropy of the distribution that each token was sampled from",
    "token_text": "what each token adds to the text of its response",
    "divergence": "how far the next-token distributions of the task's episodes differ at each token's place",
    "influence": "how much learning each token raises the likelihood of the task's successes, nan where there are none",
    "waad": "how far back each token attends, by heads that attend to what is near",
    "fai": "how much later tokens attend to each token, by heads that attend to what is far",
    "hindsight": "the mean log-probability of each step's tokens where the prompt also says how the episode ended",
    "state_values": "the mean return of episodes that were played on from before each step, nan where none was",
    "prefix_values": "the mean return of episodes that were played on from before each token, nan where none was",
    "tree": "a label for the tree that each step's episode is a leaf of",
    "segment": "a label for the part of the tree that each token was sampled in, equal where leaves share it",
    "parts": "which part of its turn each token belongs to, and whether each turn switches to another subgoal (switches)",
    "answers": "the mean log-probability of the true answer's tokens before each step",
}
"""What a method and its transforms may need beside the episodes (`Algorithm.reads`)."""


@dataclass(eq=False)
class Credit:
    """What a method says of the steps given to `advantages`, in their order."""

    values: Floats
    """[S] advantage of each step, or [T] of each token (see `level`); 0 where undefined."""
    defined: Bools
    """False: no opinion, which is not an advantage of 0; do not train on it. Steps of faulted episodes."""
    level: Literal["step", "token"]
    """token: the values are those of the first step's tokens, then of the second's, and so on."""
    parts: dict[str, Floats] = field(default_factory=dict)
    """What the values are made of, by name; as long as they are."""
    returns: Floats | None = None
    """[T] what a critic is to predict before each token ([T, V] if it gives V values), nan where nothing."""
    step_group: Ints | None = None
    """[S] number of the group in which a step was compared; of methods that compare steps."""
    metrics: dict[str, float] = field(default_factory=dict)


def advantages(
    method: str | Algorithm,
    *,
    rewards: ArrayLike,
    episodes: Labels,
    states: Labels | None = None,
    groups: Labels | None = None,
    actions: Labels | None = None,
    tokens: ArrayLike | None = None,
    values: ArrayLike | None = None,
    logprobs: ArrayLike | None = None,
    sum_pi_squared: ArrayLike | None = None,
    greedy: ArrayLike | None = None,
    token_ids: ArrayLike | None = None,
    entropy: ArrayLike | None = None,
    token_text: Sequence[str] | None = None,
    divergence: ArrayLike | None = None,
    influence: ArrayLike | None = None,
    waad: ArrayLike | None = None,
    fai: ArrayLike | None = None,
    hindsight: ArrayLike | None = None,
    answers: ArrayLike | None = None,
    parts: Sequence[str] | ArrayLike | None = None,
    switches: ArrayLike | None = None,
    state_values: ArrayLike | None = None,
    prefix_values: ArrayLike | None = None,
    tree: Labels | None = None,
    segment: Labels | None = None,
    shaped: Mapping[str, ArrayLike] | None = None,
    shaped_at: Mapping[str, Entry] | None = None,
    valid: ArrayLike | None = None,
    success: PerEpisode | None = None,
    faulted: PerEpisode | None = None,
    cut_off: PerEpisode | None = None,
    observations: Sequence[str] | None = None,
    final_states: Mapping[Any, Hashable] | None = None,
    final_observations: Mapping[Any, str] | None = None,
    **settings: Any,
) -> Credit:
    """The advantage of every step, or token, of some episodes by any method; see `methods()` and docs/methods.md.

        credit = stepcredit.advantages(
            "gigpo", rewards=[0, 0, 0, 1], episodes=[0, 0, 1, 1], states=["a", "b", "c", "b"], gamma=0.9
        )
        credit.values  # [4], in the order given

    Arrays have an entry for each of the S steps. Steps of different episodes may stand in any order; those of one episode stand
    in the order of time.

    - method: a name, with its own `settings`, or an `Algorithm` with its settings in it.
    - rewards: the environment's reward for each step.
    - episodes: a label for the episode of each step (anything hashable), as for the next two.
    - states: the state in which the step was taken; equal labels within a group mean the same state. For methods that compare
      steps (gigpo, hgpo, graphgpo, ...) or what led to them (tempo); None is a state that is not known.
    - groups: the task of each step: episodes of equal labels are compared with each other. Default: all are of one task.
    - actions: what was done at each step, for salt; equal labels mean the same action.
    - tokens: how many tokens the agent wrote at each step. Default: 1, an action is one decision.
    - values, logprobs, sum_pi_squared, token_ids, entropy: a number for each of the T tokens, step by step in the order given.
      With a critic (ppo, poad, ...): the value of what stands before the token; hiper: three of them, of acting, of choosing
      a subgoal and of deciding whether to; otb: the log-probability of the token, and the sum of the squared probabilities
      of all tokens there; tempo, and hiper with consistency_penalty: which token it is; empg: the entropy, in nats, of the
      distribution that it was sampled from.
    - token_text, divergence, influence, waad, fai: for transforms, a text or a number for each token: what it adds to its
      response (hicra); how far the task's next-token distributions differ at its place (tw_grpo); how much learning it raises
      the likelihood of the task's successes (thr); how far back it attends, and how much it is attended to (attention).
    - greedy: for remax, the return of the task's greedy episode.
    - hindsight: for hcapo, the mean log-probability of each step's tokens where the prompt also says how the episode ended;
      only that of successes is looked at.
    - answers: for igpo, the mean log-probability of the tokens of the task's true answer, if it was given before the step; nan
      where none is known.
    - parts, switches: for hiper, the part of each token (none, switch, subgoal, action), and whether each step switches to
      another subgoal.
    - state_values, prefix_values: for vineppo a number for each step, for spo_chain one for each token: the mean return from
      the step on of episodes that were played on from before it; nan where none was.
    - tree: for tree_grpo, a label for the tree that the step's episode is a leaf of; segment: for spo_tree, a label for each
      token: that of the part of its tree it was sampled in, from one branching to the next.
    - shaped: further rewards for each step by name; shaped_at: where each enters (reward by default, return, advantage, none).
    - valid: whether the environment accepted the action. Default: yes.
    - success, faulted, cut_off: of episodes: {label: True}, or one entry a step. Those that a fault (crash, timeout) cut off
      get no advantage and enter no statistics; those cut_off ran into a limit. Default: none of it; methods that ask for
      success (graphgpo, g2po, proxmo) have no default for it.
    - observations: what was seen at each step, for proxmo, and for gigpo and graphgpo by similarity.
    - final_states, final_observations: what episodes ended in, {label: state}, for graphgpo and salt. An episode that is not
      named ended in a state of its own.

    Raises ValueError for arrays that do not fit, and for what the method needs and was not given; UnknownName for a method that
    does not exist.
    """
    chosen, name = _method(method, shaped_at, settings)
    reward = _numbers("rewards", rewards, None, "steps")
    size = len(reward)
    episode, episode_labels = _numbered("episodes", episodes, size)
    order = np.argsort(episode, kind="stable")  # [S] episode by episode, in time order: as a batch has its steps
    task = np.zeros(size, np.int64) if groups is None else _numbered("groups", groups, size)[0]
    _constant("groups", task, episode, episode_labels)
    count = np.ones(size, np.int64) if tokens is None else _counts("tokens", tokens, size, "steps")
    spread = _spread(count, order)  # [T]
    per_token = {"logprobs": logprobs, "sum_pi_squared": sum_pi_squared, "entropy": entropy, "parts": _parts(parts)}
    per_token |= {"divergence": divergence, "waad": waad, "fai": fai}
    given: dict[str, Any] = {
        key: None if each is None else _numbers(key, each, len(spread), "tokens")[spread] for key, each in per_token.items()
    }
    given["values"] = None if values is None else _values(values, len(spread), chosen.values_per_token)[spread]
    given["token_ids"] = None if token_ids is None else _counts("token_ids", token_ids, len(spread), "tokens")[spread]
    per_step = {"greedy": greedy, "hindsight": hindsight, "switches": switches}
    given |= {key: None if each is None else _numbers(key, each, size, "steps")[order] for key, each in per_step.items()}
    given["parts"] = None if parts is None else given["parts"].astype(np.int64)
    given["switches"] = None if switches is None else given["switches"].astype(bool)
    # What was not sampled has no value, and what is not known no probability.
    for key, each in {"state_values": state_values, "answers": answers}.items():
        given[key] = None if each is None else _numbers(key, each, size, "steps", True)[order]
    for key, each in {"prefix_values": prefix_values, "influence": influence}.items():
        given[key] = None if each is None else _numbers(key, each, len(spread), "tokens", True)[spread]
    if token_text is not None:
        given["token_text"] = [_sized("token_text", token_text, len(spread), "tokens")[i] for i in spread.tolist()]
    if tree is not None:
        given["tree"] = _of_one("tree", tree, episode, episode_labels)
    if segment is not None:
        given["segment"] = _numbered("segment", segment, len(spread), "tokens")[0][spread]
    extra = {key: _numbers(f"shaped['{key}']", each, size, "steps")[order] for key, each in sorted((shaped or {}).items())}
    _refuse_what_is_missing(name, chosen, given, extra, success)
    length = np.bincount(episode)  # [N]
    state, final = _states(states, _by_episode("final_states", final_states, episode_labels), task, episode, size)
    final_text = _by_episode("final_observations", final_observations, episode_labels)
    batch = Batch(
        group=task[order],
        episode=episode[order],
        position=np.arange(size) - np.repeat(np.cumsum(length) - length, length),
        state=state[order],
        next_state=following(state[order], length, final),
        action=None if actions is None else _numbered("actions", actions, size)[0][order],
        reward=reward[order],
        valid=(np.ones(size, bool) if valid is None else _numbers("valid", valid, size, "steps").astype(bool))[order],
        tokens=count[order],
        success=_of_episodes("success", success, episode, episode_labels),
        faulted=_of_episodes("faulted", faulted, episode, episode_labels),
        cut_off=_of_episodes("cut_off", cut_off, episode, episode_labels),
        shaped=extra,
        state_text=None if observations is None else [_sized("observations", observations, size)[i] for i in order.tolist()],
        final_text=[text or "" for text in final_text],
        **given,
    )
    try:
        for one in chosen.changes.values():
            one.learn(batch)
        found = chosen.advantages(batch)
    except ValueError as error:
        left_out = [("state_key", "states", states), ("batch.action", "actions", actions)]
        left_out += [("batch.state_text", "observations", observations)]
        hints = [f"; {key} gives each step's" for word, key, value in left_out if value is None and word in str(error)]
        raise ValueError(f"{name}: {error}{''.join(hints)}") from error
    back, back_tokens = np.argsort(order), np.argsort(spread)
    place = back if found.level == "step" else back_tokens
    return Credit(
        found.values[place],
        found.defined[place],
        found.level,
        {key: part[place] for key, part in found.parts.items()},
        None if found.returns is None else found.returns[back_tokens],
        None if found.step_group is None else found.step_group[back],
        found.metrics,
    )


def _method(method: str | Algorithm, shaped_at: Mapping[str, Entry] | None, settings: dict[str, Any]) -> tuple[Algorithm, str]:
    """The method and its name. A name that is another method's with other settings has those of its configuration file."""
    if isinstance(method, Algorithm):
        if settings:
            raise ValueError(f"{', '.join(settings)}: the method is an object, so its settings are in it")
        return (replace(method, shaped_at={**method.shaped_at, **shaped_at}) if shaped_at else method), type(method).__name__
    config = {"name": method} if method in base.names() else _variant(method)
    return base.build({**config, **settings, **({"shaped_at": dict(shaped_at)} if shaped_at else {})}), method


@cache
def _variant(name: str) -> dict[str, Any]:
    from agents.config.compose import compose, groups

    found: dict[str, Any] = compose("train", [f"algo={name}"])["algo"] if name in groups()["algo"] else {"name": name}
    return found


def _refuse_what_is_missing(
    name: str,
    method: Algorithm,
    given: Mapping[str, Floats | None],
    shaped: Mapping[str, Floats],
    success: PerEpisode | None,
) -> None:
    needed = {*method.reads, *({"logprobs"} if "sum_pi_squared" in method.needs else ())}
    needed |= {"switches"} if "parts" in method.needs else set()
    for need in sorted(needed):
        if given.get(need) is None:
            words = READS[need]
            raise ValueError(f"{name} needs {need}: {words}")
    if method.reads_shaping and method.reads_shaping not in shaped:
        wanted = f"shaped={{'{method.reads_shaping}': [one number for each step]}}"
        raise ValueError(f"{name} needs the rewards by shaping {method.reads_shaping}: {wanted}")
    if method.reads_success and success is None:
        raise ValueError(f"{name} needs success: which episodes succeeded, {{label: True}}, or one entry a step")


def _spread(count: Ints, order: Ints) -> Ints:
    """[T] places of the tokens, as given, in the order of the batch."""
    first, length = (np.cumsum(count) - count)[order], count[order]
    return np.arange(length.sum()) + np.repeat(first - (np.cumsum(length) - length), length)


def _sized(name: str, array: Any, size: int, of: str = "steps") -> Any:
    if len(array) != size:
        raise ValueError(f"{name} has {len(array)} entries; there are {size} {of}")
    return array


def _numbers(name: str, array: ArrayLike, size: int | None, of: str, gaps: bool = False) -> Floats:
    try:
        found = np.asarray(array, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be a flat list of numbers, one for each of the {of}: {error}") from error
    if found.ndim != 1:
        raise ValueError(f"{name} has shape {found.shape}; it must be flat, one number for each of the {of}")
    _sized(name, found, len(found) if size is None else size, of)
    wrong = np.flatnonzero(~np.isfinite(found) & ~(gaps & np.isnan(found)))
    if len(wrong):
        raise ValueError(f"{name}[{wrong[0]}] is {found[wrong[0]]}; it must be a finite number")
    return found


def _values(values: ArrayLike, size: int, each: int) -> Floats:
    """[T], or [T, each] of a method with several values a token."""
    if each == 1:
        return _numbers("values", values, size, "tokens")
    found = np.asarray(values, dtype=np.float64)
    if found.shape != (size, each):
        raise ValueError(f"values has shape {found.shape}; it must have {each} numbers for each of the {size} tokens")
    return found


def _parts(parts: Sequence[str] | ArrayLike | None) -> ArrayLike | None:
    """Numbers of parts by their names; what are numbers already stays."""
    if parts is None:
        return None
    known = {part.name.lower(): int(part) for part in Part}
    for place, one in enumerate(np.asarray(parts).tolist()):
        if one not in (*known, *known.values()):
            raise ValueError(f"parts[{place}] is {one!r}; allowed: {', '.join(known)}")
    return [known.get(one, one) for one in np.asarray(parts).tolist()]


def _counts(name: str, array: ArrayLike, size: int, of: str) -> Ints:
    found = _numbers(name, array, size, of)
    wrong = np.flatnonzero((found < 0) | (found != np.round(found)))
    if len(wrong):
        raise ValueError(f"{name}[{wrong[0]}] is {found[wrong[0]]:g}; it must be a whole number, at least 0")
    return found.astype(np.int64)


def _numbered(name: str, labels: Labels, size: int, of: str = "steps") -> tuple[Ints, list[Any]]:
    """[S] numbers of the labels in order of appearance, and the labels."""
    found: dict[Any, int] = {}
    numbers = [found.setdefault(label, len(found)) for label in _hashable(name, labels, size, of)]
    return np.array(numbers, dtype=np.int64), list(found)


def _states(states: Labels | None, finals: list[Any], task: Ints, episode: Ints, size: int) -> tuple[Ints, Ints]:
    """Numbers of the states [S] and of the final ones [N], equal where group and state are; -1 where there is none."""
    found: dict[Any, int] = {}

    def number(of: int, state: Any) -> int:
        return -1 if state is None else found.setdefault((of, state), len(found))

    labels = [None] * size if states is None else _hashable("states", states, size)
    numbers = [number(*pair) for pair in zip(task.tolist(), labels)]
    task_of = dict(zip(episode.tolist(), task.tolist()))
    last = [number(task_of[place], state) for place, state in enumerate(finals)]
    return np.array(numbers, dtype=np.int64), np.array(last, dtype=np.int64)


def _by_episode(name: str, given: Mapping[Any, Any] | None, labels: list[Any]) -> list[Any]:
    """[N] what is given for each episode, None where nothing is."""
    unknown = [label for label in given or {} if label not in set(labels)]
    if unknown:
        raise ValueError(f"{name} names episode {unknown[0]!r}, of which there is no step")
    return [(given or {}).get(label) for label in labels]


def _hashable(name: str, labels: Labels, size: int, of: str = "steps") -> Iterable[Hashable]:
    _sized(name, labels, size, of)
    plain = labels.tolist() if hasattr(labels, "tolist") else labels
    for place, label in enumerate(plain):
        if not isinstance(label, Hashable):
            raise ValueError(f"{name}[{place}] is a {type(label).__name__}; a label must be hashable, such as text or a number")
    return plain


def _constant(name: str, numbers: Ints, episode: Ints, labels: list[Any]) -> None:
    first = np.zeros(len(labels), np.int64)
    first[episode[::-1]] = numbers[::-1]
    wrong = np.flatnonzero(first[episode] != numbers)
    if len(wrong):
        raise ValueError(f"{name} differs within episode {labels[episode[wrong[0]]]!r}: it is one for all steps of an episode")


def _of_one(name: str, labels: Labels, episode: Ints, episode_labels: list[Any]) -> Ints:
    """[N] numbers of labels that are the same for all steps of an episode."""
    numbers = _numbered(name, labels, len(episode))[0]
    _constant(name, numbers, episode, episode_labels)
    found = np.zeros(len(episode_labels), np.int64)
    found[episode] = numbers
    return found


def _of_episodes(name: str, given: PerEpisode | None, episode: Ints, labels: list[Any]) -> Bools:
    """[N] from {label: bool}, or from an entry a step."""
    if given is None:
        return np.zeros(len(labels), bool)
    if isinstance(given, Mapping):
        return np.array([bool(one) for one in _by_episode(name, given, labels)], dtype=bool)
    flags = _numbers(name, given, len(episode), "steps").astype(np.int64)
    _constant(name, flags, episode, labels)
    found = np.zeros(len(labels), bool)
    found[episode] = flags.astype(bool)
    return found

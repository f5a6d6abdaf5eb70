"""Whether episodes and updates hold anything to learn from; if not it is said, once, in words that name what to do.

Looks at episodes and metrics alone, and knows no method and no environment. Where a warning goes is the caller's business;
docs/it-does-not-learn.md has a section for each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from transformers import PreTrainedTokenizerBase

from agents.config.commands import EvaluateConfig, TrainConfig
from agents.runs.evaluation import mean
from envs.trajectory import CONTEXT, NO_ACTIONS, Step, Trajectory

PAGE = "docs/it-does-not-learn.md"
FEW = 0.02
"""Share of the episodes that may outgrow the context before it is said."""
CUT = 0.2
"""Share of the answers that may be cut off at engine.max_tokens."""
VALID = 0.1
"""Share of the actions that should be valid."""
UNKNOWN = 0.02
"""Share of a prompt's tokens that may be unknown."""
PATIENCE = 3
"""Iterations in a row without anything to learn from."""
SHOWN = 300
"""Characters of an answer that are shown."""
LOOKED_AT = 200
"""Observations in which unknown words are looked for."""


class Signals:
    """Holds what was said, and for how many iterations nothing was learned."""

    def __init__(
        self, config: TrainConfig | EvaluateConfig, tokenizer: PreTrainedTokenizerBase, say: Callable[[str], None]
    ) -> None:
        self._config, self._tokenizer, self._say = config, tokenizer, say
        self._unknown = _unknown_id(tokenizer)
        self._said: set[str] = set()
        self._alike = self._unmoved = 0

    def measure(self, trajectories: Iterable[Trajectory]) -> dict[str, float]:
        """What the episodes' prompts and answers are like: shares, and a mean length in tokens; nan without any."""
        steps = _steps(trajectories)
        read = sum(len(step.prompt_ids) for step in steps)
        unknown = sum(step.prompt_ids.count(self._unknown) for step in steps) if self._unknown is not None else 0
        return {
            "valid": mean(step.valid for step in steps),
            "cut_answers": mean(_cut(step) for step in steps),
            "response_tokens": mean(len(step.response_ids) for step in steps),
            "unknown_tokens": unknown / read if read else float("nan"),
        }

    def look(self, trajectories: Sequence[Trajectory], where: str) -> None:
        """Say what keeps these episodes from being won or learned from; `where` they were played, in words."""
        ends = Counter(trajectory.cut_off for trajectory in trajectories)
        played = [trajectory for trajectory in trajectories if trajectory.error is None]
        measured = self.measure(played)
        if ends[CONTEXT] > FEW * len(played):
            self._warn(CONTEXT, self._outgrown(ends[CONTEXT], len(played), where))
        if ends[NO_ACTIONS]:
            self._warn(NO_ACTIONS, self._without_actions(ends[NO_ACTIONS], len(played), where))
        if measured["cut_answers"] > CUT:
            self._warn("cut", self._too_long(measured, where))
        if measured["valid"] < VALID:
            self._warn("invalid", self._refused(played, measured["valid"], where))
        if measured["unknown_tokens"] > UNKNOWN:
            self._warn("unknown", self._unread(played, measured["unknown_tokens"], where))

    def learned(self, groups: Sequence[Sequence[Trajectory]], metrics: Mapping[str, float], compares: bool) -> None:
        """Say that updates had nothing to work with, after PATIENCE such iterations.

        groups: the episodes that were trained on; metrics: of the iteration; compares: whether the method compares the episodes
        of a group, so that groups of equal returns teach it nothing.
        """
        returns = [{one.total_reward for one in group if one.error is None} for group in groups]
        different = max(map(len, returns), default=0) if compares else len(set().union(*returns))
        self._alike = self._alike + 1 if different <= 1 else 0
        if self._alike == PATIENCE:
            self._warn("alike", self._equal(groups, compares))
        if "update/steps" not in metrics:  # the critic learns alone
            return
        infinite = 0 < metrics["update/steps"] <= metrics.get("update/skipped_steps", 0.0)
        if infinite:
            self._warn(
                "infinite",
                "the gradient was infinite or nan in every step of an update, so no weight changed. Lower optim.lr, look for "
                "infinite rewards (train/reward), or set model.dtype=float32",
            )
        still = not infinite and metrics["update/grad_norm"] == 0
        self._unmoved = self._unmoved + 1 if still else 0
        if self._unmoved == PATIENCE and "alike" not in self._said:
            skipped = metrics.get("update/skipped_rows", 0.0)
            left_out = f" ({skipped:.0f} rows were left out because no token of theirs has an advantage)" if skipped else ""
            self._warn(
                "unmoved",
                f"no weight has changed for {PATIENCE} iterations: the gradient is zero{left_out}. Look at the advantages of "
                "an episode (python -m agents.replay); see that algo.* and shaping.* give any, and that loss.correction.reject "
                "and loss.target_kl leave some",
            )

    # -- in words -------------------------------------------------------------------------------------------------------

    def _warn(self, name: str, message: str) -> None:
        if name not in self._said:
            self._said.add(name)
            self._say(f"{message}. More in {PAGE}")

    def _outgrown(self, number: int, episodes: int, where: str) -> str:
        model, engine, env = self._config.model, self._config.engine, self._config.env
        shorter = (
            f"lower env.history (now {env.history})"
            if env.context == "window"
            else "set env.context=window, which rebuilds each prompt from the last env.history turns"
        )
        answers = f", lower engine.max_tokens (now {engine.max_tokens})" if engine.constrained == "none" else ""
        return (
            f"{number} of {episodes} episodes of {where} outgrew the context of model.max_length={model.max_length} tokens; "
            f"they count as lost. Raise model.max_length as far as the model can read{answers}, or {shorter}"
        )

    def _without_actions(self, number: int, episodes: int, where: str) -> str:
        return (
            f"{number} of {episodes} episodes of {where} came to a state in which the environment lists no action, so with "
            "engine.constrained=scored none can be chosen; they count as lost. An environment should end there, or list what "
            "is possible; or set engine.constrained=none"
        )

    def _too_long(self, measured: Mapping[str, float], where: str) -> str:
        thoughts = " or set env.thinking=false" if self._config.env.thinking else ""
        return (
            f"{measured['cut_answers']:.0%} of the answers of {where} were cut off at engine.max_tokens="
            f"{self._config.engine.max_tokens} before they ended (mean length {measured['response_tokens']:.0f} tokens): most "
            f"such answers hold no action. Raise engine.max_tokens{thoughts}"
        )

    def _refused(self, played: Sequence[Trajectory], share: float, where: str) -> str:
        """With one answer as it was written, and why it was no action."""
        step = next(step for step in _steps(played) if not step.valid)
        written = _short(str(self._tokenizer.decode(step.response_ids)))
        if _cut(step):
            reason = f"it was cut off at engine.max_tokens={self._config.engine.max_tokens}"
        elif not step.executed:
            reason = f"the context of model.max_length={self._config.model.max_length} tokens ended in the middle of it"
        elif not step.well_formed:
            reason = "it has not the form that the prompt asks for, so no action was found in it"
        else:
            reason = f"the environment does not take {_short(step.action)} for a possible action"
        listed = step.admissible_actions and self._config.engine.constrained == "none"
        fix = "; engine.constrained=admissible lets the model choose among the possible actions only" if listed else ""
        return (
            f"{'none' if not share else f'only {share:.1%}'} of the actions of {where} were valid. For example the model wrote "
            f"{written}, and {reason}. See that env.thinking, engine.stop and model.prompt suit the model{fix}"
        )

    def _unread(self, played: Sequence[Trajectory], share: float, where: str) -> str:
        words = self._unknown_words(played)
        examples = f", for example {', '.join(map(repr, words))}" if words else ""
        made_here = self._config.model.name == "tiny"
        cure = "Set model.tiny.text=exact" if made_here else "Take a model whose tokenizer can spell any text"
        return (
            f"{share:.1%} of the tokens in the prompts of {where} are unknown to the tokenizer of model.name="
            f"{self._config.model.name}{examples}: the model reads {self._tokenizer.unk_token} for all of them and cannot tell "
            f"them apart. {cure}"
        )

    def _unknown_words(self, played: Sequence[Trajectory]) -> list[str]:
        """The commonest words that the tokenizer does not know."""
        if not self._tokenizer.is_fast:
            return []
        found: Counter[str] = Counter()
        read = (step.observation for step in _steps(played) if self._unknown in step.prompt_ids)
        for text in dict.fromkeys(text for text, _ in zip(read, range(LOOKED_AT))):
            encoded = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
            for token, (start, end) in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True):
                found[text[start:end]] += token == self._unknown
        return [word for word, count in found.most_common(6) if count]

    def _equal(self, groups: Sequence[Sequence[Trajectory]], compares: bool) -> str:
        episodes = [one for group in groups for one in group if one.error is None]
        won = sum(one.success for one in episodes)
        alike = "the episodes of each task returned the same" if compares else "all episodes returned the same"
        began = f"in {PATIENCE} iterations in a row {alike}"
        if won == len(episodes):
            return (
                f"{began}, and all were won: hardly anything is left to learn on these tasks. Stop here, or take harder ones "
                "(python -m agents.train --help env)"
            )
        paid = sorted({name for one in episodes for step in one.steps for name, value in step.shaped_rewards.items() if value})
        what = f"only the shaped rewards ({', '.join(paid)}) are learned from" if paid else "there is nothing to learn from"
        return (
            f"{began} (the last time {won} of {len(episodes)} were won): {what}. Begin with a model or a warm start that "
            "sometimes wins, take easier tasks, play more episodes of a task (rollout.group_size), let "
            "rollout.dynamic_sampling.rounds replace such groups, or pay for subgoals (shaping=calm)"
        )


def _steps(trajectories: Iterable[Trajectory]) -> list[Step]:
    return [step for trajectory in trajectories for step in trajectory.steps]


def _cut(step: Step) -> bool:
    """Whether the answer was cut off at engine.max_tokens."""
    return step.stop == "length"


def _short(text: str) -> str:
    return repr(text if len(text) <= SHOWN else f"{text[:SHOWN]} ...")


def _unknown_id(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The token that stands for unknown words; None where there is none, or where it means something else too (GPT-2)."""
    unknown = tokenizer.unk_token_id
    return None if unknown in (tokenizer.eos_token_id, tokenizer.bos_token_id) else unknown

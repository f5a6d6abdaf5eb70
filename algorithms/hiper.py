"""HiPER (arXiv 2602.16165): credit to each part of a turn that says KEEP or SWITCH, then names a subgoal, then acts.

Hierarchical advantage estimation, HAE: turns under one subgoal are a segment. The action is credited inside its segment, the
subgoal by what its segment brought, the switch by what followed it; three values tell what to expect. How a turn is written,
and which of its tokens are which part, is left to the prompt and the dialogue. conf/algo/hiper_official.yaml adds what the
authors' scripts do to rewards.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np

from algorithms.base import Advantages, Algorithm, Bools, Floats, Ints, Need, Scored
from algorithms.batch import Part
from algorithms.stats import discounted_sums, gae, normalize
from envs.common.structured import AtMost, Fraction

LOW, HIGH, TERM = range(3)
"""Columns of values and returns: of acting under the subgoal, of choosing one, of deciding whether to."""


@dataclass
class HiPER(Algorithm):
    """Advantages of actions, subgoals and switches. Shaped rewards entering at `return` count as rewards."""

    gamma: Fraction = 1.0
    """Discount from one turn to the next."""
    lam_turn: Fraction = 1.0
    """GAE's lambda between the turns of a segment."""
    lam_seg: Fraction = 0.95
    """GAE's lambda between segments."""
    normalize: bool = True
    """Shift and scale the advantages of each kind over the batch's turns that have such a part, to mean 0 and variance 1."""
    bootstrap_truncated: bool = False
    """An episode that was cut off is worth its own last value from there on (official); else nothing, as one that has ended."""
    keep_penalty: Annotated[float, AtMost(0)] = 0.0
    """Added to the reward of a turn that keeps its subgoal (official: -0.3)."""
    keep_penalty_mode: Literal["fixed", "normalized"] = "normalized"
    """normalized: the penalty is divided by the number of the episode's turns, and episodes of one turn have none."""
    consistency_penalty: Annotated[float, AtMost(0)] = 0.0
    """Added to the reward of a turn that says KEEP and names another subgoal than the turn before (official: -0.3)."""
    consistency_requires_both: bool = True
    """A turn without a subgoal, or after one without, is not penalized for it."""

    needs: ClassVar[frozenset[Need]] = frozenset({"values", "parts"})
    values_per_token: ClassVar[int] = 3

    @property
    def discount(self) -> float:
        return self.gamma

    @property
    def credits_tokens(self) -> bool:
        return True

    def credit(self, batch: Scored) -> Advantages:
        """One value a token [T]; none for tokens of no part, and for a subgoal that is only kept.

        Raises ValueError without values [T, 3] and parts, and for a turn without tokens.
        """
        if batch.values is None or batch.values.ndim != 2 or batch.parts is None or batch.switches is None:
            raise ValueError(
                "HiPER needs batch.values [T, 3], batch.parts and batch.switches: the turns and what they are worth"
            )
        if not (batch.tokens > 0).all():
            raise ValueError("a step has no sampled token, so its reward stands nowhere")
        starts = batch.switches | (batch.position == 0)  # [S] a segment begins
        first, acts = self.places(batch)
        low, high, term = batch.values[acts, LOW], batch.values[first, HIGH], batch.values[first, TERM]
        of_low, of_high, of_term = self.estimate(batch, self.rewards(batch), starts, low, high, term)  # [S]

        step = np.repeat(np.arange(len(starts)), batch.tokens)  # [T]
        advantages, defined = np.zeros(len(step)), np.zeros(len(step), dtype=bool)
        one, parts = np.zeros(len(starts), dtype=np.int64), dict[str, Floats]()
        for part, of_step in ((Part.ACTION, of_low), (Part.SUBGOAL, of_high), (Part.SWITCH, of_term)):
            tokens = np.flatnonzero(batch.parts == part)
            if part is Part.SUBGOAL:
                tokens = tokens[starts[step[tokens]]]
            if self.normalize:
                has = np.zeros(len(starts), dtype=bool)
                has[step[tokens]] = True
                of_step = normalize(of_step, one, has, "std", 1e-8, ddof=0)
            given = parts[part.name.lower()] = np.full(len(step), np.nan)
            given[tokens] = advantages[tokens] = of_step[step[tokens]]
            defined[tokens] = True

        returns = np.full(batch.values.shape, np.nan)
        returns[acts, LOW] = of_low + low
        returns[first[starts], HIGH] = (of_high + high)[starts]
        returns[first, TERM] = of_term + term
        metrics = {"segment_turns": len(starts) / max(1, int(starts.sum()))}
        return Advantages(advantages, defined, "token", parts, returns, metrics=metrics)

    def places(self, batch: Scored) -> tuple[Ints, Ints]:
        """[S] tokens before which values are read: a turn's first one, and that of its action (without one: the last)."""
        assert batch.parts is not None
        end = np.cumsum(batch.tokens)
        step = np.repeat(np.arange(len(end)), batch.tokens)
        acts = end - 1
        action = np.flatnonzero(batch.parts == Part.ACTION)[::-1]
        acts[step[action]] = action  # of several the first: it is written last
        return end - batch.tokens, acts

    def estimate(
        self, batch: Scored, reward: Floats, starts: Bools, low: Floats, high: Floats, term: Floats
    ) -> tuple[Floats, Floats, Floats]:
        """[S] advantages of actions, of subgoals (at the `starts` of segments) and of switches; values [S] of each turn."""
        segment = np.cumsum(starts) - 1  # [S]
        begin = np.flatnonzero(starts)  # [G] first turn of each segment
        end = np.append(begin[1:], len(starts))[: len(begin)] - 1  # and its last
        next_begin = np.append(begin[1:], begin[:1])  # [G]
        goes_on = (batch.episode[next_begin] == batch.episode[begin]) & (next_begin > begin)  # another follows in the episode
        following = np.where(goes_on, high[next_begin], 0.0)  # [G] value of what follows
        own = np.zeros((2, len(begin)))
        if self.bootstrap_truncated:
            if batch.cut_off is None:
                raise ValueError("bootstrap_truncated needs batch.cut_off: which episodes the environment did not end")
            cut = ~goes_on & batch.cut_off[batch.episode[begin]]
            own = np.where(cut, [low[end], high[begin]], 0.0)
        discount = np.full(len(reward), self.gamma)

        def continued(after: Floats) -> Floats:
            extended = reward.copy()
            extended[end] += self.gamma * after
            return extended

        of_low = gae(continued(following + own[0]), low, discount, segment, self.lam_turn)
        onwards = discounted_sums(continued(following + own[1]), discount, segment)  # [S] to the segment's end
        of_high = np.zeros(len(reward))
        of_high[begin] = gae(
            onwards[begin],
            high[begin],
            np.power(self.gamma, end - begin + 1, dtype=np.float64),
            batch.episode[begin],
            self.lam_seg,
            next_values=np.zeros(len(begin)),  # they are in the rewards
        )
        return of_low, of_high, onwards - term

    def rewards(self, batch: Scored) -> Floats:
        """[S] rewards with the penalties for keeping a subgoal, and for keeping it in name only."""
        assert batch.switches is not None
        keeps = ~batch.switches
        length = batch.length[batch.episode]
        if self.keep_penalty_mode == "fixed":
            reward = batch.reward + self.keep_penalty * keeps
        else:
            reward = batch.reward + np.where(keeps & (length > 1), self.keep_penalty / length, 0.0)
        if self.consistency_penalty:
            reward += self.consistency_penalty * (keeps & self._names_another(batch))
        return reward

    def _names_another(self, batch: Scored) -> Bools:
        """[S] whether the turn's subgoal tokens are not those of the turn before."""
        if batch.token_ids is None:
            raise ValueError("consistency_penalty needs batch.token_ids, the sampled tokens; there are none")
        step = np.repeat(np.arange(len(batch.tokens)), batch.tokens)
        named = batch.parts == Part.SUBGOAL
        ids, of = batch.token_ids[named], step[named]
        count = np.bincount(of, minlength=len(batch.tokens))  # [S]
        before = np.append(0, count[:-1])
        twin = np.arange(len(ids)) - count[of]  # where the same token of the turn before stands, if it has as many
        equal = np.where(twin >= 0, ids[np.maximum(twin, 0)] == ids, False)
        differs = (count != before) | (np.bincount(of, ~equal, len(count)) > 0) | (count == 0)
        if self.consistency_requires_both:
            differs &= (count > 0) & (before > 0)
        return differs & (batch.position > 0)

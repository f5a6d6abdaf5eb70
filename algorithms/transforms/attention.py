"""Credit by attention (arXiv 2510.13554): tokens at which the policy turns to what is far back, and those it comes back to.

A preplan token is followed by a large change of how far back is attended (WAAD, of heads that look at what is near); an anchor
token is attended to by many later ones (FAI, of heads that look far). The trainer measures both in the policy's attention maps:
`batch.waad`, `batch.fai`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np

from algorithms.batch import Batch, Bools, Floats, Need
from algorithms.transforms import Changed, Transform, column, highest, of_token
from envs.common.structured import AtLeast, Fraction, Natural


@dataclass
class Attention(Transform):
    """Advantages that are not negative, amplified at preplan or anchor tokens."""

    form: Literal["preplan", "anchor", "coupled"] = "anchor"
    """Which tokens are amplified: preplan (local form), anchor (global form), or anchors that give a part of their bonus to the
    preplan token that leads to them (coupled)."""
    share: Fraction = 0.4
    """Of an episode's tokens that are preplan, or anchor, tokens (paper)."""
    amplify: Annotated[float, AtLeast(1)] = 1.5
    """Factor of their advantages (paper)."""
    given: Fraction = 0.5
    """form=coupled: part of an anchor's bonus that goes to the preplan token before it; the paper does not give it."""
    reach: Natural = 10
    """form=coupled: how many tokens before an anchor, of the same response, that token is looked for; the paper does not give
    it."""

    needs: ClassVar[frozenset[Need]] = frozenset({"waad", "fai"})

    def apply(self, batch: Batch, values: Floats, defined: Bools, done: float) -> Changed:
        """Raises ValueError without batch.waad and batch.fai."""
        return Changed(np.where(values >= 0, values * self.factors(batch), values), defined)

    def factors(self, batch: Batch) -> Floats:
        """[T] by which an advantage is multiplied that is not negative (Eq. 13-16)."""
        episode = of_token(batch, batch.episode)
        preplan = highest(changes(batch, column(batch, "waad", self)), self.share, episode)
        anchor = highest(column(batch, "fai", self), self.share, episode)
        if self.form == "coupled":
            bonus = coupled(batch, anchor, preplan, self.given, self.reach)
        else:
            bonus = (preplan if self.form == "preplan" else anchor).astype(np.float64)
        return 1 + (self.amplify - 1) * bonus


def changes(batch: Batch, waad: Floats) -> Floats:
    """[T] |WAAD - WAAD of the next token| within a response; 0 at its last token, which none follows."""
    change = np.abs(np.diff(waad, append=0.0))
    change[np.cumsum(batch.tokens)[batch.tokens > 0] - 1] = 0.0
    return change


def coupled(batch: Batch, anchor: Bools, preplan: Bools, given: float, reach: int) -> Floats:
    """[T] the bonus of each token in units of an anchor's: 1 at anchors [T], of which those that are no preplan token [T]
    themselves pass the part `given` on to the last one up to `reach` tokens before them in their response."""
    number = np.arange(len(anchor))
    last = np.maximum.accumulate(np.where(preplan, number, -1))  # the last preplan token up to each
    begins = np.repeat(np.cumsum(batch.tokens) - batch.tokens, batch.tokens)
    passes = anchor & ~preplan & (last >= begins) & (number - last <= reach)
    bonus: Floats = anchor - given * passes
    np.add.at(bonus, last[passes], given)
    return bonus

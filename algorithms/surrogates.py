"""Policy losses of single tokens by name: `loss.surrogate`. Plug-ins: entry-point group `stepcredit.losses`.

A loss gets flat tensors [T] and knows no method and no model; how token losses become one number is `losses.token_weights`.
Torch is not imported here, so that a configuration is checked without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, NamedTuple

from envs.common.registry import Registry
from envs.common.structured import AboveZero, MoreThan, NonNegative, check

if TYPE_CHECKING:
    from torch import Tensor

Aggregation = Literal["token-mean", "seq-mean-token-sum", "seq-mean-token-mean", "seq-mean-token-sum-norm"]
"""How token losses become one number: `losses.token_weights`."""
Estimator = Literal["k1", "k2", "k3"]
"""Of a KL: `losses.kl`."""
Level = Literal["token", "sequence"]
"""Of an importance weight: `correction.correction_weights`."""
Measure = Literal[
    "token_k1",
    "token_k2",
    "token_k3",
    "seq_sum_k1",
    "seq_sum_k2",
    "seq_sum_k3",
    "seq_mean_k1",
    "seq_mean_k2",
    "seq_mean_k3",
    "seq_max_k2",
    "seq_max_k3",
]
"""What rejection looks at (`correction.kept_tokens`): an estimate k1 = -r, k2 = r^2 / 2 or k3 = exp(r) - 1 - r of
KL(rollout || train), of each token, or its sum, mean or maximum over a sequence."""
LOG_RATIO = 20.0
"""Bound of a log-ratio before it is exponentiated."""


class Tokens(NamedTuple):
    """Sampled tokens, all [T]."""

    logp: Tensor
    """Log-probability under the policy that is trained, with its gradient."""
    old_logp: Tensor
    """The same under the policy that the update started from."""
    advantages: Tensor
    sequence: Tensor
    """Number of the token's sequence: of its episode, or of its row."""
    beside: Mapping[str, Tensor] = MappingProxyType({})
    """What transforms say of the tokens beside the advantage, by name."""

    @property
    def log_ratio(self) -> Tensor:
        """[T] log pi - log pi_old within +-LOG_RATIO, with its gradient."""
        return (self.logp - self.old_logp).clamp(-LOG_RATIO, LOG_RATIO)


class TokenLoss(NamedTuple):
    """Per token [T]."""

    loss: Tensor
    clipped: Tensor
    """bool: the clip decided the loss, so the token has no gradient (in CISPO: a bounded one)."""


@dataclass(frozen=True)
class Clip:
    """Bounds of the ratio: 1 - low, 1 + high (GMPO: of its logarithm, -low and high), and PPO's dual clip."""

    low: NonNegative = 0.2
    high: NonNegative = 0.2
    dual: Annotated[float, MoreThan(1)] | None = 3.0

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class Surrogate:
    """A policy loss; a subclass implements `__call__`."""

    clip: Clip = Clip()

    whole_sequences: ClassVar[bool] = False
    """All tokens of a sequence must be in one call."""
    reads: ClassVar[frozenset[str]] = frozenset()
    """Columns of `Tokens.beside` without which it makes no sense."""

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, tokens: Tokens) -> TokenLoss:
        """Hook: the loss of each token, whose weighted sum is minimized."""
        raise NotImplementedError(f"{type(self).__name__} does not define __call__(tokens)")


@dataclass(frozen=True)
class PPO(Surrogate):
    """Token ratios, clipped (PPO, arXiv 1707.06347 Eq. 7); the dual clip (arXiv 1912.09729) bounds negative advantages."""

    def __call__(self, tokens: Tokens) -> TokenLoss:
        return _clipped(tokens.log_ratio, tokens.advantages, self.clip.low, self.clip.high, self.clip.dual)


@dataclass(frozen=True)
class HAPO(PPO):
    """PPO with clip and advantage by the token's entropy score h (arXiv 2509.16591): wider bounds, and more or less of A.

    Above 0 the upper bound is clip.high (1 + alpha h), and a ratio that has left the inner half of the token's range has
    A (1 + beta h). At 0 and below, the lower bound is clip.low (1 - alpha h), and a ratio within that half has A (1 + beta h).
    """

    alpha: NonNegative = 1.0
    """How much wider the clip is where |h| is 1."""
    beta: NonNegative = 1.0
    """How much the advantage changes there."""

    reads: ClassVar[frozenset[str]] = frozenset({"entropy_score"})

    def __call__(self, tokens: Tokens) -> TokenLoss:
        low, high = self.bounds(tokens.beside["entropy_score"])
        return _clipped(tokens.log_ratio, self.advantages(tokens), low, high, self.clip.dual)

    def bounds(self, score: Tensor) -> tuple[Tensor, Tensor]:
        """[T] how far below and above 1 a ratio may go, by the score [T]."""
        below, above = score.clamp(max=0), score.clamp(min=0)
        return self.clip.low * (1 - self.alpha * below), self.clip.high * (1 + self.alpha * above)

    def advantages(self, tokens: Tokens) -> Tensor:
        """[T] redistributed by score and ratio."""
        score, ratio = tokens.beside["entropy_score"], tokens.log_ratio.detach().exp()
        low, high = self.bounds(score)
        near = (ratio > 1 - low / 2) & (ratio < 1 + high / 2)
        return tokens.advantages * (1 + self.beta * score * (near != (score > 0)))


@dataclass(frozen=True)
class SequencePPO(Surrogate):
    """One ratio a sequence, the product of its tokens'; with loss.sequence=row that of a whole action, clipped as in PPO."""

    whole_sequences: ClassVar[bool] = True

    def __call__(self, tokens: Tokens) -> TokenLoss:
        total, number = sequence_sums((tokens.logp - tokens.old_logp).detach(), tokens.sequence)
        log_ratio = _of_sequence(tokens, total[number])
        return _clipped(log_ratio, tokens.advantages, self.clip.low, self.clip.high, self.clip.dual)


@dataclass(frozen=True)
class GSPO(Surrogate):
    """One ratio a sequence, the geometric mean of its tokens' (arXiv 2507.18071 Eq. 7); its clip is about 4e-4."""

    whole_sequences: ClassVar[bool] = True

    def __call__(self, tokens: Tokens) -> TokenLoss:
        whole = _sequence_mean((tokens.logp - tokens.old_logp).detach(), tokens.sequence)
        return _clipped(_of_sequence(tokens, whole), tokens.advantages, self.clip.low, self.clip.high, None)


@dataclass(frozen=True)
class CISPO(Surrogate):
    """-sg(clip(r)) A log pi: the clip bounds a token's weight and never stops its gradient (arXiv 2506.13585 Eq. 4)."""

    def __call__(self, tokens: Tokens) -> TokenLoss:
        ratio = tokens.log_ratio.detach().exp()
        weight = ratio.clamp(1 - self.clip.low, 1 + self.clip.high)
        return TokenLoss(-weight * tokens.advantages * tokens.logp, weight != ratio)


@dataclass(frozen=True)
class GPG(Surrogate):
    """-A log pi: the plain policy gradient, without ratio or clip (arXiv 2504.02546)."""

    def __call__(self, tokens: Tokens) -> TokenLoss:
        return TokenLoss(-tokens.advantages * tokens.logp, _nowhere(tokens.logp))


@dataclass(frozen=True)
class SAPO(Surrogate):
    """-A (4 / tau) sigmoid(tau (r - 1)): a soft gate for the clip, tau by the advantage's sign (arXiv 2511.20347)."""

    positive: AboveZero = 1.0
    """tau where the advantage is above 0."""
    negative: AboveZero = 1.05

    def __call__(self, tokens: Tokens) -> TokenLoss:
        tau = tokens.logp.new_full(tokens.logp.shape, self.negative).masked_fill(tokens.advantages > 0, self.positive)
        loss = -tokens.advantages * 4 / tau * (tau * (tokens.log_ratio.exp() - 1)).sigmoid()
        return TokenLoss(loss, _nowhere(tokens.logp))


@dataclass(frozen=True)
class GMPO(Surrogate):
    """-(mean A) x geometric mean of the sequence's clipped ratios, which each of its tokens gets (arXiv 2507.20673).

    A mean over sequences is the aggregation seq-mean-token-mean; the paper's clip is 0.4.
    """

    whole_sequences: ClassVar[bool] = True

    def __call__(self, tokens: Tokens) -> TokenLoss:
        log_ratio, advantages = tokens.log_ratio, tokens.advantages
        # As in PPO, a ratio is bounded only on the side that its advantage pushes it to.
        bounded = log_ratio.clamp(max=self.clip.high).where(advantages > 0, log_ratio.clamp(min=-self.clip.low))
        bounded = bounded.masked_fill(advantages == 0, 0.0)
        loss = -_sequence_mean(advantages, tokens.sequence) * _sequence_mean(bounded, tokens.sequence).exp()
        return TokenLoss(loss, (bounded != log_ratio) & (advantages != 0))


def _clipped(log_ratio: Tensor, advantages: Tensor, low: float | Tensor, high: float | Tensor, dual: float | None) -> TokenLoss:
    """PPO's clipped surrogate, with bounds for all tokens or for each [T]; `dual` bounds it where the advantage is negative, as
    a multiple of the advantage."""
    ratio = log_ratio.exp()
    plain = -advantages * ratio
    inside = -advantages * ratio.clamp(1 - low, 1 + high)  # type: ignore[arg-type] # two numbers, or two tensors
    loss, clipped = plain.maximum(inside), inside > plain
    if dual is not None:
        loss = loss.minimum(-advantages * dual).where(advantages < 0, loss)
    return TokenLoss(loss, clipped)


def _of_sequence(tokens: Tokens, whole: Tensor) -> Tensor:
    """[T] the log-ratio `whole` [T] of each token's sequence, with the gradient of the token's own (GSPO-token, Eq. 14)."""
    return (tokens.logp - tokens.logp.detach() + whole).clamp(max=10.0)


def _nowhere(like: Tensor) -> Tensor:
    """[T] False."""
    return like.detach() != like.detach()


def sequence_sums(values: Tensor, sequence: Tensor) -> tuple[Tensor, Tensor]:
    """Sums of `values` [T] by sequence [B], and each token's place among them [T]. sequence: [T] any integers."""
    unique, number = sequence.unique(return_inverse=True)
    return values.new_zeros(len(unique)).index_add_(0, number, values), number


def _sequence_mean(values: Tensor, sequence: Tensor) -> Tensor:
    """[T] mean over the token's sequence."""
    total, number = sequence_sums(values, sequence)
    return (total / number.bincount())[number]


_registry: Registry[type[Surrogate]] = Registry("loss", "stepcredit.losses", lazy=True, base=Surrogate)
register, names, get, build = _registry.register, _registry.names, _registry.get, _registry.build
register("ppo", "algorithms.surrogates:PPO")
register("hapo", "algorithms.surrogates:HAPO")
register("sequence_ppo", "algorithms.surrogates:SequencePPO")
register("gspo", "algorithms.surrogates:GSPO")
register("cispo", "algorithms.surrogates:CISPO")
register("gpg", "algorithms.surrogates:GPG")
register("sapo", "algorithms.surrogates:SAPO")
register("gmpo", "algorithms.surrogates:GMPO")

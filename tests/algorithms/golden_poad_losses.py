"""The losses of POAD's trainers: token losses of POAD and NTPO, action losses of TWOSOME (poad_losses.json)."""

from __future__ import annotations

import torch
from torch import Tensor

from algorithms import losses
from algorithms.surrogates import PPO, Clip, Tokens
from tests.algorithms.golden_rows import Case, Padded, close


def poad_losses(case: Case, tolerance: float) -> None:
    given, expected = case["inputs"], case["outputs"]
    width = len(given["old_log_prob"][0])
    lengths = torch.tensor(given.get("token_lengths", [width] * len(given["old_log_prob"])))
    mask = given.get("response_mask", (torch.arange(width) < lengths[:, None]).long().tolist())
    tokens = Padded({**given, "response_mask": mask})

    # The trainer normalizes the padded table; what is padding and exactly 0 must not matter for the real tokens.
    raw = torch.tensor(given["advantages_raw"], dtype=torch.float64)
    whole = losses.normalize(raw.flatten(), torch.ones(raw.numel(), dtype=torch.bool)).view_as(raw)
    if not bool(raw[~tokens.mask].any()):
        real = losses.normalize(raw.flatten(), tokens.mask.flatten()).view_as(raw)
        close(real[tokens.mask], whole[tokens.mask], tolerance)
        assert not real[~tokens.mask].any()

    tokens.given["advantages"] = whole.tolist()
    first = Padded({**given, "advantages": given["advantages_raw"], "response_mask": [[1] + [0] * (width - 1)] * len(mask)})
    found = {
        "advantages_normalised": whole,
        "token_policy_loss": policy(tokens),
        "token_value_loss": value(tokens),
        "approx_kl": losses.kl(tokens.flat("old_log_prob"), tokens.flat("new_log_prob"), "k3").mean(),
        "mean_entropy": tokens.flat("entropy").mean(),
        "action_policy_loss_first_column": policy(first),
        "action_value_loss_first_column": value(first),
    }
    for name, figure in expected.items():
        close(found[name], figure, tolerance)


def policy(tokens: Padded) -> Tensor:
    """Clipped surrogate less the entropy bonus, mean over the tokens."""
    clip = tokens.given["clip_param"]
    old, new, advantages = (tokens.flat(name) for name in ("old_log_prob", "new_log_prob", "advantages"))
    result = PPO(Clip(clip, clip, None))(Tokens(new, old, advantages, tokens.sequence))
    per_token = result.loss - tokens.given["entropy_coef"] * tokens.flat("entropy")
    return (losses.token_weights(tokens.sequence, "token-mean") * per_token).sum()


def value(tokens: Padded) -> Tensor:
    """Clipped value loss with its coefficient, mean over the tokens."""
    given = tokens.given
    new, old, returns = (tokens.flat(name) for name in ("values_new", "values_old", "returns"))
    return given["value_loss_coef"] * losses.value_loss(new, old, returns, given["clip_param"]).mean()

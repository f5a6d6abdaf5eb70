"""MA-RLHF's macro actions (marlhf_macro_actions.json): one response a case."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from algorithms.base import Scored
from algorithms.macro import MacroPPO, summed, weights
from algorithms.surrogates import PPO, Clip, Tokens
from envs.trajectory import Step
from tests.algorithms.examples import official
from tests.algorithms.golden_rows import Case, Rows, close


class Paid(MacroPPO):
    """With a reward at each token, as a trainer has that pays a KL penalty there."""

    paid: np.ndarray

    def at_tokens(self, batch: Scored) -> np.ndarray:
        return self.paid


def marlhf_macro_actions(case: Case, tolerance: float) -> None:
    given, expected = case["inputs"], case["outputs"]
    start, (values,), (paid,) = given["start"], given["values"], given["token_rewards"]
    values, paid = np.array(values[start:]), np.array(paid[start:])
    batch = Rows(["task"], ["row"], [Step("", "", response_ids=[0] * len(values))]).batch
    batch.values = values
    settings: dict[str, Any] = {"gamma": given["gamma"], "lam": given["lam"], "value": given["value_function"]}
    if given["ppl"] is None:
        settings |= {"macro": "ngram", "n": given["ngram"]}
    else:
        settings |= {"macro": "perplexity"}
        batch.logprobs = -np.log(given["ppl"])
    method = Paid(**{**official("ma_ppo"), **settings})
    method.paid = paid
    size, _ = method.macros(method.score(batch))
    assert (start + np.cumsum(size) - size).tolist() == expected["boundaries"]
    assert size[-1] == 1
    found = method.advantages(batch)
    assert found.returns is not None
    full = np.repeat(np.arange(len(size)), size)  # an empty macro action has no token to show its figures
    for got, name in ((found.values, "advantages"), (found.returns, "returns")):
        close(got, np.array(expected[name][0])[full], tolerance)
    for each, name in ((values, "macro_values"), (paid, "macro_rewards")):
        close(summed(weights(size, given["value_function"]) * each, size), expected[name][0], tolerance)

    logp, old = (torch.tensor(given[name][0], dtype=torch.float64) for name in ("new_log_prob", "old_log_prob"))
    tokens = Tokens(logp, old, torch.from_numpy(found.values), torch.zeros(len(logp), dtype=torch.long))
    close(PPO(Clip(0.2, 0.2, None))(tokens).loss.mean(), expected["actor_loss"], tolerance)
    new = np.array(given["new_values"][0])
    near = np.clip(new, values - 0.2, values + 0.2)
    close(0.5 * np.maximum((new - found.returns) ** 2, (near - found.returns) ** 2).mean(), expected["critic_loss"], tolerance)

"""Every case of every golden file (tests/golden, or the folder in GOLDEN_DIR) against this library.

A file, case or recorded output that has no implementation yet is reported as skipped, by name; nothing is left out silently.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, get_args

import numpy as np
import pytest
import torch

from algorithms import losses, surrogates
from algorithms.gigpo import GiGPO
from algorithms.grouping import same_state, similar_text
from algorithms.shaping.invalid_action import InvalidAction
from algorithms.stats import discounted_returns
from algorithms.surrogates import PPO, Clip, Tokens
from envs.state_key import state_key
from envs.trajectory import Step
from tests.algorithms.examples import official, shape
from tests.algorithms.golden_branches import spo_chain, spo_tree, tree_grpo, vineppo
from tests.algorithms.golden_calm import calm_reward
from tests.algorithms.golden_correction import verl_rollout_correction
from tests.algorithms.golden_estimators import agent_group_estimators, hgpo_advantage, verl_advantages
from tests.algorithms.golden_graphs import g2po, graphgpo, proxmo, salt
from tests.algorithms.golden_hiper import hiper_hae
from tests.algorithms.golden_igpo import igpo
from tests.algorithms.golden_istar import istar_advantage, istar_prm_loss, istar_step_reward
from tests.algorithms.golden_macro import marlhf_macro_actions
from tests.algorithms.golden_pairs import aligndistil, cdpo, rto_token_rewards, t_reg, tgdpo
from tests.algorithms.golden_poad import poad_gae
from tests.algorithms.golden_poad_losses import poad_losses
from tests.algorithms.golden_rewards import brpo_budget_relative, capo_critique, lare, pure_min_form
from tests.algorithms.golden_rows import FOLDER, NORMS, Case, Check, Padded, Rows, canonical, close, per_token
from tests.algorithms.golden_signals import empg, hcapo, maxrl, tempo
from tests.algorithms.golden_spa import spa_rl
from tests.algorithms.golden_transforms import attention_credit, d3s, hapo_heterogeneous, hicra, tw_grpo
from tests.algorithms.golden_turns import ragen_bi_level_gae, steppo

# -- GiGPO and GRPO ---------------------------------------------------------------------------------------------------------


def gigpo_step_returns(case: Case, tolerance: float) -> None:
    given = case["inputs"]
    steps = [Step("", "", reward, state_key="-") for reward in given["rewards"]]
    rows = Rows(["g"] * len(steps), given["traj_uid"], steps)
    found = discounted_returns(rows.batch, rows.batch.reward, given["gamma"])
    close(found[rows.place], case["outputs"]["returns"], tolerance)


def gigpo_step_groups(case: Case, tolerance: float) -> None:
    given = case["inputs"]
    # JSON has lists for arrays too; only of arrays the shape does not count.
    states = [np.asarray(one) if "array" in case["name"] else one for one in given["anchor_obs"]]
    steps = [Step(str(state), "", state_key=state_key([state])) for state in states]
    batch = Rows(given["index"], [str(row) for row in range(len(steps))], steps).batch
    groups = similar_text(batch, given["similarity_thresh"]) if given["enable_similarity"] else same_state(batch)
    assert canonical(groups.tolist()) == case["outputs"]["labels"]


def gigpo_advantage(case: Case, tolerance: float) -> None:
    given, expected = case["inputs"], case["outputs"]
    lengths = given["response_lengths"]
    steps = [
        Step("", "", reward, valid=bool(valid), state_key=key, response_ids=[0] * length)
        for reward, valid, key, length in zip(given["rewards"], given["is_action_valid"], given["anchor_obs"], lengths)
    ]
    rows = Rows(given["index"], given["traj_uid"], steps)
    settings = {"gamma": given["gamma"], "omega": given["step_advantage_w"], "normalize": NORMS[given["mode"]]}
    settings["epsilon"] = given["epsilon"]

    paper = GiGPO(**{**official("gigpo"), **settings, "episode_stats": "trajectories", "shaped_at": {}})
    close(paper.advantages(rows.batch).parts["episode"][rows.place], expected["paper_eq3_episode_adv_no_penalty"], tolerance)

    shape(InvalidAction(given["invalid_action_penalty_coef"]), rows.trajectories, "invalid_action")
    trainer = GiGPO(**{**official("gigpo"), **settings})
    batch = rows.batch
    scored = trainer.score(batch)
    for name, value in (
        ("step_returns_before_penalty", discounted_returns(batch, batch.reward, given["gamma"])),
        ("step_rewards_after_penalty", scored.returns(given["gamma"])),
        ("episode_score_row", scored.scores()),
    ):
        if name in expected:
            close(value[rows.place], expected[name], tolerance)
    found = trainer.advantages(rows.batch)
    for part, name in (("episode", "episode_adv"), ("step", "step_adv")):
        close(found.parts[part][rows.place], expected[name], tolerance)
    close(found.values[rows.place], expected["row_adv"], tolerance)
    close(per_token(trainer, rows, lengths, given["response_length_padded"]), expected["advantages"], tolerance)
    assert canonical(trainer.step_groups(rows.batch)[rows.place].tolist()) == expected["step_group_labels"]
    if "episode_adv_per_traj_stats" in expected:
        once = GiGPO(**{**official("gigpo"), **settings, "episode_stats": "trajectories"})
        close(once.advantages(rows.batch).parts["episode"][rows.place], expected["episode_adv_per_traj_stats"], tolerance)


# -- losses -----------------------------------------------------------------------------------------------------------------


def verl_policy_losses(case: Case, tolerance: float) -> None:
    kind = case["name"].split("|")[0]
    if kind == "kl_penalty":
        kl_penalty(case, tolerance)
        return
    if kind in SURROGATES:
        surrogate(case, tolerance)
        return
    if kind not in ("vanilla", "vanilla_with_rollout_is_weights"):
        pytest.skip(f"no implementation yet for the loss of {case['name']}")
    given, expected, tokens = case["inputs"], case["outputs"], Padded(case["inputs"])
    outputs = expected if kind == "vanilla" else {given["loss_agg_mode"]: expected}
    for mode, output in outputs.items():
        logp = tokens.flat("log_prob").requires_grad_()
        low, high = (given.get(name, given.get("clip")) for name in ("clip_low", "clip_high"))
        old, advantages, dual = tokens.flat("old_log_prob"), tokens.flat("advantages"), given.get("clip_ratio_c", 3.0)
        result = PPO(Clip(low, high, dual))(Tokens(logp, old, advantages, tokens.sequence))
        # The official norm of seq-mean-token-sum-norm is the padded length; a plain sum is no choice here.
        norm = tokens.mask.shape[1]
        weights = torch.ones(()) if mode == "token-sum" else losses.token_weights(tokens.sequence, mode, norm_length=norm)
        correction_of_rollout = tokens.flat("rollout_is_weights") if "rollout_is_weights" in given else 1.0
        loss = (weights * correction_of_rollout * result.loss).sum()
        (gradient,) = torch.autograd.grad(loss, logp)
        close(loss.item(), output["loss"], tolerance)
        close(tokens.table(gradient), output["grad"], tolerance)
        if "metrics" in output:
            close(result.clipped.double().mean(), output["metrics"]["actor/pg_clipfrac"], tolerance)
            bounded = (advantages < 0) & ((logp - old).exp() > dual)
            close(bounded.double().mean(), output["metrics"]["actor/pg_clipfrac_lower"], tolerance)
            close((old - logp).mean().item(), output["metrics"]["actor/ppo_kl"], tolerance)


SURROGATES: dict[str, tuple[str, surrogates.Aggregation]] = {
    "gspo": ("gspo", "seq-mean-token-mean"),
    "gpg": ("gpg", "token-mean"),
    "sapo": ("sapo", "seq-mean-token-mean"),
    "cispo": ("cispo", "token-mean"),
    "geo_mean_gmpo": ("gmpo", "seq-mean-token-mean"),
}
"""Losses that the configuration names, with the official aggregation."""


def surrogate(case: Case, tolerance: float) -> None:
    given, expected, tokens = case["inputs"], case["outputs"], Padded(case["inputs"])
    name, mode = SURROGATES[case["name"].split("|")[0]]
    own = {"positive": given["tau_pos"], "negative": given["tau_neg"]} if "tau_pos" in given else {}
    logp = tokens.flat("log_prob").requires_grad_()
    old = tokens.flat("old_log_prob") if "old_log_prob" in given else torch.full_like(logp, -1.0)
    clip = Clip(given.get("clip_low", 0.2), given.get("clip_high", 0.2))
    loss_of = surrogates.build(name, {"clip": clip, **own})
    result = loss_of(Tokens(logp, old, tokens.flat("advantages"), tokens.sequence))
    loss = (losses.token_weights(tokens.sequence, mode) * result.loss).sum()
    (gradient,) = torch.autograd.grad(loss, logp)
    close(loss.item(), expected["loss"], tolerance)
    close(tokens.table(gradient), expected["grad"], tolerance)
    if "metrics" in expected:
        close(result.clipped.double().mean(), expected["metrics"]["actor/pg_clipfrac"], tolerance)
        assert not expected["metrics"]["actor/pg_clipfrac_lower"]
        close((old - logp).mean().item(), expected["metrics"]["actor/ppo_kl"], tolerance)


def kl_penalty(case: Case, tolerance: float) -> None:
    tokens = Padded(case["inputs"])
    outputs, known = case["outputs"], get_args(surrogates.Estimator)
    for estimator, output in ((name, outputs[name]) for name in known):
        logp = tokens.flat("logprob").requires_grad_()
        value = losses.kl(logp, tokens.flat("ref_logprob"), estimator)
        (gradient,) = torch.autograd.grad(value.sum(), logp)
        close(tokens.table(value), np.where(tokens.mask, output["value"], 0.0), tolerance)
        close(tokens.table(gradient), output["grad_of_masked_sum"], tolerance)
    pytest.skip(f"agrees in {', '.join(known)}; {', '.join(sorted(set(outputs) - set(known)))} have no implementation")


# -- all files --------------------------------------------------------------------------------------------------------------

CHECKS: dict[str, Check] = {
    "poad_losses": poad_losses,
    "aligndistil": aligndistil,
    "cdpo": cdpo,
    "rto_token_rewards": rto_token_rewards,
    "t_reg": t_reg,
    "tgdpo": tgdpo,
    "calm_reward": calm_reward,
    "gigpo_step_returns": gigpo_step_returns,
    "gigpo_step_groups": gigpo_step_groups,
    "gigpo_advantage": gigpo_advantage,
    "hgpo_advantage": hgpo_advantage,
    "graphgpo": graphgpo,
    "g2po": g2po,
    "proxmo": proxmo,
    "salt": salt,
    "hiper_hae": hiper_hae,
    "igpo": igpo,
    "istar_advantage": istar_advantage,
    "istar_prm_loss": istar_prm_loss,
    "istar_step_reward": istar_step_reward,
    "spa_rl": spa_rl,
    "spo_chain": spo_chain,
    "spo_tree": spo_tree,
    "tree_grpo": tree_grpo,
    "verl_agent_group_estimators": agent_group_estimators,
    "poad_gae": poad_gae,
    "verl_advantages": verl_advantages,
    "verl_policy_losses": verl_policy_losses,
    "verl_rollout_correction": verl_rollout_correction,
    "empg": empg,
    "attention_credit": attention_credit,
    "d3s": d3s,
    "hapo_heterogeneous": hapo_heterogeneous,
    "hicra": hicra,
    "tw_grpo": tw_grpo,
    "marlhf_macro_actions": marlhf_macro_actions,
    "hcapo": hcapo,
    "maxrl": maxrl,
    "ragen_bi_level_gae": ragen_bi_level_gae,
    "steppo": steppo,
    "tempo": tempo,
    "vineppo": vineppo,
    "brpo_budget_relative": brpo_budget_relative,
    "capo_critique": capo_critique,
    "lare": lare,
    "pure_min_form": pure_min_form,
}


BY_OUTPUT = ("verl_agent_group_estimators", "verl_advantages")
"""Files whose outputs are those of several methods: each output is a case of its own."""


def cases() -> Iterator[Any]:
    for path in sorted(FOLDER.glob("*.json")):
        content = json.loads(path.read_text())
        for case in content["cases"]:
            case = {**case, "inputs": numbers(case["inputs"]), "outputs": numbers(case["outputs"])}
            parts = [{name: value} for name, value in case["outputs"].items()] if path.stem in BY_OUTPUT else [case["outputs"]]
            for outputs in parts:
                name = "|".join([f"{path.stem}:{case['name']}", *(outputs if path.stem in BY_OUTPUT else [])])
                yield pytest.param(path.stem, {**case, "outputs": outputs}, content["abs_tolerance"], id=name)


def numbers(value: Any) -> Any:
    """Numbers that JSON lacks are written as text."""
    if isinstance(value, str) and value.lower() in ("nan", "inf", "-inf"):
        return float(value)
    if isinstance(value, list):
        return [numbers(one) for one in value]
    return {key: numbers(one) for key, one in value.items()} if isinstance(value, dict) else value


@pytest.mark.parametrize(("file", "case", "tolerance"), cases())
def test_the_library_agrees_with_the_recorded_figures(file: str, case: Case, tolerance: float) -> None:
    if file not in CHECKS:
        pytest.skip(f"{file}.json has no implementation yet")
    CHECKS[file](case, tolerance)


def moved(value: Any) -> Any:
    """An output with its first number moved."""
    if isinstance(value, list):
        return [moved(value[0]), *value[1:]]
    return value + 1 if isinstance(value, int) else value * 1.01 + 0.01


@pytest.mark.parametrize("file", ["attention_credit", "d3s", "hapo_heterogeneous", "hicra", "marlhf_macro_actions", "tw_grpo"])
def test_a_moved_figure_is_noticed(file: str) -> None:
    content = json.loads((FOLDER / f"{file}.json").read_text())
    case = content["cases"][0]
    for name, value in case["outputs"].items():
        wrong = {**case, "outputs": {**case["outputs"], name: moved(value)}}
        with pytest.raises(AssertionError):
            CHECKS[file](wrong, content["abs_tolerance"])


def test_there_are_golden_files() -> None:
    assert list(FOLDER.glob("*.json")), f"no golden files in {FOLDER}"

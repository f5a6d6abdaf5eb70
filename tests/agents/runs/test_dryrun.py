"""The dry run's arithmetic, against published sizes and real models."""

import pytest

from agents.config import loading
from agents.runs.dryrun import KNOWN, estimate
from envs.common.structured import ConfigError


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("smollm2", 134.5),
        ("Qwen/Qwen2.5-0.5B-Instruct", 494.0),
        ("Qwen/Qwen2.5-1.5B-Instruct", 1543.7),
        ("Qwen/Qwen2.5-3B-Instruct", 3085.9),
        ("Qwen/Qwen2.5-7B-Instruct", 7615.6),
    ],
)
def test_parameters_are_those_the_models_publish(name: str, millions: float) -> None:
    cost = estimate(loading.load(["model=hub", f"model.name={name}", "model.dtype=bfloat16"]))
    assert cost.parameters / 1e6 == pytest.approx(millions, abs=0.1)
    assert cost.memory["weights"] == 2 * cost.parameters
    assert name in KNOWN


def test_adapters_train_few_parameters_and_need_no_second_model() -> None:
    base = ["model=smollm2", "model.dtype=float32", "loss.kl.kind=k3", "loss.kl.coefficient=0.01"]
    whole, adapter = estimate(loading.load(base)), estimate(loading.load([*base, "model.lora.enabled=true", "model.lora.r=8"]))
    # q, o: 576 -> 576; k, v: 576 -> 192; rank 8, 30 layers.
    assert adapter.trainable == 8 * 30 * (2 * (576 + 576) + 2 * (576 + 192))
    assert whole.trainable == whole.parameters
    assert whole.memory["frozen copy of the policy"] == whole.memory["weights"]
    assert "frozen copy of the policy" not in adapter.memory


def test_overlap_needs_copies_of_what_is_trained() -> None:
    base = ["model=smollm2", "model.dtype=float32", "rollout.overlap=1"]
    whole, adapter = (estimate(loading.load([*base, f"model.lora.enabled={on}"])) for on in ("false", "true"))
    assert whole.memory["weights that are sampled from"] == 2 * whole.memory["weights"]
    assert adapter.memory["weights that are sampled from"] == 2 * 4 * adapter.trainable


def test_the_weights_laid_out_for_decoding_are_counted_on_a_processor() -> None:
    whole = estimate(loading.load(["env=alfworld", "device=cpu"]))
    assert whole.memory["weights as decoding reads them, at most"] == whole.memory["weights"]
    other = estimate(loading.load(["env=alfworld", "device=cpu", "engine=vllm"]))
    assert "weights as decoding reads them, at most" not in other.memory


def test_a_critic_shares_the_base_of_adapters_and_needs_a_copy_of_a_model_trained_whole() -> None:
    base = ["model=smollm2", "model.dtype=float32", "algo=poad", "critic.hidden=[10]"]
    head = 16 * (576 * 10 + 10)
    assert estimate(loading.load([*base, "model.lora.enabled=true"])).memory["critic"] == head
    whole = estimate(loading.load(base))
    assert whole.memory["critic"] == head
    assert whole.memory["frozen copy of the policy"] == whole.memory["weights"]
    assert "critic" not in estimate(loading.load(["model=smollm2", "algo=grpo"])).memory


def test_an_estimator_of_progress_needs_a_frozen_model_a_copy_or_nothing() -> None:
    base = ["model=smollm2", "model.dtype=float32", "algo=gigpo", "shaping=progress"]
    memory = {option: estimate(loading.load([*base, option])).memory for option in ("seed=0", "shaping.progress.trains=all")}
    nothing = estimate(loading.load([*base, "shaping.progress.source=others"])).memory
    frozen, copied = memory.values()
    assert frozen["frozen copy of the policy"] == frozen["weights"]
    assert copied["reward model of progress"] == 4 * copied["weights"]
    assert "frozen copy of the policy" not in copied
    assert not {"frozen copy of the policy", "reward model of progress"} & set(nothing)


def test_counts_follow_groups_minibatches_and_epochs() -> None:
    cost = estimate(loading.load(["rollout.groups=4", "rollout.group_size=6", "optim.minibatch_episodes=8", "optim.epochs=2"]))
    assert (cost.episodes, cost.updates) == (24, 6)


@pytest.mark.parametrize(
    ("settings", "branches", "learned"),
    [
        (["algo=vineppo", "algo.continuations=3"], 6 * 20 * 3, 6),
        (["algo=vineppo", "algo.continuations=3", "algo.max_states=5"], 6 * 5 * 3, 6),
        (["algo=spo_chain", "algo.continuations=2", "algo.interval=10", "engine.max_tokens=12"], 6 * 24 * 2, 6),
        (["algo=tree_grpo", "rollout.group_size=3", "algo.expansions=2"], 6 * 4, 30),
        (["algo=spo_tree", "rollout.group_size=3", "algo.branching=[2,3]"], 6 * 5, 36),
    ],
)
def test_branches_are_counted_at_their_most(settings: list[str], branches: int, learned: int) -> None:
    sizes = ["rollout.groups=2", "rollout.group_size=3", "env.max_steps=20", "optim.minibatch_episodes=1"]
    cost, without = (estimate(loading.load([*sizes, *more])) for more in (settings, ["algo=grpo"]))
    assert (cost.episodes, cost.branches, cost.updates) == (6, branches, learned)
    assert without.branches == 0
    assert cost.response_tokens is not None
    assert without.response_tokens is not None
    assert cost.response_tokens == without.response_tokens // 6 * (6 + branches)


def test_a_model_nobody_knows_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(ConfigError, match=r"model\.name=\./no/such/folder is neither.*Qwen2\.5"):
        estimate(loading.load(["model=hub", "model.name=./no/such/folder"]))

"""The project's twelve invariants and the tests that hold them; a renamed or deleted test is noticed here."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent

INVARIANTS = {
    "1 tokens in, tokens out": [
        "agents/rollout/test_sampler.py::test_what_is_trained_on_is_what_was_sampled",
        "agents/training/test_packing.py::test_tokens_in_tokens_out_every_sampled_token_is_a_target_exactly_once",
    ],
    "2 every sampled token has exactly one advantage, environment tokens none": [
        "algorithms/test_properties.py::test_every_sampled_token_has_exactly_one_advantage",
        "agents/training/test_packing.py::test_tokens_in_tokens_out_every_sampled_token_is_a_target_exactly_once",
    ],
    "3 an episode's weight does not depend on its rows": [
        "algorithms/test_losses.py::test_an_episodes_weight_does_not_depend_on_how_its_steps_are_split_into_rows",
        "agents/training/test_actor.py::test_micro_batches_never_change_a_gradient",  # a row a step
    ],
    "4 copies and padding never enter statistics or results": [
        "algorithms/test_advantages.py::test_copied_episodes_and_rows_cannot_enter_statistics",
        "agents/training/test_passes.py::test_padding_never_changes_a_logprob",
        "agents/training/test_actor.py::test_micro_batches_never_change_a_gradient",
    ],
    "5 a cut-off episode is never a success and is reported apart": [
        "envs/test_pool_faults.py::test_timeout_is_never_a_success",
        "envs/test_pool_faults.py::test_crash_is_reported_apart_from_failure",
        "envs/test_base.py::test_a_time_limit_is_truncated_never_terminated_never_a_success",
        "agents/rollout/test_sampler.py::test_a_fault_is_retried_alone_then_reported_apart_and_never_a_success",
        "algorithms/test_advantages.py::test_a_failed_episode_is_never_a_success",
        "agents/rollout/test_out_of_context.py::test_with_less_context_a_fixed_policy_wins_no_more_and_every_episode_counts",
    ],
    "6 same seed, same split, same behavior": [
        "envs/test_pool.py::test_same_seed_same_behavior_with_any_number_of_workers",
        "envs/alfworld/test_tasks.py::test_splits_mean_the_games_they_always_meant",
        "envs/sokoban/test_tasks.py::test_splits_mean_the_levels_they_always_meant",
        "envs/minihack/test_env.py::test_splits_mean_the_levels_they_always_meant",
        "envs/minihack/test_env.py::test_equal_seeds_give_equal_episodes_in_one_process_in_16_threads_and_in_4_processes",
        "agents/test_training.py::test_the_same_command_gives_the_same_run",
    ],
    "7 no generation for finished episodes, no waiting for stragglers": [
        "agents/rollout/test_engine.py::test_no_generation_is_spent_on_a_finished_episode",
        "agents/rollout/test_engine.py::test_a_long_answer_does_not_hold_the_others_back",
    ],
    "8 what failed is retried or dropped alone": [
        "agents/rollout/test_sampler.py::test_a_fault_is_retried_alone_then_reported_apart_and_never_a_success",
        "agents/rollout/test_sampler.py::test_a_retry_plays_the_same_episode_again",
        "envs/test_pool_faults.py::test_hung_worker_is_replaced_and_others_go_on",
        "agents/rollout/test_sampler.py::test_a_request_that_the_engine_cannot_answer_costs_its_episode_alone",
        "agents/rollout/test_branching.py::test_a_fault_in_a_continuation_stays_alone_and_is_never_a_success",
    ],
    "9 shaping never overwrites the environment's reward": [
        "algorithms/test_advantages.py::test_shaping_never_changes_the_environments_reward",
    ],
    "10 the mismatch of engine and learner is measured and can be corrected": [
        "agents/training/test_actor.py::test_a_changed_sampler_shows_up_as_mismatch",
        "agents/training/test_actor.py::test_a_correction_weighs_tokens_by_the_trainers_over_the_samplers_probability",
        "agents/training/test_learner.py::test_the_age_of_every_token_is_measured",
        "agents/training/test_overlap.py::test_every_token_is_told_by_the_version_that_sampled_it",
        "agents/rollout/test_stream.py::test_no_sample_is_older_than_allowed_whatever_ends_when",
    ],
    "11 ranks, micro-batches and engines do not change an update": [
        "agents/training/test_actor.py::test_micro_batches_never_change_a_gradient",
        "agents/training/test_actor.py::test_no_surrogate_depends_on_micro_batches",
        "agents/training/test_passes.py::test_a_prefix_tree_has_the_loss_and_the_gradient_of_plain_rows",
        "agents/training/test_learner.py::test_the_credit_of_an_experience_does_not_depend_on_the_order_of_its_episodes",
        "agents/rollout/test_engine.py::test_sampling_does_not_depend_on_what_else_is_in_the_batch",
        "agents/training/test_weights.py::test_any_number_of_engines_is_served_each_in_its_own_way",
    ],
    "12 a finished episode is on disk before anything is learnt from it": [
        "agents/training/test_trainer.py::test_episodes_are_on_disk_before_anything_is_learnt_from_them",
        "agents/training/test_trainer.py::test_branches_are_on_disk_before_anything_is_learnt_from_them",
        "agents/training/test_trainer.py::test_a_disk_that_is_full_at_the_episodes_stops_the_run_and_a_resume_goes_on",
    ],
}


def test_all_invariants_of_the_design_are_here() -> None:
    assert [int(invariant.split()[0]) for invariant in INVARIANTS] == list(range(1, 13))


@pytest.mark.parametrize("invariant", INVARIANTS)
def test_every_invariant_has_its_tests(invariant: str) -> None:
    for name in INVARIANTS[invariant]:
        file, _, test = name.partition("::")
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        assert test in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, name

"""TRL's GRPOTrainer, through its own environment interface."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from loops.clock import CLOCK
from loops.work import ANSWER, BUDGET, EPISODES, GROUP_SIZE, GROUPS, longest, observation, opening


class Environment:
    """The same environment as TRL takes it: what answers a tool call."""

    def __init__(self) -> None:
        self.task, self.turn = 0, 0

    def reset(self, task: int, **row: Any) -> None:
        CLOCK.reset()
        self.task, self.turn = task, 0

    def act(self, text: str) -> str:
        """Take an action.

        Args:
            text: The action.
        """
        self.turn += 1
        return observation(self.task, self.turn)


def run(folder: Path, turns: int) -> None:
    """TRL's GRPOTrainer, until the clock ends the process."""
    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer

    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32, attn_implementation="sdpa")
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    tokenizer.response_template = {"role": "assistant"}  # says that answers are parsed; how, is said here
    tokenizer.parse_response = lambda ids, **_: {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"type": "function", "function": {"name": "act", "arguments": {"text": tokenizer.decode(ids)}}}],
    }
    computed = {"rollout": 0, "update": 0}
    distinct: list[int] = []

    def count(module: Any, args: Any, inputs: Any) -> None:
        computed["update" if torch.is_grad_enabled() else "rollout"] += inputs["input_ids"].numel()

    model.register_forward_pre_hook(count, with_kwargs=True)

    def reward(prompts: Any, completion_ids: Any, **rest: Any) -> list[float]:
        CLOCK.answered()
        read = tokenizer.apply_chat_template(prompts, add_generation_prompt=True, return_dict=True).input_ids
        distinct.append(sum(map(len, read)) + sum(map(len, completion_ids)))
        return [float(place % 2) for place in range(len(prompts))]

    whole = longest(folder / "model", turns)
    rows = next(n for n in (16, 8, 4, 2, 1) if n == 1 or n * whole <= BUDGET)
    CLOCK.ended = lambda: {
        "tokens": distinct[-1],
        "rollout_tokens": computed["rollout"] / CLOCK.cycles,
        "update_tokens": computed["update"] / CLOCK.cycles,
    }
    settings = GRPOConfig(
        output_dir=str(folder / f"trl-{turns}"),
        use_cpu=True,
        bf16=False,
        seed=0,
        max_steps=CLOCK.cycles + 1,
        num_generations=GROUP_SIZE,
        per_device_train_batch_size=rows,
        gradient_accumulation_steps=EPISODES // rows,
        max_completion_length=whole,
        max_tool_calling_iterations=turns - 1,
        generation_kwargs={"min_new_tokens": ANSWER, "max_new_tokens": ANSWER},
        temperature=1.0,
        learning_rate=1e-6,
        beta=0.0,
        loss_type="dapo",
        gradient_checkpointing=False,
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
    )
    rows_of = [{"prompt": [{"role": "user", "content": opening(task)}], "task": task} for task in range(GROUPS)]
    GRPOTrainer(
        model=model,
        args=settings,
        reward_funcs=reward,
        train_dataset=Dataset.from_list(rows_of),
        processing_class=tokenizer,
        environment_factory=Environment,
    ).train()

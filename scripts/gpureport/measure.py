"""The lines of the report, each measured in a process of its own. Figures are noted as they come: a line that is stopped keeps
what it has so far."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import platform
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from statistics import median
from typing import Any
from xml.etree import ElementTree

from gpureport import arithmetic

ROOT = Path(__file__).resolve().parents[2]
RECIPE, SHAPE = "gigpo_alfworld_qwen2.5_1.5b", "Qwen/Qwen2.5-1.5B-Instruct"
TOKENIZER = "tokenizer.txt"
"""File that says where the recipe's tokenizer comes from."""
WON = 0.8
"""Success that the demo is to reach."""
Note = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Setup:
    """Where and how a line is measured."""

    device: str
    work: Path
    """Folder for models and runs, which all lines share."""
    settings: Sequence[str] = ()
    """Further settings of the recipe."""

    @property
    def small(self) -> bool:
        """Without a card the lines are only rehearsed."""
        return self.device == "cpu"


def machine(setup: Setup, note: Note) -> None:
    """Card, versions, and what a large product of matrices and a copy reach on it."""
    import torch
    import transformers

    found: dict[str, Any] = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "cores": os.cpu_count(),
        "device": platform.processor() or platform.machine(),
    }
    if setup.device == "cuda":
        if not torch.cuda.is_available():
            raise SystemExit("torch sees no CUDA device; --device cpu rehearses the report")
        facts = torch.cuda.get_device_properties(0)
        found |= {"device": facts.name, "memory_gib": facts.total_memory / 2**30, "cuda": torch.version.cuda}
    note(found)
    size, dtype = (256, torch.float32) if setup.small else (8192, torch.bfloat16)
    a, b = (torch.randn(size, size, device=setup.device, dtype=dtype) for _ in range(2))
    seconds = _timed(lambda: a @ b, setup.device)
    found["matmul_tflops"] = 2 * size**3 / seconds / 1e12
    seconds = _timed(lambda: a.copy_(b), setup.device)
    found["copy_gbs"] = 2 * a.nbytes / seconds / 1e9
    note(found)


def _timed(work: Callable[[], Any], device: str, repeats: int = 20) -> float:
    import torch

    for _ in range(3):
        work()
    if device == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(repeats):
        work()
    if device == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - started) / repeats


def tests(setup: Setup, note: Note) -> None:
    """tests/gpu; without a card they skip themselves, and only their collection is rehearsed."""
    report = setup.work / "tests.xml"
    command = [sys.executable, "-m", "pytest", "tests/gpu", "-q", "-p", "no:cacheprovider", f"--junitxml={report}"]
    if importlib.util.find_spec("xdist"):
        command += ["-n", "0" if setup.small else "6"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if not report.exists():
        raise SystemExit(f"pytest ended with code {done.returncode}: {(done.stdout + done.stderr).strip()[-400:]}")
    cases = ElementTree.parse(report).getroot().findall(".//testcase")
    failed = [case.get("name", "") for case in cases if case.find("failure") is not None or case.find("error") is not None]
    skipped = sum(case.find("skipped") is not None for case in cases)
    note({"passed": len(cases) - len(failed) - skipped, "failed": failed, "skipped": skipped, "said": done.stdout[-1500:]})


# -- training ------------------------------------------------------------------------------------------------------------------


def demo(setup: Setup, note: Note) -> None:
    """make demo on this device, until success on held-out games at temperature 1 is WON."""
    few = ["warmstart.steps=120", "warmstart.demonstrations=60", "env.train_games=12", "rollout.groups=2", "iterations=2"]
    settings = ["env=alfworld", "algo=gigpo", "evaluation.every=1", "evaluation.temperature=[1.0]", "checkpoint.keep=0"]
    settings += [*few, "evaluation.episodes=4"] if setup.small else []
    stop = threading.Event()

    def figures(rows: list[dict[str, Any]]) -> dict[str, Any]:
        curve = [
            {"iteration": row["iteration"], "seconds": row["time/wall"], "success": row["eval/success@1"]}
            for row in rows
            if "eval/success@1" in row
        ]
        reached = next((point["seconds"] for point in curve if point["success"] >= WON), None)
        if reached is not None:
            stop.set()
        return {"curve": curve, "seconds_to_80": reached, "success": WON}

    _train(setup, "demo", settings, lambda rows: note(figures(rows)), stop)


def smollm2(setup: Setup, note: Note) -> None:
    """SmolLM2-135M from its package on generated ALFWorld games, a few iterations."""
    size = ["rollout.groups=8", "rollout.group_size=8", "env.max_steps=15", "iterations=4", "engine.max_batch=64"]
    few = ["rollout.groups=1", "rollout.group_size=2", "env.max_steps=2", "iterations=1", "threads=1"]
    settings = ["env=alfworld", "algo=gigpo", "model=smollm2", "engine.constrained=admissible", "loss.skip_zero=false"]
    settings += [*QUIET, "optim.tokens_per_microbatch=16384", *(few if setup.small else size)]

    def figures(rows: list[dict[str, Any]]) -> dict[str, Any]:
        done = [row for row in rows if row["iteration"] > 0]
        late = done[1:] or done  # the first one warms up
        if not late:
            return {}
        names = {"rollout_s": "time/rollout", "update_s": "time/update", "sampled_per_s": "tokens_per_s"}
        return {
            "iterations": len(done),
            "episodes": 2 if setup.small else 64,
            "most_steps": 2 if setup.small else 15,
            **{name: median(row[key] for row in late) for name, key in names.items()},
            "success": [row["train/success"] for row in done],
            "mismatch_mean": max(row["update/mismatch_mean"] for row in done),
        }

    config, memory = _train(setup, "smollm2", settings, lambda rows: note(figures(rows)))
    note(_memory(config, memory))


QUIET = (
    *("evaluation.before=false", "evaluation.after=false", "evaluation.every=0", "checkpoint.keep=0"),
    "loss.mismatch_stop=null",  # the report says how large the difference is, and goes on
)


def window(setup: Setup, note: Note) -> None:
    """An iteration of the paper's recipe as it stands: the prompt is rebuilt at every step."""
    recipe(setup, "window", [], note)


def full(setup: Setup, note: Note) -> None:
    """The same with one growing conversation an episode, whose keys and values are kept."""
    recipe(setup, "full", ["model.max_length=16384", "engine.max_batch=64"], note)


def recipe(setup: Setup, context: str, settings: Sequence[str], note: Note) -> None:
    """An iteration at the recipe's real shape: random weights, answers of 100 tokens, 30 steps, 16 x 8 episodes."""
    official = bool(os.environ.get("ALFWORLD_DATA"))
    size = ["env.max_steps=30", "engine.max_tokens=100"]
    few = ["env.max_steps=3", "engine.max_tokens=6", "rollout.groups=2", "rollout.group_size=2", "threads=1"]
    few += ["model.dtype=float32", "optim.minibatch_episodes=2"]
    games = ["env.source=official"] if official else ["env.source=generated", "env.size=full"]
    chosen = [f"+experiment={RECIPE}", f"model.name={model_folder(setup)}", f"env.context={context}", *games, *settings]
    # Every answer is an impossible action of random tokens, so that all advantages are 0: their rows are computed all the same.
    chosen += [*(few if setup.small else size), "engine.ignore_end=true", "loss.skip_zero=false", "iterations=1"]
    chosen += [*QUIET, *setup.settings]
    run = setup.work / "runs" / context
    played = run / "trajectories" / "iteration_000001.jsonl.gz"

    def look(rows: list[dict[str, Any]]) -> None:
        if len(rows) == 1 and played.exists():  # all that is known if the update does not end in time
            note({"rollout_and_credit_s": played.stat().st_mtime - (run / "metrics.jsonl").stat().st_mtime})

    config, memory = _train(setup, context, chosen, look)
    tokenizer = (setup.work / TOKENIZER).read_text()
    note({"games": config.env.settings.source, "tokenizer": tokenizer, **_memory(config, memory)})
    note(spent(setup, config, context))


def spent(setup: Setup, config: Any, run: str) -> dict[str, Any]:
    """Where a run's iteration went: seconds, tokens, model FLOP, and the least that they could take on this card."""
    import torch
    from transformers import AutoConfig

    import stepcredit
    from agents.runs.dryrun import estimate
    from agents.runs.metrics import read_metrics

    row = read_metrics(setup.work / "runs" / run / "metrics.jsonl")[-1]
    shape = arithmetic.Shape.of(AutoConfig.from_pretrained(config.model.name), estimate(config).parameters)
    on = arithmetic.card(torch.cuda.get_device_name(0) if setup.device == "cuda" else "")
    episodes = list(stepcredit.read_trajectories(setup.work / "runs" / run))
    read = [[(len(step.prompt_ids), len(step.response_ids)) for step in one.steps] for one in episodes]
    lengths = (
        [sum(map(sum, steps)) for steps in read]
        if config.env.context == "full"
        else [sum(one) for steps in read for one in steps]
    )
    seen, sampled = arithmetic.mean_seen(lengths), row["tokens/sampled"]
    reference = config.loss.kl.kind != "none"
    flop = {
        "rollout": shape.forward(row["tokens/rollout"], sampled, seen),
        "update": shape.training(row["update/computed_tokens"], sampled, seen)
        + reference * shape.forward(row["update/computed_tokens"], sampled, seen),
    }
    again = config.model.gradient_checkpointing * shape.forward(row["update/computed_tokens"], 0, seen)
    steps = max(map(len, read)) * config.engine.max_tokens * -(-len(episodes) // config.engine.max_batch)
    weights = estimate(config).memory["weights"]
    reading = arithmetic.seconds_of_decoding(shape, weights, steps, sampled, seen, on)
    seconds = {
        "rollout": row["time/rollout"],
        "credit": row["time/credit"],
        "update": row["time/update"] - row["time/credit"],
    }
    least = {name: arithmetic.seconds_at_peak(amount, on) for name, amount in flop.items()}
    if reading is not None and least["rollout"] is not None:
        least["rollout"] += reading
    whole = sum(seconds.values())
    return {
        "episodes": len(episodes),
        "steps": row["train/steps"],
        "prompt_tokens": median(prompt for one in read for prompt, _ in one),
        "answer_tokens": config.engine.max_tokens,
        "seconds": {**seconds, "iteration": whole},
        "tokens": {
            "sampled": sampled,
            "rollout": row["tokens/rollout"],
            "update": row["update/computed_tokens"],
            "padded": row["update/padded_tokens"],
            "rebuilt": row["tokens/rebuild_update"],
        },
        "tokens_per_s": {
            "sampled": sampled / seconds["rollout"],
            "rollout": row["tokens/rollout"] / seconds["rollout"],
            "update": row["update/computed_tokens"] / seconds["update"],
        },
        "model_flop": flop,
        "flop_computed_again": again,
        "mfu": {
            **{name: arithmetic.utilization(amount, seconds[name], on) for name, amount in flop.items()},
            "iteration": arithmetic.utilization(sum(flop.values()), whole, on),
        },
        "least_seconds": least,
        "card": asdict(on),
        "parameters": shape.body + shape.hidden * shape.vocabulary,
        "mismatch_mean": row["update/mismatch_mean"],
    }


def _train(
    setup: Setup,
    name: str,
    settings: Sequence[str],
    look: Callable[[list[dict[str, Any]]], None],
    stop: threading.Event | None = None,
) -> tuple[Any, float]:
    """Train as the command does; `look` sees the metrics as they come. Returns the configuration and the peak of memory."""
    import torch

    from agents.config.loading import load
    from agents.runs.failures import Interrupted
    from agents.runs.metrics import read_metrics
    from agents.train import train

    config = load([*settings, f"device={setup.device}", f"out={setup.work / 'runs'}", f"run={name}", "tracker=console"])
    file, over = setup.work / "runs" / name / "metrics.jsonl", threading.Event()

    def watch() -> None:
        while not over.wait(1.0):
            if file.exists():
                look(read_metrics(file))

    watcher = threading.Thread(target=watch)
    if setup.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    watcher.start()
    try:
        train(config, stop)
    except Interrupted:
        pass  # it has reached what it is watched for
    finally:
        over.set()
        watcher.join()
    look(read_metrics(file))
    peak = (
        torch.cuda.max_memory_allocated()
        if setup.device == "cuda"
        else 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    )
    return config, float(peak)


def _memory(config: Any, peak: float) -> dict[str, Any]:
    from agents.runs.dryrun import estimate

    cost = estimate(config)
    return {"peak_bytes": peak, "estimated_bytes": cost.total, "estimated": cost.memory}


# -- models and decoding -------------------------------------------------------------------------------------------------------


def model_folder(setup: Setup) -> Path:
    """A folder with the recipe's architecture, random weights and a chat tokenizer; made once.

    SmolLM2's tokenizer where its package is there; else one made from the games' texts, which takes fewer tokens for them.
    """
    import torch
    from transformers import AutoModelForCausalLM, Qwen2Config

    from agents.runs.dryrun import KNOWN

    target = setup.work / "recipe-model"
    if (target / "model.safetensors").exists():
        return target
    tokenizer, source = _tokenizer()
    _, hidden, wide, layers, heads, kv_heads, vocabulary, tied = KNOWN[SHAPE]
    if setup.small:
        hidden, wide, layers, heads, kv_heads, vocabulary = 64, 128, 2, 4, 2, len(tokenizer)
    config = Qwen2Config(
        hidden_size=hidden,
        intermediate_size=wide,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        vocab_size=vocabulary,
        tie_word_embeddings=tied,
        max_position_embeddings=32768,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    with torch.device(setup.device):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32 if setup.small else torch.bfloat16)
    partial = target.with_name("recipe-model.partial")
    model.save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    (setup.work / TOKENIZER).write_text(source)
    partial.rename(target)
    return target


def _tokenizer() -> tuple[Any, str]:
    """And where it comes from."""
    from agents.config.sections import ModelConfig
    from agents.models.policy import PolicyError
    from agents.models.sources import load_pretrained

    try:
        return load_pretrained(ModelConfig("smollm2", dtype="float32"), "cpu").tokenizer, "SmolLM2's"
    except PolicyError:
        return _made_tokenizer(), "made from the games' texts"


def _made_tokenizer() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    import stepcredit

    env = stepcredit.make("alfworld", size="full", train_games=60)
    texts = []
    for task in env.unwrapped.tasks("train"):
        observation, info = env.reset(seed=0, options={"task": task})
        texts.append("\n".join([observation, *info["admissible_actions"]]))
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer, bpe.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=4096, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    bpe.train_from_iterator(texts, trainer)
    marks = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "additional_special_tokens": ["<|im_start|>"]}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, **marks)
    tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    return tokenizer


def decoding(setup: Setup, note: Note) -> None:
    """Tokens a second of decoding at the recipe's shape: prompts of 512 tokens, by batch size, with CUDA graphs and without."""
    import torch

    from agents.config import engines
    from agents.config.sections import EngineConfig, ModelConfig
    from agents.models.sources import load_pretrained

    batches, prompt, answer = ((1, 4), 16, 6) if setup.small else ((1, 8, 32, 128), 512, 128)
    model = ModelConfig(
        str(model_folder(setup)), dtype="float32" if setup.small else "bfloat16", max_length=prompt + answer + 8
    )
    policy = load_pretrained(model, setup.device)
    graphs = next((field.name for field in fields(EngineConfig) if "graph" in field.name), None)
    variants: dict[str, dict[str, Any]] = {"hf": {}}
    if graphs is not None and setup.device == "cuda":
        variants = {"hf, without graphs": {graphs: False}, "hf, with graphs": {graphs: True}}
    if "vllm" in engines.names() and importlib.util.find_spec("vllm") is not None:
        variants["vllm"] = {}
    rows: list[dict[str, Any]] = []
    for name, settings in variants.items():
        config = replace(EngineConfig(name.partition(",")[0], max_batch=max(batches), max_tokens=answer), **settings)
        with torch.inference_mode():
            for batch in batches:
                seconds = _decoded(policy, config, batch, prompt, answer)
                rows.append({"engine": name, "batch": batch, **seconds})
                note({"prompt": prompt, "answer": answer, "rows": rows, "graphs": graphs})


def _decoded(policy: Any, config: Any, batch: int, prompt: int, answer: int) -> dict[str, float]:
    """Tokens a second after the prompts have been read, and of reading them."""
    import torch

    from agents.config import engines
    from agents.rollout.engines.base import Request, Sampling, new_session

    engine = engines.get(config.name).open(policy, config)
    draw = torch.Generator().manual_seed(0)

    async def run(tokens: int) -> float:
        ids = torch.randint(256, 4000, (batch, prompt), generator=draw).tolist()
        sessions = [new_session() for _ in ids]
        started = time.perf_counter()
        asked = (Request(s, one, Sampling(max_tokens=tokens), n) for n, (s, one) in enumerate(zip(sessions, ids, strict=True)))
        done = await asyncio.gather(*map(engine.generate, asked))
        seconds = time.perf_counter() - started
        assert all(len(one.ids) == tokens for one in done)
        for session in sessions:
            engine.release(session)
        return seconds

    async def both() -> tuple[float, float]:
        await run(answer)  # warms up
        return await run(1), await run(answer)

    try:
        read, whole = asyncio.run(both())
    finally:
        engine.close()
    return {"prefill_tokens_per_s": batch * prompt / read, "tokens_per_s": batch * (answer - 1) / (whole - read)}

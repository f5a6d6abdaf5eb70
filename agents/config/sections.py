"""What a run is made of: typed sections, their defaults and their meaning.

agents.config.loading fills them from the command line and checks them. The text below a field is what
`python -m agents.train --help` prints.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from envs.common.structured import AtLeast, AtMost, MoreThan

Positive = Annotated[int, AtLeast(1)]
Natural = Annotated[int, AtLeast(0)]
Fraction = Annotated[float, AtLeast(0), AtMost(1)]


@dataclass
class PoolConfig:
    """Where episodes run."""

    mode: Literal["inline", "threads", "processes"] = "inline"
    """inline: in the trainer's own thread; threads: one thread a worker; processes: one process a worker."""
    workers: Natural = 0
    """Number of workers; 0 means one for every CPU core."""
    step_timeout: Annotated[float, MoreThan(0)] = 60.0
    """Seconds one reset or step may take before the worker counts as hung and is restarted; not kept with mode=inline, where
    nothing can stop a step."""
    retries: Natural = 1
    """How often an episode is started again after a crash or a timeout before it is dropped and counted."""


@dataclass
class EnvConfig:
    """The environment, and how the model sees it. The environment's own settings stand beside these keys."""

    name: str
    """Registered name of the environment."""
    context: Literal["full", "window"] = "full"
    """full: one growing conversation an episode; window: a prompt rebuilt at every step from the last turns."""
    history: Natural = 2
    """Turns (observation and action) that a rebuilt prompt shows; used by context=window only."""
    thinking: bool = False
    """Ask the model to reason inside <think> </think> before it acts."""
    pool: PoolConfig = field(default_factory=PoolConfig)
    settings: Any = None
    """The environment's own dataclass; its fields are written as env.<field>."""


@dataclass
class TinyConfig:
    """Shape of the model that is built from scratch for model=tiny."""

    layers: Positive = 2
    """Transformer layers."""
    hidden: Positive = 128
    """Width of the hidden state; a multiple of heads."""
    heads: Positive = 4
    """Attention heads."""
    intermediate: Positive = 384
    """Width of the feed-forward layer."""
    text: Literal["auto", "words", "exact"] = "auto"
    """What is kept of texts. words: lower case, without articles, commas and full stops, a number together with the word before
    it; words that play of train tasks and the prompt's lexicon never said are <unk>. exact: every character, nothing is ever
    unknown, and texts are longer. auto: words where the environment's prompt has a lexicon, else exact."""


@dataclass
class LoraConfig:
    """Low-rank adapters instead of training every weight."""

    enabled: bool = False
    r: Positive = 16
    """Rank."""
    alpha: Annotated[float, MoreThan(0)] = 32.0
    """Scale: the adapter's output is multiplied by alpha / r."""
    targets: Literal["attention", "all-linear"] | list[str] = "attention"
    """Layers that get an adapter: attention (the linear layers of it, whatever the model calls them), all-linear (all but the
    output head), or a list of names. An adapter's folder as model.name brings its own r, alpha and targets."""


@dataclass
class ModelConfig:
    """The policy."""

    name: str
    """tiny, smollm2, a model's name on the Hugging Face hub, or a local folder. A LoRA adapter is put on its base: to be
    trained on with lora.enabled=true, merged without."""
    prompt: Literal["plain", "chat"] = "chat"
    """plain: texts one after another; chat: the tokenizer's chat template."""
    system: str | None = None
    """prompt=chat: a system message; null: what the chat template writes by itself, if anything."""
    chat_template_kwargs: dict[str, Any] = field(default_factory=dict)
    """prompt=chat: arguments for the chat template, for example {reasoning_effort: low}. enable_thinking and thinking follow
    env.thinking where they are not given here."""
    date: str = "2025-01-01"
    """prompt=chat: the day that chat templates are told which print today's, so that a prompt is the same tomorrow."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Number format of the weights; auto: bfloat16 where the processor computes in it (GPUs since 2020, AVX-512 BF16, AMX, ARM
    with BF16), float32 elsewhere, where bfloat16 is emulated and several times slower."""
    attention: Literal["auto", "sdpa", "eager", "flash_attention_2"] = "auto"
    """Implementation of attention; auto: sdpa, or eager for a model that has no right sdpa. flash_attention_2 needs a GPU,
    bfloat16 and the package flash-attn, and takes no masks but its own: episodes are then sampled one after another."""
    trust_remote_code: bool = False
    """Run Python code that comes with a model which transformers does not know; only for models whose makers you trust."""
    max_length: Annotated[int, AtLeast(16)] = 2048
    """Longest context in tokens; an episode that outgrows it is lost, and counted apart."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    lora: LoraConfig = field(default_factory=LoraConfig)
    tiny: TinyConfig = field(default_factory=TinyConfig)


@dataclass
class EngineConfig:
    """What samples the actions."""

    name: str = "hf"
    """hf: transformers with a KV cache kept through the episode; scripted: fixed answers, for tests."""
    temperature: Annotated[float, MoreThan(0)] = 1.0
    """Sampling temperature while training."""
    top_p: Annotated[float, MoreThan(0), AtMost(1)] = 1.0
    """Nucleus sampling; below 1 the log-probabilities of sampling and training differ."""
    max_tokens: Positive = 64
    """Longest free answer in tokens; an admissible action is never cut off."""
    constrained: Literal["none", "admissible", "scored"] = "none"
    """admissible: sample only among the actions the environment lists, token by token, log-probabilities renormalised over
    the allowed tokens; scored: draw one of them as a whole, by its log-probability divided by its length (TWOSOME)."""
    length: Literal["tokens", "words", "none"] = "words"
    """What constrained=scored divides an action's log-probability by: the tokens it is said in, end token included, its
    words, or nothing (long actions are then rarely drawn, above all at a low temperature)."""
    stop: list[str] | None = None
    """Strings that end an answer; null: those of the environment's prompt."""
    max_batch: Positive = 128
    """Most episodes decoded at once."""


@dataclass
class RolloutConfig:
    """How many episodes an iteration plays: groups x group_size."""

    groups: Positive = 16
    """Tasks an iteration."""
    group_size: Positive = 8
    """Episodes of each task, compared with each other."""
    resample: Natural = 0
    """Dynamic sampling (DAPO): most further rounds in which groups whose episodes all return the same are replaced by groups
    of other tasks, drawn from the whole panel; only for methods that compare episodes. 0: such groups stay, and teach those
    methods nothing."""


@dataclass
class OptimConfig:
    """AdamW, and how an iteration's episodes become updates."""

    lr: Annotated[float, AtLeast(0)] = 1e-6
    """Learning rate."""
    warmup: Natural = 0
    """Iterations over which the learning rate rises from 0."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """How the learning rate goes on after the warm-up, until the last iteration or the end of step_budget."""
    weight_decay: Annotated[float, AtLeast(0)] = 0.0
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    grad_clip: Annotated[float, MoreThan(0)] = 1.0
    """Largest norm of the gradient."""
    epochs: Positive = 1
    """Passes over an iteration's episodes."""
    minibatch: Positive = 32
    """Episodes an optimiser step; an iteration with fewer makes one step."""
    token_budget: Annotated[int, AtLeast(16)] = 16384
    """Tokens a forward pass (micro-batch), padding included: bounds memory, never changes the result. More only where one
    conversation, or with engine.constrained=scored one step with all its candidates, is longer."""


@dataclass
class KLConfig:
    """Penalty for leaving the reference policy (the weights at the start of RL)."""

    kind: Literal["none", "k1", "k2", "k3"] = "none"
    """Estimator; none: no reference policy is kept."""
    coefficient: Annotated[float, AtLeast(0)] = 0.0


@dataclass
class CorrectionConfig:
    """Importance weight exp(logp_train - logp_rollout) where sampling and training engines differ numerically."""

    kind: Literal["none", "token", "sequence"] = "none"
    """A weight for each token, or the product of its sequence's for all of its tokens; none: 1."""
    cap: Annotated[float, MoreThan(0)] = 2.0
    """Largest weight."""
    floor: Annotated[float, AtLeast(0)] | None = None
    """null: weights above the cap are set to it (truncated); a number: weights outside [floor, cap] are set to 0 (banded)."""
    mean_one: bool = False
    """Divide the weights by their mean over the iteration's tokens or sequences."""
    reject: Literal[
        "none",
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
    ] = "none"
    """Leave out tokens where the engines differ, by an estimate (k1, k2, k3) of their KL: each token by its own, or all tokens
    of a sequence by its sum, mean or maximum. Works beside any kind of weight, none included."""
    reject_cap: Annotated[float, MoreThan(0)] = 2.0
    """k2 and k3: the largest value kept; k1: the largest exp(k1), which is the engine's probability over the trainer's."""
    reject_floor: Annotated[float, AtLeast(0)] | None = None
    """The smallest exp(k1) kept, null: 1 / reject_cap; not used by k2 and k3."""


@dataclass
class LossConfig:
    """The policy loss."""

    surrogate: Literal["ppo", "joint", "gspo", "cispo", "gpg", "sapo", "gmpo"] = "ppo"
    """ppo: token ratios, clipped; joint: the ratio of a whole sequence's probabilities, with loss.sequence=row of an action's;
    gspo: its geometric mean; cispo: clipped weights; gpg: no ratio; sapo: soft gate; gmpo:
    geometric mean of a sequence's ratios. The papers of gspo, sapo and gmpo take aggregation=seq-mean-token-mean; gspo
    needs a far smaller clip (3e-4, 4e-4), gmpo's is 0.4."""
    clip_low: Annotated[float, AtLeast(0), AtMost(1)] = 0.2
    """The ratio is clipped at 1 - clip_low (gmpo: at exp(-clip_low)); not used by gpg and sapo."""
    clip_high: Annotated[float, AtLeast(0)] = 0.2
    """The ratio is clipped at 1 + clip_high (gmpo: at exp(clip_high)); not used by gpg and sapo."""
    dual_clip: Annotated[float, MoreThan(1)] | None = 3.0
    """Bound of the loss for negative advantages, as a multiple of the advantage; null: off. Used by ppo and joint."""
    aggregation: Literal["token-mean", "seq-mean-token-sum", "seq-mean-token-mean", "seq-mean-token-sum-norm"] = "token-mean"
    """How token losses become one number."""
    norm_length: Positive | None = None
    """Constant that seq-mean-token-sum-norm divides by (Dr. GRPO); null: the longest sequence of the mini-batch."""
    sequence: Literal["episode", "row"] = "episode"
    """What counts as a sequence in aggregation and in sequence ratios: a whole episode, or each row it was split into."""
    kl: KLConfig = field(default_factory=KLConfig)
    kl_stop: Annotated[float, MoreThan(0)] | None = None
    """An iteration's update ends before the first mini-batch whose tokens put the KL from the sampling policy (k3, their
    mean) above this; null: never."""
    mismatch_stop: Annotated[float, MoreThan(0)] | Literal["auto"] | None = "auto"
    """The run stops where the log-probabilities of sampling and training differ by more than this on average before an
    update's first step: it would learn from another policy than the one that acted. auto: 1e-3 in float32, 0.05 in coarser
    formats; null: never. Not kept with a correction or engine.top_p below 1, which expect a difference."""
    normalise: Literal["none", "minibatch"] = "none"
    """minibatch: advantages are shifted and scaled to mean 0 and variance 1 over the tokens of each mini-batch; exact zeros
    enter neither."""
    entropy: Annotated[float, AtLeast(0)] = 0.0
    """Coefficient of the entropy bonus."""
    correction: CorrectionConfig = field(default_factory=CorrectionConfig)
    skip_zero: bool = True
    """Leave episodes without any advantage out of the forward pass where that changes nothing in the loss."""


@dataclass
class CriticConfig:
    """The value function of the methods that need one (ppo, poad, ntpo, archer, twosome)."""

    trains: Literal["head", "all"] = "head"
    """head: an MLP on the hidden states of the policy as it was before RL, which stays frozen (POAD); all: a copy of that
    model is trained with it (the usual PPO; memory of a second model)."""
    hidden: Annotated[list[int], AtLeast(1)] = field(default_factory=lambda: [1024, 512])
    """Widths of the MLP's inner layers."""
    lr: Annotated[float, MoreThan(0)] = 1e-5
    """Learning rate, the same in every iteration."""
    clip: Annotated[float, MoreThan(0)] | None = None
    """How far a value may move from what it was before the update, in units of reward; null: as far as the loss wants."""
    coefficient: Annotated[float, MoreThan(0)] = 0.5
    """Of half the squared error."""
    grad_clip: Annotated[float, MoreThan(0)] = 1.0
    """Largest norm of the gradient."""
    epochs: Positive | None = None
    """Passes over an iteration's episodes; null: optim.epochs."""
    alone: Natural = 0
    """Iterations at the beginning in which only the critic learns."""


@dataclass
class WarmstartConfig:
    """Behaviour cloning on the environment's oracle before RL."""

    enabled: bool | None = None
    """null: on for model=tiny, which starts from random weights, off otherwise."""
    steps: Positive = 1400
    """Optimiser steps."""
    batch: Positive = 8
    """Demonstrations a step."""
    lr: Annotated[float, MoreThan(0)] = 2e-3
    """Learning rate."""
    observation_weight: Fraction = 0.1
    """Weight of observation tokens in the loss; action tokens have 1."""
    detours: Fraction = 0.9
    """Probability that a demonstration looks in wrong places before it finds what it needs."""
    dawdling: Fraction = 0.4
    """Share of demonstrations by one who dawdles and often runs out of steps; what reinforcement has to unlearn."""
    demonstrations: Positive = 2000
    """Demonstrations to draw from, of the train panel's tasks; those that dawdle are the last that training reaches."""


@dataclass
class EvalConfig:
    """Success on held-out tasks."""

    every: Natural = 10
    """Iterations between evaluations; 0: never."""
    panel: Literal["train", "eval", "test"] = "eval"
    """Which tasks. train measures memory; eval and test are held out: choose settings on the one, report the other."""
    episodes: Positive | None = None
    """Number of tasks, the first of the panel; null: all."""
    repeats: Positive = 1
    """Episodes a task, with different sampling."""
    temperature: Annotated[list[float], MoreThan(0)] = field(default_factory=lambda: [1.0])
    """Sampling temperatures, one evaluation each."""
    before: bool = True
    """Evaluate before the first iteration."""
    after: bool = True
    """Evaluate after the last iteration."""


@dataclass
class CheckpointConfig:
    """What is kept to go on after an interruption."""

    every: Natural = 10
    """Iterations between checkpoints; 0: only after the warm start, at the end, or when interrupted."""
    keep: Positive = 2
    """Checkpoints kept; older ones are deleted after a newer one is safe."""


@dataclass
class ConsoleConfig:
    """Progress in the terminal: a live table on a terminal, one line an iteration elsewhere."""

    live: bool | None = None
    """null: live where the output is a terminal."""


@dataclass
class WandbConfig:
    """Weights & Biases; offline where nobody is logged in, or where the server cannot be reached when the run begins."""

    project: str = "stepcredit"
    entity: str | None = None
    """User or team; null: the account's own."""
    mode: Literal["auto", "online", "offline"] = "auto"
    """auto: as WANDB_MODE or `wandb offline` says, else online if logged in, else offline (upload later with `wandb sync`)."""
    tags: list[str] = field(default_factory=list)
    episodes: Natural = 8
    """Episodes of an iteration shown as a table; 0: none."""
    artifacts: bool = False
    """Upload checkpoints as artifacts."""


@dataclass
class TensorboardConfig:
    """TensorBoard event files in the run folder."""

    flush_s: Positive = 10
    """Seconds between writes."""


@dataclass
class TrackerConfig:
    """Where metrics go besides metrics.jsonl, which is always written. A section that is null is off."""

    console: ConsoleConfig | None = None
    wandb: WandbConfig | None = None
    tensorboard: TensorboardConfig | None = None


@dataclass
class JudgeConfig:
    """Who says which subgoals a step achieved (shaping=calm, agents.judge)."""

    kind: Literal["rules", "policy", "model", "endpoint"] = "rules"
    """rules: the environment's own; policy: the model that is trained; model: another one on this machine; endpoint: a
    server that speaks the OpenAI protocol (vLLM, llama.cpp, a vendor's)."""
    model: str | None = None
    """kind=model: smollm2, a model's name on the Hugging Face hub, or a local folder; kind=endpoint: its name on the server."""
    base_url: str | None = None
    """kind=endpoint: the server's address, for example http://localhost:8000/v1; null: that of OpenAI."""
    key_from: str | None = None
    """kind=endpoint: environment variable that holds the key; null: OPENAI_API_KEY at OpenAI itself, none at any other address,
    where a local server needs none and a stranger's is not to see it."""
    subgoals: Literal["preset", "proposed"] = "preset"
    """preset: the names that the environment's rules know; proposed: the judge names them, once a task."""
    file: str | None = None
    """YAML file of proposed subgoals, to be read and edited; null: one for each environment and judge in the cache folder."""
    window: Positive = 1
    """Steps that a question shows: the one that is judged, and those before it."""
    actions: bool = True
    """Show what was done, besides what was seen before and after it."""
    noise: Fraction = 0.0
    """kind=rules: how often a verdict on a judged step is wrong, to learn how good a judge has to be."""
    max_tokens: Positive = 160
    """Longest answer in tokens; a model that thinks before it answers needs many more."""
    concurrency: Positive = 8
    """Questions under way at once."""
    timeout_s: Annotated[float, MoreThan(0)] = 60.0
    """kind=endpoint: seconds for an answer; later it counts as failed and is asked again."""
    retries: Natural = 2
    """How often a failed question is asked again, after a growing pause."""
    budget: Positive | None = None
    """Most calls to the model in a run, those that ask again included; null: no limit. Further questions are left open, and
    counted."""
    cache: bool = True
    """Keep answers on disk, by a hash of model and question; those of kind=policy are never kept, its weights change."""


@dataclass
class TrainConfig:
    """A training run."""

    env: EnvConfig
    model: ModelConfig
    algo: dict[str, Any]
    """The credit-assignment method: its name and its own settings."""
    shaping: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Further step rewards by name, each with its settings."""
    judge: JudgeConfig = field(default_factory=JudgeConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    critic: CriticConfig = field(default_factory=CriticConfig)
    warmstart: WarmstartConfig = field(default_factory=WarmstartConfig)
    evaluation: EvalConfig = field(default_factory=EvalConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    tracker: TrackerConfig = field(default_factory=TrackerConfig)
    seed: Natural = 0
    """Root of all randomness."""
    iterations: Natural = 100
    """Rollout-and-update iterations; 0: only warm start and evaluation."""
    time_budget_s: Annotated[float, MoreThan(0)] | None = None
    """Wall-clock seconds after which the run finishes its iteration and ends well; null: no limit."""
    step_budget: Positive | None = None
    """Environment steps of training after which the run finishes its iteration and ends well; null: no limit."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: cuda if there is a usable GPU, else cpu."""
    threads: Natural = 0
    """CPU threads of torch; 0: torch's own choice."""
    run: str | None = None
    """Name of the run's folder; null: <env>-<algo>-<date>-<time>."""
    out: str = "runs"
    """Folder that holds run folders."""
    resume: str | None = None
    """A run folder to go on with: its own config.yaml counts, and only single values may be overridden."""

    @property
    def warm_starts(self) -> bool:
        """Whether the run begins with a warm start: asked for, or needed because the model starts from random weights."""
        return self.model.name == "tiny" if self.warmstart.enabled is None else self.warmstart.enabled


@dataclass
class EvaluateConfig:
    """An evaluation on its own: of a run's checkpoint, or (run=null) of a model as it is."""

    env: EnvConfig
    model: ModelConfig
    engine: EngineConfig = field(default_factory=EngineConfig)
    evaluation: EvalConfig = field(default_factory=EvalConfig)
    run: str | None = None
    """A run folder: its environment, model, engine and evaluation settings count, and its weights are loaded."""
    checkpoint: Natural | None = None
    """Iteration whose checkpoint is loaded; null: the newest."""
    seed: Natural = 0
    """Root of all randomness."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: cuda if there is a usable GPU, else cpu."""
    threads: Natural = 0
    """CPU threads of torch; 0: torch's own choice."""
    out: str | None = None
    """File for the results (JSON); null: evaluation-<panel>-<hash of what was evaluated>.json in the run's folder or in
    runs/evaluations/<env>-<model>/."""


@dataclass
class FormsConfig:
    """Ways to put a question, each combined with each; a judge of kind=rules is asked nothing, and measured once."""

    map: list[str] = field(default_factory=lambda: ["crop", "full"])
    """Values of env.map, for what the judge reads; left out where the environment has no such setting."""
    actions: list[bool] = field(default_factory=lambda: [True, False])
    """Values of judge.actions: show what was done, or only what was seen before and after it."""
    subgoals: list[Literal["preset", "proposed"]] = field(default_factory=lambda: ["preset", "proposed"])
    """Values of judge.subgoals: the names that the rules know, or the judge's own."""


@dataclass
class JudgeRunConfig:
    """A judge measured against the environment's rules, on episodes of a random policy or (run) of a trained one."""

    env: EnvConfig
    model: ModelConfig
    engine: EngineConfig = field(default_factory=EngineConfig)
    judge: JudgeConfig = field(default_factory=JudgeConfig)
    forms: FormsConfig = field(default_factory=FormsConfig)
    match: Annotated[float, AtLeast(0), AtMost(100)] = 80.0
    """How alike a proposed subgoal and one of the rules must be worded to be the same (token_set_ratio of rapidfuzz)."""
    panel: Literal["train", "eval", "test"] = "train"
    """Which tasks are played."""
    episodes: Positive = 100
    """Number of episodes, of the first tasks of the panel; of a small panel several of each task."""
    run: str | None = None
    """A run folder: its environment, model and engine settings count, and its policy plays; null: actions are drawn at random
    among the admissible ones."""
    checkpoint: Natural | None = None
    """Iteration whose checkpoint of the run plays; null: the newest."""
    seed: Natural = 0
    """Root of all randomness."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: cuda if there is a usable GPU, else cpu."""
    threads: Natural = 0
    """CPU threads of torch; 0: torch's own choice."""
    out: str = "runs/judge"
    """Folder that holds the folders of results, <env>-<judge>-<hash of what was measured>."""

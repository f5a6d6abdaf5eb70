"""What a run is made of: typed sections, their defaults and their meaning; `commands` puts them together.

The text below a field is what `python -m agents.train --help` prints.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from agents.config import engines
from algorithms import surrogates
from envs.common.structured import AboveZero, AtLeast, AtMost, Fraction, MoreThan, Natural, NonNegative, OneOf, Positive


@dataclass
class PoolConfig:
    """Where episodes run."""

    mode: Literal["inline", "threads", "processes"] = "inline"
    """inline: in the trainer's own thread; threads: one thread a worker; processes: one process a worker."""
    workers: Natural = 0
    """Number of workers; 0 means one for every CPU core."""
    step_timeout: AboveZero = 60.0
    """Seconds that one reset or step may take before the worker counts as hung and is restarted; not enforced with mode=inline,
    where nothing can stop a step."""
    retries: Natural = 1
    """How often an episode is restarted after a fault of its own (a crash, a timeout, an exception, an answer that the contract
    forbids) before it is dropped and counted as a fault. Those that a neighbor's fault cost their worker start again anyway."""
    set_aside: Natural = 5
    """Faults of one task in a row after which it is played no more in this run: its episodes count as faults. 0: never."""


@dataclass
class EnvConfig:
    """The environment, and how the model sees it. The environment's own settings stand beside these keys."""

    name: str
    """Registered name of the environment."""
    context: Literal["full", "window"] = "full"
    """full: one growing conversation per episode; window: a prompt rebuilt at every step from the last turns."""
    history: Natural = 2
    """Turns (observation and action) that a rebuilt prompt shows; used by context=window only."""
    thinking: bool = False
    """Ask the model to reason inside <think> </think> before it acts."""
    hierarchy: bool = False
    """Ask the model to say, before it acts, whether it keeps its subgoal or switches to another one, and which; algo=hiper
    gives each part its own credit."""
    pool: PoolConfig = field(default_factory=PoolConfig)
    settings: Any = None
    """The environment's own dataclass; its fields are written as env.<field>."""


@dataclass
class TinyConfig:
    """Shape of the model that model=tiny builds from scratch."""

    layers: Positive = 2
    """Transformer layers."""
    hidden: Positive = 128
    """Width of the hidden state; a multiple of heads."""
    heads: Positive = 4
    """Attention heads."""
    intermediate: Positive = 384
    """Width of the feed-forward layer."""
    text: Literal["auto", "words", "exact"] = "auto"
    """What is kept of a text. words: lower case, without articles, commas and full stops, a number together with the word
    before it; words that occur neither in play on train tasks nor in the prompt's lexicon are <unk>. exact: every character;
    nothing is unknown, and texts are longer. auto: words where the environment's prompt has a lexicon, else exact."""


@dataclass
class LoraConfig:
    """Low-rank adapters instead of training every weight."""

    enabled: bool = False
    r: Positive = 16
    """Rank."""
    alpha: AboveZero = 32.0
    """Scale: the adapter's output is multiplied by alpha / r."""
    targets: Literal["attention", "all-linear"] | list[str] = "attention"
    """Layers that get an adapter: attention (its linear layers, in any architecture), all-linear (all linear layers but
    the output head), or a list of names. With an adapter's folder as model.name, its own r, alpha and targets apply."""


@dataclass
class ModelConfig:
    """The policy."""

    name: str
    """tiny, smollm2, a model's name on the Hugging Face hub, or a local folder. The folder of a LoRA adapter loads its base
    too; lora.enabled=true trains the adapter further, false merges it into the base."""
    prompt: Literal["plain", "chat"] = "chat"
    """chat: the tokenizer's chat template; plain: texts one after another."""
    system: str | None = None
    """prompt=chat: a system message; null: the chat template's own, if it has one."""
    chat_template_kwargs: dict[str, Any] = field(default_factory=dict)
    """prompt=chat: arguments for the chat template, for example {reasoning_effort: low}. enable_thinking and thinking follow
    env.thinking unless they are given here."""
    date: str = "2025-01-01"
    """prompt=chat: the date for chat templates that print the current one, so that prompts do not change from day to day."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Number format of the weights; auto: bfloat16 where the hardware supports it (GPUs since 2020, AVX-512 BF16, AMX, ARM with
    BF16), else float32 (emulated bfloat16 is several times slower)."""
    attention: Literal["auto", "sdpa", "eager", "flash_attention_2"] = "auto"
    """Implementation of attention; auto: sdpa, or eager where sdpa is missing or would compute something else.
    flash_attention_2 needs a GPU, bfloat16 and the package flash-attn, and accepts no custom masks: episodes are then sampled
    one at a time."""
    trust_remote_code: bool = False
    """Run Python code that comes with a model unknown to transformers; only for models whose source you trust."""
    max_length: Annotated[int, AtLeast(16)] = 2048
    """Longest context in tokens; an episode that outgrows it is lost, and counted separately."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    lora: LoraConfig = field(default_factory=LoraConfig)
    tiny: TinyConfig = field(default_factory=TinyConfig)


@dataclass
class VLLMConfig:
    """Where vLLM runs and what it may use; engine.name=vllm only."""

    where: Literal["process", "here"] = "process"
    """process: in a process of its own, which is started anew where it dies or hangs; here: in the trainer's, which starts no
    second Python and makes the same batches in every run, but ends with vLLM."""
    gpu: Natural | None = None
    """where=process: number of the GPU that vLLM gets for itself; null: the policy's."""
    gpu_memory: Annotated[float, MoreThan(0), AtMost(1)] = 0.45
    """Share of the GPU's memory that vLLM takes for weights, keys and values; the learner needs the rest."""
    kv_gib: AboveZero | None = None
    """Size of the KV cache in GiB; null: what gpu_memory leaves, on a processor what max_batch episodes need, at most 4."""
    eager: bool | None = None
    """Neither compile the model nor capture CUDA graphs: starts sooner, decodes slower. null: only on a processor."""
    sleep: bool = False
    """Give the GPU's memory back while the policy is updated."""
    timeout_s: AboveZero = 300.0
    """where=process: seconds without a sign of life after which vLLM counts as hung. Starting is given 15 minutes."""
    restarts: Natural = 3
    """where=process: how often in a row, without an answer in between, vLLM is started anew before the run ends."""


@dataclass
class EngineConfig:
    """What samples the actions."""

    name: Annotated[str, OneOf(engines.names)] = "hf"
    """hf: transformers with a KV cache kept through the episode; vllm: vLLM, for large models and many episodes; scripted:
    fixed answers, for tests; or a plug-in's."""
    temperature: AboveZero = 1.0
    """Sampling temperature while training; rollout.temperature_tau lets it follow the entropy."""
    top_p: Annotated[float, MoreThan(0), AtMost(1)] = 1.0
    """Nucleus sampling; below 1 the log-probabilities of sampling and training differ."""
    max_tokens: Positive = 64
    """Longest free answer in tokens; an admissible action is never cut off."""
    constrained: Literal["none", "admissible", "scored"] = "none"
    """admissible: sample only among the actions the environment lists, token by token, log-probabilities renormalized over
    the allowed tokens; scored: sample one of them as a whole, by its log-probability divided by its length (TWOSOME)."""
    length: Literal["tokens", "words", "none"] = "words"
    """constrained=scored: what an action's log-probability is divided by: the number of its tokens (end token included), of its
    words, or nothing (long actions are then rarely sampled, most of all at a low temperature)."""
    stop: list[str] | None = None
    """Strings that end an answer; null: those of the environment's prompt."""
    ignore_end: bool = False
    """No end token and no string ends an answer: each has engine.max_tokens tokens. For measuring speed."""
    max_batch: Positive = 128
    """Largest number of episodes decoded at once."""
    vllm: VLLMConfig = field(default_factory=VLLMConfig)


@dataclass
class DynamicSamplingConfig:
    """Replacing groups whose episodes all have the same return by groups of other tasks (DAPO)."""

    rounds: Natural = 0
    """The largest number of further rounds of replacements, whose tasks are drawn from the whole train split; only for methods
    that compare episodes. 0: such groups are kept, and those methods learn nothing from them."""


@dataclass
class CurriculumConfig:
    """A budget of each training episode that changes over a training: long episodes first, short ones later. Evaluations have
    none."""

    unit: Literal["none", "turns", "tokens"] = "none"
    """Of what there is a budget. turns: steps of an episode; tokens: the length of each answer."""
    first: Positive | None = None
    """Budget of the first iteration; null: env.max_steps (turns) or engine.max_tokens (tokens)."""
    last: Positive | None = None
    """Budget at the end of the curriculum, and from then on; must be given."""
    iterations: Positive | None = None
    """Length of the curriculum; null: the whole training."""
    every: Positive = 1
    """Iterations between two changes of the budget."""
    course: Literal["linear", "exponential"] = "linear"
    """By equal differences, or by equal factors."""
    enforced: bool = True
    """An episode ends when its turns are over, an answer when its tokens are. False: the budget is only what shaping=length
    rewards by."""


@dataclass
class RolloutConfig:
    """How many episodes an iteration plays: groups x group_size, and whether updates wait for them."""

    groups: Positive = 16
    """Tasks per iteration."""
    group_size: Positive = 8
    """Episodes per task; many methods compare them with each other."""
    overlap: Natural = 0
    """How many versions old a token may be when it is learned from. 0: the newest weights sample every iteration; rollout and
    update take turns. Above: groups that have ended are learned from while others are still played, and the engine goes on
    sampling during an update. Such a run cannot be repeated to the bit."""
    weights: Literal["in_flight", "between"] = "in_flight"
    """overlap: how an engine gets new weights. in_flight: at once, in the middle of answers too; between: answers under way end
    with the old ones, and new requests wait until the new ones are there."""
    late: Literal["wait", "drop"] = "wait"
    """overlap: what becomes of groups that take so long that they would be too old. wait: the update waits for them; drop: they
    are ended, counted (train/too_old) and replaced by others, which is faster, and learns less from long episodes."""
    dynamic_sampling: DynamicSamplingConfig = field(default_factory=DynamicSamplingConfig)
    curriculum: CurriculumConfig = field(default_factory=CurriculumConfig)
    temperature_tau: Annotated[float, AtLeast(0), AtMost(0.9)] = 0.0
    """How far the sampling temperature of training follows the entropy of each token's distribution (HAPO). A token is drawn at
    engine.temperature (1 + tau h), h from -1 to 1: as sure, or as uncertain, as the policy was anywhere in the last iteration.
    0: one temperature for all tokens; HAPO's authors: 0.05. Evaluations and audits keep to one temperature."""
    out_of_context: Literal["lose", "drop"] = "lose"
    """Episodes that outgrow model.max_length. lose: they count as lost, and are learned from; drop: they are not learned from.
    Either way they are counted (train/cut_off/context)."""


@dataclass
class OptimConfig:
    """AdamW, and how an iteration's episodes are divided into updates."""

    lr: NonNegative = 1e-6
    """Learning rate."""
    warmup: Natural = 0
    """Iterations over which the learning rate rises from 0."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """Course of the learning rate after the warm-up, until the last iteration or the end of step_budget."""
    weight_decay: NonNegative = 0.0
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    grad_clip: AboveZero = 1.0
    """Largest norm of the gradient."""
    epochs: Positive = 1
    """Passes over an iteration's episodes."""
    minibatch_episodes: Positive = 32
    """Episodes per optimizer step; an iteration with fewer makes one step."""
    tokens_per_microbatch: Annotated[int, AtLeast(16)] = 16384
    """Tokens per forward pass (micro-batch), padding included; limits memory and never changes the result. Tokens that texts
    share count once. Exceeded only where one conversation (with engine.constrained=scored: one step with all its candidates)
    is longer."""


@dataclass
class KLConfig:
    """Penalty for the distance (KL) from the reference policy, which has the weights at the start of RL."""

    kind: Literal["none", surrogates.Estimator] = "none"
    """Estimator; none: no reference policy is kept."""
    coefficient: NonNegative = 0.0


@dataclass
class CorrectionConfig:
    """Importance weight exp(logp_train - logp_rollout) where sampling and training engines differ numerically, or older weights
    sampled (rollout.overlap); logp_train is the trainer's before the update."""

    kind: Literal["auto", "none", surrogates.Level] = "auto"
    """token: a weight for each token; sequence: for every token the product of its sequence's weights; none: 1; auto: token if
    rollout.overlap is above 0, else none."""
    cap: AboveZero = 2.0
    """Largest weight."""
    floor: NonNegative | None = None
    """null: weights above the cap are set to it (truncated, TIS); a number: weights outside [floor, cap] are set to 0 (banded;
    IcePop's two-sided mask is kind=token floor=0.5 cap=5)."""
    mean_one: bool = False
    """Divide the weights by their mean over the iteration's tokens or sequences."""
    reject: Literal["none", surrogates.Measure] = "none"
    """Reject tokens by an estimate (k1, k2, k3) of the KL between the engines: each token by its own, or all tokens of a
    sequence by its sum, mean or maximum. Works with every kind of weight, and without."""
    reject_cap: AboveZero = 2.0
    """k2 and k3: the largest value kept; k1: the largest exp(k1), which is the engine's probability over the trainer's."""
    reject_floor: NonNegative | None = None
    """The smallest exp(k1) kept, null: 1 / reject_cap; not used by k2 and k3."""


@dataclass
class LossConfig:
    """The policy loss."""

    surrogate: Annotated[str, OneOf(surrogates.names)] = "ppo"
    """What is minimized at each sampled token; docs/methods.md says which clip and aggregation the papers take with each."""
    clip_low: Fraction = 0.2
    """The ratio is clipped at 1 - clip_low (gmpo: at exp(-clip_low)); not used by gpg and sapo."""
    clip_high: NonNegative = 0.2
    """The ratio is clipped at 1 + clip_high (gmpo: at exp(clip_high)); not used by gpg and sapo."""
    dual_clip: Annotated[float, MoreThan(1)] | None = 3.0
    """Bound of the loss for negative advantages, as a multiple of the advantage; null: off. Used by ppo and sequence_ppo."""
    aggregation: surrogates.Aggregation = "token-mean"
    """How token losses are averaged into one number."""
    norm_length: Positive | None = None
    """Constant that seq-mean-token-sum-norm divides by (Dr. GRPO); null: the longest sequence of the mini-batch."""
    sequence: Literal["episode", "row"] = "episode"
    """What counts as a sequence in aggregation and in sequence ratios: a whole episode, or the response of each step (row)."""
    kl: KLConfig = field(default_factory=KLConfig)
    target_kl: AboveZero | None = None
    """An iteration's update stops before the first mini-batch whose KL from the sampling policy (k3, mean over its tokens)
    exceeds this; null: never."""
    mismatch_stop: AboveZero | Literal["auto"] | None = "auto"
    """The run stops if the log-probabilities of sampling and training differ by more than this on average before an update's
    first step: it would learn from another policy than the one that acted. auto: 1e-3 in float32, 0.05 in coarser formats;
    null: never. Tokens that older weights sampled do not count (rollout.overlap). Not applied with a correction that was asked
    for (loss.correction.kind other than auto) or with engine.top_p below 1, where a difference is expected."""
    normalize: Literal["none", "minibatch"] = "none"
    """minibatch: advantages are shifted and scaled to mean 0 and variance 1 over the tokens of each mini-batch; exact zeros
    are left out of both statistics."""
    entropy: NonNegative = 0.0
    """Coefficient of the entropy bonus."""
    entropy_band: NonNegative = 0.0
    """Coefficient of the distance of a token's entropy from the band that a transform gives it (spine)."""
    correction: CorrectionConfig = field(default_factory=CorrectionConfig)
    skip_zero: bool = True
    """Leave rows without any advantage out of the forward pass where that changes nothing in the loss."""


@dataclass
class CriticConfig:
    """The value function of the methods that need one (ppo, ma_ppo, poad, ntpo, archer, twosome, steppo, bi_level_gae, spa,
    hiper)."""

    trains: Literal["head", "all"] = "head"
    """head: an MLP on the hidden states of the policy as it was before RL, which stays frozen (POAD); all: a copy of that
    model is trained with it (the usual PPO; memory of a second model)."""
    hidden: Annotated[list[int], AtLeast(1)] = field(default_factory=lambda: [1024, 512])
    """Widths of the MLP's inner layers."""
    lr: AboveZero = 1e-5
    """Learning rate, the same in every iteration."""
    clip: AboveZero | None = None
    """Largest change of a value in one update, in units of reward (value clipping); null: no limit."""
    coefficient: AboveZero = 0.5
    """Coefficient of the value loss, half the squared error."""
    grad_clip: AboveZero = 1.0
    """Largest norm of the gradient."""
    epochs: Positive | None = None
    """Passes over an iteration's episodes; null: optim.epochs."""
    warmup: Natural = 0
    """Iterations at the beginning in which only the critic learns."""


@dataclass
class WarmstartConfig:
    """Behavior cloning of the environment's oracle, before RL."""

    enabled: bool | None = None
    """null: on for model=tiny, which starts from random weights, off otherwise."""
    steps: Positive = 1400
    """Optimizer steps."""
    batch: Positive = 8
    """Demonstrations per step."""
    lr: AboveZero = 2e-3
    """Learning rate."""
    observation_weight: Fraction = 0.1
    """Weight of observation tokens in the loss; action tokens have 1."""
    detours: Fraction = 0.9
    """Probability that a demonstration looks in wrong places before it finds what it needs."""
    suboptimal_share: Fraction = 0.4
    """Share of demonstrations that are deliberately slow and often run out of steps; RL has to unlearn this."""
    demonstrations: Positive = 2000
    """Number of demonstrations, on tasks of the train split; the warm start draws from the slow ones last."""


@dataclass
class EvalConfig:
    """Success on held-out tasks."""

    every: Natural = 10
    """Iterations between evaluations; 0: never."""
    split: Literal["train", "eval", "test"] = "eval"
    """Which tasks. train measures memorization; eval and test are held out: choose settings on eval, report test."""
    episodes: Positive | None = None
    """Number of tasks, from the start of the split; null: all."""
    repeats: Positive | None = None
    """Episodes per task, with different sampling; null: 1 in a training, 3 in an evaluation on its own."""
    temperature: Annotated[list[float], MoreThan(0)] = field(default_factory=lambda: [1.0])
    """Sampling temperatures, one evaluation each."""
    beams: Positive | None = None
    """Answers are not sampled but searched, with so many beams, by the model of token rewards that the run has learned
    (shaping=token_reward or implicit_prm); only in an evaluation on its own. null: sampled."""
    beam_score: Literal["likelihood", "q"] = "likelihood"
    """What beams are kept by. likelihood: the log-probability under that model (paper); q: by how much that is higher than
    under what the model is measured against, however unlikely the answer is."""
    before: bool = True
    """Evaluate before the first iteration."""
    after: bool = True
    """Evaluate after the last iteration."""


@dataclass
class CheckpointConfig:
    """What is kept to continue after an interruption."""

    every: Natural = 10
    """Iterations between checkpoints; 0: only after the warm start, at the end, or when interrupted."""
    keep: Natural = 2
    """Checkpoints kept; older ones are deleted after a newer one is safe. 0: none is ever written, and the run cannot be
    resumed; for measuring, and where a model of many weights would take the disk and minutes."""


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
class TrackioConfig:
    """Trackio: a database of this machine (TRACKIO_DIR), or a Space of the Hugging Face hub."""

    project: str = "stepcredit"
    space: str | None = None
    """Space that gets the numbers, user/name; null: as TRACKIO_SPACE_ID or TRACKIO_SERVER_URL say, else this machine alone."""


@dataclass
class MlflowConfig:
    """MLflow: a tracking server, or a database beside the run's folder."""

    experiment: str = "stepcredit"
    uri: str | None = None
    """Server (http://...) or database (sqlite:///...); null: as MLFLOW_TRACKING_URI says, else mlflow.db in `out`."""


@dataclass
class LauncherConfig:
    """The processes that train together."""

    name: Literal["here", "torchrun"] = "here"
    """here: this process alone; torchrun: ranks that share the learner's weights (FSDP2), started by this command, or by
    torchrun or a cluster that sets its variables (RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT)."""
    processes: Natural = 0
    """name=torchrun: ranks that this command starts; 0: one for each GPU, on a machine without one 1."""
    offload: bool = False
    """name=torchrun: keep each rank's share of weights, gradients and moments in the CPU's memory."""
    timeout_s: AboveZero = 1800.0
    """name=torchrun: seconds after which a rank that the others wait for in an update counts as lost."""


@dataclass
class TrackerConfig:
    """Where metrics go besides metrics.jsonl, which is always written. A section that is null is off."""

    console: ConsoleConfig | None = None
    wandb: WandbConfig | None = None
    tensorboard: TensorboardConfig | None = None
    trackio: TrackioConfig | None = None
    mlflow: MlflowConfig | None = None
    plugins: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Trackers of other packages (entry points stepcredit.trackers) by name, each with its settings."""


@dataclass
class JudgeConfig:
    """The judge, which decides which subgoals a step achieved (shaping=calm, agents.judge), which steps were wrong
    (shaping=critique), or what a reward is made of (shaping=latent)."""

    kind: Literal["rules", "policy", "model", "endpoint"] = "rules"
    """rules: the environment's own; policy: the model that is trained; model: another one on this machine; endpoint: a
    server that speaks the OpenAI protocol (vLLM, llama.cpp, a vendor's)."""
    model: str | None = None
    """kind=model: smollm2, a model's name on the Hugging Face hub, or a local folder; kind=endpoint: its name on the server."""
    base_url: str | None = None
    """kind=endpoint: the server's address, for example http://localhost:8000/v1; null: that of OpenAI."""
    key_from: str | None = None
    """kind=endpoint: environment variable that holds the key; null: OPENAI_API_KEY for OpenAI itself, no key for any other
    address (your OpenAI key is never sent elsewhere)."""
    subgoals: Literal["preset", "proposed"] = "preset"
    """preset: the names in the environment's rules; proposed: the judge names them, once per task."""
    file: str | None = None
    """YAML file of proposed subgoals, which you can edit; null: one per environment and judge in the cache folder."""
    window: Positive = 1
    """Steps that a question shows: the judged one and those before it."""
    actions: bool = True
    """Show the action, besides the observations before and after it."""
    noise: Fraction = 0.0
    """kind=rules: share of wrong verdicts on judged steps, to test how good a judge has to be."""
    temperature: AboveZero = 1.0
    """Sampling temperature where a model is asked the same several times (shaping=critique, factors of shaping=latent);
    verdicts on subgoals are the likeliest answers."""
    max_tokens: Positive = 160
    """Longest answer in tokens; a model that thinks before it answers needs many more."""
    concurrency: Positive = 8
    """Questions in flight at once."""
    timeout_s: AboveZero = 60.0
    """kind=endpoint: seconds to wait for an answer; after that the question counts as failed and is asked again."""
    retries: Natural = 2
    """How often a failed question is asked again, after a growing pause."""
    budget: Positive | None = None
    """Largest number of calls to the model in a run, retries included; null: no limit. Further questions stay unanswered and
    are counted."""
    cache: bool = True
    """Keep answers on disk, by a hash of model and question; never those of kind=policy, whose weights change."""


@dataclass
class FormsConfig:
    """Forms of a question, in all combinations; a judge of kind=rules is asked nothing, and measured once."""

    map: list[str] = field(default_factory=lambda: ["crop", "full"])
    """Values of env.map in what the judge reads; ignored where the environment has no such setting."""
    actions: list[bool] = field(default_factory=lambda: [True, False])
    """Values of judge.actions: show the action, or only the observations before and after it."""
    subgoals: list[Literal["preset", "proposed"]] = field(default_factory=lambda: ["preset", "proposed"])
    """Values of judge.subgoals: the names in the rules, or the judge's own."""

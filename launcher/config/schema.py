"""What the user asked for: the schema of conf/, as dataclasses and nothing else.

`help` in a field's metadata is what `python -m launcher --help` prints. None as a default means that the value follows
from the rest.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Optional

from launcher.config.model_schema import ModelConfig, fact, option
from launcher.problems import choices
from launcher.records.film import CODECS
from launcher.records.formats import FORMATS

# omegaconf resolves these annotations at run time and knows Optional[int], not every spelling of int | None.
# ruff: noqa: UP045

ANIMATED = [name for name, format in FORMATS.items() if format.max_frames > 1 and not format.film]


@dataclass
class CpConfig:
    """How the ranks share one picture."""

    mode: str = option("auto", "auto, none, ring, ulysses, unified, ring_, ulysses_, unified_anything, attention2d")
    implementation: str = option(
        "own", "whose code shares the sequence: own, or diffusers (its own modes, to compare with)"
    )
    ring_degree: Optional[int] = option(
        None, "ranks around the ring, or in a column; default: what ulysses_degree leaves"
    )
    ulysses_degree: Optional[int] = option(
        None, "ranks that share the heads, or in a row of attention2d; default: likewise"
    )
    cfg_degree: Optional[int] = option(
        None, "2: the branches of guidance are computed by two halves of the ranks; default: 1, or what cp=auto finds"
    )
    shares: Any = option(
        None,
        "how the ranks' parts of the tokens compare: [2,1] where the first rank is twice as fast, or auto, by the "
        "speeds of the ranks' GPUs or threads; default: equal ones",
    )
    schedule: str = option("auto", "how a ring moves keys and values: auto, gather, staged")
    transport: str = option(
        "auto", "how GPUs exchange: auto, nccl, or host (by host memory: several ranks may share a GPU)"
    )


@dataclass
class AttentionConfig:
    """The kernel that one rank computes with."""

    kernel: str = option("auto", "diffusers' name of the kernel, or auto")


@dataclass
class SchedulerConfig:
    """What turns the model's predictions into the next step's latents."""

    name: str = option("auto", "auto (the model's own), euler, unipc, dpmpp_2m, deis, ddim or dpm")
    shift: Optional[float] = option(None, "of a flow's sigmas towards noise, whatever the size; default: the model's")
    sigmas: Optional[str] = option(None, "how sigmas are spaced: karras, exponential or beta; default: the model's")
    options: dict[str, Any] = field(
        default_factory=dict, metadata={"help": "the scheduler class's own, by name: {solver_order: 3}"}
    )


@dataclass
class CacheConfig:
    """What of a step is taken from an earlier one: faster, and another picture."""

    name: str = option("none", "none, first_block, mag, taylorseer or pab; all but none change the picture")
    threshold: Optional[float] = option(
        None, "first_block, mag: how much may change unseen, 0 computes all; default: 0.05, 0.06"
    )
    interval: Optional[int] = option(None, "taylorseer, pab: one step in so many is computed; default: 5, 2")
    warmup: Optional[int] = option(
        None, "taylorseer, mag: so many steps are computed at first; default: 3, a fifth of all"
    )
    order: Optional[int] = option(None, "taylorseer: of its polynomial; default: 1")
    ratios: Optional[list[float]] = option(
        None, "mag: magnitudes of what is added, each step's over the last one's; default: the model's"
    )


@dataclass
class VaeConfig:
    """How the VAE turns latents into pixels."""

    tiling: bool = option(False, "decode in tiles that overlap: less memory, and another picture at their seams")
    tile: Optional[int] = option(None, "the side of a tile, pixels; default: 512")
    slicing: bool = option(False, "decode (and encode) the pictures of a batch one after another: less memory")
    shared: bool = option(False, "with vae.tiling: all ranks decode tiles, which changes nothing more")


@dataclass
class RuntimeConfig:
    """Where and how the ranks run."""

    device: str = option("auto", "auto, cpu or cuda; auto takes the GPUs if there are any")
    devices: Optional[list[int]] = option(None, "which GPUs, e.g. [2,3]; default: all that are visible")
    processes: Optional[int] = option(
        None,
        "ranks to start, for each group of data=; default: the product of the degrees, else the machine's GPUs, else 2",
    )
    dtype: str = option("auto", "auto, float32, bfloat16 or float16; auto is float32 on a CPU and bfloat16 on a GPU")
    threads: Any = option(
        None, "threads a rank computes with on the CPU, or a list of them, one a rank; default: its share of the cores"
    )
    offload: str = option(
        "none",
        "what waits in main memory (GPU only): none; model, parts that are idle; group, blocks of the transformer too, "
        "the next one travels meanwhile; sequential, all but the layer that computes",
    )
    weights: str = option(
        "auto",
        "replicated; sharded, each rank holds a part of the transformer and gathers it block by block; auto is "
        "replicated, and with cp=auto sharded where GPUs are too small for all of it in any mode",
    )
    timeout: float = option(600.0, "seconds that a collective may take before the run fails")
    stall_timeout: float = option(
        300.0, "seconds a rank may go without a sign of life or a finished step before the run fails"
    )
    start_timeout: float = option(180.0, "seconds the ranks have to start and connect")


@dataclass
class LoraConfig:
    """LoRAs on top of the model, applied in their order."""

    path: Optional[str] = option(
        None, "a .safetensors file, in any format that diffusers reads, or several: [a.safetensors,b.safetensors]"
    )
    scale: Any = option(None, "strength of the LoRA, or of each: [0.8,0.5]; 0 is the model alone; default: 1")
    name: Optional[str] = option(None, "its name on the screen and in records, or each: [a,b]; default: its file's")
    fuse: bool = option(False, "add it to the weights: faster steps, and another scale needs a reload")
    stack: Optional[list[Any]] = option(None, "several, typed as lora=[{path: FILE, scale: 0.8, name: NAME}, ...]")


@dataclass
class OutputConfig:
    """What is written, and where."""

    dir: str = option("outputs", "the folder that run directories are made in")
    format: str = option(
        "auto", f"auto, {choices(FORMATS)}; auto is mp4 for videos, which may be an animated {choices(ANIMATED)} too"
    )
    codec: Optional[str] = option(None, f"output=mp4: {choices(CODECS)}; default: {next(iter(CODECS))}")
    crf: Optional[int] = option(
        None,
        "output=mp4: quality, from 0, the best; default: "
        + ", ".join(f"{codec.crf} of {codec.worst} for {name}" for name, codec in CODECS.items()),
    )
    metadata: str = option(
        "full", "what a file tells of its recipe: full (other programs read it too), minimal (the recipe alone) or none"
    )


@dataclass
class MachineConfig:
    """The machine that is planned for, and the speeds that estimates are made with; None is asked of the system."""

    name: str = fact("here", "the machine's name")
    card: Optional[str] = option(None, "a GPU's name, as nvidia-smi gives it")
    capability: Optional[str] = option(None, "a GPU's CUDA compute capability: '9.0'")
    nodes: Optional[int] = option(None, "machines of this kind that share the work; default: 1, or those of cluster=")
    gpus: Optional[int] = option(None, "number of GPUs, of each machine")
    cores: Optional[int] = option(None, "number of CPU cores, of each machine")
    memory_gib: Optional[float] = option(None, "memory of one GPU, GiB; without a GPU, main memory")
    tflops: Optional[float] = option(None, "dense half-precision speed of one GPU or core, 10^12 FLOP/s")
    tflops_float32: Optional[float] = option(None, "the same in float32")
    efficiency: Optional[float] = option(
        None, "the share of that which a whole step reaches; default: 0.57, as measured"
    )
    memory_gbps: Optional[float] = option(None, "memory bandwidth of one device, 10^9 bytes/s")
    link_gbps: Optional[float] = option(None, "one-way bandwidth from a rank to the others, 10^9 bytes/s")
    link_us: Optional[float] = option(None, "latency of a small message, 10^-6 s")
    host_gbps: Optional[float] = option(
        None, "one-way bandwidth from pinned main memory to one GPU, 10^9 bytes/s, which an offload's weights take"
    )
    between_gbps: Optional[float] = option(
        None, "one-way bandwidth from one machine to the others, all its ranks together, 10^9 bytes/s"
    )
    between_us: Optional[float] = option(None, "latency of a small message between machines, 10^-6 s")


@dataclass
class ClusterConfig:
    """The machines whose ranks work together."""

    name: str = option(
        "none",
        "none: this machine alone; env: those that something else started the launcher on, by its variables; slurm: "
        "the nodes of a Slurm allocation",
    )
    port: Optional[int] = option(
        None, "where the first machine listens; default: MASTER_PORT with cluster=env, any free one with cluster=slurm"
    )
    join_timeout: float = option(180.0, "seconds that all machines have to come together")
    nodes: Optional[int] = option(None, "cluster=slurm: how many; default: all of the allocation, or 1 of a job's own")
    tasks_per_node: Optional[int] = option(None, "cluster=slurm: ranks on each node; default: as without Slurm")
    gpus_per_node: Optional[int] = option(None, "cluster=slurm: GPUs that a job asks for on each node; default: none")
    timeout_min: int = option(60, "cluster=slurm: a job's time limit, minutes")
    signal_delay_s: int = option(
        120, "cluster=slurm: seconds before the time limit at which a job ends after the current picture"
    )
    partition: Optional[str] = option(None, "cluster=slurm: where a job waits; default: the cluster's own")
    account: Optional[str] = option(None, "cluster=slurm: who pays for a job")
    qos: Optional[str] = option(None, "cluster=slurm: a job's quality of service")
    constraint: Optional[str] = option(None, "cluster=slurm: features that a job's nodes have")
    setup: Optional[list[str]] = option(None, "cluster=slurm: lines of a job script before the launcher")
    additional_parameters: dict[str, Any] = field(
        default_factory=dict, metadata={"help": "cluster=slurm: more of sbatch's options, {mem: 64G, exclusive: true}"}
    )
    array_parallelism: int = option(
        1, "cluster=slurm: allocations that do a sweep's jobs (-m) at once, each with warm ranks of its own"
    )
    wait: bool = option(True, "cluster=slurm: wait for a job's end; false submits it and leaves")
    srun_args: Optional[list[str]] = option(
        None, "cluster=slurm: more words for the srun that starts an agent on each further node: [--exact]"
    )


@dataclass
class TrackerConfig:
    """Where runs are told beside their folders, once they have ended."""

    name: str = option("none", "none, tensorboard, mlflow or wandb; each is a package of its own")
    project: str = option("launcher", "the tracker's name for these runs together")
    dir: str = option("trackers", "the folder of what a tracker keeps on this machine")


@dataclass
class LaunchConfig:
    """One request."""

    prompt: Optional[str] = option(None, "what to draw, taken as it stands; null: the model's own example")
    prompt_file: Optional[str] = option(None, "a text file that is one prompt, or a .json file with a list of prompts")
    image: Optional[str] = option(None, "a picture to start from, or several: [a.png,b.png]")
    mask_image: Optional[str] = option(None, "a picture that is white where image= is drawn anew")
    last_image: Optional[str] = option(None, "a video's last frame, beside image= for its first")
    video: Optional[str] = option(None, "a film to start from")
    strength: Optional[float] = option(None, "how much of image=, video= is drawn anew, up to 1; default: the model's")
    negative_prompt: Optional[str] = option(None, "what to avoid; needs classifier-free guidance, a scale above 1")
    height: int = option(0, "pixels, any number from 1; default: the model's")
    width: int = option(0, "pixels, any number from 1; default: the model's")
    frames: Optional[int] = option(None, "frames of a video, from 1; default: the model's, null for a picture")
    fps: Optional[int] = option(None, "frames a second of a video; default: the model's, null for pictures")
    steps: int = option(0, "denoising steps; default: the model's")
    guidance: Optional[float] = option(None, "guidance scale; default: the model's, null where it takes none")
    seed: Optional[int] = option(
        None, "the first picture's seed, the next ones count up; default: drawn, once for a whole sweep, and recorded"
    )
    images: Optional[int] = option(None, "pictures per prompt; default: 1, and batch of them of a single prompt")
    batch: int = option(1, "pictures that one call of the pipeline draws, of several prompts too")
    deterministic: bool = option(
        False, "take only what makes the same numbers each time: slower on a GPU, and what can't is an error"
    )
    check: bool = option(
        False, "compare the first step of all ranks with one rank's before anything is drawn; recorded in run.json"
    )
    data: Optional[str] = option(
        None,
        "groups of ranks that make a run's pictures, or a sweep's jobs (-m), at once: a number, or auto, as many as "
        "fill the machine; default: 1, or auto with objective=throughput",
    )
    compile: str = option(
        "none",
        "torch.compile of the transformer: none, regional (the blocks that it repeats) or full (as one graph); each "
        "rank compiles before its first step, and the picture is the same up to rounding",
    )
    quantization: str = option(
        "none",
        "the transformer's weights in fewer bits: none, int8 or fp8, by torchao, or nf4, by bitsandbytes; less memory, "
        "and another picture, the same on any number of ranks",
    )
    objective: str = option(
        "latency",
        "what cp=auto and data=auto look for: latency, the least time for one picture, or throughput, for all of them",
    )
    memory: str = option(
        "typed",
        "where more is planned than is free: typed, run as typed and say what would fit, or auto, take the cheapest "
        "option that fits (tiles, sharded weights, offload, another mode of cp=auto, bfloat16) and say so",
    )
    fail_fast: bool = option(False, "stop a sweep (-m) at its first failed job")
    allow_refused: bool = option(
        False, "jobs of a sweep (-m) may be refused: each is a row with the reason, and no failure if any other is done"
    )
    resume: Optional[str] = option(
        None, "the folder of an earlier sweep of the same settings (-m): run what is missing or failed"
    )
    model: ModelConfig = field(default_factory=ModelConfig)
    cp: CpConfig = field(default_factory=CpConfig)
    attention: AttentionConfig = field(default_factory=AttentionConfig)
    scheduler: SchedulerConfig = field(default_factory=SchedulerConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)
    vae: VaeConfig = field(default_factory=VaeConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    machine: MachineConfig = field(default_factory=MachineConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)
    output: OutputConfig = field(default_factory=OutputConfig)
    tracker: TrackerConfig = field(default_factory=TrackerConfig)

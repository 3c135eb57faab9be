"""Each rule, by lines that break it; and lines that break none."""

import copy
import functools
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shared import GPUS, LAPTOP

from attention_backends.catalog import MODES
from attention_backends.layout import split_lengths
from launcher.config.compose import Composer, to_config
from launcher.estimates.ways import resolve
from launcher.machines import Machine
from launcher.rules.general import RULES, problems

BROKEN = [
    # counts
    ("height=0", "height=0: must be at least 1"),
    ("width=-5", "width=-5: must be at least 1"),
    ("height=70000", "a side may have 65536 pixels"),
    ("output=webp height=20000", "WebP pictures end at 16383"),
    ("steps=0", "steps=0: must be at least 1"),
    ("steps=1001", "schedulers know 1000 timesteps"),
    ("images=0", "images=0: must be at least 1"),
    ("runtime.threads=0", "runtime.threads=0: must be at least 1"),
    ("runtime.timeout=nan", "runtime.timeout=nan: must be at least 1"),
    ("seed=-1", "seeds go from 0"),
    ("seed=9223372036854775807 images=2", "seeds go from 0"),
    # words
    ("cp.mode=rign", "cp.mode=rign: must be auto, none"),
    ("cp.mode=rign", "type cp=ring"),
    ("attention.kernel=flush", "type attention.kernel=flash"),
    ("runtime.device=gpu", "must be auto, cpu or cuda"),
    ("runtime.dtype=float8", "must be auto, float32, bfloat16 or float16"),
    ("output.format=gif", "must be png, webp or jpeg"),
    ("negative_prompt='\udcff' model.true_cfg=2", "negative_prompt: is not UTF-8 text"),
    # degrees
    ("cp=ring cp.ring_degree=0", "cp.ring_degree=0: must be at least 1"),
    ("cp=ring_anything cp.ring_degree=1", "needs 2 ranks or more"),
    ("cp=ring_anything cp.ring_degree=2 cp.ulysses_degree=2", "cp=ring_anything excludes Ulysses"),
    ("cp=ulysses_anything cp.ring_degree=2", "cp=ulysses_anything excludes a ring"),
    ("cp=ring_anything cp.ring_degree=2 runtime.processes=3", "ring_degree 2 x ulysses_degree 1 = 2 ranks, not 3"),
    ("cp=unified cp.ring_degree=2 cp.ulysses_degree=1", "combines both"),
    ("cp=unified runtime.processes=5", "combines both"),
    ("cp=none runtime.processes=2", "cp=none runs in one process"),
    ("cp=ulysses cp.schedule=staged", "only modes with a ring have schedules"),
    ("cp=ulysses cp.transport=host", "is how GPUs exchange, and this run uses none"),
    ("cp.transport=mpi", "must be auto, nccl or host"),
    # heads and streams
    ("cp=ulysses cp.ulysses_degree=4", "6 heads cannot be shared by 4 ranks; legal degrees here: 2, 3, 6"),
    ("cp=unified cp.ring_degree=2 cp.ulysses_degree=4", "or cp=unified_anything"),
    ("cp=unified_anything cp.ring_degree=1 cp.ulysses_degree=1", "needs 2 ranks or more"),
    ("cp=ring cp.ring_degree=3 height=768", "3 ranks cannot share 512 text tokens equally"),
    ("cp=ring cp.ring_degree=2 height=1000 width=1000", "2 ranks cannot share 3969 image tokens equally"),
    ("cp=ring cp.ring_degree=2 height=1000 width=1000", "type height=992 or height=1024, or cp=ring_anything"),
    # devices
    ("runtime.device=cuda", "this machine has 2 CPU cores, no CUDA GPU"),
    ("runtime.devices=[0] runtime=cpu", "names GPUs"),
    ("runtime.devices=[0,1]", "this machine has no CUDA GPU, not 0 or 1"),
    ("runtime.offload=model", "moves weights off a GPU"),
    ("cp=ring_anything runtime.processes=100", "2 cores serve at most 16"),
    ("model=flux", "is too large for a CPU"),
    ("cp=ring_anything runtime.processes=1000", "one host has at most 256"),
    ("machine=h100x8", "machine=h100x8: a run takes place on this machine only"),
    ("machine.gpus=2", "machine.gpus=2: a run takes place on this machine only"),
    ("machine.cores=0", "machine.cores=0: must be from 1 to 4096"),
    ("machine.link_gbps=0", "must be above 0"),
    ("machine.efficiency=2", "is a part of the whole"),
    ("model.heads=0", "model.heads=0: must be from 1 to 65536"),
    # kernels
    ("attention=flash", "does not run on a CPU"),
    ("attention=native_cudnn", "does not run on a CPU"),
    ("attention=sage", "needs the package sageattention"),
    # guidance
    ("guidance=3", "takes no distilled guidance scale"),
    ("negative_prompt=blue", "has no effect while model.true_cfg is 1"),
    ("model.true_cfg=0.5", "must be 1 (off) or more"),
    ("model=flux guidance=null runtime=cpu", "needs a guidance scale"),
    ("model=flux guidance=-1 runtime=cpu", "must be a number from 0"),
    ("model=wan_t2v_1_3b guidance=null runtime=cpu", "needs a guidance scale"),
    ("model=wan_t2v_1_3b model.true_cfg=4 runtime=cpu", "takes its classifier-free guidance scale as guidance"),
    ("model=ltx_video guidance=1 negative_prompt=blue runtime=cpu", "no effect while guidance is 1 (off)"),
    ("model=qwenimage guidance=3 runtime=cpu", "takes no distilled guidance scale"),
    # text
    ("model.text_tokens=0", "model.text_tokens=0: must be at least 1"),
    ("model.text_tokens=513", "FluxPipeline takes at most 512"),
    ("model=qwenimage model.text_tokens=1025 runtime=cpu", "QwenImagePipeline takes at most 1024"),
    ("model.text=none", "model.text=none: must be padded, prompt or whole"),
    ("model=qwenimage cp=ulysses runtime=cpu", "without its tokenizer.json; type cp=ulysses_anything"),
    # masks
    (
        "model=ltx_video cp=ring_anything cp.ring_degree=3 runtime=cpu",
        "cp.ring_degree=3 cp.ulysses_degree=1",
    ),
    ("model=ltx_video attention=flash", "takes no attention mask, and ltx_video always passes one"),
    ("model=ltx_video model.text_tokens=2 cp=unified_anything runtime.processes=3", "3 ranks need a text token each"),
    ("model=ltx_video cp=ring cp.ring_degree=3 runtime=cpu", "3 ranks cannot share 128 text tokens equally"),
    ("model=ltx_video cp=ring cp.ring_degree=3 runtime=cpu", "ranks that divide them: 2, 4; type cp=unified_anything"),
    # frames
    ("frames=5", "frames=5: flux_tiny makes pictures, not videos"),
    ("fps=16", "fps=16: flux_tiny makes pictures, not videos"),
    ("model=wan_t2v_1_3b frames=0", "frames=0: wan_t2v_1_3b makes videos: a number from 1 to 65536; type frames=81"),
    ("model=ltx_video frames=null", "frames=null: ltx_video makes videos"),
    ("model=ltx_video fps=1001", "fps=1001: ltx_video makes videos: a number from 1 to 1000; type fps=25"),
    ("model=ltx_video output=jpeg", "output=jpeg: holds one picture, and ltx_video makes videos"),
    ("model=wan_t2v_1_3b height=16400", "knows 1024 positions each way, of 16 pixels; type height=16384"),
    ("model=wan_t2v_1_3b frames=4094", "knows 1024 positions in time, of 4 frames; type frames=4093"),
    ("model=wan_t2v_1_3b cp=ring cp.ring_degree=4 frames=5 height=16 width=80", "cannot share 10 video tokens equally"),
    # LoRA
    ("lora.scale=0.5", "scales a LoRA, and none is given"),
    ("lora.scale=nan lora.path=/nowhere.safetensors", "lora.scale=nan: must be a number"),
    ("lora.path=/nowhere.safetensors", "is no file"),
    (f"lora.path={__file__}", "is no .safetensors file; other formats can run code"),
    # weights and output
    ("model.path=/nowhere/at/all", "is neither a folder nor the name of a hub repository"),
    ("output.dir=/dev/null/x", "null is a file"),
    ("prompt=a prompt_file=b.txt", "prompt is given too"),
]
ON_GPUS = [
    ("cp=ring_anything cp.ring_degree=5", "one GPU a rank, and 4 are there"),
    ("cp=ring_anything cp.ring_degree=33 cp.transport=host", "4 GPUs serve at most 32"),
    ("cp=none cp.transport=nccl", "one process has nobody to send to"),
    ("runtime.devices=[1,1]", "must name GPUs, each once"),
    ("runtime.devices=[]", "must name GPUs, each once"),
    ("runtime.devices=[4]", "this machine has GPUs 0 to 3, not 4"),
    ("attention=native_flash runtime.dtype=float32", "computes in float16 or bfloat16, and this run in float32"),
    ("attention=native_flash model.head_dim=20", "takes heads of a multiple of 8 channels"),
    ("attention=native_cudnn model.head_dim=160", "takes heads of up to 128 channels"),
    ("attention=flash", "needs the package flash-attn"),
    ("machine=a100x8 attention=flash_3", "needs compute capability 9.0, and GPU 0 (A100-SXM4-80GB) has 8.0"),
]
LEGAL = [
    "",
    "height=1 width=1 images=3 seed=0",
    "cp=ring_anything height=1000",
    "cp=ring_anything cp.ring_degree=5 height=16 width=16 cp.schedule=gather",
    "cp=ulysses cp.ulysses_degree=2",
    "cp=ulysses_anything cp.ulysses_degree=3 height=1000 width=1000",
    "cp=unified cp.ring_degree=2 cp.ulysses_degree=2",
    "cp=ulysses_anything cp.ulysses_degree=4",
    "cp=unified_anything cp.ring_degree=1 cp.ulysses_degree=5 height=1000 width=1000",
    "model.true_cfg=2 negative_prompt=blue runtime.dtype=bfloat16",
    "model.text_tokens=1 cp=unified_anything",
]


@pytest.fixture(scope="module")
def asked(composer):
    """`ask`, which composes each line once for all tests here."""
    return functools.cache(lambda line, machine: resolve(to_config(composer.compose(line.split())), machine))


@pytest.mark.parametrize(("line", "said"), BROKEN)
def test_a_laptop_refuses(asked, line, said):
    found = [str(problem) for problem in problems(asked(line, LAPTOP))]
    assert any(said in text for text in found), found


@pytest.mark.parametrize(("line", "said"), ON_GPUS)
def test_a_machine_with_four_gpus_refuses(asked, line, said):
    found = [str(problem) for problem in problems(asked(line, GPUS))]
    assert any(said in text for text in found), found


@pytest.mark.parametrize("line", LEGAL)
def test_a_laptop_takes(ask, line):
    assert problems(ask(*line.split())) == []


def test_every_rule_is_broken_by_some_line_and_every_problem_says_what_to_do(asked):
    lines = [(line, LAPTOP) for line, _ in BROKEN] + [(line, GPUS) for line, _ in ON_GPUS]
    requests = [asked(line, machine) for line, machine in lines]
    found = {rule.__name__: [problem for request in requests for problem in rule(request)] for rule in RULES}
    assert [name for name, broken in found.items() if not broken] == []
    assert [problem for broken in found.values() for problem in broken if not problem.instead] == []


def test_all_problems_are_told_at_once(ask):
    found = " ".join(
        str(problem) for problem in problems(ask("height=0", "steps=0", "cp=ulysses", "cp.ulysses_degree=4"))
    )
    assert all(part in found for part in ("height=0", "steps=0", "6 heads"))


def test_the_mission_line_is_legal_on_gpus_but_for_the_weights(ask, tmp_path):
    request = ask("model=flux", "cp=ring_anything", "height=1000", machine=GPUS)
    assert [problem.value for problem in problems(request)] == ["model.path=black-forest-labs/FLUX.1-dev"]


def test_a_full_disk_is_seen_before_the_start(ask, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": 2 << 20})())
    (problem,) = problems(ask("height=4000", "width=4000"))
    assert "has 2 MiB free" in problem.rule


DEFAULTS = to_config(Composer().compose([]))
degrees = st.none() | st.integers(-2, 7)


@given(
    mode=st.sampled_from(["auto", *MODES]),
    ring=degrees,
    ulysses=degrees,
    processes=degrees,
    sides=st.tuples(st.integers(-3, 1100), st.integers(1, 1100)),
    text=st.integers(1, 512),
    machine=st.sampled_from([LAPTOP, GPUS, Machine(cores=1)]),
)
def test_what_passes_the_rules_can_be_cut_and_nothing_makes_a_rule_fail(
    mode, ring, ulysses, processes, sides, text, machine
):
    """The shares of a legal request are whole, cover the sequence, and are equal where the mode needs it."""
    config = copy.deepcopy(DEFAULTS)
    config.cp.mode, config.cp.ring_degree, config.cp.ulysses_degree = mode, ring, ulysses
    config.runtime.processes, (config.height, config.width) = processes, sides
    config.model.text_tokens = text
    request = resolve(config, machine)
    if problems(request):
        return
    mesh = request.mesh
    assert mesh.whole
    assert request.processes in (None, mesh.ranks)
    for length in request.streams.values():
        held = split_lengths(length, mesh.sequence)
        assert sum(held) == length
        assert max(held) - min(held) <= (0 if MODES[request.mode].even else 1)
    if MODES[request.mode].heads_divide:
        assert config.model.heads % mesh.ulysses == 0

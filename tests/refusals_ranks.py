"""Lines that are refused for how ranks share the work, and what they run on; the others are in refusals.py."""

from __future__ import annotations

from shared import GPUS, LAPTOP

from launcher.machines import Machine

RANKS: dict[str, list[tuple[str, str, Machine]]] = {
    "sharing": [
        (
            "model=chroma runtime=cpu cp=ring_anything model.cp_plan=null",
            "the ranks need a plan of what they split, and there is none for ChromaTransformer2DModel; type cp=none",
            LAPTOP,
        ),
        ("cp.cfg_degree=2", "guidance is off (model.true_cfg is at most 1): there is nothing to divide", LAPTOP),
        ("model=flux2 runtime=cpu cp.cfg_degree=2", "flux2 takes no classifier-free guidance to divide", LAPTOP),
        (
            "model=flux_fill runtime=cpu model.true_cfg=2 model.guidance_branches=null cp.cfg_degree=2",
            "the two branches of flux_fill's guidance can't be computed apart",
            LAPTOP,
        ),
        (
            "cp=ring_anything cp.ring_degree=2 cp.cfg_degree=2 model.true_cfg=2 runtime.processes=2",
            "cfg_degree 2 x ring_degree 2 x ulysses_degree 1 = 4 ranks, not 2; type runtime.processes=4",
            LAPTOP,
        ),
        (
            "cp=none cp.cfg_degree=2 model.true_cfg=2 cp.ring_degree=2",
            "cp.ring_degree=2: cp=none shares no sequence; leave it out or type cp=ring_anything",
            LAPTOP,
        ),
        ("cp.implementation=theirs", "unknown option; choose from own, diffusers", LAPTOP),
        ("cp=none cp.implementation=diffusers", "cp=none shares no sequence; type cp.implementation=own", LAPTOP),
        (
            "cp=unified_anything cp.implementation=diffusers",
            "diffusers has no unified_anything; it has ring, ulysses, unified, ulysses_anything, ring_anything",
            LAPTOP,
        ),
        ("cp=diffusers_ring height=1008 width=1008", "3969 image tokens do not divide among 2 ranks", LAPTOP),
        (
            "model=chroma runtime=cpu cp=diffusers_ulysses",
            "diffusers has no plan of what ChromaTransformer2DModel splits",
            LAPTOP,
        ),
        (
            "model=chroma runtime=cpu cp=diffusers_ring",
            "chroma always uses an attention mask, of which diffusers' ring applies one rank's to all",
            LAPTOP,
        ),
        (
            "cp=diffusers_ulysses_anything cp.ulysses_degree=4",
            "diffusers fills 6 heads up to 4 x 2 and takes at most 1 more",
            LAPTOP,
        ),
        ("cp=diffusers_ring cp.cfg_degree=2 model.true_cfg=2", "diffusers divides no guidance", LAPTOP),
        ("cp=diffusers_ring cp.transport=host", "diffusers exchanges by nccl", GPUS),
        ("cp=diffusers_ring_anything cp.schedule=staged", "diffusers gathers all keys", LAPTOP),
        ("cp=ring_anything cp.ring_degree=1", "needs at least 2 ranks", LAPTOP),
        (
            "cp=ring_anything cp.ring_degree=2 cp.ulysses_degree=2",
            "cp=ring_anything can't be combined with Ulysses",
            LAPTOP,
        ),
        ("cp=ulysses_anything cp.ring_degree=2", "cp=ulysses_anything can't be combined with a ring", LAPTOP),
        (
            "cp=ring_anything cp.ring_degree=2 runtime.processes=3",
            "ring_degree 2 x ulysses_degree 1 = 2 ranks, not 3",
            LAPTOP,
        ),
        ("cp=unified cp.ring_degree=2 cp.ulysses_degree=1", "needs both degrees to be at least 2", LAPTOP),
        ("cp=unified runtime.processes=5", "needs both degrees to be at least 2", LAPTOP),
        ("cp=none runtime.processes=2", "cp=none runs in one process", LAPTOP),
        ("cp=ulysses cp.schedule=staged", "only modes with a ring have a schedule", LAPTOP),
        ("cp=ulysses cp.transport=host", "is how GPUs exchange, and this run uses none", LAPTOP),
        ("cp=none cp.transport=nccl", "one process has nobody to send to", GPUS),
        ("cp=ring_anything cp.ring_degree=33 cp.transport=host", "4 GPUs can serve at most 32", GPUS),
        ("cp=ulysses cp.ulysses_degree=4", "6 heads do not divide among 4 ranks; valid degrees: 2, 3, 6", LAPTOP),
        ("cp=unified cp.ring_degree=2 cp.ulysses_degree=4", "or cp=unified_anything", LAPTOP),
        ("cp=unified_anything cp.ring_degree=1 cp.ulysses_degree=1", "needs at least 2 ranks", LAPTOP),
        ("cp=ring cp.ring_degree=3 height=768", "512 text tokens do not divide among 3 ranks", LAPTOP),
        ("cp=ring cp.ring_degree=2 height=1000 width=1000", "3969 image tokens do not divide among 2 ranks", LAPTOP),
        (
            "cp=ring cp.ring_degree=2 height=1000 width=1000",
            "type height=992 or height=1024, or cp=ring_anything",
            LAPTOP,
        ),
        ("cp=ring_anything runtime.processes=100", "2 cores can serve at most 16", LAPTOP),
        ("model=qwenimage cp=ulysses runtime=cpu", "without its tokenizer; type cp=ulysses_anything", LAPTOP),
        (
            "model=hunyuan_video cp=ring_anything cp.ring_degree=3 runtime=cpu",
            "type cp=unified_anything cp.ring_degree=3 cp.ulysses_degree=1",
            LAPTOP,
        ),
        (
            "model=hunyuan_video model.text_tokens=2 cp=unified_anything runtime.processes=3 runtime=cpu",
            "hunyuan_video needs text tokens on each of 3 ranks, and there are 2",
            LAPTOP,
        ),
        (
            "model=sd35_medium cp=ring cp.ring_degree=2 runtime=cpu",
            "333 text tokens do not divide among 2 ranks",
            LAPTOP,
        ),
        (
            "model=hunyuan_video cp=ring cp.ring_degree=3 runtime=cpu",
            "numbers of ranks that divide them: 2, 4; type cp=unified_anything",
            LAPTOP,
        ),
        ("model.reference_area=-1", "model.reference_area=-1: must count pixels, from 4096 to 4294967296", LAPTOP),
        ("model=lumina2 cp=ring cp.ring_degree=2 runtime=cpu", "can't be counted before the start", LAPTOP),
        (
            "model=wan_t2v_1_3b cp=ring cp.ring_degree=4 frames=5 height=16 width=80",
            "10 video tokens do not divide among 4 ranks",
            LAPTOP,
        ),
        (
            "machine.nodes=2 cp=none",
            "1 rank: does not divide among 2 machines; type cp=ring_anything runtime.p",
            LAPTOP,
        ),
        ("machine.nodes=2 runtime.processes=3 cp=ring_anything", "machines; type runtime.processes=4", LAPTOP),
        ("machine.nodes=2 cp=ring_anything cp.ring_degree=10", "available: 8", GPUS),
        ("cp=ring_anything cp.ring_degree=5", "each rank needs its own GPU; available: 4", GPUS),
    ],
    "shares": [
        ("cp=ring_anything cp.shares=[2,0]", "takes whole numbers from 1, one for each rank, or auto; type", LAPTOP),
        ("cp=ring_anything cp.shares=fair", "cp.shares=fair: takes whole numbers from 1", LAPTOP),
        ("cp=ring_anything cp.shares=[]", "cp.shares=[]: takes whole numbers from 1", LAPTOP),
        ("cp=ring_anything cp.shares=[1,10001]", "a share is 10000 at most", LAPTOP),
        ("cp=none cp.shares=[2,1]", "cp=none shares no sequence; leave it out, or type cp=ring_anything", LAPTOP),
        (
            "cp.shares=[2,1,1]",
            "cp.shares=[2,1,1]: 3 shares for 2 ranks of a sequence (ring_degree 2 x ulysses_degree 1 = 2 ranks); type "
            "cp.shares=[2,1], or runtime.processes=3",
            LAPTOP,
        ),
        (
            "cp=ring cp.shares=[2,1]",
            "cp=ring needs equal shares, and these are [2, 1]; type cp=ring_anything, or cp.shares=null",
            LAPTOP,
        ),
        ("cp=ulysses runtime.threads=[2,1] cp.shares=auto", "cp=ulysses needs equal shares", LAPTOP),
        (
            "model=hunyuan_video model.text_tokens=4 cp=unified_anything runtime.processes=2 cp.shares=[9,1]",
            "hunyuan_video needs text tokens on each of 2 ranks, and these hold [4, 0]; type cp.shares=[100,15]",
            LAPTOP,
        ),
        (
            "cp=ring_anything runtime.threads=[2,1,1]",
            "3 numbers for 2 ranks (ring_degree 2 x ulysses_degree 1 = 2 ranks); type runtime.threads=2 for all",
            LAPTOP,
        ),
    ],
    "devices": [
        ("cp=none check=true", "check=true: compares several ranks with one, and this run has one process", LAPTOP),
        ("runtime.device=cuda", "this machine has 2 CPU cores, no CUDA GPU", LAPTOP),
        ("runtime.devices=[0] runtime=cpu", "names GPUs", LAPTOP),
        ("runtime.devices=[0,1]", "this machine has no CUDA GPU, not 0 or 1", LAPTOP),
        ("runtime.offload=model", "moves weights off a GPU", LAPTOP),
        ("runtime.offload=sequential", "moves weights off a GPU, and this run uses none; leave it out", LAPTOP),
        ("runtime.weights=sharded cp=none", "need at least 2 ranks; type cp=ring_anything, or leave it out", LAPTOP),
        ("runtime.weights=sharded runtime.processes=1", "type cp=ring_anything runtime.processes=2", LAPTOP),
        ("runtime.weights=sharded machine=h100x8 machine.gpus=1", "need at least 2 ranks; leave it out", LAPTOP),
        ("runtime.weights=sharded cp=ring cache=first_block", "were not tried together; leave one of them out", LAPTOP),
        ("model=flux", "too large for a CPU", LAPTOP),
        ("machine=h100x8", "machine=h100x8: a run uses this machine; others can only be planned for", LAPTOP),
        ("machine.nodes=2", "machine.nodes=2: a run uses this machine; others can only be planned for", LAPTOP),
        ("machine.gpus=2", "machine.gpus=2: a run uses this machine; others can only be planned for", LAPTOP),
        ("runtime.devices=[1,1]", "must list GPUs, each once", GPUS),
        ("runtime.devices=[]", "must list GPUs, each once", GPUS),
        ("runtime.devices=[4]", "this machine has GPUs 0, 1, 2, 3, not 4", GPUS),
    ],
    "kernels": [
        ("machine=a100x8 attention=flash_3", "needs compute capability 9.0; GPU 0 (A100-SXM4-80GB) has 8.0", GPUS),
        ("attention=flash", "doesn't run on a CPU", LAPTOP),
        ("attention=native_cudnn", "doesn't run on a CPU", LAPTOP),
        ("attention=sage", "needs the package sageattention", LAPTOP),
        (
            "model=hunyuan_video attention=flash",
            "doesn't support attention masks, and hunyuan_video always uses one",
            LAPTOP,
        ),
        ("attention=native_flash runtime.dtype=float32", "supports float16 or bfloat16; this run uses float32", GPUS),
        ("attention=native_flash model.head_dim=20", "needs a head size that 8 divides", GPUS),
        ("attention=native_cudnn model.head_dim=160", "supports head sizes up to 128", GPUS),
        ("attention=flash", "needs the package flash-attn", GPUS),
    ],
}

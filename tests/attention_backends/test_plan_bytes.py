"""The bytes that a plan states are those that real ranks send, in every mode, through a whole FLUX transformer."""

import copy
from dataclasses import replace
from typing import Any

import pytest
import tiny
import torch
import torch.distributed as dist

import attention_backends
from attention_backends import exchange
from launcher.config.compose import Composer, to_config
from launcher.estimates.ways import resolve, way
from launcher.machines import Machine
from launcher.request.fill_in import shared

HEADS, HEAD_DIM, LAYERS = 4, 16, 2  # of every model here, whose output tokens have as many channels as this:
CHANNELS = {"flux": 4, "wan": 16, "ltx": 4}
CASES = [
    ("flux", "ring", 2, 1, 16, 6),
    ("flux", "ulysses", 1, 2, 16, 6),
    ("flux", "unified", 2, 2, 16, 8),
    ("flux", "ulysses_anything", 1, 3, 15, 7),
    ("flux", "ring_anything", 3, 1, 15, 7),
    ("flux", "unified_anything", 3, 2, 15, 7),
    ("flux", "unified_anything", 2, 3, 15, 1),
    ("wan", "ring_anything", 3, 1, 10, 7),
    ("wan", "ulysses", 1, 2, 10, 7),
    ("ltx", "unified_anything", 3, 1, 10, 7),
    ("ltx", "unified_anything", 2, 2, 9, 7),
    ("ltx", "ring", 2, 1, 10, 8),
    ("flux", "attention2d", 2, 2, 15, 7),
    ("ltx", "attention2d", 3, 2, 9, 7),
]
UNEVEN = [
    ("flux", "ring_anything", 3, 1, 15, 7, (1, 4, 2)),
    ("flux", "unified_anything", 2, 2, 15, 7, (5, 1, 2, 1)),
    ("ltx", "unified_anything", 1, 3, 15, 7, (4, 1, 2)),
    ("wan", "attention2d", 2, 2, 15, 7, (1, 1, 3, 1)),
]


def model_and_inputs(family: str, drawn: int, text: int) -> tuple[torch.nn.Module, dict[str, Any]]:
    """Two layers, `drawn` tokens of picture or video."""
    if family == "flux":
        return tiny.flux(dtype=torch.float32), tiny.flux_inputs(drawn, text, dtype=torch.float32)
    common = {"num_attention_heads": HEADS, "attention_head_dim": HEAD_DIM, "num_layers": LAYERS}
    texts, step = torch.randn(1, text, 8), torch.tensor([1.0])
    inputs = {"encoder_hidden_states": texts, "timestep": step, "return_dict": False}
    if family == "wan":
        from diffusers import WanTransformer3DModel

        wan = WanTransformer3DModel(in_channels=4, out_channels=4, text_dim=8, freq_dim=16, ffn_dim=32, **common)
        return wan, inputs | {"hidden_states": torch.randn(1, 4, 1, 2, 2 * drawn)}
    from diffusers import LTXVideoTransformer3DModel

    sizes = {"cross_attention_dim": HEADS * HEAD_DIM, "caption_channels": 8}
    ltx = LTXVideoTransformer3DModel(in_channels=4, out_channels=4, **sizes, **common)
    mask = torch.ones(1, text)
    mask[:, -2:] = 0
    video = {"hidden_states": torch.randn(1, drawn, 4), "num_frames": 1, "height": 1, "width": drawn}
    return ltx, inputs | video | {"encoder_attention_mask": mask}


def counted(
    group: dist.ProcessGroup, family: str, mode: str, ring: int, ulysses: int, schedule: str, drawn: int, text: int,
    plan: dict[str, Any], shares: tuple[int, ...],
) -> int:  # fmt: skip
    torch.manual_seed(0)
    model, inputs = model_and_inputs(family, drawn, text)
    attention_backends.enable(
        model, process_group=group, mode=mode, ring_degree=ring, ulysses_degree=ulysses, schedule=schedule,
        cp_plan=plan, shares=shares,
    )  # fmt: skip
    exchange.reset_counters()
    with torch.no_grad():
        model(**inputs)
    return exchange.counters().bytes


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "mode", "ring", "ulysses", "drawn", "text", "shares"), [*((*case, ()) for case in CASES), *UNEVEN]
)
def test_a_step_sends_what_the_plan_says(ranks, family, mode, ring, ulysses, drawn, text, shares):
    name = {"flux": "flux_tiny", "wan": "wan_t2v_1_3b", "ltx": "ltx_video"}[family]
    config = copy.deepcopy(to_config(Composer().compose([f"model={name}", "runtime=cpu", f"cp={mode}", "guidance=1"])))
    model = config.model
    model.heads, model.head_dim, model.layers, model.text_tokens = HEADS, HEAD_DIM, LAYERS, text
    model.vae_scale, model.patch, model.guidance_embeds = 1, 1, False
    config.height, config.width, config.cp.shares = drawn, 1, list(shares) or None
    config.frames = None if family == "flux" else 1
    request = shared(resolve(config, Machine(cores=2)), mode, ring, ulysses, None)
    world = ring * ulysses
    for schedule in ("gather", "staged") if request.schedule else ("gather",):
        planned = way(replace(request, schedule=schedule))
        case = {"family": family, "mode": mode, "ring": ring, "ulysses": ulysses, "schedule": schedule}
        case |= {"shares": shares}
        sent = ranks.run(counted, world, drawn=drawn, text=text, plan=model.cp_plan, **case)
        # what is gathered once at the end of a step is not attention: every shard of the output goes to all others
        held = [rank.get("image", 0) + rank.get("video", 0) for rank in request.tokens_per_rank]
        output = [(world - 1) * tokens * CHANNELS[family] * 4 for tokens in held]
        assert planned.step_bytes == max(bytes - after for bytes, after in zip(sent, output, strict=True)) > 0

"""What the host takes for a layer of FLUX: `python -m tests.benchmarks.host`.

57 narrow layers of FLUX on few tokens, so that nearly all of a step is what a host does beside a GPU: the model alone,
and as the first of four ranks of torch's "fake" process group, whose messages take no time. CPU time of one thread, the
least of some steps. These cores are not those beside a GPU, so ratios count: workload.HOST has what they are of a
layer's launches, by the one figure that was measured beside a GPU (gpu.json).
"""

from __future__ import annotations

import time
from typing import Any

import torch
from diffusers import FluxTransformer2DModel

import attention_backends
from tests.gpu.share import others

LAYERS, HEADS, WIDTH = (19, 38), 8, 8
STREAMS = [8, 16]
WAYS: dict[str, dict[str, Any]] = {
    "gather": {"ring_degree": 4, "schedule": "gather"},
    "staged": {"ring_degree": 4, "schedule": "staged"},
    "Ulysses": {"ulysses_degree": 4},
    "2 x 2": {"ring_degree": 2, "ulysses_degree": 2, "schedule": "gather"},
}
TURNS = 15


def least(model: torch.nn.Module, inputs: dict[str, Any]) -> float:
    """Seconds of this thread for a step."""
    taken = []
    with torch.no_grad():
        for _ in range(TURNS):
            begin = time.thread_time()
            model(**inputs)
            taken.append(time.thread_time() - begin)
    return min(taken)


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    double, single = LAYERS
    model = FluxTransformer2DModel(
        num_layers=double,
        num_single_layers=single,
        num_attention_heads=HEADS,
        attention_head_dim=WIDTH,
        axes_dims_rope=(2, 2, 4),
        joint_attention_dim=64,
        pooled_projection_dim=32,
        guidance_embeds=True,
    ).eval()
    text, drawn = STREAMS
    inputs = {
        "hidden_states": torch.randn(1, drawn, 64),
        "encoder_hidden_states": torch.randn(1, text, 64),
        "pooled_projections": torch.randn(1, 32),
        "timestep": torch.tensor([0.5]),
        "guidance": torch.tensor([3.5]),
        "img_ids": torch.zeros(drawn, 3),
        "txt_ids": torch.zeros(text, 3),
        "return_dict": False,
    }
    alone = least(model, inputs)
    layers = sum(LAYERS)
    print(f"{'':24}{'us a layer':>12}{'above alone':>14}{'of a layer':>12}")
    print(f"{'alone':24}{alone / layers * 1e6:12.0f}")
    for name, arguments in WAYS.items():
        for overlap in (False, True):
            with others(4, STREAMS) as group:
                attention_backends.enable(
                    model, mode="unified_anything", process_group=group, overlap=overlap, **arguments
                )
                took = least(model, inputs)
                attention_backends.disable(model)
            more = (took - alone) / layers
            what = f"{name}, put off" if overlap else name
            print(f"{what:24}{took / layers * 1e6:12.0f}{more * 1e6:14.0f}{more * layers / alone:11.0%}")


if __name__ == "__main__":
    main()

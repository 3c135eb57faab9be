"""Every mode, through a real FLUX transformer on gloo ranks, against the same model on one process."""

from typing import Any

import pytest
import tiny
import torch
import torch.distributed as dist

import attention_backends

MODES = [
    # world, arguments of enable, image tokens, text tokens
    (2, {"ring_degree": 2}, 16, 6),
    (2, {"ulysses_degree": 2}, 16, 6),
    (4, {"ring_degree": 2, "ulysses_degree": 2}, 16, 8),
    (3, {"ulysses_degree": 3, "ulysses_anything": True}, 17, 7),
    (3, {"ring_degree": 3, "ring_anything": True}, 17, 7),
    (6, {"ring_degree": 3, "ulysses_degree": 2, "unified_anything": True}, 17, 7),
    (6, {"ring_degree": 2, "ulysses_degree": 3, "unified_anything": True}, 19, 1),
    (6, {"ring_degree": 6, "ring_anything": True}, 3, 7),
    (5, {"ulysses_degree": 5, "unified_anything": True}, 4, 7),
    (4, {"ring_degree": 2, "ulysses_degree": 2, "attention2d": True}, 17, 7),
    (6, {"ring_degree": 2, "ulysses_degree": 3, "mode": "attention2d"}, 17, 4),
    (3, {"ring_degree": 3, "ring_anything": True}, 1, 1),  # two ranks hold nothing
    (2, {"ring_degree": 2, "ring_anything": True}, 64, 65),  # text and image shards look alike on one rank
    (2, {"ring_degree": 2, "ring_anything": True, "shares": (2, 1)}, 17, 7),
    (3, {"ulysses_degree": 3, "ulysses_anything": True, "shares": (1, 5, 2)}, 17, 7),  # heads too: 0 to 3 of 4
    (6, {"ring_degree": 3, "ulysses_degree": 2, "unified_anything": True, "shares": (3, 1, 1, 2, 7, 1)}, 19, 5),
    (4, {"ring_degree": 2, "ulysses_degree": 2, "attention2d": True, "shares": (1, 9, 4, 1)}, 17, 7),
    (2, {"ring_degree": 2, "shares": (3, 3)}, 16, 6),  # equal ones, in a mode that takes no others
]


def forward(group: dist.ProcessGroup, arguments: dict[str, Any], image: int, text: int) -> dict[str, Any]:
    model = tiny.flux()
    inputs = tiny.flux_inputs(image, text)
    with torch.no_grad():
        expected = model(**inputs)[0]
        attention_backends.enable(model, process_group=group, **arguments)
        results = [model(**inputs)[0] for _ in range(2)]
        attention_backends.disable(model)
        after = model(**inputs)[0]
    shards = [torch.empty_like(results[0]) for _ in range(dist.get_world_size(group))]
    dist.all_gather(shards, results[0], group=group)
    return {
        "error": max((result - expected).abs().max().item() for result in results),
        "same on every rank": all(torch.equal(shard, results[0]) for shard in shards),
        "restored": torch.equal(after, expected),
    }


@pytest.mark.parametrize(("world", "arguments", "image", "text"), MODES)
def test_mode_equals_one_process(ranks, world, arguments, image, text):
    for result in ranks.run(forward, world, arguments=arguments, image=image, text=text):
        assert result["error"] < 1e-10
        assert result["same on every rank"]
        assert result["restored"]

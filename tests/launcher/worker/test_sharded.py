"""Sharded weights in one process: a group of two of which the other is not there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist
from diffusers import FluxTransformer2DModel
from torch.distributed.fsdp._fully_shard._fsdp_param_group import FSDPParamGroup
from torch.testing._internal.distributed.fake_pg import FakeStore

from launcher.worker.sharded import blocks_of, shard


@pytest.fixture
def two() -> Iterator[None]:
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
    yield
    dist.destroy_process_group()


def test_the_next_blocks_weights_are_asked_for_before_a_block_computes(two, monkeypatch):
    model = FluxTransformer2DModel(
        num_layers=2, num_single_layers=2, attention_head_dim=16, num_attention_heads=2, in_channels=4,
        joint_attention_dim=8, pooled_projection_dim=8, axes_dims_rope=(4, 6, 6),
    )  # fmt: skip
    shard(model, torch.device("cpu"), dist.group.WORLD)
    blocks, events = blocks_of(model), []
    group_of = {id(block._get_fsdp_state()._fsdp_param_group): number for number, block in enumerate(blocks)}
    own = FSDPParamGroup.unshard

    def unshard(self: FSDPParamGroup, *args: object, **kwargs: object) -> object:
        if not self._all_gather_result and not self.is_unsharded and id(self) in group_of:
            events.append(f"gather {group_of[id(self)]}")
        return own(self, *args, **kwargs)

    monkeypatch.setattr(FSDPParamGroup, "unshard", unshard)
    for number, block in enumerate(blocks):
        block.register_forward_pre_hook(lambda *_, number=number: events.append(f"compute {number}"))
    given = {
        "hidden_states": torch.randn(1, 4, 4),
        "encoder_hidden_states": torch.randn(1, 3, 8),
        "pooled_projections": torch.randn(1, 8),
        "timestep": torch.ones(1),
        "img_ids": torch.zeros(4, 3),
        "txt_ids": torch.zeros(3, 3),
    }
    with torch.no_grad():
        model(**given)
        first, events[:] = events[:], []
        model(**given)
    in_each_list = ["gather 0", "gather 1", "compute 0", "compute 1", "gather 2", "gather 3", "compute 2", "compute 3"]
    in_all = ["gather 0", "gather 1", "compute 0", "gather 2", "compute 1", "gather 3", "compute 2", "compute 3"]
    assert (first, events) == (in_each_list, in_all)

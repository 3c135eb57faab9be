"""Groups of ranks, and switching the sharing on and off: a transformer is as it was before."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from diffusers import FluxTransformer2DModel
from diffusers.models import attention_dispatch
from diffusers.models.attention_dispatch import _AttentionBackendRegistry
from torch.testing._internal.distributed.fake_pg import FakeStore

from attention_backends.diffusers_seam import theirs
from launcher.wire.jobs import Sharing
from launcher.worker.sharing import Groups, shared, split


@pytest.fixture
def transformer() -> FluxTransformer2DModel:
    return FluxTransformer2DModel(
        in_channels=4,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=8,
        pooled_projection_dim=8,
        axes_dims_rope=(2, 2, 4),
    )


@pytest.fixture
def ranks(request: pytest.FixtureRequest) -> Iterator[tuple[int, int]]:
    """This process as one of several ranks, in torch's group whose others are not there."""
    rank, world = request.param
    dist.init_process_group("fake", rank=rank, world_size=world, store=FakeStore())
    yield rank, world
    dist.destroy_process_group()


def kernels(transformer: FluxTransformer2DModel) -> list[object]:
    return [processor._attention_backend for processor in transformer.attn_processors.values()]


def test_a_kernel_is_put_on_for_the_job_alone(transformer):
    default, before = _AttentionBackendRegistry.get_active_backend(), kernels(transformer)
    with (
        pytest.raises(RuntimeError, match="it broke"),
        split(transformer, Sharing("none", 1, 1, "gather", "_native_math"), None),
    ):
        assert {kernel.value for kernel in kernels(transformer)} == {"_native_math"}
        raise RuntimeError("it broke")
    assert kernels(transformer) == before
    assert _AttentionBackendRegistry.get_active_backend() == default  # what other models, and later jobs, are given


def test_one_rank_with_the_default_kernel_changes_nothing(transformer):
    before = kernels(transformer), dict(vars(transformer))
    with shared(SimpleNamespace(transformer=transformer), Sharing("none", 1, 1, "gather", "auto"), Groups()):
        assert (kernels(transformer), dict(vars(transformer))) == before


def test_all_parts_that_are_named_are_switched_and_no_other(transformer):
    pipe = SimpleNamespace(transformer=transformer, transformer_2=transformer.__class__(**transformer.config))
    sharing = Sharing("none", 1, 1, "gather", "_native_math", transformers=("transformer_2",))
    with shared(pipe, sharing, Groups()):
        assert {kernel.value for kernel in kernels(pipe.transformer_2)} == {"_native_math"}
        assert set(kernels(pipe.transformer)) == {None}


def test_several_ranks_without_a_process_group_are_an_error(transformer):
    before = dict(vars(transformer))
    with (
        pytest.raises(ValueError, match="not initialised"),
        split(transformer, Sharing("ring", 2, 1, "gather", "auto"), None),
    ):
        pass
    assert vars(transformer).keys() == before.keys()


@pytest.mark.parametrize("ranks", [(0, 2)], indirect=True)
def test_diffusers_own_modes_are_put_on_for_the_job_alone(ranks, transformer):
    groups, forward = Groups(), attention_dispatch._native_attention_forward_op
    sharing = Sharing("ring", 2, 1, "gather", "auto", implementation="diffusers")
    processors = list(transformer.attn_processors.values())
    before = [dict(vars(processor)) for processor in processors]
    with shared(SimpleNamespace(transformer=transformer), sharing, groups):
        configs = [processor._parallel_config.context_parallel_config for processor in processors]
        assert {(one.ring_degree, one.ulysses_degree, one.ring_anything) for one in configs} == {(2, 1, False)}
        assert attention_dispatch._native_attention_forward_op is not forward
    assert attention_dispatch._native_attention_forward_op is forward
    assert [vars(processor) for processor in processors] == before
    assert groups.mesh(2, 1) is groups.mesh(2, 1)  # whose groups are made once
    linear = torch.nn.Linear(1, 1)
    with (
        pytest.raises(ValueError, match="Linear brings no _cp_plan"),
        theirs.enabled(linear, "ring", groups.mesh(2, 1)),
    ):
        pass


def test_without_guidance_to_divide_no_group_is_made():
    assert Groups().of(1, 4) == (None, None)  # there is no process group that one could be made of


@pytest.mark.parametrize("ranks", [(0, 2), *((rank, 6) for rank in range(6))], indirect=True)
def test_a_rank_shares_its_half_and_has_one_partner(ranks):
    rank, world = ranks
    groups, each = Groups(), world // 2
    own, pair = groups.of(2, each)
    half = rank // each
    assert dist.get_process_group_ranks(own) == [half * each + place for place in range(each)]
    assert dist.get_process_group_ranks(pair) == [rank % each, rank % each + each]
    assert pair.rank() == half
    assert groups.of(2, each) == (own, pair)  # made once


@pytest.mark.parametrize("ranks", [(1, 2)], indirect=True)
def test_what_is_known_of_outputs_is_kept_for_each_transformer(ranks, transformer):
    groups, own = Groups(), transformer.forward
    pipe = SimpleNamespace(transformer=transformer, transformer_2=torch.nn.Linear(1, 1))
    sharing = Sharing("none", 1, 1, "gather", "auto", transformers=("transformer", "transformer_2"), cfg_degree=2)
    with shared(pipe, sharing, groups):
        first = pipe.transformer.forward.__self__
        assert (first.half, first.forward) == (1, own)
        assert first.shapes is groups.shapes["transformer"]
        assert pipe.transformer_2.forward.__self__.shapes is groups.shapes["transformer_2"]
    assert "forward" not in vars(transformer)
    with shared(pipe, sharing, groups):
        assert pipe.transformer.forward.__self__.shapes is groups.shapes["transformer"]
    assert list(groups.shapes) == ["transformer", "transformer_2"]

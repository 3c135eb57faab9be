"""Messages by way of host memory, and which way a group can go. What needs a GPU is in tests/gpu."""

import pytest
import torch
import torch.distributed as dist

from attention_backends import exchange, transport


def by_host(group: dist.ProcessGroup) -> list[list[float]]:
    """Two messages of unlike sizes to each other rank, in the order in which they were posted."""
    rank, world = dist.get_rank(group), dist.get_world_size(group)
    others = [other for other in range(world) if other != rank]
    sends = [(other, torch.full((size,), 10.0 * rank + size)) for other in others for size in (3, 2)]
    receives = [(other, torch.empty(size)) for other in others for size in (3, 2)]
    works = transport.post_by_host(sends, receives, group)
    assert len(works) == len(sends) + len(receives)
    exchange.wait(works)
    return [into.tolist() for _, into in receives]


def test_messages_by_host_arrive_whole(ranks):
    for rank, arrived in enumerate(ranks.run(by_host, 3)):
        others = [other for other in range(3) if other != rank]
        assert arrived == [[10.0 * other + size] * size for other in others for size in (3, 2)]


def test_a_group_of_gloo_goes_by_host_and_says_what_nccl_needs():
    assert transport.decide("auto", False, ["a", "b"]) == transport.decide("host", False, ["a", "b"]) == "host"
    with pytest.raises(ValueError, match=r"init_process_group\('cpu:gloo,cuda:nccl'\)"):
        transport.decide("nccl", False, ["a", "b"])


def test_nccl_needs_a_gpu_for_each_rank():
    assert transport.decide("auto", True, ["a", "b"]) == transport.decide("nccl", True, ["a", "b"]) == "nccl"
    assert transport.decide("host", True, ["a", "b"]) == "host"
    assert transport.decide("auto", True, ["a", "a"]) == transport.decide("auto", True, ["", ""]) == "host"
    with pytest.raises(ValueError, match="two ranks use one GPU"):
        transport.decide("nccl", True, ["a", "a"])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64, torch.bool])
@pytest.mark.parametrize(("width", "begin"), [(8, 0), (8, 4), (6, 0), (3, 1)])
def test_words_copy_the_same_bits(dtype, width, begin):
    numbers = torch.randn(5, 1, 3, width + begin + 4).to(dtype)
    part = numbers[..., begin : begin + width]
    for rows in (part, part[1:].transpose(0, 1), part[:0]):
        whole = torch.zeros((*rows.shape[:-1], 2 * width), dtype=dtype)
        into, words = exchange.words(whole[..., :width], rows)
        into.copy_(words)
        assert torch.equal(whole[..., :width], rows)
        assert not whole[..., width:].any()


def test_half_precision_goes_four_at_a_time():
    rows = torch.zeros(5, 1, 3, 16, dtype=torch.bfloat16)
    assert exchange.words(rows[..., :8])[0].dtype == torch.int64
    assert exchange.words(rows[..., :8], rows[..., 1:9])[0].dtype == torch.bfloat16

"""Messages between ranks that share a GPU: how fast they are, and that `enable` sees what NCCL would refuse."""

from typing import Any

import pytest

torch = pytest.importorskip("torch")


def travels(group: Any, numbers: int) -> dict[str, float]:
    """Seconds to send so many bytes to the other rank by host memory and get as many."""
    import time

    import torch.distributed as dist

    from attention_backends import exchange

    rank, other = dist.get_rank(group), 1 - dist.get_rank(group)
    taken = []
    for turn in range(6):
        out = torch.full((numbers,), rank * 10 + turn, dtype=torch.uint8, device="cuda")
        into = torch.empty_like(out)
        torch.cuda.synchronize()
        begin = time.perf_counter()
        exchange.wait(exchange.post([(other, out)], [(other, into)], group))
        torch.cuda.synchronize()
        taken.append(time.perf_counter() - begin)
        assert bool((into == other * 10 + turn).all())
    return {"seconds": min(taken[1:])}


def test_transport(ranks, check):
    small, large = (max(one["seconds"] for one in ranks.run(travels, 2, numbers=n)) for n in (64, 1 << 24))
    check("host transport: a small message", small * 1e6, unit="us")
    check("host transport: 16 MiB each way", (1 << 24) / large / 1e9, unit="GB/s")


def shares_a_card(group: Any) -> list[str]:
    """What `enable` settles for ranks on one card whose group has NCCL too; and a message, where it goes."""
    import torch.distributed as dist

    from attention_backends import exchange
    from attention_backends.transport import device
    from attention_backends.wire import wire_of

    world, rank = dist.get_world_size(), dist.get_rank()
    wire = wire_of(dist.new_group(range(world), backend="cpu:gloo,cuda:nccl"))
    told = []
    for asked in ("auto", "host", "nccl"):
        devices = wire.agree(device())
        try:
            told.append(wire.way(asked, devices))
        except ValueError as error:
            told.append(str(error))
            continue
        wire.by_host = told[-1] == "host"
        mine = torch.full((3,), float(rank), device="cuda")
        into = torch.empty_like(mine)
        exchange.wait(exchange.post([((rank + 1) % world, mine)], [((rank - 1) % world, into)], wire))
        assert into.tolist() == [float((rank - 1) % world)] * 3
    return told


def test_a_shared_card_is_seen(ranks):
    for told in ranks.run(shares_a_card, ranks.largest):  # all of them: they make a group together
        assert told[:2] == ["host", "host"]
        assert "transport='host'" in told[2]

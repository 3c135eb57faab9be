"""What moves arrives, is counted, and may be waited for by each of its readers."""

import torch
import torch.distributed as dist

from attention_backends import exchange


def passed_on(group: dist.ProcessGroup) -> tuple[list[float], dict[str, int]]:
    """Each rank owns two rows of six and sends them, a row a piece, to the other two ranks."""
    rank = dist.get_rank(group)
    buffer = torch.zeros(6, 2)
    buffer[2 * rank : 2 * rank + 2] = rank + 1.0
    others = [other for other in range(3) if other != rank]

    def pieces(owner: int) -> list[tuple[int, int]]:
        return [(2 * owner, 2 * owner + 1), (2 * owner + 1, 2 * owner + 2)]

    exchange.reset_counters()
    transfers = exchange.start(
        buffer,
        [[(other, span) for span in pieces(rank)] for other in others],
        [[(other, span) for span in pieces(other)] for other in others],
        group,
    )
    for _ in range(2):  # a second wait on the same message returns
        exchange.wait(transfers)
    assert sorted(transfer.span for transfer in transfers if transfer.span) == sorted(
        span for other in others for span in pieces(other)
    )
    return buffer[:, 0].tolist(), exchange.counters().asdict()


def test_pieces_arrive_where_they_belong(ranks):
    for found, counted in ranks.run(passed_on, 3):
        assert found == [1, 1, 2, 2, 3, 3]
        assert counted == {"bytes": 4 * 2 * 4, "messages": 4, "size_exchanges": 0}


def nothing(group: dist.ProcessGroup) -> tuple[int, dict[str, int]]:
    exchange.reset_counters()
    empty = torch.empty(0, 3)
    works = exchange.post([(1 - dist.get_rank(group), empty)], [(1 - dist.get_rank(group), empty)], group)
    return len(works), exchange.counters().asdict()


def test_empty_tensors_are_no_messages(ranks):
    assert ranks.run(nothing, 2) == [(0, {"bytes": 0, "messages": 0, "size_exchanges": 0})] * 2


def whole(group: dist.ProcessGroup, lengths: list[int]) -> tuple[list[list[float]], list[float]]:
    rank = dist.get_rank(group)
    mine = torch.full((2, lengths[rank]), float(rank), requires_grad=True)
    everything = exchange.share(exchange.unshard(mine, 1, lengths, group), 3)
    (everything * torch.arange(everything.shape[1])).sum().backward()
    assert mine.grad is not None
    return everything.tolist(), mine.grad[0].tolist()


def test_shards_are_put_together_and_gradients_taken_apart(ranks):
    for rank, (everything, gradient) in enumerate(ranks.run(whole, 3, lengths=[2, 0, 3])):
        assert everything == [[0, 0, 2, 2, 2]] * 2
        assert gradient == [[0, 1], [], [2, 3, 4]][rank]

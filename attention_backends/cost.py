"""What one attention moves, exactly, and how long it takes, about: plain arithmetic, no torch.

    wire(rank)    = bytes it receives / bandwidth + messages * latency
    compute(rank) = 4 B Sq Skv H D / speed
    gather = max over ranks of  wire + compute
    staged = max over ranks of  max(max(compute, wire + last piece's compute) + merge, blocks * launch)

What needs no other rank's keys (a query's projection, an MLP beside the attention) runs while they travel. With m
seconds of it, `wire - m` stands for `wire` above, and at least 0: what an attention takes beside that work.
Where values leave before keys are computed, so does what that hides of the values' part of the wire.

A Ulysses row trades tokens for heads before and after. Nothing hides that where a model's layers are not marked. Where
they are, `trade_apart` follows the wire and the rank through the order of trades.py.
"""

from collections.abc import Sequence
from dataclasses import replace

from attention_backends.layout import Route, split_lengths
from attention_backends.workload import HOST, NOTHING, Attention, Moved, Shape, Speeds

WORTH = 0.05  # of a layer that such messages must promise
RING_WORTH = 0.01  # the same of a ring's
MARGIN = 0.9  # staged must promise this much: speeds are no better known than that
MERGE_PASSES = 4  # a merge reads and writes the output about this often, and each further block's partial output once


def sent(one: Attention) -> list[Moved]:
    """What each rank sends in the forward of one attention: what exchange.counters() counts."""
    shape, keys, width = one.shape, one.keys, one.shape.head_dim + one.shape.v_dim
    found = []
    for rank in range(one.ranks):
        row, mine = divmod(rank, one.ulysses_degree)
        k_heads = one.heads[mine][1]
        messages = _traded(one, rank)
        for reader in range(one.ring_degree):
            if reader != row:
                messages += [(end - begin) * k_heads * width for begin, end in one.route.pieces(row, reader)]
        sizes = [count * shape.batch * shape.element_size for count in messages if count]
        if one.key_mask and keys.lengths[rank]:
            others = [peer for peer in range(one.ranks) if peer != rank]
            rows = [one.heads[peer % one.ulysses_degree][0] if one.mask_per_head else 1 for peer in others]
            sizes += [keys.lengths[rank] * one.key_mask * heads for heads in rows if heads]
        found.append(Moved(sum(sizes), len(sizes)))
    return found


def _traded(one: Attention, rank: int, *, apart: bool = False) -> list[int]:
    """Numbers in each message that a rank sends within its Ulysses row, before its attention and after it."""
    row, mine = divmod(rank, one.ulysses_degree)
    shape, queries, keys = one.shape, one.queries, one.keys
    messages = []
    for member, (q_heads, k_heads) in enumerate(one.heads):
        if member == mine:
            continue
        there, held = queries.lengths[rank] * q_heads * shape.head_dim, keys.lengths[rank]
        back = queries.lengths[row * one.ulysses_degree + member] * shape.v_dim
        if not apart:
            messages.append(there + held * k_heads * (shape.head_dim + shape.v_dim))  # in one message
            messages.append(back * one.heads[mine][0])
            continue
        messages += [there, held * k_heads * shape.v_dim]
        messages += [held * heads * shape.head_dim for heads in split_lengths(k_heads, one.groups)]
        messages += [back * heads for heads in split_lengths(one.heads[mine][0], one.groups)]
    return [count for count in messages if count]


def seconds(one: Attention, speeds: Sequence[Speeds]) -> float:
    """About how long the slowest rank takes for the forward of one attention, all exchanges included.

    Args:
        speeds: of each rank.
    """
    degree, hidden = one.ulysses_degree, one.meanwhile
    trade, alone = 0.0, hidden.total if degree == 1 else 0.0
    if degree > 1:
        messages = apart(one, speeds[0])
        takes = trade_apart if messages else trade_at_once
        trade = max(takes(one, rank, own) for rank, own in enumerate(speeds))
        # Beside a row's trade, a ring has what does not hide that: see trades.py.
        alone = (hidden.beside + hidden.last / 2) / degree if messages else hidden.total / degree
    values_first = degree == 1 and apart(one, speeds[0])
    return trade + max(
        _ring(one, one.member(at), speeds[at::degree], alone, apart=values_first) for at in range(degree)
    )


def apart(one: Attention, own: Speeds) -> bool:
    """Whether a marked layer's tensors go in messages of their own: where that promises a part of the layer.

    A message costs the host time, and a CPU that carries its own wire: a trade's took about 3% of a step (measured).
    A ring's values and keys are but twice as many messages as both at once.
    """
    if one.meanwhile == NOTHING or one.ranks == 1:
        return False
    tokens = one.shape.batch * max(one.queries.lengths)
    layer = own.work(12 * tokens * one.meanwhile.query) + one.groups * max(
        _attend(one, rank, own) for rank in range(one.ranks)
    )
    if one.ulysses_degree == 1:
        speeds = [own] * one.ranks
        plain, hidden = (_ring(one, one.shape, speeds, one.meanwhile.total, apart=way) for way in (False, True))
        return plain - hidden - own.launch > RING_WORTH * (layer + plain)
    plain, hidden = (max(way(one, rank, own) for rank in range(one.ranks)) for way in (trade_at_once, trade_apart))
    return plain - hidden - 2 * one.groups * own.launch > WORTH * (layer + plain)


def host_seconds(one: Attention, own: Speeds) -> float:
    """What the host takes to launch a layer with this attention, while the device computes: 0 where it is the device.

    The attention of each piece of a staged ring is a launch.
    """
    launches = HOST["layer"] + (HOST["attention"] if one.ranks > 1 else 0)
    launches += HOST["trade"] if one.ulysses_degree > 1 else 0
    launches += HOST["later"] if one.meanwhile != NOTHING else 0
    if one.schedule == "staged":
        launches += max(
            sum(len(one.route.pieces(owner, reader)) for owner in range(one.ring_degree) if owner != reader)
            for reader in range(one.ring_degree)
        )
    return launches * own.launch


def puts_off(one: Attention, own: Speeds) -> bool:
    """Whether a marked layer's work is put off: where a device takes longer for a layer than its host to launch it so.

    A device that waits for its host is not helped by a shorter wait for other ranks.
    """
    one, tokens = replace(one, schedule="gather"), one.shape.batch * max(one.queries.lengths)
    layer = own.work(12 * tokens * one.meanwhile.query) + seconds(replace(one, meanwhile=NOTHING), [own] * one.ranks)
    return layer >= host_seconds(one, own)


def _ring(one: Attention, shape: Shape, speeds: Sequence[Speeds], meanwhile: float, *, apart: bool) -> float:
    first = one.meanwhile.query * shape.kv_heads / shape.heads if apart else 0.0
    return ring_seconds(one.route, shape, speeds, meanwhile, first)


def trade_at_once(one: Attention, rank: int, own: Speeds) -> float:
    """Seconds of a rank in the trade of its Ulysses row, one message each way to each other member."""
    sizes = _traded(one, rank)
    return sum(sizes) * one.shape.batch * one.shape.element_size / own.bandwidth + len(sizes) * own.latency


def trade_apart(one: Attention, rank: int, own: Speeds) -> float:
    """The same in the messages of trades.py, beside the work that hides them."""
    number, shape, hidden, peers = (
        one.shape.batch * one.shape.element_size,
        one.shape,
        one.meanwhile,
        one.ulysses_degree - 1,
    )
    row, mine = divmod(rank, one.ulysses_degree)
    queries, keys, alone = one.queries.lengths[rank], one.keys.lengths[rank], one.ring_degree == 1
    groups = one.groups
    q_heads, k_heads = one.heads[mine]

    def wire(count: int) -> float:
        return count * number / own.bandwidth + peers * own.latency

    def work(tokens: int, flops: float) -> float:
        return own.work(shape.batch * tokens * flops)

    q_away, k_away = queries * (shape.heads - q_heads), keys * (shape.kv_heads - k_heads)
    back = (one.route.queries.lengths[row] - queries) * q_heads * shape.v_dim
    each = _attend(one, rank, own) if alone else 0.0  # a ring's is counted with its wire
    beside = work(queries, hidden.beside + hidden.last / 2) if alone else 0.0
    q_work, k_work = work(queries, hidden.query), work(keys, hidden.query * shape.kv_heads / shape.heads)
    first = max(wire(k_away * shape.v_dim), q_work) + wire(q_away * shape.head_dim)  # values left at 0
    first = max(first, q_work + k_work)
    now, free = q_work + k_work + beside, first + groups * wire(k_away * shape.head_dim // groups)
    for group in range(groups):
        now = max(now, first + (group + 1) * wire(k_away * shape.head_dim // groups)) + each
        free = max(free, now) + wire(back // groups)
    now = max(now + work(queries, hidden.last / 2), free)
    return now - q_work - k_work - beside - groups * each - work(queries, hidden.last / 2)


def _attend(one: Attention, rank: int, own: Speeds) -> float:
    """Seconds of a rank's attention to one group of its heads."""
    row, mine = divmod(rank, one.ulysses_degree)
    pairs = one.route.queries.lengths[row] * one.route.needed(row) * one.heads[mine][0]
    return 2 * one.shape.batch * pairs * (one.shape.head_dim + one.shape.v_dim) / own.compute / one.groups


def ring_seconds(
    route: Route, shape: Shape, speeds: Sequence[Speeds], meanwhile: float = 0.0, first: float = 0.0
) -> float:
    """The same for a ring by itself; shape: with the heads that its members hold.

    meanwhile: FLOPs for a token of a member, which run while keys travel and are not counted here.
    first: the same of its keys, where values leave before these are computed.
    """
    row = shape.batch * shape.kv_heads * (shape.head_dim + shape.v_dim) * shape.element_size
    worst = 0.0
    for member, (count, own) in enumerate(zip(route.queries.lengths, speeds, strict=True)):
        others = [owner for owner in range(len(route.keys.lengths)) if owner != member]
        runs = [route.pieces(owner, member) for owner in others]
        pieces = [end - begin for run in runs for begin, end in run]
        last = max((run[-1][1] - run[-1][0] for run in runs if run), default=0)
        wire = own.wire(sum(pieces) * row, len(pieces) * (2 if first else 1))
        wire -= min(wire * shape.v_dim / (shape.head_dim + shape.v_dim), own.work(shape.batch * count * first))
        token = 2 * shape.batch * count * shape.heads * (shape.head_dim + shape.v_dim) / own.compute  # s for one key
        compute = token * route.needed(member)
        left = wire - own.work(shape.batch * count * meanwhile)
        if route.schedule == "staged":
            out = shape.batch * count * shape.heads * shape.v_dim * 4
            merge = (MERGE_PASSES + len(pieces)) * out / own.memory
            device = max(compute, left + token * last) + merge
            worst = max(worst, device, (1 + len(pieces)) * own.launch)
        else:
            worst = max(worst, max(left, 0.0) + compute)
    return worst


def cheapest(route: Route, shape: Shape, speeds: Sequence[Speeds], meanwhile: float = 0.0) -> str:
    """The schedule that takes less time: "staged" where it promises a tenth, else "gather"."""
    ways = (replace(route, schedule=name) for name in ("gather", "staged"))
    gather, staged = (ring_seconds(way, shape, speeds, meanwhile) for way in ways)
    return "staged" if staged < MARGIN * gather else "gather"


def held(one: Attention, partial_size: int = 0) -> list[int]:
    """Bytes that each rank holds at most, above its q, k and v, in the forward of one attention; its output included.

    partial_size: bytes of an element of a partial output of schedule "staged", if not the model's (on a CPU they are in
    float32).
    """
    route, shape, queries, keys = one.route, one.shape, one.queries, one.keys
    width, size = shape.head_dim + shape.v_dim, shape.element_size
    found = []
    for rank in range(one.ranks):
        row, mine = divmod(rank, one.ulysses_degree)
        q_heads, k_heads = one.heads[mine]
        own_kv = route.keys.lengths[row] * k_heads * width
        q = route.queries.lengths[row] * q_heads * shape.head_dim
        out = route.queries.lengths[row] * q_heads * shape.v_dim
        attended = out * size
        if one.ring_degree > 1:
            attended += route.needed(row) * k_heads * width * size
            if one.schedule == "staged":
                blocks = 1 + sum(len(route.pieces(owner, row)) for owner in range(one.ring_degree) if owner != row)
                attended += blocks * out * (partial_size or size)
                attended += (q + own_kv) * partial_size if partial_size > size else 0
        traded = 0
        if one.ulysses_degree > 1:
            # Tokens of the row with this rank's heads (joined; arrived: without its own), and its own with all heads.
            joined, local = q + own_kv, queries.lengths[rank] * shape.heads * shape.v_dim
            away = queries.lengths[rank] * (shape.heads - q_heads) * shape.head_dim
            away += keys.lengths[rank] * (shape.kv_heads - k_heads) * width
            arrived = joined - queries.lengths[rank] * q_heads * shape.head_dim
            arrived -= keys.lengths[rank] * k_heads * width
            at_once = one.ring_degree == 1 and queries == keys  # what arrives is in its place
            back = local - queries.lengths[rank] * q_heads * shape.v_dim
            moments = {
                "q, k and v are on the wire": away + joined + (0 if at_once else arrived),
                "the heads of the output are joined": out + back + local,
            }
            traded = max(moments.values()) * size
            if one.ring_degree > 1:  # keys and values are let go once they are in the ring's buffer
                traded = max(traded, (joined + route.needed(row) * k_heads * width) * size)
                attended += q * size
            else:
                attended += joined * size
        found.append(shape.batch * max(attended, traded))
    return found

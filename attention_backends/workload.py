"""One attention as numbers, before any tensor is there: its shape, who holds which tokens, what the ranks reach."""

from dataclasses import dataclass, replace
from functools import cached_property

from attention_backends.layout import Layout, Route, key_heads, split_heads

GROUPS = 2  # of heads that a trade is cut into where work hides it; more hide little more, and each is a message more


@dataclass(frozen=True)
class Shape:
    """One attention of a model: batch entries, query and key heads, channels of a head, bytes of an element."""

    heads: int
    head_dim: int
    batch: int = 1
    key_heads: int = 0  # 0: as many as heads
    value_dim: int = 0  # 0: as many as head_dim
    element_size: int = 2

    @property
    def kv_heads(self) -> int:
        return self.key_heads or self.heads

    @property
    def v_dim(self) -> int:
        return self.value_dim or self.head_dim


@dataclass(frozen=True)
class Speeds:
    """What one rank reaches, in SI units: the input of this arithmetic, measured or taken from a data sheet.

    Args:
        latency: s a message. bandwidth: bytes/s into a rank. compute: FLOP/s. memory: bytes/s of one pass over memory.
        launch: s that the host takes for one block of keys, while the device computes; 0 where it computes itself.
            What else it does is counted in these: HOST.
        ring_latency, ring_bandwidth: of the ring alone, where it leads to other machines; 0: as of the rest.
        linear: FLOP/s of linear maps; 0: as compute. On a CPU their kernels reach a quarter more than attention's.
    """

    latency: float
    bandwidth: float
    compute: float
    memory: float
    launch: float = 0.0
    ring_latency: float = 0.0
    ring_bandwidth: float = 0.0
    linear: float = 0.0

    def work(self, flops: float) -> float:
        """Seconds for linear maps of so many FLOPs."""
        return flops / (self.linear or self.compute)

    def wire(self, bytes_: float, messages: int) -> float:
        """Seconds for what comes around the ring."""
        return bytes_ / (self.ring_bandwidth or self.bandwidth) + messages * (self.ring_latency or self.latency)


LAUNCH = 1e-4  # s a block on a GPU, measured: 0.08 to 0.2 ms more of a FLUX layer for each (gpu.json)
# Launches that a layer of FLUX takes a host: its own work (75 to 83 ms for 57 layers with keys at hand), its attention
# over ranks (105 ms with it), both in gpu.json. A Ulysses row's trade and what putting work off takes are measured on a
# CPU, as parts of a layer's own work (python -m tests.benchmarks.host), and not beside a GPU.
HOST = {"layer": 14, "attention": 4, "trade": 6, "later": 10}
# What schedule="auto" goes by where nobody says more: a CPU core that talks over gloo on one machine (measured), and a
# GPU on PCIe (half of a data sheet's FLOP/s; FLUX on four RTX 4090, diffusers' pull request 13545, fits this link).
SPEEDS = {
    "cpu": Speeds(latency=3e-4, bandwidth=0.72e9, compute=80e9, memory=77e9),
    "cuda": Speeds(latency=1e-5, bandwidth=20e9, compute=90e12, memory=1e12, launch=LAUNCH),
}


@dataclass(frozen=True)
class Meanwhile:
    """FLOPs for a token of linear maps that run while something travels, and that other arithmetic counts.

    Args:
        query: of the projection of queries; those of keys and values are taken to be as large for each head.
        beside: of an MLP beside the attention. last: of that MLP's part of the last projection.
    """

    query: float = 0.0
    beside: float = 0.0
    last: float = 0.0

    @property
    def total(self) -> float:
        """Of what runs while keys go around a ring."""
        return self.query + self.beside + self.last


NOTHING = Meanwhile()


@dataclass(frozen=True)
class Moved:
    """What one rank sends in one attention."""

    bytes: int = 0
    messages: int = 0


@dataclass(frozen=True)
class Attention:
    """One attention over ring_degree x ulysses_degree ranks.

    Args:
        queries, keys: tokens of each rank. schedule: "gather" or "staged".
        key_mask: bytes for one key, and for one head if mask_per_head, of a mask that is held with the keys (its batch
            entries times its element size); a mask over all keys is on every rank. One with a row for each head goes
            to every rank with that rank's heads only.
        shares: of the heads, one a rank, as of the tokens; empty: equal ones.
        meanwhile: of a layer that is marked: what runs while its messages travel.
    """

    queries: Layout
    keys: Layout
    shape: Shape
    ring_degree: int = 1
    ulysses_degree: int = 1
    schedule: str = "gather"
    is_causal: bool = False
    key_mask: int = 0
    mask_per_head: bool = False
    shares: tuple[int, ...] = ()
    meanwhile: Meanwhile = NOTHING

    @property
    def ranks(self) -> int:
        return self.ring_degree * self.ulysses_degree

    @cached_property
    def route(self) -> Route:
        """The ring over Ulysses rows."""
        rows = self.queries.rows(self.ulysses_degree), self.keys.rows(self.ulysses_degree)
        return Route(*rows, self.is_causal, self.schedule)

    @cached_property
    def heads(self) -> list[tuple[int, int]]:
        """Query heads and key heads of each member of a Ulysses row."""
        ranges = split_heads(self.shape.heads, self.ulysses_degree, self.shares)
        keys = [key_heads(each, self.shape.heads // self.shape.kv_heads) for each in ranges]
        return [(end - begin, last - first) for (begin, end), (first, last) in zip(ranges, keys, strict=True)]

    @property
    def groups(self) -> int:
        """Groups of heads in which a marked layer's keys and output are traded."""
        per_head = self.key_mask and self.mask_per_head
        several = self.shape.kv_heads == self.shape.heads and min(heads for heads, _ in self.heads) >= GROUPS
        return GROUPS if several and self.ring_degree == 1 and not per_head else 1

    def member(self, place: int) -> Shape:
        """The shape of what the member at this place of each row attends to."""
        query_heads, kv_heads = self.heads[place]
        return replace(self.shape, heads=query_heads, key_heads=kv_heads)

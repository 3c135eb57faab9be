"""What of one model's forward is split over ranks and put together again, and checks that nothing of it is missed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from attention_backends import compiled, exchange
from attention_backends.catalog import MODES, Mode
from attention_backends.deferred import Deferred, now
from attention_backends.given import shapes, total
from attention_backends.header import checksum
from attention_backends.kept_local import KeptLocal, own_parts
from attention_backends.layout import Layout, look_alike
from attention_backends.topology import Topology
from attention_backends.wire import Wire
from attention_backends.workload import Speeds


@dataclass
class Sharing:
    """How a model's inputs are split, and who holds what of the forward that runs."""

    mode: str
    ring_degree: int
    ulysses_degree: int
    kernel: str
    schedule: str
    transport: str  # of CUDA tensors: "nccl" or "host"
    topology: Topology = field(repr=False)
    speeds: Speeds | None = field(default=None, repr=False)
    # Lengths along the sequence of what was split in this forward, by parameter name, and every rank's lengths at the
    # first attention of this forward.
    streams: dict[str, int] = field(default_factory=dict, repr=False)
    first: list[tuple[int, ...]] | None = field(default=None, repr=False)
    # Layouts of the attentions of this forward that needed no exchange, by what is held here and split.
    known: dict[tuple[int, int, int], tuple[Layout, Layout]] = field(default_factory=dict, repr=False)
    started: bool = field(default=False, repr=False)  # an attention of this forward has been traced by torch.compile
    traced: bool = field(default=False, repr=False)  # the whole forward is, not only blocks of it
    handle: int = field(default=-1, repr=False)
    may_be_empty: frozenset[str] | None = field(default=None, repr=False)  # streams; None: any
    never_empty: frozenset[str] = field(default=frozenset(), repr=False)  # inputs that every rank needs a part of
    calls: int = field(default=0, repr=False)  # attentions over all ranks, in this forward
    may_skip: bool = field(default=False, repr=False)  # a cache may leave out all of them
    cut: set[str] = field(default_factory=set, repr=False)  # what was split in this forward, by name
    along: dict[str, str] = field(default_factory=dict, repr=False)  # what defined each stream of a plain plan
    gathered: bool = field(default=False, repr=False)  # an output was, in this forward
    shapes: int = field(default=0, repr=False)  # a checksum of the shapes that this forward was given
    timestep: float = field(default=0.0, repr=False)  # the sum of it, in this forward
    given: list[int] = field(default_factory=list, repr=False)  # those shapes
    time: Any = field(default=None, repr=False)  # the timestep that this forward was given
    under_way: Deferred | None = field(default=None, repr=False)  # the attention whose keys travel
    kept: KeptLocal = field(default_factory=KeptLocal, repr=False)  # what the plan keeps local

    @property
    def rules(self) -> Mode:
        return MODES[self.mode]

    @property
    def wire(self) -> Wire:
        wire = self.topology.group
        assert isinstance(wire, Wire), "enable() gives a state its wire"
        return wire

    def start_forward(self, *, may_skip: bool = False, given: Mapping[str, Any] | None = None) -> None:
        """given: the model's arguments, by which ranks that are in different steps or are given others are told."""
        self.streams.clear()
        self.known.clear()
        self.kept.seen.clear()
        self.cut.clear()
        self.along.clear()
        self.first = None
        self.started = self.gathered = False
        self.traced = torch.compiler.is_compiling()
        self.under_way = None
        self.calls = 0
        self.may_skip = may_skip
        self.given = shapes(given or {})
        self.time = given.get("timestep") if given is not None else None
        if not torch.compiler.is_compiling():  # else the first attention reads them, when the graph runs
            self.shapes, self.timestep = checksum(self.given), total(self.time)

    def end_forward(self) -> None:
        """Raise ValueError if this rank's part is all that the forward gives."""
        self.finish()
        self.time = None
        if self.streams and not self.gathered:
            raise ValueError(
                f"this forward split its inputs, {self.streams}, and gathered no output: a module that the plan "
                "gathers did not run."
            )

    def finish(self) -> None:
        """Wait for keys that travel, if the model has not come to need them: those of one attention do at a time."""
        if self.under_way is not None:
            self.under_way.now()

    def move_on(self, where: str) -> None:
        """Begin another exchange, when the one before is over."""
        self.finish()
        self.wire.move_on(where)

    def _check_attended(self, device: torch.device) -> None:
        """Raise ValueError if what is gathered was computed without the other ranks' tokens."""
        attended = self.started if torch.compiler.is_compiling() else self.calls
        if not attended and not self.may_skip:
            raise ValueError(
                "no attention of this forward went over all ranks: its processors or its backend were changed after "
                "enable(). Call attention_backends.disable(model), then enable(model, ...) again."
            )
        self.gathered = True
        if not self.kept.paths or torch.compiler.is_compiling():  # a graph that asks for lengths is of these alone
            return
        case = tuple(self.streams.values())
        if case in self.kept.sure:
            return
        self.move_on("the check of what stays local,")
        if wrong := self.kept.wrong(exchange.exchange_lengths(self.kept.told(), self.wire, device)):
            raise ValueError(
                f"{wrong} stays local by the plan, and attends to this rank's part of what is split over ranks, "
                f"{self.streams}: it sees no other rank's tokens. Take it out of the plan's local."
            )
        self.kept.sure.add(case)

    def stays(self, path: str, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> None:
        """Look at an attention that the plan keeps local, (B, H, S, D), once for each set of lengths."""
        case = tuple(self.streams.values())
        if case and case not in self.kept.sure and query.ndim == 4:
            topology = self.topology
            self.kept.note(
                path, query, key, value, own_parts(case, topology.world_size, topology.rank, topology.shares)
            )

    def unsplit(self, given: dict[str, Any]) -> str:
        """Why sizes did not fit, in words: an argument that holds a whole split stream and is not split itself, or what
        was split, and along which dimension; "" if the plan does not tell.
        """
        for name, value in given.items():
            for x in value if isinstance(value, (list, tuple)) else [value]:
                if isinstance(x, torch.Tensor) and name not in self.cut:
                    for stream, total in self.streams.items():
                        if total in x.shape[1:]:
                            return (
                                f"{name} holds {total} tokens, as {stream} does, which is split over ranks; {name} is "
                                "not. Add it to the cp_plan."
                            )
        if not self.along:
            return ""
        cuts = "; ".join(dict.fromkeys(self.along.values()))
        return f"what the cp_plan splits does not fit the rest of the model, or is split where no tokens are: {cuts}."

    def check_even(self, name: str, total: int) -> None:
        """Raise ValueError if this mode can't share a stream of so many tokens."""
        world = self.topology.world_size
        if self.rules.even and total % world:
            below = total - total % world
            longer = dict.fromkeys((self.rules.any_length(), self.rules.any_length(masked=True)))
            raise ValueError(
                f"{name} has {total} tokens: {self.mode} on {world} ranks needs a multiple of {world}. Nearest: "
                f"{below} or {below + world} tokens; or a mode for any length: {' or '.join(longer)}."
            )

    def check_each(self, where: str, name: str, total: int) -> None:
        """Raise ValueError if a stream of so many tokens leaves a rank without any."""
        world, held = self.topology.world_size, self.topology.lengths(total)
        if 0 in held and total:
            what = f"{where}{total} tokens of {name} for {world} ranks, and this model needs one on each."
            if total >= world:
                raise ValueError(
                    f"{what} Shares of {list(self.topology.shares)} give them {list(held)}: even them out."
                )
            raise ValueError(f"{what} Use {total} ranks or fewer, or {world} tokens or more.")

    def shard(self, x: torch.Tensor, dim: int) -> torch.Tensor:
        """This rank's part of x along dim, a view."""
        held = self.topology.lengths(x.shape[dim])
        return x.narrow(dim, sum(held[: self.topology.rank]), held[self.topology.rank])

    def split(self, name: str, x: torch.Tensor, dim: int) -> torch.Tensor:
        """The same of an input of this name, which is noted."""
        total = x.shape[dim]
        self.check_even(name, total)
        if name in self.never_empty:
            self.check_each("", name, total)
        self.cut.add(name)
        if x.is_floating_point() and x.ndim >= 3:
            self.streams[name] = total
        return self.shard(x, dim)

    def gather(self, x: torch.Tensor, dim: int, where: str) -> torch.Tensor:
        """Every rank's shards of x, one after the other along dim."""
        x = now(x)
        held, rank = x.shape[dim], self.topology.rank
        self._check_attended(x.device)
        if not torch.compiler.is_compiling():
            self.move_on(_gather(where))
        known = {self.topology.lengths(total) for total in self.streams.values()}
        if look_alike(known):
            if not torch.compiler.is_compiling():
                told = exchange.exchange_lengths([held], self.wire, x.device)
                return self._unshard(x, dim, [numbers[0] for numbers in told], where)
            # A graph must know the size beforehand, so ranks can't ask: what is drawn is what a model gives.
            drawn = self.streams.get("hidden_states")
            known = set() if drawn is None else {self.topology.lengths(drawn)}
        for lengths in known:
            if lengths[rank] == held:
                return self._unshard(x, dim, lengths, where)
        raise ValueError(f"the output holds {held} tokens here, but the inputs were split as {self.streams}.")

    def unshard(self, x: torch.Tensor, dim: int, total: int, where: str) -> torch.Tensor:
        """Every rank's shards of one stream of `total` tokens, one after the other along dim."""
        x = now(x)
        self._check_attended(x.device)
        if not torch.compiler.is_compiling():
            self.move_on(_gather(where))
        return self._unshard(x, dim, self.topology.lengths(total), where)

    def _unshard(self, x: torch.Tensor, dim: int, lengths: Sequence[int], where: str) -> torch.Tensor:
        if torch.compiler.is_compiling():
            whole: torch.Tensor = compiled.unshard(x, dim, list(lengths), self.handle, _gather(where))
            return whole
        return exchange.unshard(x, dim, lengths, self.wire)


def _gather(where: str) -> str:
    return f"the gather of {where or 'the output'}"

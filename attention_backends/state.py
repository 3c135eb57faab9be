"""What is on for one model: how its inputs are split, and who holds what at each of its attentions."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import torch

from attention_backends import compiled, exchange
from attention_backends.catalog import MODES, Mode
from attention_backends.cost import Speeds
from attention_backends.deferred import Deferred, now
from attention_backends.given import shapes, total
from attention_backends.header import DTYPES, Header, bits, checksum, disagreement
from attention_backends.kept_local import KeptLocal, own_parts
from attention_backends.kernels import choose
from attention_backends.layout import Layout, joined
from attention_backends.topology import Topology
from attention_backends.wire import Wire

COPIED = (
    "a model that attention_backends is enabled on can't be copied or pickled. Call attention_backends.disable(model) "
    "first; model.save_pretrained() works as it is."
)


@dataclass
class ContextParallel:
    """What is on for one model: returned by `enable`, held by every attention processor until `disable`."""

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
    operator: str = ""  # the operator that ran last, once one has
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
    where: str = field(default="", repr=False)  # the attention module that runs
    fit: Callable[[torch.Tensor], torch.Tensor] | None = field(default=None, repr=False)  # of the running mask
    # Of attentions whose keys travel while other modules run: weights of those inside it, and beside it.
    meanwhile: dict[str, tuple[int, int]] = field(default_factory=dict, repr=False)
    blocks: set[str] = field(default_factory=set, repr=False)  # in which modules run while keys travel, by path
    in_order: set[str] = field(default_factory=set, repr=False)  # of these, those that run in their own order now
    under_way: Deferred | None = field(default=None, repr=False)  # the attention whose keys travel
    kept: KeptLocal = field(default_factory=KeptLocal, repr=False)  # what the plan keeps local

    @property
    def rules(self) -> Mode:
        return MODES[self.mode]

    @property
    def context_parallel_config(self) -> Any:
        raise RuntimeError(
            "attention_backends is enabled on this model, and the attention backend was changed afterwards. "
            "Call attention_backends.disable(model), then enable(model, kernel=...) with the backend's name."
        )

    @property
    def tensor_parallel_config(self) -> None:
        """None: diffusers asks when it saves a model."""
        return None

    def __deepcopy__(self, memo: dict[int, Any]) -> "ContextParallel":
        raise TypeError(COPIED)

    def __reduce__(self) -> str:
        raise TypeError(COPIED)

    @property
    def wire(self) -> Wire:
        wire = self.topology.group
        assert isinstance(wire, Wire), "enable() gives a state its wire"
        return wire

    def enter(self, where: str) -> None:
        """Note which attention comes next. Blocks of a kind that are traced alone share a graph, which names none."""
        if self.traced or not torch.compiler.is_compiling():
            self.where = where

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
        if _look_alike(known):
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

    def layouts(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *, masked: bool, is_causal: bool
    ) -> tuple[Layout, Layout]:
        """Layouts of an attention of these local queries and keys.

        The first attention of a forward exchanges a header of each rank: the lengths here, what was split, and what
        else must be the same on all ranks, so that what differs is an error on every rank and not a wrong message.
        Later ones follow from those and from the splits.
        """
        rank, device = self.topology.rank, query.device
        queries, keys = query.shape[1], key.shape[1]
        case = queries, keys, len(self.streams)  # a stream that is split later may make two layouts look alike
        if case in self.known:
            return self.known[case]
        if self.first is None:
            dtype = str(query.dtype).removeprefix("torch.")
            facts = (
                *(query.shape[0], query.shape[2], key.shape[2], query.shape[3], value.shape[3]),
                *(DTYPES.index(dtype) if dtype in DTYPES else len(DTYPES), masked, is_causal),
                *(bits(self.timestep), self.shapes),
            )
            mine = Header(queries, keys, facts, tuple(self.streams.values()))
            told = exchange.exchange_lengths(mine.encode(), self.topology.group, device)
            everyone = [Header.decode(numbers) for numbers in told]
            if wrong := disagreement(everyone):
                raise ValueError(f"{wrong}: give every rank the same, whole inputs.")
            self.first = [tuple(each.queries for each in everyone), tuple(each.keys for each in everyone)]
        topology = self.topology
        known = {*self.first, *joined(tuple(self.streams.values()), topology.world_size, topology.shares)}
        if _look_alike(known):
            # Two possible layouts look the same to some rank: ask. Every rank knows this of every other.
            held = exchange.exchange_lengths([queries, keys], self.topology.group, device)
            return Layout(tuple(n[0] for n in held)), Layout(tuple(n[1] for n in held))
        found = []
        for tokens in (queries, keys):
            match = [lengths for lengths in known if lengths[rank] == tokens]
            if not match:
                raise ValueError(
                    f"an attention over {tokens} tokens on rank {rank}, which no split explains: the inputs were "
                    f"split as {self.streams}, the first attention was over {self.first}."
                )
            found.append(Layout(match[0]))
        self.known[case] = found[0], found[1]
        return found[0], found[1]

    def attention(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        mask: torch.Tensor | None,
        is_causal: bool,
        scale: float | None,
    ) -> torch.Tensor:
        """`attend`, as one operator where torch.compile traces the model; under autocast in its dtype, as torch's."""
        kind = query.device.type
        if torch.is_autocast_enabled(kind):
            dtype = torch.get_autocast_dtype(kind)
            query, key, value = (_cast(x, dtype) for x in (query, key, value))
            mask = _cast(mask, dtype) if mask is not None else None
        if not torch.compiler.is_compiling():
            return self.attend(query, key, value, mask, is_causal, scale)
        out: torch.Tensor
        if not self.traced:  # what was split is known here, and what a block alone would tell is told in its graph
            out = compiled.attend_in_block(query, key, value, mask, is_causal, scale, self.handle)
            return out
        first, self.started = not self.started, True
        told = self.handle, first, list(self.streams.values()), self.where
        seen = (self.given, self.time) if first else ([], None)
        out = compiled.attend(query, key, value, mask, is_causal, scale, *told, *seen)
        return out

    def attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        mask: torch.Tensor | None,
        is_causal: bool,
        scale: float | None,
        *,
        in_order: bool = False,
    ) -> torch.Tensor:
        """Attention over all ranks. in_order: no rank runs anything while keys travel."""
        kind = query.device.type
        if torch.is_autocast_enabled(kind):
            with torch.autocast(kind, enabled=False):
                return self.attend(query, key, value, mask, is_causal, scale, in_order=True)
        self.finish()
        self.calls += 1
        key, value, mask = now(key), now(value), now(mask)
        if not query.dtype == key.dtype == value.dtype:
            raise ValueError(
                f"an attention of {query.dtype} queries, {key.dtype} keys and {value.dtype} values. Give it one dtype."
            )
        if mask is not None and not self.rules.masks:
            raise ValueError(
                f"{self.mode} takes no attention mask, and this model passes one. Use unified_anything=True with "
                f"ring_degree={self.ring_degree}."
            )
        if self.rules.heads_divide and query.shape[2] % self.ulysses_degree:
            legal = [n for n in range(2, query.shape[2] + 1) if query.shape[2] % n == 0]
            raise ValueError(
                f"ulysses_degree={self.ulysses_degree} does not divide the model's {query.shape[2]} heads. "
                f"Try ulysses_degree in {legal}, or unified_anything=True for any number of heads."
            )
        masked, lse = mask is not None or is_causal, self.rules.grid or self.schedule == "staged"
        self.operator = choose(self.kernel, query, value, mask=masked, lse=lse)
        self.wire.move_on(f"attention {self.calls}, {self.where},")
        queries, keys = self.layouts(query, key, value, masked=mask is not None, is_causal=is_causal)
        algorithm = import_module(f"attention_backends.{self.rules.algorithm}")
        told = {
            "queries": queries,
            "keys": keys,
            "topology": self.topology,
            "is_causal": is_causal,
            "scale": scale,
            "kernel": self.kernel,
            "schedule": self.schedule,
            "speeds": self.speeds,
        }
        if self.meanwhile and not in_order:
            # Also where this rank runs in its own order: what is sent is the same on all ranks.
            told["meanwhile"] = 2.0 * sum(self.meanwhile.get(self.where, ()))
        if not isinstance(query, Deferred):
            out: torch.Tensor = algorithm.context_parallel_attention(query, key, value, mask, **told)
            return out
        begun = algorithm.begin(query, key, value, mask, **told)

        def arrive() -> torch.Tensor:
            self.under_way = None
            attended: torch.Tensor = begun()
            return attended

        self.under_way = Deferred(arrive, (*query.shape[:3], value.shape[3]), query, waits=True)
        return self.under_way


def _cast(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """What autocast makes of an argument of torch's own attention."""
    return x.to(dtype) if x.is_floating_point() and x.dtype != torch.float64 else x


def _gather(where: str) -> str:
    return f"the gather of {where or 'the output'}"


def _look_alike(layouts: set[tuple[int, ...]]) -> bool:
    """Whether some rank holds as many tokens in one of them as in another."""
    return any(a[i] == b[i] for a in layouts for b in layouts if a != b for i in range(len(a)))

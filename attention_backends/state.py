"""What is on for one model: its attention over all ranks, beside how its inputs are split (sharing.py)."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import torch

from attention_backends import compiled, cost, exchange
from attention_backends.deferred import Deferred, now
from attention_backends.header import DTYPES, Header, bits, disagreement
from attention_backends.kernels import choose
from attention_backends.layout import Layout, joined, look_alike
from attention_backends.sharing import Sharing
from attention_backends.workload import SPEEDS, Attention, Meanwhile, Shape

COPIED = (
    "a model that attention_backends is enabled on can't be copied or pickled. Call attention_backends.disable(model) "
    "first; model.save_pretrained() works as it is."
)


@dataclass
class ContextParallel(Sharing):
    """What is on for one model: returned by `enable`, held by every attention processor until `disable`."""

    operator: str = ""  # the operator that ran last, once one has
    where: str = field(default="", repr=False)  # the attention module that runs
    fit: Callable[[torch.Tensor], torch.Tensor] | None = field(default=None, repr=False)  # of the running mask
    # Of attentions whose keys travel while other modules run: weights of those inside it, and beside it.
    meanwhile: dict[str, tuple[int, int]] = field(default_factory=dict, repr=False)
    blocks: set[str] = field(default_factory=set, repr=False)  # in which modules run while keys travel, by path
    in_order: set[str] = field(default_factory=set, repr=False)  # of these, those that run in their own order now
    late: bool | None = field(
        default=None, repr=False
    )  # whether any of them is put off in this forward, once it is known

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

    def enter(self, where: str) -> None:
        """Note which attention comes next. Blocks of a kind that are traced alone share a graph, which names none."""
        if self.traced or not torch.compiler.is_compiling():
            self.where = where

    def puts_off(self, x: torch.Tensor) -> bool:
        """Whether this forward puts work off, x (B, ...) being what is worked on: the same on every rank."""
        if self.late is None:
            query = max((inside for inside, _ in self.meanwhile.values()), default=0)
            tokens = Layout(self.topology.lengths(sum(self.streams.values())))
            world, size = self.topology.world_size, x.element_size()
            shape = Shape(world, max(1, math.isqrt(query) // world), x.shape[0], element_size=size)
            degrees = self.ring_degree, self.ulysses_degree
            one = Attention(
                tokens, tokens, shape, *degrees, shares=self.topology.shares, meanwhile=Meanwhile(2.0 * query)
            )
            self.late = cost.puts_off(one, self.speeds or SPEEDS["cuda" if x.is_cuda else "cpu"])
        return self.late

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
        if look_alike(known):
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
        mask = now(mask)
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
        if (weights := self.meanwhile.get(self.where)) and not in_order and self.puts_off(query):
            # Also where this rank runs in its own order: what is sent is the same on all ranks.
            query_weights, mlp = weights
            told["meanwhile"] = Meanwhile(
                2.0 * query_weights, 1.0 * mlp, 1.0 * mlp
            )  # beside counts the last one's part
        if not isinstance(query, Deferred):
            out: torch.Tensor = algorithm.context_parallel_attention(query, now(key), now(value), mask, **told)
            return out
        begun = algorithm.begin(query, key, value, mask, **told)

        def arrive() -> torch.Tensor:
            self.under_way = None
            attended: torch.Tensor = begun()
            return attended

        shape, ahead = (*query.shape[:3], value.shape[3]), begun.ahead if begun.trades else None
        self.under_way = Deferred(arrive, shape, query, waits=True, ahead=ahead)
        return self.under_way


def _cast(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """What autocast makes of an argument of torch's own attention."""
    return x.to(dtype) if x.is_floating_point() and x.dtype != torch.float64 else x

"""Cutting and joining tensors by streams of tokens, as a plan says: each stream is split over ranks by itself."""

from collections.abc import Sequence
from typing import Any, Protocol

import torch

from attention_backends.plan import OWN, nearest
from attention_backends.topology import Topology


class Holder(Protocol):
    """What this file needs of sharing.Sharing."""

    topology: Topology
    streams: dict[str, int]  # tokens of each stream in this forward, all ranks together
    along: dict[str, str]  # what defined each, in words
    may_be_empty: frozenset[str] | None

    def check_even(self, name: str, total: int) -> None: ...
    def check_each(self, where: str, name: str, total: int) -> None: ...
    def shard(self, x: torch.Tensor, dim: int) -> torch.Tensor: ...
    def unshard(self, x: torch.Tensor, dim: int, total: int, where: str) -> torch.Tensor: ...


def define(state: Holder, where: str, x: torch.Tensor, dim: int, lengths: dict[str, int]) -> None:
    """Note how many tokens each stream has, which x joins along dim.

    Raises:
        ValueError: another tensor of this forward gave the stream another length, or the mode can't share it.
    """
    for name, total in lengths.items():
        known = state.streams.get(name, total)
        if known != total:
            before = state.along.get(name, "in this forward")
            raise ValueError(f"{where}: {total} tokens of {name}, and there were {known} before: {before}")
        state.check_even(name, total)
        if state.may_be_empty is not None and name not in state.may_be_empty:
            state.check_each(f"{where}: ", name, total)
        if total:
            state.streams[name] = total
            if not torch.compiler.is_compiling():  # words are not traced
                state.along.setdefault(name, f"{where} along dimension {dim % x.ndim} of {tuple(x.shape)}")


def held(state: Holder, name: str) -> int:
    """Tokens of a stream on this rank; a stream that this forward does not have has none."""
    return state.topology.lengths(state.streams.get(name, 0))[state.topology.rank]


def cut(state: Holder, where: str, x: torch.Tensor, dim: int, names: Sequence[str]) -> torch.Tensor:
    """This rank's part of each stream that x joins along dim, one after the other; a dimension of 1 stays whole, and so
    does what is this rank's own already.

    What comes before the tensor that defines its stream (positions, times) defines it.
    """
    if len(names) == 1 and names[0] not in state.streams and x.shape[dim] != 1:
        define(state, where, x, dim, {names[0]: x.shape[dim]})
    totals = [state.streams.get(name, 0) for name in names]
    if OWN in names:
        totals[list(names).index(OWN)] = max(0, x.shape[dim] - sum(totals))
    if x.shape[dim] == 1 and sum(totals) != 1:
        return x
    if x.shape[dim] != sum(totals):
        known = ", ".join(f"{total} of {name}" for name, total in zip(names, totals, strict=True))
        near = elsewhere(x, sum(totals))
        raise ValueError(f"{where}: {x.shape[dim]} tokens along dimension {dim}, but the plan joins {known}{near}")
    whole = zip(names, torch.split(x, totals, dim=dim), strict=True)
    parts = [part if name == OWN else state.shard(part, dim) for name, part in whole]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=dim)


def join(state: Holder, where: str, x: torch.Tensor, dim: int, names: Sequence[str]) -> torch.Tensor:
    """The whole tensor from every rank's: the inverse of `cut`."""
    here = [held(state, name) for name in names]
    if not any(name in state.streams for name in names):
        raise ValueError(f"{where}: {' and '.join(names)} had no tokens in this forward{nearest('', state.streams)}")
    if x.shape[dim] != sum(here):
        known = ", ".join(f"{count} of {name}" for name, count in zip(names, here, strict=True))
        raise ValueError(
            f"{where}: {x.shape[dim]} tokens on rank {state.topology.rank} along dimension {dim}, but it holds {known}"
            f"{elsewhere(x, sum(here))}"
        )
    parts = torch.split(x, here, dim=dim)
    whole = [
        state.unshard(part, dim, state.streams[name], where)
        for part, name in zip(parts, names, strict=True)
        if state.streams.get(name)
    ]
    return whole[0] if len(whole) == 1 else torch.cat(whole, dim=dim)


def elsewhere(x: torch.Tensor, tokens: int) -> str:
    """Which dimensions have that many, in words; "" if none has."""
    found = [str(dim) for dim, length in enumerate(x.shape) if length == tokens]
    return f"; write dim: {' or '.join(found)}, which has {tokens}" if found else ""


def whole_mask(state: Holder, where: str, mask: torch.Tensor, names: Sequence[str]) -> torch.Tensor:
    """A mask (B, H, Sq, Skv) over the whole sequence, for this rank's queries and with the keys in the ranks' order."""
    totals = [state.streams.get(name, 0) for name in names]
    if mask.ndim != 4 or mask.shape[3] != sum(totals):
        raise ValueError(f"{where}: a mask of shape {tuple(mask.shape)}, but the plan joins {totals} keys in it")
    rows = cut(state, where, mask, 2, names)
    shards = [
        torch.split(part, list(state.topology.lengths(part.shape[3])), dim=3)
        for part in torch.split(rows, totals, dim=3)
    ]
    return torch.cat([part for rank in zip(*shards, strict=True) for part in rank], dim=3)


def each(value: Any, change: Any) -> Any:
    """A tensor changed, or every tensor of a tuple, list or dict; anything else as it is."""
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, list | tuple):
        return type(value)(each(item, change) for item in value)
    return {key: each(item, change) for key, item in value.items()} if isinstance(value, dict) else value

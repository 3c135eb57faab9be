"""A plan: what of one model is split over ranks, what is gathered, and which of its attentions stay local. No torch.

As plain data, so that it can stand in a YAML file. Of a model whose blocks are given image and text tokens:

    split:
      transformer_blocks.0:
        hidden_states: {dim: 1}
        encoder_hidden_states: {dim: 1}
      transformer_blocks.*:
        image_rotary_emb: {dim: 0, like: hidden_states}
        attention_mask: {dim: -1, like: [hidden_states, encoder_hidden_states]}
    gather:
      proj_out: {dim: 1}
    local: [context_embedder]

`split` names a module, then its parameters (an integer: its output of this number). An entry without `like` defines a
stream of tokens, under the parameter's name. `like` names the streams that a tensor follows, in the order in which they
are joined: each of them is cut by itself, null is what is this rank's own already, and a dimension of 1 stays whole.
`parts` defines the streams that one tensor joins, each with the parameter that says how many tokens it has, the last
one with null for the rest. `count` names a stream whose tokens an integer parameter counts: the rank's own are put in
its place. An output defines a stream with `parts: {NAME: null}`, where no module is given the tokens whole.

`gather` names modules whose output is put together again: one entry, or one for each output (null: it stays). `local`
names attentions that no other rank takes part in: cross-attention to a text that every rank holds whole, or refiners
that run before the split; one that turns out to see a rank's own part of what is split is an error on every rank. Two
kinds of masks need a word. `keys_only` names attentions whose mask has a row per query, though each row that counts
says the same: only the keys' part is taken. `masks` names attentions whose mask, made from what is not split, covers
the whole sequence, and the streams that it joins: its rows are cut, and its keys put in the ranks' order. `empty` names
streams of which a rank may hold no token at all; of any other one every rank must have one, because model code seldom
takes a tensor without. `meanwhile` names linear layers whose output no key of their block needs (the query's
projection, an MLP beside the attention): they run while keys travel.

Module paths are those of `get_submodule`; `*` stands for every child, and a negative number counts from a list's end.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

KEYS = ("split", "gather", "local", "keys_only", "masks", "empty", "meanwhile")
OWN = "null"  # in like: what is this rank's own already
ENTRY_KEYS = ("dim", "ndim", "like", "parts", "count")


class PlanError(ValueError):
    """A plan that does not fit its model, or itself."""


@dataclass(frozen=True)
class Split:
    """One parameter or output of a module.

    Args:
        name: the parameter, or the number of an output.
        dim: the dimension that counts tokens. ndim: left whole if it has another number of dimensions.
        like: streams that it follows, in the order in which they are joined. Empty: it defines the streams in `parts`.
        parts: stream and the parameter that counts its tokens, or None for what is left.
        count: the stream that this integer counts, "" for a tensor.
    """

    name: str | int
    dim: int = 0
    ndim: int | None = None
    like: tuple[str, ...] = ()
    parts: tuple[tuple[str, str | None], ...] = ()
    count: str = ""


@dataclass(frozen=True)
class Gather:
    """One output: the dimension that counts tokens, and the streams that are joined in it."""

    dim: int
    like: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """A whole plan; modules by path."""

    split: Mapping[str, tuple[Split, ...]]
    gather: Mapping[str, tuple[Gather | None, ...]]
    local: tuple[str, ...] = ()
    keys_only: tuple[str, ...] = ()
    masks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    empty: frozenset[str] = frozenset()
    meanwhile: tuple[str, ...] = ()
    streams: tuple[str, ...] = field(default=())  # every stream that the plan defines

    @property
    def paths(self) -> tuple[str, ...]:
        """Every module that is named."""
        return tuple(
            dict.fromkeys((*self.split, *self.gather, *self.local, *self.keys_only, *self.masks, *self.meanwhile))
        )


def is_plain(plan: Mapping[str, Any]) -> bool:
    """Whether this is a plan in the form above, not diffusers' own dictionary of modules."""
    return "split" in plan and set(plan) <= set(KEYS)


def parse(plain: Any) -> Plan:
    """The plan, checked as far as that goes without its model.

    Raises:
        PlanError: names the entry, what is wrong with it and the nearest legal word.
    """
    plain = _mapping(plain, "cp_plan")
    _known(plain, KEYS, "cp_plan")
    split = {path: _splits(path, entries) for path, entries in _mapping(plain.get("split"), "cp_plan.split").items()}
    entries = [entry for group in split.values() for entry in group]
    streams = tuple(dict.fromkeys(name for entry in entries for name, _ in entry.parts))
    if not streams:
        raise PlanError("cp_plan.split defines no stream: give one tensor of tokens as {dim: ...}, without like")
    for path, group in split.items():
        for entry in group:
            for name in (*entry.like, *filter(None, [entry.count])):
                if name not in (*streams, OWN):
                    raise PlanError(f"cp_plan.split.{path}.{entry.name}: no stream {name!r}{nearest(name, streams)}")
    gather = {
        path: _gathers(path, told, streams) for path, told in _mapping(plain.get("gather"), "cp_plan.gather").items()
    }
    if not gather:
        raise PlanError("cp_plan.gather is empty: name the module whose output is put together again")
    empty = _names(plain.get("empty") or (), "cp_plan.empty")
    for name in empty:
        if name not in streams:
            raise PlanError(f"cp_plan.empty: no stream {name!r}{nearest(name, streams)}")
    masks = {
        path: _names(told, f"cp_plan.masks.{path}")
        for path, told in _mapping(plain.get("masks") or {}, "cp_plan.masks").items()
    }
    for path, names in masks.items():
        for name in names:
            if name not in streams:
                raise PlanError(f"cp_plan.masks.{path}: no stream {name!r}{nearest(name, streams)}")
    local, keys_only = _paths(plain, "local"), _paths(plain, "keys_only")
    return Plan(split, gather, local, keys_only, masks, frozenset(empty), _paths(plain, "meanwhile"), streams)


def nearest(word: str, known: Iterable[str]) -> str:
    """`; nearest: ...` with what is most like the word, or what there is."""
    names = list(known)
    close = difflib.get_close_matches(word, names, n=3, cutoff=0.5)
    return f"; nearest: {', '.join(close)}" if close else f"; there are {', '.join(names) or 'none'}"


def _splits(path: str, entries: Any) -> tuple[Split, ...]:
    where = f"cp_plan.split.{path}"
    found = [_split(f"{where}.{name}", name, entry) for name, entry in _mapping(entries, where).items()]
    return tuple(found)


def _split(where: str, name: Any, entry: Any) -> Split:
    entry = _mapping(entry, where)
    _known(entry, ENTRY_KEYS, where)
    if isinstance(name, str) and name.isdigit():  # JSON's keys are strings
        name = int(name)
    if "count" in entry:
        if set(entry) != {"count"} or not isinstance(name, str):
            raise PlanError(f"{where}: count goes with a parameter, and with no other key")
        return Split(name, count=str(entry["count"]))
    dim, ndim = entry.get("dim"), entry.get("ndim")
    if not isinstance(dim, int) or isinstance(dim, bool):
        raise PlanError(f"{where}: dim={dim!r}: give the number of the dimension that counts tokens")
    if ndim is not None and not (isinstance(ndim, int) and -ndim <= dim < ndim):
        raise PlanError(f"{where}: ndim={ndim!r} has no dimension {dim}")
    if not isinstance(name, str | int):
        raise PlanError(f"{where}: name a parameter, or an output by its number")
    if "like" in entry:
        if "parts" in entry:
            raise PlanError(f"{where}: takes like or parts, not both")
        told = entry["like"]
        if isinstance(told, list | tuple):
            told = [OWN if each is None else each for each in told]
        like = _names(told, f"{where}.like")
        if like.count(OWN) > 1 or like == (OWN,):
            raise PlanError(f"{where}.like: null is what is left beside named streams, once")
        return Split(name, dim, ndim, like=like)
    if isinstance(name, int) and "parts" not in entry:
        raise PlanError(f"{where}: an output follows streams: say which, with like")
    parts = tuple(_mapping(entry.get("parts", {name: None}), f"{where}.parts").items())
    if [count for _, count in parts].count(None) != 1:
        raise PlanError(f"{where}.parts: exactly one stream has null for its length, that of the rest")
    if isinstance(name, int) and len(parts) > 1:
        raise PlanError(f"{where}.parts: an output defines one stream: no parameter says how many tokens others have")
    return Split(name, dim, ndim, parts=parts)


def _gathers(path: str, told: Any, streams: tuple[str, ...]) -> tuple[Gather | None, ...]:
    where = f"cp_plan.gather.{path}"
    found: list[Gather | None] = []
    for entry in told if isinstance(told, list | tuple) else [told]:
        if entry is None:
            found.append(None)
            continue
        _known(_mapping(entry, where), ("dim", "like"), where)
        dim = entry.get("dim")
        if not isinstance(dim, int) or isinstance(dim, bool):
            raise PlanError(f"{where}: dim={dim!r}: give the number of the dimension that counts tokens")
        default = "hidden_states" if "hidden_states" in streams else streams[0]
        like = _names(entry.get("like", default), f"{where}.like")
        for name in like:
            if name not in streams:
                raise PlanError(f"{where}: no stream {name!r}{nearest(name, streams)}")
        found.append(Gather(dim, like))
    return tuple(found)


def _paths(plain: Mapping[str, Any], key: str) -> tuple[str, ...]:
    return _names(plain.get(key) or (), f"cp_plan.{key}")


def _names(told: Any, where: str) -> tuple[str, ...]:
    names = (told,) if isinstance(told, str) else tuple(told) if isinstance(told, list | tuple) else None
    if names is None or not all(isinstance(name, str) for name in names):
        raise PlanError(f"{where}: expected a name or a list of names, not {told!r}")
    return names


def _mapping(told: Any, where: str) -> Mapping[Any, Any]:
    if not isinstance(told, Mapping):
        raise PlanError(f"{where}: expected key: value, not {told!r}")
    return told


def _known(entry: Mapping[Any, Any], keys: tuple[str, ...], where: str) -> None:
    for key in entry:
        if key not in keys:
            raise PlanError(f"{where}: unknown key {key!r}{nearest(str(key), keys)}")


def matches(path: str, pattern: str) -> bool:
    """Whether a module is the one that a path of a plan names, or stands below it; no negative numbers here."""
    atoms = pattern.split(".")
    return all(told in ("*", atom) for told, atom in zip(atoms, path.split("."), strict=False)) and len(
        path.split(".")
    ) >= len(atoms)

"""Hooks for a plan as plain data: they cut what modules are given, join what they give, and reroute attentions."""

import inspect
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import torch
from diffusers.hooks.hooks import ModelHook
from diffusers.utils.torch_utils import unwrap_module

from attention_backends import streams
from attention_backends.diffusers_seam.reroute import Fit, Reroute
from attention_backends.diffusers_seam.upkeep import Upkeep
from attention_backends.masks import key_row
from attention_backends.plan import Gather, Plan, PlanError, Split, matches, nearest
from attention_backends.state import ContextParallel

_HOOK = "attention_backends---{}"


def modules(model: torch.nn.Module, path: str) -> Iterator[tuple[str, torch.nn.Module]]:
    """The modules that a path of a plan names, with their paths in the model.

    Raises:
        PlanError: there is none; names the nearest.
    """
    found = [("", model)]
    for atom in path.split(".") if path else []:
        children = [(at, list(module.named_children())) for at, module in found]
        if atom.startswith("-") and atom[1:].isdigit():
            chosen = [(at, *named[int(atom)]) for at, named in children if int(atom) >= -len(named)]
        else:
            chosen = [(at, name, child) for at, named in children for name, child in named if atom in ("*", name)]
        found = [(f"{at}.{name}".lstrip("."), child) for at, name, child in chosen]
        if not found:
            names = dict.fromkeys(name for _, named in children for name, _ in named)
            raise PlanError(f"{path}: {type(model).__name__} has no module {atom!r} there{nearest(atom, names)}")
    yield from found


def found(model: torch.nn.Module, paths: tuple[str, ...]) -> list[tuple[str, torch.nn.Module]]:
    """The modules that these paths name, each once."""
    return list(dict.fromkeys(each for path in paths for each in modules(model, path)))


def axis(where: str, x: torch.Tensor, dim: int) -> int:
    """A dimension of a plan, from 0.

    Raises:
        ValueError: the tensor does not have it.
    """
    if not -x.ndim <= dim < x.ndim:
        raise ValueError(
            f"{where}: dim={dim}, of a tensor of {x.ndim} dimensions, {tuple(x.shape)}; write 0 to {x.ndim - 1}"
        )
    return dim % x.ndim


class Cut(ModelHook):  # type: ignore[misc]
    """Puts this rank's part in the place of what a module is given, and of its outputs."""

    def __init__(self, path: str, entries: list[Split], state: ContextParallel) -> None:
        super().__init__()
        self.path, self.state = path, state
        self.inputs = sorted(
            (entry for entry in entries if isinstance(entry.name, str)), key=lambda entry: not entry.parts
        )
        self.outputs = [entry for entry in entries if isinstance(entry.name, int)]
        self.places: dict[str, int] = {}

    def initialize_hook(self, module: torch.nn.Module) -> torch.nn.Module:
        names = list(inspect.signature(type(unwrap_module(module)).forward).parameters)[1:]
        self.places = {name: place for place, name in enumerate(names)}
        for entry in self.inputs:
            if entry.name not in self.places:
                kind = type(unwrap_module(module)).__name__
                word = str(entry.name)
                raise PlanError(
                    f"{self.path or 'the model'}: {kind}.forward has no parameter {word!r}{nearest(word, names)}"
                )
        return module

    def pre_forward(self, module: torch.nn.Module, *args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        given = list(args)

        def read(name: str) -> Any:
            place = self.places[name]
            return kwargs.get(name, given[place] if place < len(given) else None)

        # Streams are defined from the whole tensors, before anything is cut.
        for entry in self.inputs:
            if entry.parts and (value := read(str(entry.name))) is not None:
                lengths = self._lengths(entry, value, read)
                streams.define(self.state, self._where(entry), value, entry.dim, lengths)
        for entry in self.inputs:
            name = str(entry.name)
            value = read(name)
            if value is None:
                continue
            if not self.path:
                self.state.cut.add(name)
            changed = streams.held(self.state, entry.count) if entry.count else self._cut(entry, value)
            if name in kwargs:
                kwargs[name] = changed
            else:
                given[self.places[name]] = changed
        return tuple(given), kwargs

    def post_forward(self, module: torch.nn.Module, output: Any) -> Any:
        if not self.outputs:
            return output
        outputs = [output] if isinstance(output, torch.Tensor) else list(output)
        for entry in self.outputs:
            number = int(entry.name)
            if number >= len(outputs):
                raise ValueError(f"{self._where(entry)}: the module has {len(outputs)} outputs")
            outputs[number] = self._cut(entry, outputs[number])
        return outputs[0] if isinstance(output, torch.Tensor) else tuple(outputs)

    def _where(self, entry: Split) -> str:
        return f"{self.path or 'the model'}, {'output ' if isinstance(entry.name, int) else ''}{entry.name}"

    def _lengths(self, entry: Split, value: Any, read: Any) -> dict[str, int]:
        if not isinstance(value, torch.Tensor):
            raise ValueError(
                f"{self._where(entry)}: expected a tensor, which defines a stream, not {type(value).__name__}"
            )
        axis(self._where(entry), value, entry.dim)
        counted = {name: int(read(count) or 0) for name, count in entry.parts if count is not None}
        rest = value.shape[entry.dim] - sum(counted.values())
        return {name: counted.get(name, rest) for name, _ in entry.parts}

    def _cut(self, entry: Split, value: Any) -> Any:
        def change(x: torch.Tensor) -> torch.Tensor:
            if entry.ndim is not None and x.ndim != entry.ndim:
                return x
            names = entry.like or [name for name, _ in entry.parts]
            return streams.cut(self.state, self._where(entry), x, axis(self._where(entry), x, entry.dim), names)

        return streams.each(value, change)


class Join(ModelHook):  # type: ignore[misc]
    """Puts every rank's part of a module's outputs together."""

    def __init__(self, path: str, entries: tuple[Gather | None, ...], state: ContextParallel) -> None:
        super().__init__()
        self.path, self.entries, self.state = path, entries, state

    def post_forward(self, module: torch.nn.Module, output: Any) -> Any:
        outputs = [output] if isinstance(output, torch.Tensor) else list(output)
        if len(outputs) < len(self.entries):
            raise ValueError(
                f"{self.path}: the plan gathers {len(self.entries)} outputs, and the module has {len(outputs)}"
            )
        for number, entry in enumerate(self.entries):
            x = outputs[number]
            if entry is not None and x is not None:  # a stream that this forward does not have
                outputs[number] = streams.join(self.state, self.path, x, axis(self.path, x, entry.dim), entry.like)
        return outputs[0] if isinstance(output, torch.Tensor) else tuple(outputs)


class Attend(ModelHook):  # type: ignore[misc]
    """Runs an attention module so that torch's own attention, too, goes over all ranks."""

    def __init__(self, path: str, state: ContextParallel, fit: Fit | None) -> None:
        super().__init__()
        self.path, self.state, self.fit = path, state, fit

    def new_forward(self, module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        self.state.enter(self.path)
        if _traced_by_dispatcher(module):
            outer, self.state.fit = self.state.fit, self.fit
            output = self.fn_ref.original_forward(*args, **kwargs)
            self.state.fit = outer
            return output
        before = None if torch.compiler.is_compiling() else self.state.calls
        with Reroute(self.state, self.fit):
            output = self.fn_ref.original_forward(*args, **kwargs)
        if before is not None and self.state.calls == before:
            raise ValueError(
                f"{self.path}: its attention was computed by something that is not caught: it stayed on this rank. "
                f"Use diffusers' default attention backend and processor, or name it in the plan's local."
            )
        return output


class Stay(ModelHook):  # type: ignore[misc]
    """Keeps an attention module on its rank, also one inside a module that is rerouted."""

    def __init__(self, path: str, state: ContextParallel) -> None:
        super().__init__()
        self.path, self.state = path, state

    def new_forward(self, module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        if _traced_by_dispatcher(module):
            return self.fn_ref.original_forward(*args, **kwargs)
        with Reroute(None, seen=partial(self.state.stays, self.path)):
            return self.fn_ref.original_forward(*args, **kwargs)


def _traced_by_dispatcher(module: torch.nn.Module) -> bool:
    """Whether torch.compile traces an attention that asks diffusers' dispatcher, which needs no function mode.

    Dynamo can't trace some methods of a tensor under one (Tensor.unflatten).
    """
    return torch.compiler.is_compiling() and hasattr(module.processor, "_parallel_config")


def apply(model: torch.nn.Module, plan: Plan, state: ContextParallel, upkeep: Upkeep) -> list[Any]:
    """Hook a model up as the plan says.

    Returns:
        The processors whose attention goes over all ranks.

    Raises:
        PlanError: a path, a parameter or an attention that the model does not have.
    """
    state.may_be_empty = plan.empty
    cuts: dict[str, list[Split]] = {}
    for path, splits in plan.split.items():
        for name, _ in modules(model, path):
            cuts.setdefault(name, []).extend(splits)
    joins = [(name, entries) for path, entries in plan.gather.items() for name, _ in modules(model, path)]
    attentions = {
        name: module for name, module in model.named_modules() if getattr(module, "processor", None) is not None
    }
    local = _chosen(model, plan.local, attentions)
    fits: dict[str, Fit] = dict.fromkeys(_chosen(model, plan.keys_only, attentions), key_row)
    for path, names in plan.masks.items():
        for name in _chosen(model, (path,), attentions):
            fits[name] = partial(_whole_mask, state, name, names)
    if not set(attentions) - local:
        raise PlanError(f"{type(model).__name__} has no attention that goes over all ranks; it has {len(attentions)}")
    stay = {id(attentions[name].processor) for name in local}
    processors: dict[int, Any] = {}
    for name, module in attentions.items():
        processor: Any = module.processor
        if name in local:
            state.kept.paths.append(name)
            upkeep.hook(name, partial(Stay, name, state), _HOOK.format("stay"))
            continue
        if id(processor) in stay:
            raise PlanError(f"{name}: shares its processor with an attention that the plan keeps local")
        processors[id(processor)] = processor
        upkeep.hook(name, partial(Attend, name, state, fits.get(name)), _HOOK.format("attend"))
    for name, told in joins:
        upkeep.hook(name, partial(Join, name, told, state), _HOOK.format("join"))
    for name, entries in cuts.items():
        upkeep.hook(name, partial(Cut, name, entries, state), _HOOK.format("cut"))
    return [each for each in processors.values() if hasattr(each, "_parallel_config")]


def _whole_mask(state: ContextParallel, where: str, names: tuple[str, ...], mask: torch.Tensor) -> torch.Tensor:
    return streams.whole_mask(state, where, mask, names)


def _chosen(model: torch.nn.Module, paths: tuple[str, ...], attentions: Mapping[str, torch.nn.Module]) -> set[str]:
    chosen: set[str] = set()
    for path in paths:
        list(modules(model, path))  # the path exists
        found = {name for name in attentions if matches(name, path)}
        if not found:
            raise PlanError(f"{path}: {type(model).__name__} has no attention there{nearest(path, attentions)}")
        chosen |= found
    return chosen

"""Changing what is not ours so that it can be put back exactly, absence included."""

from collections.abc import Callable
from functools import partial, update_wrapper
from types import MethodType
from typing import Any

import torch
from diffusers.hooks.hooks import HookRegistry, ModelHook

Undo = Callable[[], None]


def set_attribute(thing: Any, name: str, value: Any) -> Undo:
    """Set an instance attribute."""
    if name in vars(thing):
        undo: Undo = partial(setattr, thing, name, vars(thing)[name])
    else:
        undo = partial(_delete, thing, name)
    setattr(thing, name, value)
    return undo


def _delete(thing: Any, name: str) -> None:
    vars(thing).pop(name, None)


def add_hook(module: torch.nn.Module, hook: ModelHook, name: str) -> Undo:
    """Register a hook of diffusers' kind; the last one to leave takes the registry along if it brought it."""
    had_registry, had_forward = hasattr(module, "_diffusers_hook"), "forward" in vars(module)
    registry = HookRegistry.check_if_exists_or_initialize(module)
    registry.register_hook(hook, name)
    _as_method(module)

    def undo() -> None:
        _remove(registry, name)
        if not registry.hooks:
            if not had_forward:
                _delete(module, "forward")
            if not had_registry:
                _delete(module, "_diffusers_hook")

    return undo


def _as_method(module: torch.nn.Module) -> None:
    """Make a forward that diffusers has hooked a method of its module, as it was.

    A functools.partial in its place torch.compile takes for another forward in each block, and compiles each block anew
    until it reaches its limit of 8: `guard_to_detect_forward_monkeypatching` of torch/_dynamo/variables/nn_module.py.
    """
    hooked = module.forward
    if isinstance(hooked, partial):
        original = vars(hooked)["__wrapped__"]
        function = update_wrapper(hooked.func, getattr(original, "__func__", original))
        module.forward = MethodType(function, module)


def _remove(registry: HookRegistry, name: str) -> None:
    """Remove a hook. diffusers' own way does so from under a hook that replaces the forward by leaving that one out."""
    if name not in registry._hook_order:
        return
    at = registry._hook_order.index(name)
    own = registry._fn_refs[at]
    above = registry._fn_refs[at + 1] if at + 1 < len(registry._fn_refs) else None
    replaces = None if above is None or above.original_forward is None else above.forward
    registry.remove_hook(name, recurse=False)
    if above is not None and replaces is not None:
        above.original_forward = own.forward if own.original_forward is None else own.original_forward
        above.forward = replaces


# How many enabled models need each replaced entry of one of diffusers' tables.
_TAKEN: dict[tuple[int, Any], int] = {}


def take_over(table: dict[Any, Any], name: Any, wrapped: Callable[[Any], Any]) -> Undo:
    """Replace an entry by `wrapped` of it, which keeps it as `original`; the last model to leave restores it."""
    key = (id(table), name)
    if key not in _TAKEN:
        table[name] = wrapped(table[name])
    _TAKEN[key] = _TAKEN.get(key, 0) + 1

    def undo() -> None:
        _TAKEN[key] -= 1
        if not _TAKEN[key]:
            del _TAKEN[key]
            table[name] = table[name].original

    return undo

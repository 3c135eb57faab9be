"""What must still hold when a forward begins: hooks on the modules that a plan names, and processors that were told.

A model changes while it is enabled: a LoRA puts a module of its own in place of another and takes it away again, an
adapter brings attention processors, a cache skips blocks.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.hooks.hooks import ModelHook

from attention_backends.diffusers_seam import caches
from attention_backends.diffusers_seam.undo import Undo, add_hook
from attention_backends.state import ContextParallel

AGAIN = "Call attention_backends.disable(model), then enable(model, ...) again."


def class_name(module: torch.nn.Module) -> str:
    """The name of a module's own class: torch's fully_shard puts one of its own over it, FSDP and the same name."""
    return next(kind.__name__ for kind in type(module).__mro__ if not kind.__name__.startswith("FSDP"))


@dataclass
class Place:
    """A module that has a hook, by its path in the model."""

    path: str
    module: torch.nn.Module
    make: Callable[[], ModelHook]
    name: str
    undo: Undo


class Upkeep:
    """The hooks and processors of one enabled model."""

    def __init__(self, model: torch.nn.Module, state: ContextParallel) -> None:
        self._model, self._state = model, state
        self._places: list[Place] = []
        self._processors: list[tuple[str, torch.nn.Module, Any]] = []
        self._decisions: list[Undo] = []
        # Names by which a module holds one on the way to a place: to look at each is twenty times as fast as to walk
        # to every place, which is done before each forward.
        self._ways: dict[tuple[torch.nn.Module, str], torch.nn.Module] = {}

    def hook(self, path: str, make: Callable[[], ModelHook], name: str) -> None:
        """Put a hook on the module at `path`, and on whatever takes its place."""
        module = self._walk(path, self._ways)
        self._places.append(Place(path, module, make, name, add_hook(module, make(), name)))

    def processor(self, path: str) -> None:
        """Expect the attention module at `path` to keep its processor."""
        module = self._model.get_submodule(path)
        if hasattr(module.processor, "to_k_ip"):
            raise ValueError(
                f"{path}: an IP-adapter's attention to its image does not go over ranks. Call "
                "pipe.unload_ip_adapter() before enable()."
            )
        self._processors.append((path, module, module.processor))

    def remove(self) -> None:
        while self._places:
            self._places.pop().undo()
        while self._decisions:
            self._decisions.pop()()

    def check(self) -> None:
        """Move hooks to where they belong now.

        Raises:
            ValueError: the model was changed in a way under which its ranks would not compute together.
        """
        for path, module, processor in self._processors:
            if module.processor is not processor:
                raise ValueError(
                    f"{path} has another attention processor ({type(module.processor).__name__}) than when enable() "
                    f"was called, and its attention would stay on each rank. {AGAIN}"
                )
        moved = any(parent._modules.get(name) is not child for (parent, name), child in self._ways.items())
        ways: dict[tuple[torch.nn.Module, str], torch.nn.Module] = {}
        for place in self._places:
            try:
                module = self._walk(place.path, ways) if moved else place.module
            except AttributeError as error:
                raise ValueError(f"{place.path} is no longer a module of the model: {error}. {AGAIN}") from error
            if module is not place.module or caches.inside(module, place.name):
                place.undo()
                place.module, place.undo = module, add_hook(module, place.make(), place.name)
        self._ways = ways if moved else self._ways
        self._decisions += caches.agree(self._model, self._state)

    def _walk(self, path: str, ways: dict[tuple[torch.nn.Module, str], torch.nn.Module]) -> torch.nn.Module:
        """The module at this path; the way there is noted. Raises AttributeError."""
        module = self._model
        for name in path.split(".") if path else ():
            child = module.get_submodule(name)
            if module._modules.get(name) is child:
                ways[module, name] = child
            module = child
        return module

    def check_compiled(self) -> None:
        """The same of a forward that torch.compile traces, in which nothing can be changed.

        Raises:
            ValueError: each rank would decide for itself which blocks to skip.
        """
        if self.may_skip and not caches.agreed(self._model):
            raise ValueError(
                "FirstBlockCache was enabled after enable(), on a model that is compiled: each rank would decide by "
                "itself which blocks to skip. Call model.enable_cache() before attention_backends.enable()."
            )

    @property
    def may_skip(self) -> bool:
        """Whether a cache may leave out every attention of a forward, on all ranks alike."""
        return getattr(self._model, "_cache_config", None) is not None

"""What must still hold when a forward begins: hooks on the modules that a plan names, and processors that were told.

A model changes while it is enabled: a LoRA puts a module of its own in place of another and takes it away again, an
adapter brings attention processors, a cache skips blocks.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.hooks.hooks import ModelHook

from attention_backends.diffusers_seam.undo import Undo, add_hook

AGAIN = "Call attention_backends.disable(model), then enable(model, ...) again."
# Caches that skip blocks by what a rank's own tokens look like: each rank would decide for itself.
DECIDES_ALONE = {"fbc_leader_block_hook": "FirstBlockCache", "fbc_block_hook": "FirstBlockCache"}


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

    def __init__(self, model: torch.nn.Module) -> None:
        self._model = model
        self._places: list[Place] = []
        self._processors: list[tuple[str, torch.nn.Module, Any]] = []

    def hook(self, path: str, make: Callable[[], ModelHook], name: str) -> None:
        """Put a hook on the module at `path`, and on whatever takes its place."""
        module = self._model.get_submodule(path)
        self._places.append(Place(path, module, make, name, add_hook(module, make(), name)))

    def processor(self, path: str) -> None:
        """Expect the attention module at `path` to keep its processor."""
        module = self._model.get_submodule(path)
        self._processors.append((path, module, module.processor))

    def remove(self) -> None:
        while self._places:
            self._places.pop().undo()

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
        for place in self._places:
            try:
                module = self._model.get_submodule(place.path)
            except AttributeError as error:
                raise ValueError(f"{place.path} is no longer a module of the model: {error}. {AGAIN}") from error
            if module is not place.module:
                place.undo()
                place.module, place.undo = module, add_hook(module, place.make(), place.name)
        for blocks in self._model.children():
            for block in blocks if isinstance(blocks, torch.nn.ModuleList) else ():
                for name in getattr(getattr(block, "_diffusers_hook", None), "hooks", ()):
                    if name in DECIDES_ALONE:
                        raise ValueError(
                            f"{DECIDES_ALONE[name]} decides by each rank's own tokens which blocks to skip, so ranks "
                            "would skip different ones. Call model.disable_cache() first."
                        )

    @property
    def may_skip(self) -> bool:
        """Whether a cache may leave out every attention of a forward, on all ranks alike."""
        return getattr(self._model, "_cache_config", None) is not None

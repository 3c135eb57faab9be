"""Hooks of diffusers' kind, which split what a model is given and gather what it gives."""

from typing import Any

import torch
from diffusers.hooks.context_parallel import ContextParallelGatherHook, ContextParallelSplitHook
from diffusers.hooks.hooks import ModelHook

from attention_backends.state import ContextParallel


class SplitHook(ContextParallelSplitHook):  # type: ignore[misc]
    """diffusers' hook finds the tensors of the plan; how one is split is ours."""

    def _prepare_cp_input(self, x: torch.Tensor, cp_input: Any) -> torch.Tensor:
        state: ContextParallel = self.parallel_config
        name = next(
            (str(key) for key, entry in self.metadata.items() if entry is cp_input), f"input {len(state.streams)}"
        )
        if cp_input.expected_dims is not None and x.dim() != cp_input.expected_dims:
            return x
        return state.split(name, x, cp_input.split_dim)


class GatherHook(ContextParallelGatherHook):  # type: ignore[misc]
    """Puts the shards of a module's outputs together again."""

    def post_forward(self, module: torch.nn.Module, output: Any) -> Any:
        outputs = [output] if isinstance(output, torch.Tensor) else list(output)
        if len(outputs) != len(self.metadata):
            raise ValueError(f"the plan gathers {len(self.metadata)} outputs, and the module has {len(outputs)}.")
        outputs = [
            x if entry is None else self.parallel_config.gather(x, entry.gather_dim)
            for x, entry in zip(outputs, self.metadata, strict=True)
        ]
        return outputs[0] if isinstance(output, torch.Tensor) else tuple(outputs)


class StartHook(ModelHook):  # type: ignore[misc]
    """Tells the state that a forward begins."""

    def __init__(self, state: ContextParallel) -> None:
        super().__init__()
        self.state = state

    def pre_forward(self, module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        self.state.start_forward()
        return args, kwargs

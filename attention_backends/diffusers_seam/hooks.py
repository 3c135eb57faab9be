"""Hooks of diffusers' kind, which split what a model is given and gather what it gives."""

from typing import Any

import torch
from diffusers.hooks.context_parallel import ContextParallelGatherHook, ContextParallelSplitHook
from diffusers.hooks.hooks import ModelHook
from diffusers.utils import BaseOutput

from attention_backends.state import ContextParallel
from attention_backends.wire import guarded


class SplitHook(ContextParallelSplitHook):  # type: ignore[misc]
    """diffusers' hook finds the tensors of the plan; how one is split is ours."""

    def __init__(self, place: str, metadata: Any, state: ContextParallel) -> None:
        super().__init__(metadata, state)
        self.place = place
        self.splits_output = any(getattr(entry, "split_output", False) for entry in metadata.values())

    def post_forward(self, module: torch.nn.Module, output: Any) -> Any:
        return super().post_forward(module, output) if self.splits_output else output

    def _prepare_cp_input(self, x: torch.Tensor, cp_input: Any) -> torch.Tensor:
        more = 0 if cp_input.expected_dims is None else x.dim() - cp_input.expected_dims
        if more < 0:  # a timestep of the whole where one of each token may be given
            return x
        shard: torch.Tensor = self.parallel_config.split(self._name(cp_input), x, cp_input.split_dim + more)
        return shard

    def _name(self, cp_input: Any) -> str:
        """What an error calls the tensor: the parameter's name, or which output of which module."""
        for key, entry in self.metadata.items():
            if entry is cp_input:
                return key if isinstance(key, str) else f"output {key} of {self.place}"
            if isinstance(entry, (list, tuple)) and (at := [i for i, one in enumerate(entry) if one is cp_input]):
                return f"{key}[{at[0]}]"
        return f"an input of {self.place}"


class GatherHook(ContextParallelGatherHook):  # type: ignore[misc]
    """Puts the shards of a module's outputs together again."""

    def post_forward(self, module: torch.nn.Module, output: Any) -> Any:
        values = [output] if isinstance(output, torch.Tensor) else list(_values(output))
        if len(values) != len(self.metadata):
            raise ValueError(f"the plan gathers {len(self.metadata)} outputs, and the module has {len(values)}.")
        values = [
            x if entry is None else self.parallel_config.gather(x, entry.gather_dim)
            for x, entry in zip(values, self.metadata, strict=True)
        ]
        if isinstance(output, torch.Tensor):
            return values[0]
        return type(output)(**dict(zip(output, values, strict=True))) if isinstance(output, dict) else tuple(values)


def _values(output: Any) -> Any:
    return output.to_tuple() if isinstance(output, BaseOutput) else output


class ForwardHook(ModelHook):  # type: ignore[misc]
    """Around a whole forward: it begins anew, and whatever fails in it reaches all ranks."""

    def __init__(self, state: ContextParallel) -> None:
        super().__init__()
        self.state = state

    def new_forward(self, module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        self.state.start_forward()
        if torch.compiler.is_compiling():
            return self.fn_ref.original_forward(*args, **kwargs)
        self.state.wire.begin()
        return guarded(self.state.wire, lambda: self.fn_ref.original_forward(*args, **kwargs))

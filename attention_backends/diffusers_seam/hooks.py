"""Hooks of diffusers' kind, which split what a model is given and gather what it gives."""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from diffusers.hooks.context_parallel import ContextParallelGatherHook, ContextParallelSplitHook
from diffusers.hooks.hooks import ModelHook
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import unwrap_module

from attention_backends import exchange
from attention_backends.deferred import Deferred, now
from attention_backends.diffusers_seam import later
from attention_backends.diffusers_seam.upkeep import Upkeep
from attention_backends.state import ContextParallel
from attention_backends.wire import guarded


class SplitHook(ContextParallelSplitHook):  # type: ignore[misc]
    """diffusers' hook finds the tensors of the plan; how one is split is ours."""

    def __init__(self, place: str, metadata: Any, state: ContextParallel) -> None:
        super().__init__(metadata, state)
        self.place = place
        self.splits_output = any(getattr(entry, "split_output", False) for entry in metadata.values())

    def initialize_hook(self, module: torch.nn.Module) -> torch.nn.Module:
        module = super().initialize_hook(module)
        # diffusers looks a parameter's place up when it is first needed, which torch.compile can't trace.
        names = list(inspect.signature(type(unwrap_module(module)).forward).parameters)[1:]
        self.module_forward_metadata.cached_parameter_indices = {name: place for place, name in enumerate(names)}
        return module

    def post_forward(self, module: torch.nn.Module, output: Any) -> Any:
        return super().post_forward(module, output) if self.splits_output else output

    def _prepare_cp_input(self, x: torch.Tensor, cp_input: Any) -> torch.Tensor:
        more = 0 if cp_input.expected_dims is None else x.dim() - cp_input.expected_dims
        if more < 0:  # one timestep for all, where each token may have its own
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

    def __init__(self, place: str, metadata: Any, state: ContextParallel) -> None:
        super().__init__(metadata, state)
        self.place = place

    def post_forward(self, module: torch.nn.Module, output: Any) -> Any:
        if len(items(output)) != len(self.metadata):
            raise ValueError(f"the plan gathers {len(self.metadata)} outputs, and the module has {len(items(output))}.")
        entries = iter(self.metadata)

        def whole(x: torch.Tensor) -> torch.Tensor:
            entry = next(entries)
            return x if entry is None else self.parallel_config.gather(x, entry.gather_dim, self.place)

        return changed(output, whole)


class NameHook(ModelHook):  # type: ignore[misc]
    """Tells where the attention is that comes next."""

    def __init__(self, place: str, state: ContextParallel) -> None:
        super().__init__()
        self.place, self.state = place, state

    def pre_forward(self, module: torch.nn.Module, *args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        self.state.enter(self.place)
        return args, kwargs


class ForwardHook(ModelHook):  # type: ignore[misc]
    """Around a whole forward: it begins anew, and whatever fails in it reaches all ranks."""

    def __init__(self, state: ContextParallel, upkeep: Upkeep) -> None:
        super().__init__()
        self.state, self.upkeep = state, upkeep

    def new_forward(self, module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():
            self.upkeep.check_compiled()
            self.state.start_forward(may_skip=self.upkeep.may_skip, given=kwargs)
            output = self.fn_ref.original_forward(*args, **kwargs)
            self.state.end_forward()
            return output
        self.state.wire.begin()
        output = guarded(self.state.wire, lambda: self._run(module, *args, **kwargs))
        self.state.wire.end()
        return output

    def _run(self, module: torch.nn.Module, /, *args: Any, **kwargs: Any) -> Any:
        if torch._C._are_functorch_transforms_active():
            raise ValueError("torch.func's transforms do not go over ranks. Use torch.autograd, or disable(model).")
        self.upkeep.check()
        self.state.start_forward(may_skip=self.upkeep.may_skip, given=kwargs)
        self.state.late = None
        self.state.in_order = later.in_order(module, self.state.blocks)
        try:
            output = self.fn_ref.original_forward(*args, **kwargs)
        except RuntimeError as error:
            fits = "size" not in str(error) and "shape" not in str(error)
            if isinstance(error, exchange.ConnectionLostError) or fits or not (told := self.state.unsplit(kwargs)):
                raise
            raise ValueError(f"{told} ({error})") from error
        self.state.end_forward()
        world = self.state.topology.world_size
        late = any(isinstance(x, Deferred) for x in items(output))
        return changed(output, lambda x: exchange.share(now(x), world)) if late or torch.is_grad_enabled() else output


def items(output: Any) -> list[Any]:
    """What a module gives, one by one."""
    if isinstance(output, BaseOutput):
        return list(output.to_tuple())
    return list(output) if isinstance(output, (list, tuple)) else [output]


def changed(output: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """The same with each of its tensors changed."""
    values = [change(x) if isinstance(x, torch.Tensor) else x for x in items(output)]
    if isinstance(output, BaseOutput):
        return type(output)(**dict(zip(output.keys(), values, strict=True)))
    return type(output)(values) if isinstance(output, (list, tuple)) else values[0]

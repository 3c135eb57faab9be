"""The only file that touches diffusers' private names (tests/attention_backends/test_seam.py pins each of them).

enable() does what diffusers' `enable_parallelism` does (hooks that split inputs and gather the output, a
`_parallel_config` on every attention processor) without the parts of it that need an accelerator, and sends the
attention of those processors to this package. disable() undoes it.
"""

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from diffusers.hooks.context_parallel import ContextParallelGatherHook, ContextParallelSplitHook, _get_submodule_by_name
from diffusers.hooks.hooks import HookRegistry, ModelHook
from diffusers.models import attention_dispatch
from diffusers.models.attention_dispatch import AttentionBackendName, _AttentionBackendRegistry

from attention_backends import compiled
from attention_backends.catalog import KERNELS, SCHEDULES, TRANSPORTS, mode_name
from attention_backends.state import ContextParallel
from attention_backends.topology import Topology
from attention_backends.transport import travelling

_HOOK = "attention_backends---{}"
_ROTARY = ("apply_rotary_emb", "apply_rotary_emb_qwen")  # FLUX's, QwenImage's


class _SplitHook(ContextParallelSplitHook):
    """diffusers' hook finds the tensors of the plan; how one is split is ours."""

    def _prepare_cp_input(self, x: torch.Tensor, cp_input: Any) -> torch.Tensor:
        name = next(
            (str(key) for key, entry in self.metadata.items() if entry is cp_input),
            f"input {len(self.parallel_config.streams)}",
        )
        if cp_input.expected_dims is not None and x.dim() != cp_input.expected_dims:
            return x
        return self.parallel_config.split(name, x, cp_input.split_dim)


class _GatherHook(ContextParallelGatherHook):
    def post_forward(self, module: torch.nn.Module, output: Any) -> Any:
        outputs = [output] if isinstance(output, torch.Tensor) else list(output)
        if len(outputs) != len(self.metadata):
            raise ValueError(f"the plan gathers {len(self.metadata)} outputs, the module gives {len(outputs)}")
        outputs = [
            x if entry is None else self.parallel_config.gather(x, entry.gather_dim)
            for x, entry in zip(outputs, self.metadata, strict=True)
        ]
        return outputs[0] if isinstance(output, torch.Tensor) else tuple(outputs)


class _StartHook(ModelHook):
    def __init__(self, state: ContextParallel) -> None:
        super().__init__()
        self.state = state

    def pre_forward(self, module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        self.state.start_forward()
        return args, kwargs


def enable(
    model: torch.nn.Module,
    *,
    ring_degree: int = 1,
    ulysses_degree: int = 1,
    ring_anything: bool = False,
    ulysses_anything: bool = False,
    unified_anything: bool = False,
    kernel: str = "auto",
    schedule: str = "auto",
    transport: str = "auto",
    cp_plan: dict[str, Any] | None = None,
    process_group: dist.ProcessGroup | None = None,
) -> ContextParallel:
    """Shard the sequence of a diffusers model over ring_degree x ulysses_degree ranks.

    Call it on every rank, after torch.distributed is initialised. transport: how CUDA tensors travel, "nccl" (every
    rank has a GPU of its own), "host" (by gloo through host memory: ranks may share a GPU) or "auto", by what the group
    can. cp_plan: for a class without a `_cp_plan`.
    Raises ValueError, with the nearest legal values, for arguments that can't work.
    """
    mode = mode_name(
        ring_degree,
        ulysses_degree,
        ring_anything=ring_anything,
        ulysses_anything=ulysses_anything,
        unified_anything=unified_anything,
    )
    _check_choice("kernel", kernel, tuple(KERNELS))
    _check_choice("schedule", schedule, SCHEDULES)
    _check_choice("transport", transport, TRANSPORTS)
    if getattr(model, "_parallel_config", None) is not None:
        raise ValueError(
            "context parallelism is already on for this model. Call attention_backends.disable(model) first."
        )
    plan = cp_plan if cp_plan is not None else getattr(model, "_cp_plan", None)
    if plan is None:
        raise ValueError(
            f"{type(model).__name__} has no _cp_plan: pass cp_plan={{module name: what to split or gather}}."
        )
    if not dist.is_initialized():
        raise ValueError("torch.distributed is not initialised: call torch.distributed.init_process_group first.")
    group = process_group if process_group is not None else dist.group.WORLD
    assert group is not None
    world = dist.get_world_size(group)
    if world != ring_degree * ulysses_degree:
        needed = ring_degree * ulysses_degree
        raise ValueError(
            f"ring_degree={ring_degree} x ulysses_degree={ulysses_degree} = {needed}, but there are {world} ranks. "
            f"Try ring_degree={world // ulysses_degree or 1}, or start {needed} ranks."
        )
    processors = _processors(model)
    if not processors:
        raise ValueError(
            f"no attention processor of {type(model).__name__} can be parallel (none has a _parallel_config)."
        )
    group, transport, release = travelling(transport, group)
    topology = Topology(group, dist.get_rank(group), ring_degree, ulysses_degree)
    state = ContextParallel(mode, ring_degree, ulysses_degree, kernel, schedule, transport, topology)

    state.handle = compiled.add(state)
    undo: list[Callable[[], None]] = [release, partial(compiled.remove, state.handle)]
    try:
        for name, entry in plan.items():
            found = _get_submodule_by_name(model, name)
            for module in found if isinstance(found, list) else [found]:
                if isinstance(entry, dict):
                    hook: ModelHook = _SplitHook(entry, state)
                else:
                    hook = _GatherHook(entry if isinstance(entry, (list, tuple)) else [entry], state)
                undo.append(_add_hook(module, hook, _HOOK.format(name)))
        undo.append(_add_hook(model, _StartHook(state), _HOOK.format("start")))  # registered last: it runs first
        backend = AttentionBackendName.NATIVE
        undo.append(_take_over(_AttentionBackendRegistry._backends, backend, _dispatcher))
        for table in (vars(sys.modules[kind.__module__]) for kind in type(model).__mro__):
            undo += [_take_over(table, name, _passes_empty) for name in _ROTARY if name in table]
        for processor in processors:
            undo.append(_set(processor, "_attention_backend", backend))
            undo.append(_set(processor, "_parallel_config", state))
        undo.append(_set(model, "_parallel_config", state))
    except BaseException:
        for step in reversed(undo):
            step()
        raise
    undo.append(_set(model, "_attention_backends_undo", undo))
    return state


def disable(model: torch.nn.Module) -> None:
    """Undo `enable`: the model is left as it was found."""
    undo = getattr(model, "_attention_backends_undo", None)
    if undo is None:
        raise ValueError("attention_backends is not enabled on this model: there is nothing to disable.")
    for step in reversed(undo):
        step()


def _check_choice(name: str, value: str, legal: tuple[str, ...]) -> None:
    if value not in legal:
        raise ValueError(f"{name}={value!r}: no such {name}. Legal: {', '.join(legal)}.")


def _processors(model: torch.nn.Module) -> list[Any]:
    found = {id(p): p for m in model.modules() if hasattr(p := getattr(m, "processor", None), "_parallel_config")}
    return list(found.values())


def _set(thing: Any, name: str, value: Any) -> Callable[[], None]:
    """Set an instance attribute; returns what puts the old state back, absence included."""
    if name in vars(thing):
        undo: Callable[[], None] = partial(setattr, thing, name, vars(thing)[name])
    else:
        undo = partial(_delete, thing, name)
    setattr(thing, name, value)
    return undo


def _delete(thing: Any, name: str) -> None:
    vars(thing).pop(name, None)


def _add_hook(module: torch.nn.Module, hook: ModelHook, name: str) -> Callable[[], None]:
    had_registry, had_forward = hasattr(module, "_diffusers_hook"), "forward" in vars(module)
    registry = HookRegistry.check_if_exists_or_initialize(module)
    registry.register_hook(hook, name)

    def undo() -> None:
        registry.remove_hook(name, recurse=False)
        if not registry.hooks:
            if not had_forward:
                _delete(module, "forward")
            if not had_registry:
                _delete(module, "_diffusers_hook")

    return undo


# How many enabled models need each replaced entry of one of diffusers' tables.
_TAKEN: dict[tuple[int, Any], int] = {}


def _take_over(table: dict[Any, Any], name: Any, wrapped: Callable[[Any], Any]) -> Callable[[], None]:
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


def _passes_empty(original: Callable[..., torch.Tensor]) -> Any:
    """A rotary embedding reshapes its input with a -1, which is ambiguous for a shard without tokens."""

    def rotary(x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        return original(x, *args, **kwargs) if x.numel() else x

    rotary.original = original  # type: ignore[attr-defined]
    return rotary


def _dispatcher(original: Callable[..., torch.Tensor]) -> Any:
    def dispatch(
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attn_mask: torch.Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
        return_lse: bool = False,
        _parallel_config: Any = None,
    ) -> torch.Tensor:
        if isinstance(_parallel_config, ContextParallel):
            if dropout_p:
                raise ValueError(f"dropout_p={dropout_p}: attention dropout is not supported with context parallelism.")
            if torch.compiler.is_compiling():
                return compiled.attend(query, key, value, attn_mask, is_causal, scale, *_parallel_config.traced())
            return _parallel_config.attend(query, key, value, attn_mask, is_causal, scale)
        if not query.numel():  # a rank without tokens in front of an attention that stays local
            return torch.empty_like(query)
        return original(
            query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa, return_lse, _parallel_config
        )

    dispatch.original = original  # type: ignore[attr-defined]
    return dispatch


def forward_operator(name: str) -> Callable[..., Any]:
    """diffusers' own wrapper of an installed attention package; out (B, Sq, H, D) and LSE (B, Sq, H)."""
    return getattr(attention_dispatch, name)

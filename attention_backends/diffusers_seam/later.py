"""Which modules run while keys travel: those whose output no key of their block needs."""

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from diffusers.hooks.hooks import ModelHook
from torch._dynamo.eval_frame import OptimizedModule

from attention_backends.deferred import Deferred, Kept
from attention_backends.diffusers_seam.upkeep import Upkeep, class_name
from attention_backends.plan import matches
from attention_backends.state import ContextParallel

OURS = "attention_backends---"
NAME = f"{OURS}later"
# Whose modules pass gradients through torch's own functions alone, where a tensor that is put off is computed.
KNOWN = ("torch", "diffusers", "peft")
# By class. One that has no such module, as after fuse_qkv_projections(), goes without.
_STREAMS = tuple(
    f"transformer_blocks.*.attn.{name}" for name in ("to_q", "to_k", "to_v", "add_q_proj", "add_k_proj", "add_v_proj")
)
OF_CLASS: Mapping[str, tuple[str, ...]] = {
    "FluxTransformer2DModel": (
        *_STREAMS,
        *(f"single_transformer_blocks.*.{name}" for name in ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")),
    ),
    "Flux2Transformer2DModel": (*_STREAMS, "single_transformer_blocks.*.attn.to_qkv_mlp_proj"),
    "QwenImageTransformer2DModel": (
        *_STREAMS,  # and diffusers' own norms, which are not one function of torch
        *(f"transformer_blocks.*.attn.{name}" for name in ("norm_q", "norm_k", "norm_added_q", "norm_added_k")),
    ),
}


_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class Later(ModelHook):  # type: ignore[misc]
    """Puts a linear layer's work off until its output is needed, and that of a norm after it.

    block: path of the block that it is in.
    """

    def __init__(self, state: ContextParallel, block: str) -> None:
        super().__init__()
        self.state, self.block = state, block

    def new_forward(self, module: Any, *args: Any, **kwargs: Any) -> Any:
        forward = self.fn_ref.original_forward
        if torch.compiler.is_compiling() or len(args) != 1 or kwargs or not self._may_wait(module, args[0]):
            return forward(*args, **kwargs)
        x, columns = args[0], None
        if isinstance(x, Deferred):
            return x.then(forward)
        kept = Kept(x)
        if getattr(forward, "__func__", None) is torch.nn.Linear.forward and type(module.weight) is torch.nn.Parameter:
            columns = partial(_columns, module, kept)
        return Deferred(lambda: forward(kept.now()), (*x.shape[:-1], module.out_features), x, columns=columns)

    def _may_wait(self, module: Any, x: Any) -> bool:
        """Whether that pays, and nothing around this hook expects it at once: an offload that takes weights away."""
        late = self.state.puts_off(x)  # first, so that each rank asks at the same place
        free = late and self.block not in self.state.in_order and module._diffusers_hook._hook_order[-1] == NAME
        kind = torch.Tensor if isinstance(getattr(module, "out_features", None), int) else Deferred
        return free and type(x) is kind and not torch.is_autocast_enabled(x.device.type)


def _columns(module: Any, kept: Kept, begin: int, end: int) -> torch.Tensor:
    bias = None if module.bias is None else module.bias[begin:end]
    return torch.nn.functional.linear(kept.now(), module.weight[begin:end], bias)


def of_class(model: torch.nn.Module) -> list[str]:
    """The paths of those of a class with a plan of its own."""
    patterns = OF_CLASS.get(class_name(model), ())
    return [path for path, _ in model.named_modules() if any(_is(path, pattern) for pattern in patterns)]


def _is(path: str, pattern: str) -> bool:
    return matches(path, pattern) and path.count(".") == pattern.count(".")


def in_order(model: torch.nn.Module, blocks: Iterable[str]) -> set[str]:
    """Those of the blocks in which something sees single modules run, so that they run in the model's own order.

    What was hung on a module must find tensors and weights as the model has them: hooks of torch's and of others
    (gradients pass by a tensor that is put off), an offload that takes weights away after a call, a compiled module.
    """
    told = torch.nn.modules.module
    if told._global_forward_hooks or told._global_forward_pre_hooks or told._has_any_global_hook():
        return set(blocks)
    return {path for path in blocks if any(map(_is_seen, _inside(model.get_submodule(path))))}


def _inside(block: torch.nn.Module) -> Iterator[torch.nn.Module]:
    """All but the block itself, for what it is given and gives is computed."""
    for module in block._modules.values():
        if module is not None:
            yield module
            yield from _inside(module)


def _is_seen(module: torch.nn.Module) -> bool:
    if isinstance(module, OptimizedModule) or module._compiled_call_impl is not None:
        return True
    own = vars(
        module
    )  # of every module before each forward: what is looked up by torch's own way takes ten times as long
    if any(map(own.get, _HOOKS)) or "_hf_hook" in own:
        return True
    if torch.is_grad_enabled() and type(module).__module__.partition(".")[0] not in KNOWN:
        return True
    registry = own.get("_diffusers_hook")
    return registry is not None and any(not name.startswith(OURS) for name in registry.hooks)


def _block(model: torch.nn.Module, path: str) -> str:
    """The path of the block that the module is in: the item of a list, or the whole model."""
    atoms = path.split(".")
    for end in range(len(atoms) - 1, 0, -1):
        if isinstance(model.get_submodule(".".join(atoms[: end - 1])), torch.nn.ModuleList):
            return ".".join(atoms[:end])
    return ""


def apply(model: torch.nn.Module, paths: Iterable[str], state: ContextParallel, upkeep: Upkeep) -> None:
    """Hook up the modules at these paths; where an attention is, the state learns how much may run meanwhile."""
    attentions = [path for path, one in model.named_modules() if getattr(one, "processor", None) is not None]
    for path in paths:
        module = model.get_submodule(path)
        block = _block(model, path)
        state.blocks.add(block)
        upkeep.hook(path, partial(Later, state, block), NAME)
        weights = getattr(module, "in_features", 0) * getattr(module, "out_features", 0)
        parent = path.rpartition(".")[0]
        for attention in attentions:
            inside, beside = state.meanwhile.get(attention, (0, 0))
            if parent == attention:  # two streams have a query each
                fused = _fused(model.get_submodule(attention))
                inside, beside = fused or (max(inside, weights), beside)
            elif parent == attention.rpartition(".")[0]:
                beside += 2 * weights  # as much again in the last projection
            else:
                continue
            state.meanwhile[attention] = inside, beside


def _fused(attention: Any) -> tuple[int, int] | None:
    """The same two of FLUX.2's fused projections; None of another attention."""
    if not hasattr(attention, "to_qkv_mlp_proj"):
        return None
    mlp: int = attention.mlp_hidden_dim * (attention.mlp_mult_factor + 1)
    return int(attention.query_dim * attention.inner_dim), int(attention.query_dim * (mlp + attention.mlp_hidden_dim))

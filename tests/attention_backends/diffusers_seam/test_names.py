"""Each private name of diffusers that the room uses: what for, and a clear failure if a new diffusers moves it."""

import inspect

import pytest
import torch
from diffusers.hooks import context_parallel, hooks
from diffusers.models import attention_dispatch
from diffusers.models.transformers import transformer_flux, transformer_qwenimage

NAMES = [
    # owner, name, what the seam does with it, parameters that it relies on
    (context_parallel, "ContextParallelSplitHook", "finds what a plan splits", ["metadata", "parallel_config"]),
    (context_parallel.ContextParallelSplitHook, "_prepare_cp_input", "splits one tensor", ["x", "cp_input"]),
    (context_parallel, "ContextParallelGatherHook", "finds the outputs to gather", ["metadata", "parallel_config"]),
    (context_parallel, "_get_submodule_by_name", "finds the modules of a plan", ["model", "name"]),
    (hooks.HookRegistry, "check_if_exists_or_initialize", "holds a module's hooks", ["module"]),
    (hooks.HookRegistry, "register_hook", "adds a hook", ["hook", "name"]),
    (hooks.HookRegistry, "remove_hook", "removes a hook", ["name", "recurse"]),
    (attention_dispatch, "_native_attention", "is what stays local", ["attn_mask", "_parallel_config"]),
    (attention_dispatch, "_flash_attention_forward_op", "calls flash-attn", ["return_lse", "_save_ctx"]),
    (attention_dispatch, "_wrapped_flash_attn_3", "calls flash-attn 3", []),
    (attention_dispatch, "_sage_attention_forward_op", "calls sageattention", ["return_lse", "_save_ctx"]),
    (transformer_flux, "apply_rotary_emb", "lets a shard without tokens through", ["x"]),
    (transformer_qwenimage, "apply_rotary_emb_qwen", "lets a shard without tokens through", ["x"]),
    (attention_dispatch, "TemplatedRingAnythingAttention", "the benchmark's row", []),
    (attention_dispatch, "TemplatedUlyssesAnythingAttention", "the benchmark's row", []),
]  # fmt: skip


@pytest.mark.parametrize(("owner", "name", "purpose", "parameters"), NAMES, ids=[name for _, name, _, _ in NAMES])
def test_private_name_is_where_it_was(owner, name, purpose, parameters):
    found = getattr(owner, name, None)
    assert found is not None, f"diffusers moved {owner.__name__}.{name}, which {purpose}"
    taken = inspect.signature(found).parameters
    missing = [parameter for parameter in parameters if parameter not in taken]
    assert not missing, f"{owner.__name__}.{name}, which {purpose}, no longer takes {missing}: {list(taken)}"


def test_the_registry_is_what_dispatch_reads():
    registry = attention_dispatch._AttentionBackendRegistry
    native = attention_dispatch.AttentionBackendName.NATIVE
    assert registry._backends[native] is attention_dispatch._native_attention
    assert {"attn_mask", "is_causal", "scale", "enable_gqa", "_parallel_config"} <= registry._supported_arg_names[
        native
    ]
    assert hooks.HookRegistry(torch.nn.Linear(1, 1))._hook_order == []  # the last one registered runs first
    for field in ("_attention_backend", "_parallel_config"):
        assert hasattr(transformer_flux.FluxAttnProcessor, field), f"processors no longer have {field}"

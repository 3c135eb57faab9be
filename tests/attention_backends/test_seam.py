"""Each private name of diffusers that the seam uses: what for, and a clear failure if a new diffusers moves it."""

import inspect
import subprocess
import sys

import pytest
import tiny
import torch.distributed as dist
from diffusers.hooks import context_parallel, hooks
from diffusers.models import attention_dispatch
from diffusers.models.transformers import transformer_flux, transformer_qwenimage

import attention_backends
from attention_backends import catalog

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
    for field in ("_attention_backend", "_parallel_config"):
        assert hasattr(transformer_flux.FluxAttnProcessor, field), f"processors no longer have {field}"


def test_kernel_names_are_diffusers_own():
    theirs = {member.value for member in attention_dispatch.AttentionBackendName}
    assert set(catalog.KERNELS) - {"auto"} <= theirs


def test_import_is_cheap():
    check = "import sys, attention_backends.catalog; sys.exit('torch' in sys.modules or 'diffusers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def left_behind(group: dist.ProcessGroup) -> list[str]:
    model = tiny.flux()
    modules = [*model.modules(), *(p for m in model.modules() if (p := getattr(m, "processor", None)) is not None)]
    before = [dict(vars(thing)) for thing in modules]
    entry = attention_dispatch._AttentionBackendRegistry._backends.copy()
    for arguments in ({"ring_degree": 2}, {"ulysses_degree": 2, "ulysses_anything": True}):
        attention_backends.enable(model, process_group=group, **arguments)
        attention_backends.disable(model)
    problems = [
        f"{type(thing).__name__}.{name}"
        for thing, old in zip(modules, before, strict=True)
        for name in {*old, *vars(thing)}
        if old.get(name) is not vars(thing).get(name)
    ]
    return problems + [
        str(k) for k, v in entry.items() if attention_dispatch._AttentionBackendRegistry._backends[k] is not v
    ]


def test_disable_leaves_nothing_behind(ranks):
    assert ranks.run(left_behind, 2) == [[], []]


def refused(group: dist.ProcessGroup, **arguments: object) -> None:
    attention_backends.enable(tiny.flux(), process_group=group, **arguments)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({}, "at least two ranks"),
        ({"ring_degree": 3}, "there are 2 ranks"),
        ({"ring_degree": 0}, "at least 1"),
        ({"ulysses_degree": 2, "ring_anything": True}, "ring_degree=1: ring_anything needs ring_degree at least 2"),
        ({"ring_degree": 2, "ring_anything": True, "unified_anything": True}, "at most one"),
        ({"ring_degree": 2, "kernel": "fast"}, "Legal: auto, native"),
        ({"ring_degree": 2, "schedule": "fast"}, "Legal: auto, gather, staged"),
    ],
)
def test_bad_arguments_name_what_is_legal(ranks, arguments, says):
    for error in ranks.errors(refused, 2, **arguments):
        assert error is not None
        assert error.startswith("ValueError")
        assert says in error


def different_inputs(group: dist.ProcessGroup) -> None:
    model = tiny.flux()
    attention_backends.enable(model, process_group=group, ring_degree=2, ring_anything=True)
    try:
        model(**tiny.flux_inputs(16, 6 + dist.get_rank(group)))
    finally:
        attention_backends.disable(model)


def test_ranks_with_different_inputs_all_raise(ranks):
    for error in ranks.errors(different_inputs, 2):
        assert error is not None
        assert "give every rank the same" in error


def sizes_asked(group: dist.ProcessGroup) -> int:
    model = tiny.flux(layers=3)
    attention_backends.enable(model, process_group=group, ring_degree=3, ring_anything=True, schedule="staged")
    attention_backends.reset_counters()
    for image in (20, 31):
        model(**tiny.flux_inputs(image, 7))
    attention_backends.disable(model)
    return attention_backends.counters().size_exchanges


def test_lengths_are_exchanged_once_a_forward(ranks):
    assert ranks.run(sizes_asked, 3) == [2, 2, 2]

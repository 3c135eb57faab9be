"""What changes on a model while it is enabled is followed, or refused on every rank."""

import copy
import io
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import torch.distributed as dist

import attention_backends

ANY = {"ring_degree": 3, "unified_anything": True}


def apart(model: Any, inputs: dict[str, Any], alone: torch.Tensor) -> float:
    with torch.no_grad():
        return (model(**inputs)[0] - alone).abs().max().item()


def lora(group: dist.ProcessGroup) -> list[float]:
    """A LoRA on what is gathered, put on and taken off while enabled, against one process."""
    from peft import LoraConfig

    def adapted() -> Any:
        torch.manual_seed(1)
        model.add_adapter(LoraConfig(r=2, lora_alpha=8, target_modules=["proj_out"], init_lora_weights=False))

    model, inputs = tiny.flux(), tiny.flux_inputs(17, 7)
    with torch.no_grad():
        plain = model(**inputs)[0]
        adapted()
        changed = model(**inputs)[0]
        assert (changed - plain).abs().max() > 1e-3
        attention_backends.enable(model, process_group=group, **ANY)
        found = [apart(model, inputs, changed)]
        model.delete_adapters("default")
        model.unload_lora() if hasattr(model, "unload_lora") else _unwrap(model)
        found.append(apart(model, inputs, plain))
        adapted()
        found.append(apart(model, inputs, changed))
        attention_backends.disable(model)
        found.append(apart(model, inputs, changed))
    return found


def _unwrap(model: Any) -> None:
    """What diffusers' pipelines do when they unload a LoRA."""
    from diffusers.utils.peft_utils import recurse_remove_peft_layers

    recurse_remove_peft_layers(model)
    model.peft_config = {}
    model._hf_peft_config_loaded = False


def test_a_lora_on_the_output_may_come_and_go(ranks):
    for found in ranks.run(lora, 3):
        assert max(found) < 1e-10


def changed(group: dist.ProcessGroup, change: str) -> None:
    from diffusers.models.transformers.transformer_flux import FluxAttnProcessor

    model, inputs = tiny.flux(layers=2), tiny.flux_inputs(17, 7)
    attention_backends.enable(model, process_group=group, **ANY)
    try:
        if change == "processors":
            model.set_attn_processor(FluxAttnProcessor())
        if change == "one processor":
            model.transformer_blocks[1].attn.set_processor(FluxAttnProcessor())
        if change == "adapter":
            _ip_adapter(model)
        if change == "told otherwise":
            for processor in model.attn_processors.values():
                processor._parallel_config = None
        if change == "block":
            model.transformer_blocks = torch.nn.ModuleList([model.transformer_blocks[0]])
        with torch.no_grad():
            model(**inputs)
    finally:
        attention_backends.disable(model)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("processors", "transformer_blocks.0.attn has another attention processor (FluxAttnProcessor)"),
        ("one processor", "transformer_blocks.1.attn has another attention processor (FluxAttnProcessor)"),
        ("adapter", "transformer_blocks.0.attn has another attention processor (FluxIPAdapterAttnProcessor)"),
        ("told otherwise", "no attention of this forward went over all ranks"),
        ("block", "transformer_blocks.1.attn is no longer a module of the model"),
    ],
)
def test_what_would_leave_ranks_to_themselves_is_refused_on_all(ranks, change, says):
    for error in ranks.errors(changed, 3, change=change):
        assert error is not None
        assert error.startswith("ValueError")
        assert says in error


def lost(group: dist.ProcessGroup) -> list[str]:
    """What each of two forwards says of a model whose block is gone, and then how far the whole one is off."""
    model, inputs, told = tiny.flux(layers=2), tiny.flux_inputs(17, 7), []
    with torch.no_grad():
        alone = model(**inputs)[0]
    attention_backends.enable(model, process_group=group, **ANY)
    blocks = model.transformer_blocks
    for here in (torch.nn.ModuleList([blocks[0]]), torch.nn.ModuleList([blocks[0]]), blocks):
        model.transformer_blocks = here
        try:
            told.append(str(apart(model, inputs, alone)))
        except ValueError as error:
            told.append(str(error))
    attention_backends.disable(model)
    return told


def test_a_block_that_is_gone_is_missed_in_each_forward_until_it_is_back(ranks):
    for first, second, third in ranks.run(lost, 3):
        assert "is no longer a module of the model" in first
        assert first == second
        assert float(third) < 1e-10


def _ip_adapter(model: Any) -> None:
    from diffusers.models.transformers.transformer_flux import FluxIPAdapterAttnProcessor

    for block in model.transformer_blocks:
        block.attn.set_processor(FluxIPAdapterAttnProcessor(hidden_size=64, cross_attention_dim=8, dtype=torch.float64))


def adapted_before(group: dist.ProcessGroup) -> None:
    model = tiny.flux()
    _ip_adapter(model)
    attention_backends.enable(model, process_group=group, **ANY)


def test_an_ip_adapter_is_refused(ranks):
    for error in ranks.errors(adapted_before, 3):
        assert error is not None
        assert "an IP-adapter's attention to its image does not go over ranks" in error


def cached(group: dist.ProcessGroup) -> float:
    """Five steps with a cache that skips by the step: the largest difference from one process."""
    from diffusers.hooks import MagCacheConfig

    def steps() -> list[torch.Tensor]:
        outputs = []
        model.enable_cache(
            MagCacheConfig(
                threshold=0.5, max_skip_steps=2, retention_ratio=0.2, num_inference_steps=5, mag_ratios=[1.0] * 5
            )
        )
        for step in range(5):
            with model.cache_context("cond"), torch.no_grad():
                outputs.append(model(**inputs | {"timestep": torch.full((1,), 1 - step / 5, dtype=torch.float64)})[0])
        model.disable_cache()
        return outputs

    model, inputs = tiny.flux(layers=2), tiny.flux_inputs(17, 7)
    alone = steps()
    attention_backends.enable(model, process_group=group, **ANY)
    attention_backends.reset_counters()
    shared = steps()
    skipped = attention_backends.counters().size_exchanges
    attention_backends.disable(model)
    assert skipped < 5, "the cache skipped nothing"
    return max((one - other).abs().max().item() for one, other in zip(alone, shared, strict=True))


def test_a_cache_that_skips_by_the_step_goes_with_it(ranks):
    assert max(ranks.run(cached, 3)) < 1e-10


def saved(group: dist.ProcessGroup, folder: str) -> list[str]:
    model = tiny.flux()
    whole = model.state_dict()
    attention_backends.enable(model, process_group=group, **ANY)
    here = Path(folder) / str(dist.get_rank(group))
    model.save_pretrained(here)
    loaded = type(model).from_pretrained(here)
    assert all(torch.equal(x.to(torch.float64), whole[name]) for name, x in loaded.state_dict().items())
    told = []
    for attempt in (lambda: copy.deepcopy(model), lambda: torch.save(model, io.BytesIO())):
        try:
            attempt()
        except TypeError as error:
            told.append(str(error))
    attention_backends.disable(model)
    assert len(copy.deepcopy(model).state_dict()) == len(whole)
    return told


def test_an_enabled_model_can_be_saved_and_says_that_it_cannot_be_copied(ranks, tmp_path):
    for told in ranks.run(saved, 3, folder=str(tmp_path)):
        assert len(told) == 2
        for words in told:
            assert "Call attention_backends.disable(model) first; model.save_pretrained() works" in words

"""A part without weights: a pipeline asks it for all but to run, and where it is run, its weights are read."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from shared import a_job

from launcher.families.weights import BUNDLED
from launcher.worker.absent import held, is_absent
from launcher.worker.load import load_pipeline
from launcher.worker.offloading import Offload

CPU = torch.device("cpu")
CALL = {"prompt": "red dots", "height": 32, "width": 48, "num_inference_steps": 1, "max_sequence_length": 16}
PARTS = ("text_encoder", "text_encoder_2", "vae")


def loaded(elsewhere: Offload | None) -> Any:
    pipe = load_pipeline(dataclasses.replace(a_job().load, path=str(BUNDLED)), str(BUNDLED), elsewhere)
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(CPU)


@pytest.mark.slow
def test_what_another_rank_runs_takes_no_memory_until_it_is_run_here():
    whole, part = loaded(None), loaded(Offload("none", CPU))
    sizes = held(whole)
    assert min(sizes.values()) > 1e5
    assert held(part) == sizes | dict.fromkeys(PARTS, 0)
    assert (part.device, part._execution_device, part.dtype) == (CPU, CPU, torch.float32)
    assert {type(getattr(part, name)).__name__ for name in PARTS} == {
        "AutoencoderKL",
        "CLIPTextModel",
        "T5EncoderModel",
    }
    with torch.no_grad():
        embeddings = whole.encode_prompt("red dots", None, max_sequence_length=16)
        part.encode_prompt = lambda *_, **__: embeddings
        latents, own = (drawn(pipe, "latent") for pipe in (whole, part))
        assert torch.equal(latents, own)
        assert held(part)["vae"] == 0
        kept = part.vae
        assert torch.equal(drawn(whole, "pt"), drawn(part, "pt"))
        del part.encode_prompt
        assert torch.equal(latents, drawn(part, "latent"))
    assert part.vae is kept
    assert not any(is_absent(getattr(part, name)) for name in PARTS)
    assert held(part) == sizes


def drawn(pipe: Any, output: str) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    result: torch.Tensor = pipe(**CALL, generator=generator, output_type=output)[0]
    return result

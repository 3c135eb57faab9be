"""The twins are what they stand for: small, of the families' own classes, and sensitive to what can go wrong."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import twins
from diffusers import DiffusionPipeline
from diffusers.models.attention_dispatch import AttentionBackendName, _AttentionBackendRegistry
from shared import LAPTOP

from launcher.config.compose import Composer, to_config
from launcher.estimates.ways import resolve
from launcher.families.text import count_tokens
from launcher.records.run_dir import RunDir
from launcher.request.request import Request
from launcher.running.message import job_message


@pytest.fixture(scope="module", params=list(twins.FACTS))
def twin(request, tmp_path_factory):
    """A twin's pipeline, and the request for it."""
    path = twins.build(request.param, tmp_path_factory.mktemp("twins") / request.param)
    pipe = DiffusionPipeline.from_pretrained(path)
    pipe.set_progress_bar_config(disable=True)
    words = [*twins.FACTS[request.param], f"model.path={path}", "runtime=cpu", "height=50", "width=100", "steps=1"]
    words += ["prompt=a blue cat", "negative_prompt=grey", "seed=3", "cp=none"]
    video = [] if request.param == "qwenimage" else ["frames=10"]
    return pipe, resolve(to_config(Composer().compose([*words, *video])), LAPTOP), path


def made(pipe, request: Request, tmp_path) -> np.ndarray:
    job = job_message(request, RunDir(tmp_path))
    (picture,) = job.pictures
    noise = torch.Generator().manual_seed(picture.seed)
    result = pipe(**job.call, prompt=job.prompts[picture.prompt], generator=noise, output_type="np")
    return np.asarray(result.images if request.frames is None else result.frames[0])


def test_a_twin_is_small_and_holds_no_pickle(twin):
    files = [file for file in twin[2].rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 2_000_000
    assert {file.suffix for file in files} <= {".json", ".safetensors", ".jinja", ".model", ".txt"}


def test_streams_are_what_the_transformer_gets(twin, tmp_path):
    """Tokens by name and frames, as the parent counts them, against what passes through the model."""
    pipe, request, _ = twin
    visual, texts = [], []
    hooks = [
        pipe.transformer.proj_out.register_forward_hook(lambda _, given, __: visual.append(given[0].shape[1])),
        pipe.transformer.register_forward_pre_hook(
            lambda _, __, given: texts.append(given["encoder_hidden_states"].shape[1]), with_kwargs=True
        ),
    ]
    shown = made(pipe, request, tmp_path)
    for hook in hooks:
        hook.remove()
    assert {request.streams["image" if request.frames is None else "video"]} == set(visual)
    assert request.texts == () or set(request.texts) == set(texts)
    assert shown.shape == (request.rendered_frames or 1, request.rendered.height, request.rendered.width, 3)


def test_attention_that_stays_local_is_seen(twin, tmp_path):
    """Two halves of the queries and keys by themselves, as ranks would attend that exchange nothing."""
    pipe, request, _ = twin
    table, name = _AttentionBackendRegistry._backends, AttentionBackendName.NATIVE
    whole, exact = table[name], made(pipe, request, tmp_path)

    def local(query, key, value, *args, attn_mask=None, **more):
        parts = zip(*(x.tensor_split(2, dim=1) for x in (query, key, value)), strict=True)
        masks = attn_mask.tensor_split(2, dim=-1) if attn_mask is not None else (None, None)
        return torch.cat(
            [whole(*part, *args, attn_mask=m, **more) for part, m in zip(parts, masks, strict=True)], dim=1
        )

    table[name] = local
    try:
        wrong = made(pipe, request, tmp_path)
    finally:
        table[name] = whole
    assert exact.std() > 0.02
    assert np.abs(exact - wrong).max() * 255 > 10


@pytest.mark.parametrize("twin", ["qwenimage"], indirect=True)  # the one whose text is as long as the prompt
def test_a_prompts_tokens_are_counted_as_the_pipeline_does(twin):
    pipe, request, path = twin
    model = request.config.model
    prompts = ["", " ", "a cat", "\n\nx", "猫 🐈", "a {b}<|im_end|>", "x " * 600]
    embedded = [pipe.encode_prompt(prompt, max_sequence_length=model.text_tokens)[0] for prompt in prompts]
    counted = count_tokens(model, prompts)
    assert [min(count, model.text_tokens) for count in counted] == [each.shape[1] for each in embedded]
    (path / "tokenizer" / "tokenizer.json").write_text("{")
    assert count_tokens(model, prompts) == [None] * len(prompts)
    (path / "tokenizer" / "tokenizer.json").unlink()
    assert count_tokens(model, prompts) == [None] * len(prompts)

"""Every weight of a pipeline comes from its files."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from shared import a_job

from launcher.families.weights import BUNDLED
from launcher.worker.load import fetch, load_pipeline

LOAD = a_job().load


def load(path, **changes):
    import dataclasses

    wanted = dataclasses.replace(LOAD, path=str(path), **changes)
    return load_pipeline(wanted, fetch(wanted))


def test_a_pipeline_is_loaded_in_the_dtype_that_was_asked_for():
    pipe = load(BUNDLED, dtype="bfloat16")
    assert type(pipe).__name__ == "FluxPipeline"
    for part in (pipe.transformer, pipe.vae, pipe.text_encoder, pipe.text_encoder_2):
        assert {weight.dtype for weight in part.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("part", ["transformer", "vae", "text_encoder_2"])
def test_weights_that_a_file_lacks_are_named(tmp_path, part):
    """diffusers leaves them without data, transformers fills in random numbers."""
    folder = shutil.copytree(BUNDLED, tmp_path / "model")
    (file,) = (folder / part).glob("*.safetensors")
    tensors = load_file(file)
    name = max(tensors, key=len)
    del tensors[name]
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(ValueError, match=f"the files of {part} lack its weights {name}"):
        load(folder)


def test_weights_of_another_size_are_named(tmp_path):
    """transformers' own words point to a table in a log."""
    folder = shutil.copytree(BUNDLED, tmp_path / "model")
    config = folder / "text_encoder" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"vocab_size": 900}))
    with pytest.raises(ValueError, match=r"text_encoder does not fit its configuration: .*embed.* is \(868, 64\) in"):
        load(folder)

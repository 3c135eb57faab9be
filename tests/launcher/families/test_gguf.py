"""What the header of a GGUF file tells, and what a damaged one is told to be."""

import struct

import pytest
from gguf_file import TRANSFORMER, write

from launcher.estimates.memory import estimate
from launcher.families import gguf, safetensors
from launcher.families.replaced import quantised
from launcher.reading import UnreadableError
from launcher.rules import problems
from launcher.running.message import group_key


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return write(tmp_path_factory.mktemp("gguf") / "x.gguf")


def test_its_tensors_are_those_that_were_written(file):
    header = gguf.read_header(file)
    assert header.shapes == {name: one.shape for name, one in safetensors.read_header(TRANSFORMER).items()}
    assert header.architecture == "flux"
    assert file.stat().st_size - 8192 < header.bytes < file.stat().st_size


def test_one_that_fits_is_taken_and_its_bytes_count(ask, file):
    request, usual = ask("runtime=cpu", f"model.transformer={file}"), ask("runtime=cpu")
    assert problems(request) == []
    assert group_key(request).load.replaced[0].path == str(file)
    parameters = usual.inputs.checkpoint.parameters
    less = 4 * parameters["transformer"] - (quantised(request.config.model) or 0)
    assert less > 0
    assert estimate(usual).weights - estimate(request).weights == less


def test_what_does_not_fit_is_told(ask, file, tmp_path, monkeypatch):
    def said(*words: str) -> str:
        return " | ".join(map(str, problems(ask("runtime=cpu", *words))))

    for name, what in (
        ("llama", "holds a text model (llama), not a transformer that draws"),
        ("wan", "is of wan, and the pipeline has a FluxTransformer2DModel"),
    ):
        assert what in said(f"model.transformer={write(tmp_path / f'{name}.gguf', name)}")
    assert said(f"model.transformer={write(tmp_path / 'other.gguf', 'other')}") == ""
    assert "takes the place of a transformer: model.transformer=x.gguf" in said(f"model.vae={file}")
    both = said(f"model.transformer={file}", "lora.path=x.safetensors")
    assert "lora.path=x.safetensors: goes with whole weights" in both
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert "needs the package gguf, which is not installed" in said(f"model.transformer={file}")


def test_a_damaged_one_is_told_to_be(file, tmp_path):
    content, path = file.read_bytes(), tmp_path / "x.gguf"
    count = struct.pack("<Q", 1 << 40)
    for broken, what in (
        (b"", "is not a GGUF file"),
        (b"GGML" + content[4:], "is not a GGUF file"),
        (content[:4] + struct.pack("<I", 9) + content[8:], "is GGUF version 9"),
        (content[:5000], "cut off in its header"),
        (content[:-1000], "truncated or corrupt"),
        (content[:8] + count + content[16:], "at most 65536 are read"),
        (content[:24] + count + content[32:], "cut off in its header"),
    ):
        path.write_bytes(broken)
        with pytest.raises(UnreadableError, match=what):
            gguf.read_header(path)

"""A pipeline that would draw the wrong thing is refused at load."""

import shutil

import pytest
import twins
from diffusers import DiffusionPipeline, FluxPipeline
from transformers import AutoTokenizer

from launcher.families.weights import BUNDLED
from launcher.worker.checks import check_tokenizers


@pytest.mark.parametrize("name", ["tokenizer", "tokenizer_2"])
def test_a_tokenizer_without_its_files_is_named(tmp_path, name):
    """transformers makes one with an empty vocabulary instead, without a word."""
    folder = shutil.copytree(BUNDLED / name, tmp_path / name)
    (folder / "tokenizer.json").unlink()
    pipe = FluxPipeline.from_pretrained(BUNDLED, **{name: AutoTokenizer.from_pretrained(folder)})
    with pytest.raises(ValueError, match=rf"^{name} can't tell 'red' and 'cat' apart"):
        check_tokenizers(pipe)


@pytest.mark.parametrize("family", [None, *twins.FACTS])
def test_tokenizers_that_work_pass(tmp_path, family):
    path = BUNDLED if family is None else twins.build(family, tmp_path)
    check_tokenizers(DiffusionPipeline.from_pretrained(path))

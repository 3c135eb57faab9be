"""What a pipeline's parts need on the disk."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from launcher.families.parts import Part, installed, lacks, read_index, shadowed
from launcher.reading import UnreadableError
from launcher.rules import files


@pytest.mark.parametrize(
    ("kind", "role"),
    [
        ("CLIPTokenizer", "tokenizer"),
        ("T5TokenizerFast", "tokenizer"),
        ("FlowMatchEulerDiscreteScheduler", "scheduler"),
        ("CLIPImageProcessor", "extractor"),
        ("SiglipImageProcessorFast", "extractor"),
        ("CLIPFeatureExtractor", "extractor"),
        ("Qwen2VLProcessor", "processor"),
        ("FluxTransformer2DModel", "model"),
        ("AutoencoderKL", "model"),
    ],
)
def test_a_part_is_known_by_its_class(kind, role):
    assert Part("x", "diffusers", kind).role == role


@pytest.mark.parametrize(
    ("kind", "files", "said"),
    [
        ("CLIPTokenizer", {}, {"x has no vocabulary (tokenizer.json, say)", "x/tokenizer_config.json is missing"}),
        (
            "CLIPTokenizer",
            {"vocab.json": "{}", "tokenizer_config.json": "{}"},
            {"x has no vocabulary (tokenizer.json, say)"},
        ),
        (
            "CLIPTokenizer",
            {"vocab.json": "{}", "merges.txt": "a b", "tokenizer_config.json": "{}"},
            {"x/vocab.json has no vocabulary"},
        ),
        (
            "CLIPTokenizer",
            {"vocab.json": '{"a": 0, "b": 1, "ab": 2}', "merges.txt": "a b", "tokenizer_config.json": "{}"},
            set(),
        ),
        (
            "CLIPTokenizer",
            {"vocab.json": "[", "merges.txt": "a b", "tokenizer_config.json": "{}"},
            {"x/vocab.json is not valid JSON"},
        ),
        (
            "T5Tokenizer",
            {"tokenizer.json": "{}", "tokenizer_config.json": "{}"},
            {"x/tokenizer.json is not a tokenizer"},
        ),
        ("T5Tokenizer", {"spiece.model": "", "tokenizer_config.json": "{}"}, {"x/spiece.model is 0 bytes long"}),
        (
            "T5Tokenizer",
            {"spiece.model": "x", "tokenizer_config.json": "3"},
            {"x/spiece.model is not a SentencePiece model", "x/tokenizer_config.json is not a JSON object"},
        ),
        ("DDIMScheduler", {}, {"x/scheduler_config.json is missing"}),
        ("DDIMScheduler", {"scheduler_config.json": "{"}, {"x/scheduler_config.json is not valid JSON"}),
        ("CLIPImageProcessor", {}, {"x/preprocessor_config.json is missing"}),
        ("CLIPImageProcessor", {"preprocessor_config.json": "{}"}, set()),
        ("AutoencoderKL", {}, {"x/config.json is missing"}),
        ("AutoencoderKL", {"config.json": "{}"}, {"x/config.json is no configuration: it has no _class_name"}),
        ("AutoencoderKL", {"config.json": '{"_class_name": "AutoencoderKL"}'}, set()),
    ],
)
def test_what_is_lacking_is_named(tmp_path, kind, files, said):
    (tmp_path / "x").mkdir()
    for name, content in files.items():
        (tmp_path / "x" / name).write_text(content)
    found = [lack.what for lack in lacks(Part("x", "diffusers", kind), tmp_path)]
    assert len(found) == len(said)
    assert all(any(what.startswith(start) for what in found) for start in said), found


@pytest.mark.parametrize(
    ("index", "said"),
    [
        ("[]", "is not a JSON object"),
        ("{}", "names no pipeline class"),
        ('{"_class_name": ["a", "b"]}', "names no pipeline class"),
        ('{"_class_name": "P", "vae": ["diffusers"]}', "must name a library and a class for 'vae'"),
        ('{"_class_name": "P", "vae": ["diffusers", 3]}', "must name a library and a class for 'vae'"),
        ('{"_class_name": "P", "vae": ["diffusers", null]}', "must name a library and a class for 'vae'"),
        ('{"_class_name": "P", "../../x": ["a", "b"]}', "has a part with the odd name"),
    ],
)
def test_an_odd_index_is_told(tmp_path, index, said):
    (tmp_path / "model_index.json").write_text(index)
    with pytest.raises(UnreadableError, match=said):
        read_index(tmp_path)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4) | st.just("diffusers"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
names = st.sampled_from(["_class_name", "vae", "transformer", "", "..", "a/b"]) | st.text(max_size=4)


@pytest.mark.slow
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(index=st.dictionaries(names, values, max_size=5) | values)
def test_any_index_is_read_or_told(tmp_path, index):
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    try:
        _, parts = read_index(tmp_path)
    except UnreadableError:
        return
    assert all(part.name.isidentifier() or part.name.isalnum() for part in parts)
    for part in parts:
        assert list(lacks(part, tmp_path))


def test_packages_are_looked_for_without_importing_them():
    assert installed("torch")
    assert not any(installed(name) for name in ("no-such-package", "", "\0", "a/b", "..", "os.path"))


def test_a_list_of_numbers_is_a_setting_and_a_guider_has_no_weights(tmp_path):
    """As in Krea 2's index, and in HunyuanVideo 1.5's."""
    index = {"_class_name": "P", "layers": [2, 5], "guider": ["diffusers", "ClassifierFreeGuidance"]}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    _, (guider,) = read_index(tmp_path)
    assert (guider.name, guider.role) == ("guider", "guider")
    assert [lack.what for lack in lacks(guider, tmp_path)] == ["guider/guider_config.json is missing"]


def test_another_diffusers_before_the_installed_one_is_told(ask, tmp_path, monkeypatch):
    shadowed.cache_clear()
    assert shadowed() == ()
    shadowed.cache_clear()
    (tmp_path / "diffusers").mkdir()
    (tmp_path / "diffusers" / "__init__.py").write_text('__version__ = "0.35.0.dev0"\n')
    monkeypatch.syspath_prepend(tmp_path)
    try:
        (problem,) = files.weights(ask())
        assert problem.value == "diffusers 0.35.0.dev0"
        assert f"comes from {tmp_path / 'diffusers'}, before the 0.42" in problem.rule
    finally:
        shadowed.cache_clear()

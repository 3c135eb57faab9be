"""The shipped folder: its pieces, and that they understand words and seeds."""

import json

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline

from launcher.flux_tiny import evaluate, model
from launcher.flux_tiny.evaluate import Job
from launcher.flux_tiny.score import score
from launcher.flux_tiny.vocabulary import EXAMPLES, read


@pytest.fixture(scope="module")
def pipe() -> FluxPipeline:
    return evaluate.load(model.FOLDER)


def test_folder_is_small_and_holds_no_pickle() -> None:
    files = [f for f in model.FOLDER.rglob("*") if f.is_file()]
    assert sum(f.stat().st_size for f in files) < 8e6
    assert {f.suffix for f in files} == {".json", ".safetensors"}


def test_parts_are_fluxs_own(pipe: FluxPipeline) -> None:
    index = json.loads((model.FOLDER / "model_index.json").read_text())
    assert index["_class_name"] == "FluxPipeline"
    assert {name: kind[1] for name, kind in index.items() if isinstance(kind, list) and kind[1]} == {
        "scheduler": "FlowMatchEulerDiscreteScheduler",
        "text_encoder": "CLIPTextModel",
        "text_encoder_2": "T5EncoderModel",
        "tokenizer": "CLIPTokenizer",
        "tokenizer_2": "T5Tokenizer",
        "transformer": "FluxTransformer2DModel",
        "vae": "AutoencoderKL",
    }
    assert pipe.vae_scale_factor == 8
    assert pipe.transformer.config.num_attention_heads == 6
    parts = (pipe.transformer, pipe.vae, pipe.text_encoder, pipe.text_encoder_2)
    assert {p.dtype for part in parts for p in part.parameters()} == {torch.float32}


@pytest.mark.parametrize("text", ["Red DOTS, on yellow!", "café 🎨 dots", ""])
def test_tokenizers_survive_the_round_trip(pipe: FluxPipeline, text: str) -> None:
    for loaded, built in ((pipe.tokenizer, model.clip_tokenizer()), (pipe.tokenizer_2, model.t5_tokenizer())):
        assert loaded(text).input_ids == built(text).input_ids
    # The pooled embedding is read at the first end token: nothing in the text may look like one.
    assert pipe.tokenizer(text).input_ids.count(pipe.tokenizer.eos_token_id) == 1


def test_known_words_are_one_token_in_any_case(pipe: FluxPipeline) -> None:
    for word in model.known_words():
        for form in (word, word.capitalize(), word.upper()):
            assert len(pipe.tokenizer(form).input_ids) == 3
            assert len(pipe.tokenizer_2(form).input_ids) == 2


def test_synonyms_have_the_same_pooled_meaning(pipe: FluxPipeline) -> None:
    """A prompt's embedding lies nearest to that of the plainest words for the same thing."""
    prompts = [
        *EXAMPLES,
        "tiny crimson chessboard on ivory",
        "Polka Dots In Gold On Navy",
        "wide cyan ripples over black",
    ]
    plain = [read(p).prompt() for p in prompts]
    asked, named = pipe._get_clip_prompt_embeds(prompts), pipe._get_clip_prompt_embeds(plain)
    assert torch.cdist(asked, named).argmin(1).tolist() == list(range(len(prompts)))


@pytest.mark.slow
def test_other_seeds_draw_other_phases(pipe: FluxPipeline) -> None:
    meaning = read("large blue vertical stripes on white")
    phases = {score(np.asarray(evaluate.draw(pipe, Job(meaning, 128, 256, 8, s))), meaning).phase[1] for s in range(4)}
    assert len(phases) == 4

"""What the text encoders learn from."""

import random

import pytest
import torch
from diffusers import FluxPipeline

from launcher.flux_tiny import model, patterns, train_text
from launcher.flux_tiny.vocabulary import read


def test_captions_come_with_the_indices_of_what_they_mean() -> None:
    texts, labels = train_text.draw(40, random.Random(3))
    assert labels.shape == (40, len(train_text.CLASSES))
    assert bool((labels >= 0).all())
    assert bool((labels < torch.tensor(train_text.CLASSES)).all())
    assert torch.equal(labels, patterns.indices([read(text) for text in texts]))
    assert train_text.draw(40, random.Random(3))[0] == texts


@pytest.mark.slow
def test_its_embeddings_are_the_pipelines() -> None:
    """Though it leaves out what follows CLIP's end token."""
    pipe = FluxPipeline.from_pretrained(model.FOLDER)
    texts = ["red dots on white", "a", ""]
    with torch.no_grad():
        pooled, tokens = train_text.embed(pipe, texts, 64)
        expected, expected_pooled, _ = pipe.encode_prompt(texts, None, max_sequence_length=64)
    torch.testing.assert_close(pooled, expected_pooled)
    torch.testing.assert_close(tokens, expected)

"""Processors load with Pillow alone, and see what they are given."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import transformers
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2] / "families"))

import pipeline_parts

from launcher.worker import processors

pytestmark = pytest.mark.slow


def test_a_processor_reads_pictures_without_what_films_need(tmp_path):
    pipeline_parts.qwen_processor().save_pretrained(tmp_path)
    found = processors.load(transformers.Qwen2VLProcessor, str(tmp_path))
    assert isinstance(found, transformers.Qwen2VLProcessor)
    assert type(found).__name__ == "Qwen2VLProcessor"  # which a pipeline's index and its checks go by
    seen = found(text=["a <|image_pad|>"], images=[Image.new("RGB", (56, 84), "red")], return_tensors="pt")
    assert seen["image_grid_thw"].tolist() == [[1, 6, 4]]
    assert seen["input_ids"].eq(found.image_token_id).sum() == 6 * 4 // 4
    other = found(text=["a <|image_pad|>"], images=[Image.new("RGB", (56, 84), "blue")], return_tensors="pt")
    assert not seen["pixel_values"].equal(other["pixel_values"])
    assert "pixel_values" not in found(text=["a"], return_tensors="pt")


def test_all_else_is_loaded_as_ever(tmp_path):
    transformers.CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=32).save_pretrained(tmp_path)
    found = processors.load(transformers.CLIPImageProcessor, str(tmp_path))
    assert found(images=Image.new("RGB", (40, 60)), return_tensors="pt")["pixel_values"].shape == (1, 3, 32, 32)

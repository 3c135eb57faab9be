"""A LoRA is put on, scaled and taken off between the jobs of warm ranks, and changes nothing of the model below."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import launcher
from launcher.families.weights import BUNDLED
from launcher.problems import Refused

pytestmark = pytest.mark.slow

LAYERS = (
    "transformer_blocks.0.attn.to_k",
    "single_transformer_blocks.1.attn.to_q",
    "single_transformer_blocks.2.attn.to_v",
)


def lora_file(path, width: int, layers=LAYERS, seed: int = 0) -> str:
    """A LoRA of rank 2 in diffusers' own format."""
    generator, state = torch.Generator().manual_seed(seed), {}
    for layer in layers:
        for name, shape in (("lora_A", (2, width)), ("lora_B", (width, 2))):
            state[f"transformer.{layer}.{name}.weight"] = torch.randn(shape, generator=generator) / 4
    save_file(state, path)
    return f"lora.path={path}"


def test_scales_change_without_a_reload_and_nothing_is_left_behind(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    width = json.loads((BUNDLED / "transformer" / "config.json").read_text())
    width = width["num_attention_heads"] * width["attention_head_dim"]
    style, other = (lora_file(tmp_path / f"{name}.safetensors", width) for name in ("style", "other"))
    with launcher.Pool("runtime=cpu", "steps=2", "width=64", "height=80", "seed=3", "cp=ring_anything") as pool:

        def made(*words: str) -> bytes:
            """The pixels; the files differ in the recipe that they carry."""
            result = pool.run(*words)
            assert result.record["loads"] == 1
            return result.images[0].tobytes()

        plain, full = made(), made(style)
        half = made(style, "lora.scale=0.5")
        assert len({plain, full, half}) == 3
        assert made(style, "lora.scale=0") == plain
        assert made(other) == full  # another file of the same content
        assert made() == plain
        assert made(style) == full
        with pytest.raises(Refused, match="none is given"):
            pool.run("lora.scale=2")
        wrong = lora_file(tmp_path / "wrong.safetensors", width + 1)
        with pytest.raises(Refused, match=r"wrong.safetensors: is made for a model of other sizes"):
            pool.run(wrong)
        foreign = lora_file(tmp_path / "foreign.safetensors", width, (*LAYERS, "single_transformer_blocks.9.attn.to_q"))
        with pytest.raises(Refused, match=r"with more blocks: .*single_transformer_blocks.9.attn.to_q"):
            pool.run(foreign)
        third = lora_file(tmp_path / "third.safetensors", width, seed=1).removeprefix("lora.path=")
        both = f"lora=[{{path: {tmp_path}/style.safetensors}},{{path: {third}, scale: 0.5, name: x}}]"
        stacked = made(both)
        assert made(both, "lora.scale=[1,0]") == full
        assert made(both, "lora.scale=[0,0.5]") == made(f"lora.path={third}", "lora.scale=0.5")
        assert made(both) == stacked
        assert made() == plain
        two = pool.run(both, "cp=ulysses_anything")
        assert two.record["loads"] == 1
        # Fused ones are in other weights, loaded anew: by one process, at the end.
        alone = pool.run(both, "lora.fuse=true", "cp=none")
        apart = [np.asarray(one.images[0]).astype(int) for one in (two, alone)]
        assert np.abs(apart[0] - apart[1]).max() <= 1
        assert two.images[0].tobytes() not in (plain, full)
    kept = {"path": "[.../style.safetensors,.../third.safetensors]", "scale": [1.0, 0.5], "name": "[style,x]"}
    assert alone.record["config"]["lora"] == kept | {"fuse": True, "stack": None}
    assert set(alone.record["inputs"]) == {"lora.path[0]", "lora.path[1]"}
    assert str(tmp_path) not in json.dumps(alone.record)
    with Image.open(alone.files[0]) as picture:
        assert str(tmp_path) not in picture.info["launcher"]

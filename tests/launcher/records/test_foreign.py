"""Settings of A1111 and ComfyUI as their pictures carry them, whole and damaged."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from launcher.records.foreign import a1111, comfyui, read

FORGE = """a red fox, <lora:details:0.8> (masterpiece:1.2)
in the snow
Negative prompt: blurry, low quality
Steps: 28, Sampler: Euler, Schedule type: Simple, CFG scale: 1, Distilled CFG Scale: 3.5, Seed: 3847563, \
Size: 896x1152, Model hash: 4610115bb0, Model: flux1-dev-fp8, Lora hashes: "details: 1234abcd", Version: f2.0.1"""
CLASSIC = """Steps: 20, Sampler: DPM++ 2M, CFG scale: 7, Seed: 1, Size: 512x768, Model: sd_xl_base_1.0, \
Denoising strength: 0.45, Clip skip: 2, Hires upscale: 2"""


def picture(path, **texts: str):
    info = PngInfo()
    for key, text in texts.items():
        info.add_text(key, text)
    Image.new("RGB", (8, 8)).save(path, pnginfo=info)
    return path


def test_forge_with_flux(tmp_path):
    found = read(picture(tmp_path / "x.png", parameters=FORGE))
    assert (found.program, found.steps, found.seed, found.size) == ("A1111", 28, 3847563, (1152, 896))
    assert (found.cfg, found.distilled, found.strength, found.model) == (1, 3.5, None, "flux1-dev-fp8")
    assert found.prompt == "a red fox,  (masterpiece:1.2)\nin the snow"
    assert found.negative == "blurry, low quality"
    assert found.loras == [("details", 0.8)]
    assert found.rest == {"Sampler": "Euler", "Schedule type": "Simple"}


def test_a1111_without_a_prompt_and_in_a_jpeg(tmp_path):
    exif = Image.Exif()
    exif.endian = ">"
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + CLASSIC.encode("utf-16-be")
    Image.new("RGB", (8, 8)).save(tmp_path / "x.jpg", exif=exif)
    found = read(tmp_path / "x.jpg")
    assert (found.prompt, found.negative, found.strength) == ("", "", 0.45)
    assert found.rest == {"Sampler": "DPM++ 2M", "Clip skip": "2", "Hires upscale": "2"}


def node(kind: str, **inputs: object) -> dict[str, object]:
    return {"class_type": kind, "inputs": inputs}


CLASSIC_GRAPH = {
    "3": node("KSampler", seed=7, steps=20, cfg=4.5, sampler_name="euler", scheduler="simple", denoise=1.0,
              model=["10", 0], positive=["6", 0], negative=["7", 0], latent_image=["5", 0]),
    "4": node("CheckpointLoaderSimple", ckpt_name="sd3.5_large.safetensors"),
    "5": node("EmptySD3LatentImage", width=768, height=1024, batch_size=1),
    "6": node("CLIPTextEncode", text="a fox", clip=["4", 1]),
    "7": node("CLIPTextEncode", text="blurry", clip=["4", 1]),
    "8": node("VAEDecode", samples=["3", 0], vae=["4", 2]),
    "10": node("LoraLoader", lora_name="x.safetensors", strength_model=0.7, strength_clip=1, model=["4", 0]),
}  # fmt: skip
FLUX_GRAPH = {
    "1": node("SamplerCustomAdvanced", noise=["2", 0], guider=["3", 0], sampler=["4", 0], sigmas=["5", 0],
              latent_image=["6", 0]),
    "2": node("RandomNoise", noise_seed=99),
    "3": node("BasicGuider", model=["9", 0], conditioning=["7", 0]),
    "4": node("KSamplerSelect", sampler_name="euler"),
    "5": node("BasicScheduler", scheduler="simple", steps=24, denoise=1, model=["9", 0]),
    "6": node("EmptyLatentImage", width=1216, height=832, batch_size=1),
    "7": node("FluxGuidance", guidance=3.0, conditioning=["8", 0]),
    "8": node("CLIPTextEncode", text="a lake", clip=["10", 0]),
    "9": node("UNETLoader", unet_name="flux1-dev.safetensors"),
    "10": node("DualCLIPLoader", clip_name1="t5xxl.safetensors"),
}  # fmt: skip


def test_comfyui(tmp_path):
    found = read(picture(tmp_path / "x.png", prompt=json.dumps(CLASSIC_GRAPH), workflow="{}"))
    assert (found.program, found.steps, found.seed, found.size) == ("ComfyUI", 20, 7, (1024, 768))
    assert (found.prompt, found.negative, found.cfg, found.strength) == ("a fox", "blurry", 4.5, None)
    assert (found.model, found.loras) == ("sd3.5_large.safetensors", [("x.safetensors", 0.7)])
    assert found.rest == {"sampler_name": "euler", "scheduler": "simple"}


def test_comfyui_with_flux():
    found = comfyui(FLUX_GRAPH)
    assert (found.steps, found.seed, found.size, found.distilled) == (24, 99, (832, 1216), 3.0)
    assert (found.prompt, found.negative, found.model) == ("a lake", "", "flux1-dev.safetensors")


def test_a_graph_in_a_circle_ends():
    found = comfyui({"1": node("KSampler", latent_image=["2", 0], positive=["2", 0]), "2": node("X", a=["1", 0])})
    assert (found.prompt, found.steps) == ("", None)


@pytest.mark.parametrize(
    "texts", [{}, {"parameters": "just words"}, {"prompt": "{"}, {"prompt": "[1]"}, {"prompt": "{}"}]
)
def test_a_picture_that_says_nothing_is_told(tmp_path, texts):
    with pytest.raises(ValueError, match="holds no settings of A1111 or ComfyUI"):
        read(picture(tmp_path / "x.png", **texts))


def test_a_file_of_another_kind_is_told(tmp_path):
    (tmp_path / "x.png").write_text("no picture")
    with pytest.raises(ValueError, match="is not a picture that can be read"):
        read(tmp_path / "x.png")
    with pytest.raises(ValueError, match="No such file"):
        read(tmp_path / "none.png")


@settings(max_examples=60)
@given(st.text(max_size=200))
def test_any_text_is_read_or_told(text):
    found = a1111(text + "\nSteps: 3, " + text)
    assert found.steps is None or found.steps >= 0


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60)
@given(
    st.dictionaries(st.sampled_from(["seed", "steps", "positive", "latent_image", "width", "height", "text"]), values)
)
def test_any_graph_is_read_or_told(inputs):
    comfyui({"1": {"class_type": "KSampler", "inputs": inputs | {"latent_image": ["2", 0]}}, "2": inputs})


@pytest.mark.parametrize(
    "text", ["a" * 100_000, "<lora:" * 20_000, "a:" * 50_000, ", Model: x" * 10_000, "\n" * 100_000]
)
def test_a_text_without_an_end_is_read_in_a_moment(text):
    began = time.process_time()
    a1111(f"{text}\nSteps: 1, Seed: 2, {text}")
    assert time.process_time() - began < 10

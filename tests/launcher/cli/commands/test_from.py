"""The line that asks for another program's picture here."""

from __future__ import annotations

import shlex

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from shared import a_recipe

from launcher.cli.main import main
from launcher.config.compose import Composer, to_config
from launcher.records.formats import FORMATS
from launcher.records.picture import save

FLUX = """a red fox, "quoted" 'too' <lora:details:0.8>
Negative prompt: blurry
Steps: 28, Sampler: Euler, CFG scale: 1, Distilled CFG Scale: 3.2, Seed: 38, Size: 896x1152, Model: flux1-dev-fp8"""
SD35 = """a fox
Negative prompt: blurry, grey
Steps: 20, Sampler: Euler, CFG scale: 4.5, Seed: 1, Size: 512x768, Model: sd3.5_medium, Denoising strength: 0.4"""


def told(path, capsys, text: str) -> tuple[list[str], str]:
    """The words of the line, and what is said below it."""
    info = PngInfo()
    info.add_itxt("parameters", text)
    Image.new("RGB", (8, 8)).save(path, pnginfo=info)
    assert main(["from", str(path)]) == 0
    line, _, below = capsys.readouterr().out.partition("\n")
    words = shlex.split(line)
    assert words[:3] == ["python", "-m", "launcher"]
    return words[3:], below


def test_the_line_can_be_typed_and_means_the_same(tmp_path, capsys):
    words, below = told(tmp_path / "x.png", capsys, FLUX)
    config = to_config(Composer().compose(words))
    assert (config.model.name, config.steps, config.seed, config.height, config.width) == ("flux", 28, 38, 1152, 896)
    assert config.prompt == "a red fox, \"quoted\" 'too'"
    assert (config.guidance, config.model.true_cfg) == (3.2, 1)
    assert "LoRA details" in below
    assert "lora.scale=0.8" in below
    assert (config.scheduler.name, "Sampler" in below) == ("euler", False)
    assert "blurry; it had no effect" in below


def test_classifier_free_guidance_keeps_the_negative_prompt(tmp_path, capsys):
    words, below = told(tmp_path / "x.png", capsys, SD35)
    config = to_config(Composer().compose(words))
    assert config.model.name == "sd35_medium"
    assert config.negative_prompt == "blurry, grey"
    assert 4.5 in (config.guidance, config.model.true_cfg)
    assert "type image=FILE strength=0.4" in below


def test_a_model_that_is_not_here_is_told(tmp_path, capsys):
    words, below = told(tmp_path / "x.png", capsys, "a fox\nSteps: 20, Seed: 1, Model: dreamshaper_8, Size: 512x512")
    assert not any(word.startswith("model=") for word in words)
    assert "dreamshaper_8; choose one with model=" in below


def test_a_terminal_is_told_no_control_characters(tmp_path, capsys):
    words, _ = told(tmp_path / "x.png", capsys, "a \x1b[31mfox\nSteps: 20, Sampler: \x1b[2J, Seed: 1")
    assert "\x1b" not in " ".join(words)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "takes one picture"),
        (["none.png"], "No such file or directory"),
        (["plain.png"], "holds no settings of A1111 or ComfyUI"),
        (["ours.png"], "was made by this program"),
    ],
)
def test_what_can_not_be_read_is_told(tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 8)).save("plain.png")
    save([Image.new("RGB", (8, 8))], tmp_path / "ours.png", a_recipe(), FORMATS["png"])
    assert main(["from", *words]) == 1
    assert said in capsys.readouterr().err

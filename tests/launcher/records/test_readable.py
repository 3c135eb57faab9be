"""What other programs read in a picture, by readers that are not ours: Pillow, sd-parsers, exiftool."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import av
import pytest
from PIL import Image
from sd_parsers import ParserManager
from shared import a_recipe

from launcher import codec
from launcher.records.film import Film
from launcher.records.formats import EXIF_IFD, FORMATS, METADATA, USER_COMMENT
from launcher.records.picture import read_recipe, save
from launcher.records.readable import GENERATED, model_hash, parameters, recipe_in, xmp
from launcher.records.record import Recipe, Weights

PICTURES = [name for name, format in FORMATS.items() if not format.film]  # films: test_film.py

EXIFTOOL = shutil.which("exiftool")
PROMPTS = ["a cat", "Grüße & <b>猫</b> 🐈", "two\nlines, Steps: 3, Seed: 4", "", '"quoted" \\ é']


def made(prompt: str = "a cat", **changes: Any) -> Recipe:
    config: dict[str, Any] = {
        "prompt": prompt,
        "negative_prompt": None,
        "height": 1000,
        "width": 512,
        "steps": 12,
        "guidance": 3.5,
        "seed": 7,
        "frames": None,
        "fps": None,
        "model": {"name": "flux", "path": "owner/FLUX", "true_cfg": 1.0, "guidance_embeds": True},
        "cp": {"mode": "ring_anything", "ring_degree": 3, "ulysses_degree": 1},
        "lora": {"path": None, "scale": 1.0},
    }
    weights = Weights({"transformer/a.safetensors": "ab" * 32, "vae/b.safetensors": "cd" * 32})
    return a_recipe(
        config=config | changes,
        scheduler="FlowMatchEulerDiscreteScheduler",
        weights=weights,
        versions={"launcher": "9"},
    )


def test_the_text_is_that_of_a1111():
    assert parameters(made(negative_prompt="no, dogs")) == (
        "a cat\n"
        "Negative prompt: no, dogs\n"
        "Steps: 12, Sampler: Euler, CFG scale: 1, Distilled CFG Scale: 3.5, Seed: 7, Size: 512x1000, "
        "Model hash: ababababab, Model: FLUX, Context parallel: ring_anything, Ring degree: 3, Ulysses degree: 1, "
        "Version: ring-anything-launcher 9"
    )


def test_classifier_free_guidance_has_its_own_scale():
    model = {"name": "wan", "path": "bundled", "guidance_cfg": True}
    assert "CFG scale: 3.5, Seed" in parameters(made(model=model))
    assert "CFG scale: 4, Seed" in parameters(
        made(guidance=None, model={**model, "true_cfg": 4.0, "guidance_cfg": False})
    )


def test_a_value_with_signs_of_the_format_is_quoted():
    lora = {"path": ".../a, b: c.safetensors", "scale": 0.5}
    assert 'LoRA: "a, b: c.safetensors", LoRA scale: 0.5, Context' in parameters(made(lora=lora))
    lora = {"path": "[.../a.safetensors,.../b.safetensors]", "scale": [0.5, 1]}
    assert 'LoRA: "a.safetensors, b.safetensors", LoRA scale: "0.5, 1", LoRA hash' in parameters(made(lora=lora))


def test_several_files_have_one_hash():
    files = {"transformer/1.safetensors": "ab" * 32, "transformer/2.safetensors": "cd" * 32}
    both = model_hash(a_recipe(weights=Weights(files)))
    assert both is not None
    assert len(both) == 10
    assert both not in ("ab" * 5, "cd" * 5)
    assert model_hash(a_recipe()) is None


def test_a_recipe_that_knows_little_has_a_text():
    assert parameters(a_recipe(config={})) == "\nCFG scale: 1, Version: ring-anything-launcher 0"


@pytest.mark.parametrize("format", PICTURES)
@pytest.mark.parametrize("prompt", PROMPTS)
def test_pillow_reads_it(tmp_path, format, prompt):
    path = _saved(tmp_path, format, made(prompt))
    with Image.open(path) as picture:
        if format == "png":
            assert picture.info["parameters"] == parameters(made(prompt))
        else:
            comment = picture.getexif().get_ifd(EXIF_IFD)[USER_COMMENT]
            assert comment[8:].decode("utf-16-be") == parameters(made(prompt))
    assert read_recipe(path) == made(prompt)


@pytest.mark.parametrize("format", PICTURES)
@pytest.mark.parametrize("prompt", ["a cat", "Grüße & <b>猫</b> 🐈"])
def test_sd_parsers_reads_it(tmp_path, format, prompt):
    if format == "webp":
        pytest.skip("sd-parsers 0.6 reads PNG and JPEG")
    found = ParserManager().parse(_saved(tmp_path, format, made(prompt, negative_prompt="dogs")))
    assert found is not None
    (sampler,) = found.samplers
    assert [one.value for one in sampler.prompts] == [prompt]
    assert [one.value for one in sampler.negative_prompts] == ["dogs"]
    assert (sampler.name, sampler.model.name, sampler.model.hash) == ("Euler", "FLUX", "ababababab")
    assert sampler.parameters == {"steps": "12", "cfg_scale": "1", "seed": "7"}
    assert found.metadata["Size"] == "512x1000"
    assert found.metadata["Context parallel"] == "ring_anything"


@pytest.mark.slow
@pytest.mark.skipif(EXIFTOOL is None, reason="exiftool is not installed (apt install libimage-exiftool-perl)")
def test_exiftool_reads_it(tmp_path):
    recipe = made("Grüße & <b>猫</b> 🐈")
    paths = [_saved(tmp_path, format, recipe) for format in PICTURES]
    for found in _exiftool(*paths):
        text = found.get("PNG:Parameters") or found.get("EXIF:UserComment")
        assert text.replace("\r", "") == parameters(recipe)
        assert found["XMP:Description"] == recipe.config["prompt"]
        assert found["XMP:CreatorTool"] == "ring-anything-launcher 9"
        assert found["XMP:DigitalSourceType"] == GENERATED
        assert "ExifTool:Warning" not in found


@pytest.mark.parametrize("format", PICTURES)
def test_minimal_is_the_recipe_and_none_is_nothing(tmp_path, format):
    full, minimal, none = (_saved(tmp_path / level, format, made(), level) for level in ("full", "minimal", "none"))
    assert read_recipe(minimal) == read_recipe(full) == made()
    assert b"Steps: 12" not in minimal.read_bytes()
    assert b"DigitalSourceType" not in minimal.read_bytes()
    with pytest.raises(ValueError, match="no recipe"):
        read_recipe(none)
    with Image.open(none) as picture:
        assert set(picture.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density", "loop", "background"}
        assert not picture.getexif()
    for word in (b"cat", b"ring", b"launcher", b"xmp", b"Exif"):
        assert word not in none.read_bytes()


def test_a_film_has_the_recipe_as_its_comment_and_a_description_for_people(tmp_path):
    tags = {}
    for level in METADATA:
        with av.open(str(_saved(tmp_path / level, "mp4", made("Grüße 猫"), level))) as film:
            tags[level] = {key: text for key, text in film.metadata.items() if key in ("comment", "description")}
    assert tags["full"] == {"comment": codec.dumps(made("Grüße 猫")), "description": parameters(made("Grüße 猫"))}
    assert tags["minimal"] == {"comment": tags["full"]["comment"]}
    assert tags["none"] == {}


@pytest.mark.slow
@pytest.mark.skipif(EXIFTOOL is None, reason="exiftool is not installed (apt install libimage-exiftool-perl)")
def test_exiftool_finds_nothing_where_there_is_none(tmp_path):
    for found in _exiftool(*(_saved(tmp_path, format, made(), "none") for format in PICTURES)):
        assert not {name for name in found if name.startswith(("XMP", "EXIF", "PNG:Par", "PNG:Laun", "IPTC"))}


def test_a_recipe_of_schema_2_is_read(tmp_path):
    """A WebP of schema 2 had its JSON in the EXIF tag."""
    exif = Image.Exif()
    old = a_recipe(schema=2)
    exif.get_ifd(EXIF_IFD)[USER_COMMENT] = b"ASCII\0\0\0" + codec.dumps(old).encode()
    Image.new("RGB", (3, 2)).save(tmp_path / "x.webp", exif=exif)
    assert read_recipe(tmp_path / "x.webp") == old


def test_xmp_is_xml_whatever_a_prompt_holds(tmp_path):
    from xml.etree import ElementTree

    for prompt in [*PROMPTS, "".join(map(chr, range(0x20))), "]]>", "</rdf:li>", "&amp;"]:
        packet = xmp('{"a":"<&>"}', prompt, "tool")
        ElementTree.fromstring(packet)
        assert recipe_in(packet) == '{"a":"<&>"}'


def _saved(folder: Path, format: str, recipe: Recipe, metadata: str = "full") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"x{FORMATS[format].suffix}"
    film = Film(8) if FORMATS[format].film else None
    save([Image.new("RGB", (16, 16), "red")], path, recipe, FORMATS[format], film, metadata)
    return path


def _exiftool(*paths: Path) -> list[dict[str, Any]]:
    line = [str(EXIFTOOL), "-j", "-G", "-charset", "utf8", *map(str, paths)]
    return json.loads(subprocess.run(line, capture_output=True, check=True).stdout)

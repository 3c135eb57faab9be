"""Files and folders: weights, a LoRA, where pictures go."""

import shutil
from dataclasses import replace

import pytest
from PIL import Image
from refusals import REFUSALS

from launcher.records.formats import FORMATS
from launcher.records.picture import save
from launcher.records.run_dir import RunDir
from launcher.request.request import Request
from launcher.rules import problems
from launcher.rules.files import lora, output_format
from launcher.rules.numbers import MAX_SEED
from launcher.running.message import job_message


@pytest.mark.parametrize(("line", "said", "machine"), REFUSALS["files"])
def test_it_is_refused(refuse, line, said, machine):
    refuse(line, said, machine)


def test_a_full_disk_is_seen_before_the_start(ask, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": 2 << 20})())
    (problem,) = problems(ask("height=4000", "width=4000"))
    assert problem.rule == "2 MiB are free, and 1 picture may take 62 MiB"


@pytest.mark.parametrize("letter", ["a", "猫", "\0", '"', "\\"])
def test_a_prompt_that_does_not_fit_beside_a_jpeg_is_refused_before(ask, tmp_path, letter):
    """At the very end of what fits: the longest prompt that is let pass is written, whatever its letters take."""
    plain = ask("output=jpeg")

    def asked(count: int) -> Request:
        return replace(plain, inputs=replace(plain.inputs, prompts=(letter * count,)))

    fits, too_long = 1, 70_000
    while too_long - fits > 1:
        middle = (fits + too_long) // 2
        fits, too_long = (fits, middle) if list(output_format(asked(middle))) else (middle, too_long)
    (problem,) = output_format(asked(too_long))
    assert "has room for 65000" in problem.rule
    recipe = job_message(asked(fits), RunDir(tmp_path)).recipe.of(letter * fits, MAX_SEED)
    save([Image.new("RGB", (8, 8))], tmp_path / "x.jpg", recipe, FORMATS["jpeg"])


def test_a_lora_that_its_readers_would_not_open_or_wear_is_refused(ask, tmp_path):
    header = b'{"x.lora_A.weight":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]},"x.lora_B.weight":{"dtype":"F32",'
    header += b'"shape":[1],"data_offsets":[4,8]}}'
    for name, what in (("\udcff", "a name that is not UTF-8 text"), ("x", "has matrices of [1, 1] and [1] at x")):
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
        (problem,) = lora(ask(f"lora.path={path}"))
        assert what in problem.rule

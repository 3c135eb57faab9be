"""`python -m launcher models`: every family, for the screen and as data."""

import json

import pytest

from launcher.cli.commands import models
from launcher.cli.main import main
from launcher.config.compose import Composer
from launcher.rules.model import TASKS

COLUMNS = (
    "name", "task", "pipeline", "parameters", "size", "text", "heads", "modes", "licence", "gated", "weights"
)  # fmt: skip


@pytest.mark.slow
def test_it_lists_every_family(capsys):
    assert main(["models", "--json", "machine=h100x8"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert set(rows) == set(Composer().groups["model"])
    assert rows["flux_tiny"]["weights"]
    assert rows["flux"]["gated"]
    assert "ring_anything" in rows["flux"]["modes"]
    assert "ring_anything" not in rows["hunyuan_video"]["modes"]  # it has a mask
    assert "ring" not in rows["zimage_turbo"]["modes"]  # its tokens are not counted
    assert rows["flux3"]["modes"] == []  # diffusers has no pipeline that could be called
    assert all({"none", "unified_anything"} <= set(row["modes"]) for name, row in rows.items() if name != "flux3")
    assert {tuple(row) for row in rows.values()} == {COLUMNS}
    for row in rows.values():
        assert row["task"] in TASKS
        assert all(type(row[key]) is int and row[key] > 0 for key in ("parameters", "heads")), row
        assert all(type(row[key]) is bool for key in ("gated", "weights")), row
        assert all(isinstance(row[key], str) and row[key] for key in ("pipeline", "size", "text", "licence")), row
    wan = rows["wan_i2v_14b"]
    assert [wan[key] for key in COLUMNS if key != "modes"] == [
        "wan_i2v_14b", "image-to-video", "WanImageToVideoPipeline", 16394878784, "480 x 832 x 81 frames", "512, whole",
        40, "https://huggingface.co/Wan-AI/Wan2.1-I2V-14B-480P-Diffusers", False, False,
    ]  # fmt: skip
    lines = {line.split()[0]: line for line in models._page(list(rows.values())).splitlines()}
    assert "gated  https://huggingface.co/black-forest-labs/FLUX.1-dev" in lines["flux"]
    assert lines["flux_tiny"].endswith("Apache-2.0")
    assert "gated" not in lines["qwenimage"]
    assert not [name for name, line in lines.items() if line.endswith(" -")], "every model says what its licence is"


def test_a_model_or_a_mode_is_not_for_it(capsys):
    assert main(["models", "model=flux"]) == 1
    assert "models lists every model in every mode" in capsys.readouterr().err


@pytest.mark.parametrize("typed", ["~nobody_here/x", "", "a\0b", "nowhere", "/dev/null"])
def test_a_folder_that_can_not_be_drafted_is_told(capsys, typed):
    assert main(["models", "--draft", typed]) == 1
    told = capsys.readouterr().err
    assert told.startswith("launcher: ")
    assert "internal error" not in told

"""What the ranks are told of a job."""

from __future__ import annotations

import dataclasses
import json
import time

import numpy as np
import pytest
from PIL import Image

from launcher.problems import RunFailed
from launcher.records.run_dir import RunDir
from launcher.running import message
from launcher.running.first_record import resolved
from launcher.running.message import group_key, job_message, make_ready
from launcher.wire.channel import MAX_LINE
from launcher.wire.messages import pack

SMALL = ["cp=none", "runtime=cpu", "height=16", "width=16", "steps=2", "seed=3"]


def test_ten_thousand_pictures_are_told_at_once(ask, tmp_path):
    request = ask(*SMALL, "images=10000")
    began = time.process_time()
    job = job_message(request, RunDir(tmp_path))
    line = pack(job)
    assert time.process_time() - began < 5  # 0.2 s; two minutes while versions were asked for each of them
    assert len(line) < MAX_LINE / 16
    assert [picture.file for picture in job.pictures[::9_999]] == ["0000.png", "9999.png"]
    assert {picture.prompt for picture in job.pictures} == {0}


def test_pictures_are_numbered_through_prompts(ask, tmp_path):
    (tmp_path / "p.json").write_text(json.dumps(["one", "two"]))
    job = job_message(ask(*SMALL, f"prompt_file={tmp_path}/p.json", "images=2", "output=jpeg"), RunDir(tmp_path))
    assert [(picture.prompt, picture.seed, picture.file) for picture in job.pictures] == [
        (0, 3, "0000.jpg"), (0, 4, "0001.jpg"), (1, 5, "0002.jpg"), (1, 6, "0003.jpg")
    ]  # fmt: skip
    assert job.prompts == ("one", "two")


@pytest.mark.slow
def test_jobs_that_load_the_same_share_their_ranks(ask):
    key = group_key(ask(*SMALL))
    assert group_key(ask(*SMALL[:-1], "seed=4", "prompt=x", "height=32")) == key
    assert group_key(ask(*SMALL, "runtime.dtype=bfloat16")) != key
    assert group_key(ask("cp=ring_anything", *SMALL[1:])) != key
    assert dataclasses.replace(key, threads=(*key.threads, 1)) != key


def test_a_picture_to_start_from_lies_in_the_runs_folder_as_the_model_takes_it(ask, tmp_path):
    Image.new("RGB", (40, 20), "red").save(tmp_path / "cat.png")
    request, run_dir = ask(*SMALL, f"image={tmp_path}/cat.png"), RunDir(tmp_path / "run")
    run_dir.path.mkdir()
    make_ready(request, run_dir)
    (given,) = job_message(request, run_dir).started_from
    with Image.open(given.path) as picture:
        assert picture.size == (16, 16)
        assert (np.asarray(picture) == [255, 0, 0]).all()
    assert (run_dir.path / "inputs" / "0" / "cat.png").read_bytes() == (tmp_path / "cat.png").read_bytes()
    recipe = job_message(request, run_dir).recipe
    assert recipe.inputs.keys() == {"image"}
    assert recipe.config["image"] == "cat.png"
    several = message._of_a_picture(resolved(request) | {"image": "[sub/a.png, .../b.png]"})
    assert (several["image"], several["mask_image"]) == ("[a.png,b.png]", None)


def test_a_picture_that_was_changed_since_it_was_checked_ends_the_run(ask, tmp_path):
    Image.new("RGB", (16, 16), "red").save(tmp_path / "cat.png")
    request, run_dir = ask(*SMALL, f"image={tmp_path}/cat.png"), RunDir(tmp_path / "run")
    run_dir.path.mkdir()
    Image.new("RGB", (16, 16), "blue").save(tmp_path / "cat.png")
    with pytest.raises(RunFailed, match=r"image=cat\.png"):
        make_ready(request, run_dir)


def test_a_pictures_recipe_does_not_tell_where_it_was_written_to(ask, tmp_path):
    config = job_message(ask(*SMALL, f"output.dir={tmp_path}"), RunDir(tmp_path)).recipe.config
    assert "dir" not in config["output"]
    assert str(tmp_path) not in json.dumps(config)

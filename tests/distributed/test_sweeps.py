"""Sweeps over warm ranks: weights are loaded once, jobs do not touch each other, what failed can be made up for."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time
from pathlib import Path

import pytest
from PIL import Image
from safetensors.torch import load_file, save_file
from shared import Ended, command, hermetic, validated

import launcher
from launcher.families.weights import BUNDLED
from launcher.problems import Refused
from launcher.records.compare import difference
from launcher.records.files import sha256
from launcher.records.record import cp_option

pytestmark = pytest.mark.slow

SMALL = ["runtime=cpu", "width=64", "steps=2"]


def records(folder: Path) -> dict[str, dict]:
    return {path.parent.name: json.loads(path.read_text()) for path in folder.rglob("run.json")}


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """Eight jobs over the same two ranks."""
    folder = tmp_path_factory.mktemp("sweep")
    words = ["-m", *SMALL, "cp=ulysses,ring_anything", "runtime.processes=2", "height=48,64", "seed=1,2"]
    result = subprocess.run(command(*words), cwd=folder, env=hermetic(), capture_output=True, text=True, check=False)
    (sweep,) = (path.parent for path in folder.rglob("multirun.yaml"))
    validated(folder)
    return Ended(result.returncode, result.stdout, result.stderr, sweep), words


def test_the_screen_says_how_many_jobs_what_varies_and_how_each_ended(swept):
    ended, _ = swept
    lines = ended.out.splitlines()
    assert lines[0] == "sweep      8 jobs: cp (ulysses, ring_anything) x height (48, 64) x seed (1, 2)"
    assert [line[:5] for line in lines if line.startswith("[")] == [f"[{number}/8]" for number in range(1, 9)]
    assert lines[-3] == "8 done"
    assert lines[-2].startswith("side by side: ")
    assert lines[-1].startswith("report: ")
    assert (ended.folder / "report.html").stat().st_size > 50_000
    assert (ended.folder / "report.md").read_text().count("| done | ") == 8
    assert (ended.folder / "contact.png").exists()
    assert sum("0000.png" in line for line in lines) == 16  # a line each as it ends, and the table
    assert ended.err == ""
    assert ended.code == 0


def test_the_weights_are_loaded_once(swept):
    found = records(swept[0].folder)
    assert len(found) == 8
    assert {record["loads"] for record in found.values()} == {1}
    assert sum(record["times"]["load"] > 0.01 for record in found.values()) == 1
    assert all(record["status"] == "done" for record in found.values())


def test_both_modes_draw_the_same(swept):
    for number in range(4):
        pictures = (swept[0].folder / str(job) / "0000.png" for job in (number, number + 4))
        apart = difference(*pictures).largest
        assert apart is not None
        assert apart <= 1


def test_a_warm_jobs_picture_is_that_of_a_run_alone_to_the_byte(swept, launch):
    ended, _ = swept
    alone = launch(*SMALL, "cp=ring_anything", "runtime.processes=2", "height=64", "seed=2")
    last = ended.folder / "7"
    assert records(ended.folder)["7"]["overrides"][-1] == "seed=2"
    assert sha256(alone.runs[0] / "0000.png") == sha256(last / "0000.png")


def test_resume_makes_what_is_missing_or_failed(swept, tmp_path):
    ended, words = swept
    folder = shutil.copytree(ended.folder, tmp_path / "sweep")
    shutil.rmtree(folder / "2")
    record = json.loads((folder / "5" / "run.json").read_text())
    (folder / "5" / "run.json").write_text(json.dumps(record | {"status": "failed"}))
    kept = {name: sha256(folder / name / "0000.png") for name in "013467"}
    changed = {name: (folder / name / "run.json").stat().st_mtime_ns for name in kept}
    lines = [*words, f"resume={folder}"]
    result = subprocess.run(command(*lines), cwd=tmp_path, env=hermetic(), capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-3] == "2 done, 6 kept"
    assert {name: (folder / name / "run.json").stat().st_mtime_ns for name in kept} == changed
    assert (folder / "5.failed1" / "0000.png").exists()
    for name in ("2", "5"):
        assert sha256(folder / name / "0000.png") == sha256(ended.folder / name / "0000.png")
    other = subprocess.run(
        command(*lines, "steps=3"), cwd=tmp_path, env=hermetic(), capture_output=True, text=True, check=False
    )
    assert other.returncode == 1
    assert "give the same settings as then" in other.stderr


def test_illegal_jobs_are_named_first_and_do_not_stop_the_others(launch):
    words = ["-m", "runtime=cpu", "width=64", "height=64", "cp=none", "steps=0,1", "seed=1"]
    ended = launch(*words)
    assert ended.code == 1
    lines = ended.out.splitlines()
    assert lines[2] == "refused    [1/2] steps=0: steps=0: must be at least 1; type steps=1 or more"
    assert lines[-3] == "1 done, 1 refused"
    assert len(ended.runs) == 1
    stopped = launch(*words, "fail_fast=true")
    assert stopped.code == 1
    assert stopped.out.splitlines()[-1] == "1 refused"
    assert len(stopped.runs) == 1  # the first sweep's


def test_the_benchmark_on_a_sample(launch):
    """Refused jobs are rows and no failure; diffusers' own modes draw the same over the same ranks."""
    fewer = ["height=64,48", "runtime.processes=1,2", "cp=none,ring,diffusers_ring,diffusers_ring_anything", "steps=1"]
    ended = launch("-m", "experiment=cp_benchmark", "runtime=cpu", *fewer)
    assert ended.code == 0, ended.err
    assert ended.out.splitlines()[2] == "refused    10 jobs, for the reasons in the table at the end"
    assert ended.out.splitlines()[-3] == "6 done, 10 refused"
    found = [json.loads((run / "run.json").read_text()) for run in ended.runs]
    assert [(cp_option(one["config"]["cp"]), one["config"]["height"], one["kernel"]) for one in found] == [
        ("none", 64, "native"),
        ("none", 48, "native"),
        *((mode, 64, "cpu_flash") for mode in ("ring", "diffusers_ring", "diffusers_ring_anything")),
        ("diffusers_ring_anything", 48, "cpu_flash"),
    ]
    assert ["sent_bytes" in one for one in found] == [True, True, True, False, False, False]
    assert [one["loads"] for one in found] == [1] * 6
    for one, run in zip(found, ended.runs, strict=True):
        alone = ended.runs[0 if one["config"]["height"] == 64 else 1]
        apart = difference(run / "0000.png", alone / "0000.png").largest
        assert apart is not None
        assert apart <= 1
    (report,) = ended.folder.rglob("report.md")
    assert report.read_text().count("| done | ") == 6
    assert report.read_text().count("| refused | ") == 10
    assert "9 image tokens do not divide among 2 ranks" in report.read_text()


def test_a_sweep_ends_at_its_first_failure_if_it_should(launch, tmp_path):
    model = shutil.copytree(BUNDLED, tmp_path / "broken")
    weights = model / "transformer" / "diffusion_pytorch_model.safetensors"
    save_file({name: x * float("nan") for name, x in load_file(weights).items()}, weights, {"format": "pt"})
    ended = launch("-m", *SMALL, "height=64", f"model.path={model},bundled", "cp=none", "fail_fast=true")
    assert ended.code == 1
    assert "failed  rank 0: " in ended.out
    assert [json.loads((run / "run.json").read_text())["status"] for run in ended.runs] == ["failed"]
    assert str(tmp_path) not in (ended.runs[0] / "run.json").read_text()


def test_the_pool_serves_runs_from_python(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with launcher.Pool("runtime=cpu", "steps=1", "width=32") as pool:
        first = pool.run(height=33, prompt='a "cat", (sitting)', seed=3, cp="ring_anything")
        assert [image.size for image in first.images] == [(32, 33)]
        assert first.record["prompts"] == ['a "cat", (sitting)']
        with pytest.raises(Refused, match="height=0"):
            pool.run(height=0)
        second = pool.run("cp=ulysses", "cp.ulysses_degree=2", height=32, images=2)
        assert second.record["loads"] == 1
        assert len(second.images) == len(second.files) == 2
        assert isinstance(second.images[0], Image.Image)


def test_two_pools_in_two_threads_do_not_disturb_each_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made: dict[int, list[tuple[int, int]]] = {}

    def draw(side: int) -> None:
        with launcher.Pool("runtime=cpu", "steps=1", "cp=none", f"width={side}") as pool:
            made[side] = [pool.run(height=height, seed=side).images[0].size for height in (32, 48)]

    threads = [threading.Thread(target=draw, args=(side,)) for side in (32, 64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(240)
    assert made == {side: [(side, 32), (side, 48)] for side in (32, 64)}
    assert {tuple(record["prompts"]) for record in records(tmp_path).values()} == {("red dots on a yellow background",)}


def test_a_used_folder_is_refused_before_anything_is_written_there(swept, tmp_path):
    folder = shutil.copytree(swept[0].folder, tmp_path / "sweep")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for line in (["-m", "seed=7,8", f"hydra.sweep.dir={folder}"], ["seed=7", f"hydra.run.dir={folder / '0'}"]):
        other = subprocess.run(
            command(*SMALL, "cp=none", *line), cwd=tmp_path, env=hermetic(), capture_output=True, text=True, check=False
        )
        assert other.returncode == 1
        assert "already" in other.stderr
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_running_sweep_is_left_alone_and_a_killed_one_is_resumed(tmp_path):
    words = ["-m", "runtime=cpu", "width=256", "height=256", "steps=40", "cp=none", "seed=1,2"]
    first = subprocess.Popen(
        command(*words, "hydra.sweep.dir=s"), cwd=tmp_path, env=hermetic(), stdout=subprocess.DEVNULL
    )
    try:
        while not (tmp_path / "s" / "0" / "run.json").exists():
            time.sleep(0.1)
            assert first.poll() is None
        lines = command(*words, "resume=s")
        second = subprocess.run(lines, cwd=tmp_path, env=hermetic(), capture_output=True, text=True, check=False)
        assert second.returncode == 1
        assert f"resume=s: process {first.pid} on " in second.stderr
        assert (tmp_path / "s" / "0").is_dir()
        assert not (tmp_path / "s" / "0.failed1").exists()
    finally:
        first.kill()
        first.wait()
    third = subprocess.run(lines, cwd=tmp_path, env=hermetic(), capture_output=True, text=True, check=False)
    assert third.returncode == 0, third.stderr
    assert "again      [1/2] seed=1, whose launcher was killed" in third.stdout
    assert third.stdout.splitlines()[-3] == "2 done"


def test_a_subfolder_of_ones_own_name_is_found_again(tmp_path):
    words = ["-m", *SMALL, "height=32", "cp=none", "seed=1,2", "hydra.sweep.subdir=jobs/${hydra.job.override_dirname}"]
    first = subprocess.run(
        command(*words, "hydra.sweep.dir=s"), cwd=tmp_path, env=hermetic(), capture_output=True, text=True, check=False
    )
    assert first.returncode == 0, first.stderr
    again = subprocess.run(
        command(*words, "resume=s"), cwd=tmp_path, env=hermetic(), capture_output=True, text=True, check=False
    )
    assert again.stdout.splitlines()[-2:] == ["side by side: s/contact.png", "report: s/report.html"]
    assert again.stdout.splitlines()[-3] == "2 kept"
    forgotten = subprocess.run(
        command(*words[:-1], "resume=s"), cwd=tmp_path, env=hermetic(), capture_output=True, text=True, check=False
    )
    assert forgotten.returncode == 1
    assert f"type '{words[-1]}' as well" in forgotten.stderr
    assert not (tmp_path / "s" / "0").exists()

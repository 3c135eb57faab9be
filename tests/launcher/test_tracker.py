"""Trackers are told of runs, and what they keep is read back by their own interfaces where they are installed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from shared import ROOT, a_recipe, a_record, hermetic

from launcher import codec
from launcher.records.formats import FORMATS
from launcher.records.picture import save
from launcher.records.record import File
from launcher.rules.words import TRACKERS
from launcher.tracker import settings, steps, totals

CONFIG = {"model": {"name": "flux", "cp_plan": {"a": {"dim": 1}}}, "steps": 2, "seed": None, "flag": True}


@pytest.fixture
def run(tmp_path) -> Path:
    """A run's folder."""
    folder = tmp_path / "day" / "run"
    (folder / "logs").mkdir(parents=True)
    save([Image.new("RGB", (16, 12), "red")], folder / "0000.png", a_recipe(), FORMATS["png"])
    record = a_record(
        status="done",
        config=CONFIG,
        files=(File("0000.png", "ab", 1, 12, 16, 1, 0),),
        times={"load": 1.5},
        seconds=4.0,
        step_seconds=((0.5, 0.25),),
        peak_bytes=(1024, 2048),
    )
    (folder / "run.json").write_text(codec.dumps(record))
    return folder


def told(name: str, place: Path, run: Path) -> None:
    line = [sys.executable, "-P", "-m", "launcher.tracker", name, "mine", str(place)]
    subprocess.run(line, input=json.dumps([str(run)]), text=True, env=hermetic(PYTHONPATH=str(ROOT)), check=True)


def test_every_tracker_has_its_option():
    options = {yaml.safe_load(path.read_text())["name"] for path in (ROOT / "conf/tracker").glob("*.yaml")}
    assert options == set(TRACKERS)


def test_what_is_told_are_numbers_and_text(run):
    from launcher.records.record import read_record

    record = read_record(run / "run.json")
    assert dict(settings(record.config)) == {"model.name": "flux", "model.cp_plan.a.dim": 1, "steps": 2, "flag": True}
    assert list(steps(record)) == [{"seconds/step": 0.5}, {"seconds/step": 0.25}]
    assert totals(record) == {
        "seconds/load": 1.5,
        "seconds/run": 4.0,
        "peak_bytes/rank0": 1024.0,
        "peak_bytes/rank1": 2048.0,
    }


@pytest.mark.slow
def test_tensorboard_reads_it_back(run, tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    told("tensorboard", tmp_path / "place", run)
    (folder,) = (path.parent for path in (tmp_path / "place" / "mine" / "day-run").glob("events.*"))
    events = EventAccumulator(str(folder), size_guidance={"images": 0}).Reload()
    assert [(event.step, event.value) for event in events.Scalars("seconds/step")] == [(0, 0.5), (1, 0.25)]
    assert events.Scalars("peak_bytes/rank1")[0].value == 2048
    (picture,) = events.Images("pictures")
    assert (picture.height, picture.width) == (12, 16)
    (kept,) = folder.glob("*/hparams.yml")
    assert yaml.safe_load(kept.read_text())["model.name"] == "flux"


@pytest.mark.slow
def test_mlflow_reads_it_back(run, tmp_path):
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed")
    told("mlflow", tmp_path / "place", run)
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/place/mlflow.db")
    (experiment,) = [one for one in client.search_experiments() if one.name == "mine"]
    (found,) = client.search_runs([experiment.experiment_id])
    assert (found.data.params["model.name"], found.info.run_name, found.info.status) == ("flux", "day-run", "FINISHED")
    assert found.data.metrics["peak_bytes/rank1"] == 2048
    assert [one.value for one in client.get_metric_history(found.info.run_id, "seconds/step")] == [0.5, 0.25]
    (picture,) = Path(found.info.artifact_uri.removeprefix("file://")).glob("*.png")
    with Image.open(picture) as image:
        assert np.asarray(image).shape == (12, 16, 3)

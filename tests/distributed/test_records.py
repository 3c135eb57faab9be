"""Nothing is lost: a launcher that is killed in any phase, and many at once in one folder."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from shared import a_record, command, group, hermetic, validated

from launcher.config import hydra_seam
from launcher.config.compose import Composer
from launcher.records import runs
from launcher.records.record import File
from launcher.records.run_dir import RunDir
from launcher.running import replay
from launcher.running.hold import held, is_held

pytestmark = pytest.mark.slow
SMALL = ["runtime=cpu", "cp=none", "height=16", "width=16", "seed=1"]


PHASES: dict[str, Callable[[Path], bool]] = {
    "as its folder is claimed": lambda run: (run / "run.json").exists(),
    "as ranks load": lambda run: (run / "logs" / "rank0.log").exists(),
    "after the first picture": lambda run: (run / "0000.png").exists(),
}


@pytest.mark.parametrize("phase", PHASES)
def test_a_run_whose_launcher_is_killed_is_listed_as_killed(tmp_path, phase):
    run = tmp_path / "run"
    line = command(*SMALL, "steps=1", "images=200", f"hydra.run.dir={run}")
    launcher = subprocess.Popen(
        line, cwd=tmp_path, env=hermetic(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        limit = time.monotonic() + 120
        while not PHASES[phase](run):
            assert launcher.poll() is None
            assert time.monotonic() < limit
            time.sleep(0.01)
        ranks = group(psutil.Process(launcher.pid))
    finally:
        launcher.send_signal(signal.SIGKILL)
        launcher.wait()
    assert ranks.left(30) == []
    (found,) = runs.find(tmp_path, is_held)
    assert found.status == runs.KILLED
    validated(tmp_path)
    for picture in run.glob("*.png"):  # what has its name is whole
        assert replay.original(picture).prompts
    if found.data:
        assert replay.original(run).config["seed"] == 1


def test_twenty_launchers_into_one_folder_lose_nothing(tmp_path, monkeypatch):
    """Each names, claims and writes as a session does; their ranks would need 12 GB."""
    monkeypatch.chdir(tmp_path)
    composed = [Composer().compose(["output.dir=outputs"]) for _ in range(20)]
    together = threading.Barrier(20)

    def run(number: int) -> None:
        together.wait()
        folder = Path(hydra_seam.folder_name(composed[number], "hydra.run.dir")).absolute()
        run_dir = RunDir(folder)
        with held(folder, "x"), run_dir.claimed():
            hydra_seam.save(composed[number], folder)
            run_dir.start(a_record(seed=number))
            for picture in range(20):
                run_dir.note(files=tuple(File(f"{n:04d}.png", "ab", 1, 8, 8, n, 0) for n in range(picture + 1)))
            run_dir.end("done")

    threads = [threading.Thread(target=run, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = list(runs.find(tmp_path / "outputs", is_held))
    assert {run.status for run in found} == {"done"}
    assert sorted(run.data["seed"] for run in found) == list(range(20))
    assert {len(run.data["files"]) for run in found} == {20}
    assert not list(tmp_path.rglob("*.tmp"))

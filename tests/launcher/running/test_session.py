"""A session without a screen: what it refuses, where it writes. Its runs over real ranks are in tests/distributed."""

import itertools
import time
from pathlib import Path

import pytest
from shared import LAPTOP

from launcher.config.compose import Composer
from launcher.problems import Refused
from launcher.running.progress import Progress
from launcher.running.screen import Silent
from launcher.running.session import Session
from launcher.running.slot import Slot
from launcher.running.sweep import FAILED, REFUSED, Job, Sweep, notes_on_prompts, notes_on_seed
from launcher.running.sweeping import SweepRun


@pytest.fixture
def session(composer: Composer, monkeypatch, tmp_path) -> Session:
    monkeypatch.chdir(tmp_path)
    return Session(composer)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["heigth=1"], "type height=1"),
        (["steps=0"], "must be at least 1"),
        (["resume=x"], "works on sweeps only"),
        (["fail_fast=true"], "works on sweeps only"),
        (["allow_refused=true"], "works on sweeps only"),
        (["experiment=odd_sizes"], "is a sweep over height"),
        (["output.dir="], "is empty"),
        (["output.dir=link"], "output.dir=link: link is a link to nothing"),
        (["hydra.run.dir=link/x"], "hydra.run.dir=link/x: link is a link to nothing"),
        (["hydra.run.dir=file/x"], "file is a file"),
        (["lora.path=~nobody_of_this_name/x"], "names a home"),
    ],
)
def test_a_refused_run_leaves_nothing(session, tmp_path, words, said):
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(Refused, match=said):
        session.run(words)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link"]


def test_a_refusal_for_want_of_a_gpu_names_what_works(session):
    with pytest.raises(Refused) as refused:
        session.run(["model=flux", "output.dir=my pictures"])
    assert refused.value.works_here == "python -m launcher model=flux_tiny 'output.dir=my pictures'"


def test_a_sweep_of_illegal_jobs_only(session, tmp_path):
    told: list[str] = []

    class Screen(Silent):
        def opening(self, sweep: Sweep, folder: Path, notes: list[str]) -> None:
            told.append(str(folder))

        def table(self, sweep: Sweep, closeness: dict[Path, str]) -> None:
            told.append("table")

    session = Session(session.composer, Screen(), session.machine)
    sweep = session.sweep(["steps=0,-1", "hydra.sweep.dir=s"])
    assert [job.status for job in sweep.jobs] == [REFUSED, REFUSED]
    assert sweep.failed
    assert told == ["s", "table"]
    assert list(tmp_path.iterdir()) == []


def test_a_job_without_a_folder_is_refused(session):
    sweep = session.sweep(["hydra.sweep.subdir=${nothing}", "steps=0,1", "height=0"])
    assert "nothing" in str(sweep.jobs[0].problems[-1])


def test_commas_in_prompts_are_told():
    two = Sweep([Job(["prompt=a"]), Job(["prompt=b"])])
    (note,) = notes_on_prompts(two, ["prompt=a,b"])
    assert "the commas make 2 values of prompt" in note
    assert "'prompt=\"a, b\"'" in note
    (note,) = notes_on_prompts(Sweep([Job(["prompt=é,b"])]), ["prompt=é,b"])
    assert "one text" in note
    assert notes_on_prompts(Sweep([Job(["seed=1"])]), ["seed=1"]) == []


def test_jobs_that_would_share_a_folder_are_refused(session):
    sweep = session.sweep(["hydra.sweep.subdir=same", "steps=0,1", "height=0"])
    assert "jobs 0 and 1 would share the folder same" in str(sweep.jobs[1].problems[-1])


def seeds(sweep: Sweep) -> list[int]:
    return [job.request.seed for job in sweep.jobs if job.request is not None]


@pytest.mark.slow
def test_the_jobs_of_a_sweep_have_one_seed_where_none_is_typed(session, tmp_path):
    sweep = session.sweep(["steps=0,-1"])
    first, second = seeds(sweep)
    assert first == second
    assert notes_on_seed(sweep, first) == [f"seed={first}, drawn once for all jobs"]
    assert seeds(session.sweep(["steps=0,-1"])) != [first, second]
    assert seeds(session.sweep(["steps=0", "seed=1,2"])) == [1, 2]
    sweep = session.sweep(["steps=0,-1", "seed=3"])
    assert seeds(sweep) == [3, 3]
    assert notes_on_seed(sweep, 3) == []
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "multirun.yaml").write_text("seed: 7\nhydra: {sweep: {subdir: '${hydra.job.num}'}}")
    assert seeds(session.sweep(["steps=0,-1", "resume=s"])) == [7, 7]
    with pytest.raises(Refused, match="nothing"):
        session.sweep(["steps=0,-1", "seed=${nothing}"])


def test_a_job_of_an_experiment_is_a_run_where_all_that_it_varies_is_typed(session):
    words = ["experiment=cp_benchmark", "cp=ring_anything", "runtime.processes=2", "runtime=cpu"]
    with pytest.raises(Refused, match="is a sweep over height; type -m"):
        session.resolve(words)
    _, request = session.resolve([*words, "height=64"])
    assert (request.mode, request.mesh.ranks) == ("ring_anything", 2)
    assert (request.requested.width, request.config.steps) == (64, 4)


@pytest.mark.slow
@pytest.mark.parametrize(("data", "most"), [("1", 2), ("2", 3)])
def test_jobs_for_the_same_ranks_follow_each_other_and_are_told_in_their_order(session, monkeypatch, data, most):
    """Two dtypes, which the line alternates: one group loads each once, and of two groups one may help at the end."""
    session.machine, ran = LAPTOP, {0: [], 1: []}

    def run(_: SweepRun, job: Job, slot: Slot, progress: Progress | None = None) -> None:
        time.sleep(0.01)
        ran[slot.number].append(job.request.dtype)
        job.fail(FAILED, "nothing was drawn")

    monkeypatch.setattr(SweepRun, "_run", run)
    line = ["runtime=cpu", "cp=none", "seed=1,2,3", "runtime.dtype=float32,bfloat16", f"data={data}"]
    sweep = session.sweep([*line, "hydra.sweep.dir=here"])
    loads = sum(len(list(itertools.groupby(dtypes))) for dtypes in ran.values())
    assert 2 <= loads <= most
    assert sorted(ran[0] + ran[1]) == ["bfloat16"] * 3 + ["float32"] * 3
    assert [(job.request.seed, job.request.dtype) for job in sweep.jobs] == [
        (seed, dtype) for seed in (1, 2, 3) for dtype in ("float32", "bfloat16")
    ]

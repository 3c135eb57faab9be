"""A job's record, whatever ends it, and what the ranks are told. No rank is started here."""

from __future__ import annotations

import errno
import shutil
import signal
import threading
from pathlib import Path

import pytest
from shared import validated

from launcher.estimates import memory
from launcher.families.weights import BUNDLED
from launcher.machines import Machine
from launcher.problems import Interrupted, RunFailed
from launcher.records.record import File, read_record
from launcher.records.run_dir import RunDir
from launcher.running import deal
from launcher.running.job import Crew, execute
from launcher.running.progress import UNSEEN, UnseenBoard
from launcher.wire.protocol import Alive, Done, Saved, Source, Stage, Step

SMALL = ["cp=none", "runtime=cpu", "height=16", "width=16", "steps=2", "seed=3"]


class Ranks:
    """What a job asks of its ranks, told by a test."""

    def __init__(self, does) -> None:
        self.does = does

    hosts = ()

    def get(self, _key, _run_dir):
        return self

    def run(self, job, run_dir, stall_timeout, on_event):
        return self.does(job, run_dir, on_event)


class Heard:
    """Progress that a test looks at."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def at(self, stage: str) -> None:
        self.told.append(stage)

    def step(self) -> None:
        self.told.append("step")

    def tick(self) -> None:
        self.told.append("tick")

    def close(self) -> None:
        self.told.append("close")


def run(request, path: Path, does, progress=None):
    """Execute a request; the folder is claimed first, as a session does."""
    crew = Crew(request, Ranks(does).get, progress or UNSEEN)
    run_dir = RunDir(path)
    with run_dir.claimed():
        return execute([crew], run_dir, ["seed=3"])


def done(digest: str = "ab") -> Done:
    return Done({"load": 0.5, "denoise": 1.0}, 1 << 20, (digest,), 1)


def test_a_job_returns_its_record_and_tells_its_progress(ask, tmp_path):
    file = File("0000.png", "ab", 10, 16, 16, 3, 0)

    def makes(_job, _run_dir, on_event):
        for rank in (0, 1):
            for message in (Stage("loading"), Alive(), Step(0, 1), Step(0, 2), Stage("saving")):
                on_event(rank, message)
        on_event(0, Saved(0, file))
        return [done()]

    progress = Heard()
    made = run(ask(*SMALL), tmp_path / "run", makes, progress)
    assert progress.told == ["starting", "loading", "tick", "step", "step", "saving", "close"]
    assert made.record == read_record(tmp_path / "run" / "run.json")
    assert (made.record.status, made.record.files, made.record.loads) == ("done", (file,), 1)
    assert made.record.times is not None
    assert set(made.record.times) == {"start", "load", "denoise"}
    assert made.record.config["seed"] == 3
    assert made.record.weights is not None
    assert len(made.record.weights.files) == 4
    assert made.record.generator == "cpu"
    validated(tmp_path)


@pytest.mark.parametrize(
    ("images", "batch", "status"), [(1, 1, "done"), (2, 1, "interrupted"), (2, 2, "done"), (5, 2, "interrupted")]
)
def test_sigusr1_ends_a_run_after_the_call_that_is_drawn(ask, tmp_path, images, batch, status, monkeypatch):
    asked = threading.Event()
    monkeypatch.setattr("launcher.leaving.asked", asked)
    ranks = [done()]

    def makes(_job, run_dir, on_event):
        asked.set()
        for number in range(batch):
            on_event(0, Saved(number, File(f"000{number}.png", "ab", 10, 8, 8, 5, 0)))
        return ranks

    request, path = ask("cp=none", "runtime=cpu", f"images={images}", f"batch={batch}"), tmp_path / "run"
    if status == "done":
        run(request, path, makes)
    else:
        with pytest.raises(Interrupted) as ended:
            run(request, path, makes)
        assert ended.value.signum == signal.SIGUSR1
    record = read_record(path / "run.json")
    assert record.status == status
    assert len(record.files) == batch
    with pytest.raises(Interrupted):  # nor does another one start
        run(request, tmp_path / "next", makes)
    assert not (tmp_path / "next" / "run.json").exists()


def test_sigusr1_lets_each_group_end_its_picture(ask, tmp_path, monkeypatch):
    """The second group is in the middle of its first picture when the first group has ended one of three."""
    asked, first_left = threading.Event(), threading.Event()
    monkeypatch.setattr("launcher.leaving.asked", asked)

    def makes(job, run_dir, on_event):
        second = job.pictures[0].file == "0001.png"
        for number, picture in enumerate(job.pictures):
            if second:
                assert first_left.wait(60)
                shared.stopped.wait(0.2)
                on_event(0, Step(number, 1))  # raises where the others were stopped: the picture is half-drawn
            asked.set()
            try:
                on_event(0, Saved(number, File(picture.file, "ab", 10, 16, 16, picture.seed, 0)))
            finally:
                first_left.set()
        return [done()]

    request = ask("cp=none", "runtime=cpu", "images=6", *SMALL[2:])
    shared, run_dir = deal.Shared(UnseenBoard()), RunDir(tmp_path / "run")
    crews = [Crew(request, Ranks(makes).get, shared.job(group, "", 3)) for group in range(2)]
    with run_dir.claimed(), pytest.raises(Interrupted) as ended:
        execute(crews, run_dir, ["seed=3"], stopped=shared.stopped)
    assert ended.value.signum == signal.SIGUSR1
    record = read_record(run_dir.path / "run.json")
    assert (record.status, [file.file for file in record.files]) == ("interrupted", ["0000.png", "0001.png"])


def test_ranks_that_end_with_other_latents_are_told(ask, tmp_path):
    with pytest.raises(RunFailed, match=r"ranks \[1\] ended with other latents than rank 0"):
        run(ask(*SMALL), tmp_path / "run", lambda *_: [done(), done("cd"), done()])
    assert read_record(tmp_path / "run" / "run.json").status == "failed"


@pytest.mark.parametrize(
    ("error", "raised", "status", "told"),
    [
        (RunFailed("rank 1: it broke"), RunFailed, "failed", "rank 1: it broke"),
        (Interrupted(2), Interrupted, "interrupted", None),
        (KeyboardInterrupt(), KeyboardInterrupt, "interrupted", None),
        (OSError(errno.EACCES, "Permission denied", "/x/y"), RunFailed, "failed", "PermissionError: "),
        (MemoryError(), RunFailed, "failed", "MemoryError"),
        (SystemExit(3), RunFailed, "failed", "SystemExit: 3"),
        (ValueError("\ud800 of no encoding"), RunFailed, "failed", "ValueError: "),
    ],
)
def test_whatever_ends_a_run_its_record_says_so(ask, tmp_path, error, raised, status, told):
    def ends(*_):
        raise error

    progress = Heard()
    with pytest.raises(raised):
        run(ask(*SMALL), tmp_path / "run", ends, progress)
    record = read_record(tmp_path / "run" / "run.json")
    assert record.status == status
    assert (record.error or "").startswith(told or "")
    assert progress.told == ["starting", "close"]


def test_an_error_that_names_folders_leaves_none_in_the_record(ask, tmp_path, monkeypatch):
    """Also of a user without a home, and where the current folder is gone."""
    request = ask(*SMALL)
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()

    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)

    def ends(_job, run_dir, _on_event):
        raise RunFailed(f"rank 0: it broke (log: {run_dir.log(0)})")

    with pytest.raises(RunFailed, match="it broke"):
        run(request, tmp_path / "run", ends)
    assert read_record(tmp_path / "run" / "run.json").error == "rank 0: it broke (log: run/logs/rank0.log)"


def test_a_folder_without_room_for_another_file_is_told_without_a_log_that_is_not_there(ask, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "run" / ".run.json.tmp"))

    def ends(*_):
        monkeypatch.setattr(Path, "write_text", full)
        full()

    with pytest.raises(RunFailed) as failed:
        run(ask(*SMALL), tmp_path / "run", ends)
    assert str(failed.value) == "the run's folder can't be written: No space left on device: .run.json.tmp"


def test_facts_that_a_fetched_checkpoint_contradicts_end_the_run_before_anything_is_drawn(ask, tmp_path):
    def loads(_job, _run_dir, on_event):
        on_event(0, Source(str(BUNDLED)))
        raise AssertionError("it went on")

    with pytest.raises(RunFailed, match=r"model.guidance_embeds=true: the transformer in model.path has false"):
        run(ask("model=flux", "runtime.device=cpu", *SMALL), tmp_path / "run", loads)
    with pytest.raises(RunFailed, match="it went on"):  # the same folder for the model that it holds
        run(ask(*SMALL), tmp_path / "own", loads)


@pytest.mark.parametrize("cached", [False, True])
def test_the_commit_of_a_repository_is_recorded_whatever_was_asked_for(ask, tmp_path, monkeypatch, cached):
    """Known before the start where the cache is whole, else when a rank has fetched it."""
    from huggingface_hub import constants

    commit = tmp_path / "hub" / "models--owner--name" / "snapshots" / ("a" * 40)
    commit.parent.mkdir(parents=True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    (commit.parent.parent / "refs").mkdir()
    (commit.parent.parent / "refs" / "main").write_text("a" * 40)
    if cached:
        commit.symlink_to(BUNDLED)
    request = ask("model.path=owner/name", *SMALL)
    told = []

    def loads(job, run_dir, on_event):
        told.append(job.recipe.config["model"]["revision"])
        if not cached:
            commit.symlink_to(BUNDLED)
        on_event(0, Source(str(commit)))
        raise RunFailed("that is enough")

    with pytest.raises(RunFailed, match="that is enough"):
        run(request, tmp_path / "run", loads)
    assert read_record(tmp_path / "run" / "run.json").config["model"]["revision"] == "a" * 40
    assert told == ["a" * 40 if cached else None]


def test_a_folder_that_was_removed_is_told(ask, tmp_path):
    def ends(*_):
        shutil.rmtree(tmp_path / "run")
        raise RunFailed("rank 0: it broke")

    with pytest.raises(RunFailed, match="it broke; the run's folder was removed while it ran"):
        run(ask(*SMALL), tmp_path / "run", ends)


@pytest.mark.parametrize(
    ("cause", "words", "told"),
    [
        (
            "out of GPU memory (2.44 GiB asked for)",
            ["cp=ring", "runtime.weights=sharded", "height=64", "width=64"],
            "type a smaller size",
        ),
        (
            "out of memory, or of what a limit leaves of it",
            ["cp=ring", "compile=regional", "height=64", "width=64"],
            "type a smaller size",
        ),
        ("out of memory", ["cp=none", "height=2048", "width=2048"], "type vae.tiling=true, which takes less"),
    ],
)
def test_out_of_memory_tells_what_was_planned_and_free_and_what_to_type(ask, tmp_path, cause, words, told):
    def ends(*_):
        raise RunFailed(f"rank 1: {cause} (log: rank1.log)")

    request = ask("runtime=cpu", "steps=2", *words, machine=Machine(2, memory_gib=8, free_gib=6))
    need = memory.estimate(request).total / memory.GIB
    with pytest.raises(RunFailed) as failed:
        run(request, tmp_path / "run", ends)
    assert str(failed.value).startswith(
        f"rank 1: {cause} (log: rank1.log); about {need:.1f} GiB a rank were planned, and "
    )
    assert str(failed.value).endswith(f" GiB were free; {told}")


def test_a_rank_that_was_killed_is_told_of_memory_where_the_plan_took_more_than_was_free(ask, tmp_path):
    def ends(*_):
        raise RunFailed("rank 1: killed by SIGKILL (often by the system, when memory runs out)")

    for free, told in ((6, None), (0.4, "0.4 GiB were free; no option here makes it fit")):
        with pytest.raises(RunFailed) as failed:
            run(ask(*SMALL, machine=Machine(2, memory_gib=8, free_gib=free)), tmp_path / str(free), ends)
        assert str(failed.value).endswith("runs out)") if told is None else told in str(failed.value)

"""One job, from a resolved request to a run directory: the record, the ranks, what they made."""

from __future__ import annotations

import contextlib
import dataclasses
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from launcher.estimates import memory
from launcher.families.facts import fact_problems
from launcher.families.weights import location
from launcher.leaving import leave_if_asked
from launcher.problems import Interrupted, LauncherError, RunFailed
from launcher.records.hashes import weights
from launcher.records.record import Check, File, Record, at_commit
from launcher.records.run_dir import RunDir
from launcher.request.request import Request
from launcher.running.first_record import first_record, known_weights
from launcher.running.group import GroupKey, RankGroup
from launcher.running.message import group_key, job_message, make_ready
from launcher.running.progress import UNSEEN, Progress
from launcher.wire.protocol import OUT_OF_GPU_MEMORY, Alive, Checked, Message, Saved, Source, Stage, Step

GetRanks = Callable[[GroupKey, RunDir], RankGroup]


@dataclass(frozen=True)
class Made:
    """What a job left: its run directory, and what run.json there says."""

    folder: Path
    record: Record


def execute(
    request: Request,
    run_dir: RunDir,
    overrides: list[str],
    get_ranks: GetRanks,
    progress: Progress = UNSEEN,
    only_check: bool = False,
    options: Sequence[str] = (),
) -> Made:
    """Make a job's pictures.

    Args:
        run_dir: where; claimed by the caller.
        overrides: the job's settings as its record keeps them.
        get_ranks: gives ranks of a key, warm or new; new ones log to the run's folder.
        progress: is told of stages and steps, and closed at the end.
        only_check: make none, after the check that the request asks for.
        options: before the settings in the line that asks for the same again.

    Raises:
        LauncherError: it failed; run.json says so too.
        Interrupted: a signal came; run.json says `interrupted`.
    """
    path = run_dir.path
    leave_if_asked()
    run_dir.start(first_record(request, overrides, options))
    try:
        return _execute(request, run_dir, get_ranks, progress, only_check)
    except (Interrupted, KeyboardInterrupt):
        with contextlib.suppress(OSError):  # the folder was removed: there is nothing to tell the truth in
            run_dir.end("interrupted")
        raise
    except LauncherError as error:
        failed = error
    except BaseException as error:  # SystemExit too: whatever ends a run, its record says so
        log = run_dir.logs / "launcher.log"
        with contextlib.suppress(OSError):  # no room for it, or no folder
            log.write_text(traceback.format_exc(), encoding="utf-8", errors="backslashreplace")
        kept = log.is_file() and log.stat().st_size > 0
        failed = RunFailed(_words(error, path) + (f" (log: {log})" if kept else ""))
        failed.__cause__ = error
    with contextlib.suppress(OSError):
        run_dir.end("failed", error=_without_paths(str(failed), request, path))
    raise failed if path.exists() else RunFailed(f"{failed}; the run's folder was removed while it ran")


def _words(error: BaseException, folder: Path) -> str:
    """What ended a run, of itself or of the system that it runs on."""
    if isinstance(error, OSError) and error.filename and folder in (place := Path(str(error.filename))).parents:
        return f"the run's folder can't be written: {error.strerror}: {place.name}"
    return f"{type(error).__name__}: {error}"


def _execute(request: Request, run_dir: RunDir, get_ranks: GetRanks, progress: Progress, only_check: bool) -> Made:
    began = time.monotonic()
    files: dict[int, File] = {}
    checks: dict[int, Check] = {}

    def on_event(rank: int, message: Message) -> None:
        if isinstance(message, Saved):
            files[message.picture] = message.file
            run_dir.note(files=tuple(files[number] for number in sorted(files)))
            if len(files) < len(request.prompts) * request.config.images:
                leave_if_asked()
        elif isinstance(message, Checked):
            checks[rank] = message.check
            if len(checks) == request.mesh.ranks:
                _judge(list(checks.values()), request, run_dir)
        elif rank != 0:
            return
        elif isinstance(message, Source):
            # Of a repository that was not here before the start, nothing is known until it was fetched.
            if found := list(fact_problems(request.config.model, Path(message.folder))):
                raise RunFailed("; ".join(map(str, found)))
            if run_dir.record.weights is None:
                run_dir.write(weights=weights(Path(message.folder)))
            if (config := at_commit(run_dir.record.config, message.folder)) != run_dir.record.config:
                run_dir.write(config=config)
        elif isinstance(message, Stage):
            progress.at(message.name)
        elif isinstance(message, Step):
            progress.step()
        elif isinstance(message, Alive):
            progress.tick()

    try:
        progress.at("starting")
        make_ready(request, run_dir)
        with ThreadPoolExecutor(1) as thread:  # hashes what ranks will load, while they start
            hashed = thread.submit(known_weights, request)
            ranks = get_ranks(group_key(request), run_dir)
            known = hashed.result()
        if ranks.hosts:
            run_dir.write(hosts=ranks.hosts)
        run_dir.write(weights=known)
        job = job_message(request, run_dir, known)
        job = dataclasses.replace(job, pictures=()) if only_check else job
        started = time.monotonic()
        done = ranks.run(job, run_dir, request.config.runtime.stall_timeout, on_event)
    except RunFailed as error:
        need = memory.estimate(request)
        if OUT_OF_GPU_MEMORY not in str(error) or need is None:
            raise
        raise RunFailed(f"{error}; about {need.total / memory.GIB:.1f} GiB a rank were estimated") from error
    finally:
        progress.close()
    if different := [rank for rank, told in enumerate(done) if told.digests != done[0].digests]:
        raise RunFailed(f"ranks {different} ended with other latents than rank 0: the pictures can't be trusted")
    run_dir.end(
        "done",
        times={"start": round(started - began, 3), **done[0].seconds},
        step_seconds=done[0].step_seconds,
        peak_bytes=tuple(told.peak_bytes for told in done),
        peak_host_bytes=tuple(told.peak_host_bytes for told in done),
        sent_bytes=None if None in (sent := [told.sent_bytes for told in done]) else tuple(sent),
        loads=done[0].loads,
        kernel=done[0].kernel,
        scheduler=done[0].scheduler,
        environment=run_dir.record.environment | done[0].environment,
    )
    return Made(run_dir.path, run_dir.record)


def _judge(checks: list[Check], request: Request, run_dir: RunDir) -> None:
    """Record what the ranks have found, and end the run if they are not close to one rank."""
    worst = max(checks, key=lambda check: (not check.close, check.relative))
    run_dir.write(check=worst)
    if worst.close:
        return
    what = f"cp={request.mode} is off by {worst.relative:.1e} of what one rank predicts in the first step"
    limit = f"the bound in {worst.dtype} is {worst.bound:.0e}"
    sharper = "" if worst.dtype == "float32" else "; runtime.dtype=float32 tells rounding from a mistake"
    raise RunFailed(
        f"check=true: {what}, and {limit}: model.cp_plan or the model's code does not fit this mode; type cp=none for "
        f"pictures that can be trusted{sharper}"
    )


def _without_paths(text: str, request: Request, folder: Path) -> str:
    """An error's words without this machine's folders, for the record."""
    model = Path(location(request.config.model))
    known = {folder.absolute(): folder.name, folder: folder.name, model: f".../{model.name}"}
    with contextlib.suppress(OSError):  # the current folder was removed
        known[Path.cwd()] = "."
    with contextlib.suppress(RuntimeError):  # a user without a home
        known[Path.home()] = "~"
    for place, kept in known.items():
        text = text.replace(str(place), kept) if len(str(place)) > 1 else text
    return text

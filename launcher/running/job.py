"""One job, from a resolved request to a run directory: the record, the ranks, what they made."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from launcher.estimates.notes import ran_out
from launcher.estimates.savings import shortage
from launcher.families.weights import location
from launcher.leaving import leave_if_asked
from launcher.problems import Interrupted, LauncherError, RunFailed
from launcher.records.record import Record
from launcher.records.run_dir import RunDir
from launcher.request.request import Request
from launcher.running.deal import deal, together
from launcher.running.failures import SHORT
from launcher.running.first_record import first_record, known_weights
from launcher.running.group import RankGroup
from launcher.running.message import group_key, job_message, make_ready, pictures_of
from launcher.running.progress import UNSEEN, Progress
from launcher.running.ranks import GroupKey
from launcher.running.story import Story, summed_up
from launcher.wire.jobs import Picture
from launcher.wire.protocol import OUT_OF_MEMORY, Done
from launcher.wording import plural

GetRanks = Callable[[GroupKey, RunDir], RankGroup]


@dataclass(frozen=True)
class Made:
    """What a job left: its run directory, and what run.json there says."""

    folder: Path
    record: Record


@dataclass(frozen=True)
class Crew:
    """A group of ranks as a job sees it.

    Args:
        request: the job's, on the devices of this group.
        get_ranks: gives ranks of a key, warm or new; new ones log to the run's folder.
        progress: is told of stages and steps, and closed at the end.
    """

    request: Request
    get_ranks: GetRanks
    progress: Progress = UNSEEN


def execute(
    crews: Sequence[Crew],
    run_dir: RunDir,
    overrides: list[str],
    only_check: bool = False,
    options: Sequence[str] = (),
    stopped: threading.Event | None = None,
) -> Made:
    """Make a job's pictures.

    Args:
        crews: who makes them: one group, or several among which the calls that make pictures are dealt in turn.
        run_dir: where; claimed by the caller.
        overrides: the job's settings as its record keeps them.
        only_check: make none, after the check that the request asks for.
        options: before the settings in the line that asks for the same again.
        stopped: set where several groups work and a signal, or an error of this program, ends them.

    Raises:
        LauncherError: it failed; run.json says so too. The pictures that were made, of a failed group too, are kept.
        Interrupted: a signal came; run.json says `interrupted`.
    """
    leave_if_asked()
    path, request = run_dir.path, together([crew.request for crew in crews])
    run_dir.start(first_record(request, overrides, options))
    try:
        return _execute(crews, run_dir, only_check, stopped or threading.Event())
    except (Interrupted, KeyboardInterrupt) as interrupt:
        why = _by_slurm(request)
        if isinstance(interrupt, Interrupted):
            interrupt.why = why
        with contextlib.suppress(OSError):  # the folder was removed: there is nothing to tell the truth in
            run_dir.end("interrupted", error=why or None)
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
    if (why := _by_slurm(request)) and isinstance(failed, RunFailed):  # whose agents may end before this launcher does
        failed = RunFailed(f"{failed}; {why}")
    with contextlib.suppress(OSError):
        run_dir.end("failed", error=_without_paths(str(failed), request, path))
    raise failed if path.exists() else RunFailed(f"{failed}; the run's folder was removed while it ran")


def _by_slurm(request: Request) -> str:
    """Why Slurm ends the job that the run is in, "" if it does not."""
    if request.config.cluster.name != "slurm":
        return ""
    from launcher.slurm import why_ended

    return why_ended()


def _words(error: BaseException, folder: Path) -> str:
    """What ended a run, of itself or of the system that it runs on."""
    if isinstance(error, OSError) and error.filename and folder in (place := Path(str(error.filename))).parents:
        return f"the run's folder can't be written: {error.strerror}: {place.name}"
    return f"{type(error).__name__}: {error}"


def _execute(crews: Sequence[Crew], run_dir: RunDir, only_check: bool, stopped: threading.Event) -> Made:
    began, request = time.monotonic(), crews[0].request
    story = Story(request, run_dir, len(crews))
    done: dict[int, list[Done]] = {}
    failed: dict[int, RunFailed] = {}
    starts: list[float] = []

    def work(number: int) -> None:
        crew, own = crews[number], RunDir(run_dir.path, number * request.mesh.ranks)
        ranks = crew.get_ranks(group_key(crew.request), own)
        known = hashed.result()
        story.known(known)
        if ranks.hosts:
            run_dir.write(hosts=ranks.hosts)
        job = job_message(crew.request, run_dir, known)
        calls = request.share(number, len(crews))
        pictures = tuple(job.pictures[each] for call in calls for each in call)
        starts.append(time.monotonic() - began)
        stall_timeout = request.config.runtime.stall_timeout
        done[number] = ranks.run(
            dataclasses.replace(
                job,
                pictures=pictures,
                calls=tuple(map(len, calls)),
                only_check=only_check,
                first_rank=own.first_rank,
            ),
            own,
            stall_timeout,
            lambda rank, message: story.hear(number, rank, message, crew.progress),
        )

    def work_of_several(number: int, _group: int) -> None:
        try:
            work(number)
        except RunFailed as error:
            failed[number] = error

    try:
        for crew in crews:
            crew.progress.at("starting")
        make_ready(request, run_dir)
        with ThreadPoolExecutor(1) as thread:  # hashes what ranks will load, while they start
            hashed = thread.submit(known_weights, request)
            if len(crews) == 1:
                work(0)
            else:
                apart = {number: number for number in range(len(crews))}  # one for each group
                deal(apart, len(crews), work_of_several, lambda _: False, stopped)
        if failed:
            raise _lost(failed, story, pictures_of(request))
    except RunFailed as error:
        perhaps = SHORT in str(error) and shortage(request) is not None
        if not perhaps and not any(words in str(error) for words in OUT_OF_MEMORY):
            raise
        raise RunFailed(f"{error}; {ran_out(request)}") from error
    finally:
        for crew in crews:
            crew.progress.close()
    told = summed_up([done[number] for number in sorted(done)])
    environment = run_dir.record.environment | done[0][0].environment
    times = {"start": round(max(starts), 3), **told.pop("times")}
    run_dir.end("done", times=times, environment=environment, **told)
    return Made(run_dir.path, run_dir.record)


def _lost(failed: dict[int, RunFailed], story: Story, pictures: Sequence[Picture]) -> RunFailed:
    """What the failure of some of several groups cost; what the others, and they themselves, have made is kept."""
    first = min(failed)
    others = f"; so did {plural(len(failed) - 1, 'other group')}" if len(failed) > 1 else ""
    missing = [picture.file for number, picture in enumerate(pictures) if number not in story.files]
    lost = ", ".join(missing[:8]) + (f" and {len(missing) - 8} more" if len(missing) > 8 else "")
    what = f"group {first + 1} of {story.groups} failed: {failed[first]}{others}"
    return RunFailed(f"{what}; not made: {lost or 'none'}; kept: {plural(len(story.files), 'picture')}")


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

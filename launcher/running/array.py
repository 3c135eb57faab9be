"""A sweep as one job array of Slurm's: each element is an allocation, whose warm ranks do some of its jobs."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Hashable
from pathlib import Path

from launcher import slurm
from launcher.problems import Interrupted, Refused
from launcher.records.record import Record, read_record
from launcher.records.run_dir import RunDir
from launcher.running.deal import in_order
from launcher.running.first_record import first_record
from launcher.running.job import Made
from launcher.running.standing import Standing, read
from launcher.running.submission import hand_over, held_job, script, write
from launcher.running.sweep import DONE, FAILED, Sweep, recorded
from launcher.running.sweep_folder import shown
from launcher.running.waiting import ASKED, SETTLED, TICK, Patience, last_words

ELEMENTS = "job.json"  # the folders of each element's jobs, in the sweep's folder
ENDED = ("done", "failed", "interrupted")


def elements(kinds: dict[int, Hashable], at_once: int) -> list[list[int]]:
    """The jobs of each element of an array: those with the same weights stay together.

    Args:
        kinds: what jobs that can use the same ranks have in common, by job.
        at_once: elements that may run at once; so many are made, if there are jobs enough, or one for each kind.
    """
    parts: dict[Hashable, list[int]] = {}
    for number in in_order(kinds):
        parts.setdefault(kinds[number], []).append(number)
    found = list(parts.values())
    while len(found) < at_once and len(longest := max(found, key=len)) > 1:
        found.remove(longest)
        half = (len(longest) + 1) // 2
        found += [longest[:half], longest[half:]]
    return found


class Array:
    """The jobs of a sweep in Slurm's hands.

    Args:
        left: which of the sweep's jobs.
        folder: the sweep's.
        options: that were typed before its words.
    """

    def __init__(self, sweep: Sweep, kinds: dict[int, Hashable], folder: Path, options: list[str]) -> None:
        self._sweep, self._left, self._folder = sweep, list(kinds), folder
        requests = [request for number in kinds if (request := sweep.jobs[number].request) is not None]
        widest = max(requests, key=lambda request: request.mesh.ranks)
        at_once = widest.config.cluster.array_parallelism
        self._elements = elements(kinds, at_once)
        run_dir = RunDir(folder)
        run_dir.logs.mkdir(parents=True, exist_ok=True)
        for number in self._left:
            job = sweep.jobs[number]
            assert job.composed is not None
            assert job.request is not None
            assert job.folder is not None
            with RunDir(job.folder).claimed():
                write(job.composed, job.request, job.words, job.folder, options, False)
                RunDir(job.folder).rewrite(first_record(job.request, recorded(job.words), options), status="queued")
        folders = [[str(sweep.jobs[number].folder) for number in part] for part in self._elements]
        (folder / ELEMENTS).write_text(json.dumps(folders), encoding="utf-8")
        try:
            self.job = hand_over(script(widest, folder, len(self._elements)), folder)
        except Refused:
            for number in self._left:
                RunDir(sweep.jobs[number].folder or folder).path_of_record.unlink(missing_ok=True)
            raise
        with held_job(self.job) as self.where:
            for number in self._left:
                place = sweep.jobs[number].folder or folder
                RunDir(place).rewrite(read_record(place / "run.json"), slurm=self.where)

    def __str__(self) -> str:
        return f"{self.job} of Slurm, partition {self.where.partition}, {len(self._elements)} in its array"

    def wait(
        self,
        told: Callable[[int], bool],
        show: Callable[[dict[int, Standing]], None],
        note: Callable[[str], None],
    ) -> None:
        """Wait until all have ended; a signal cancels them.

        Args:
            told: is told the number of each job that has ended; true ends the others.
            show: is shown how the others stand.
            note: is told once if Slurm does not answer, and once if it does again.

        Raises:
            RunFailed: Slurm has not answered for long.
        """
        try:
            self._until_gone(told, show, Patience(f"job {self.job} may go on, in {self._folder}", note))
        except (Interrupted, KeyboardInterrupt):
            self.cancel()
            raise

    def cancel(self) -> None:
        """End all of it."""
        with contextlib.suppress(Refused):
            slurm.ask("scancel", self.job)

    def _until_gone(
        self, told: Callable[[int], bool], show: Callable[[dict[int, Standing]], None], patience: Patience
    ) -> None:
        states = dict.fromkeys(range(len(self._elements)), "PENDING")
        gone: dict[int, float] = {}  # since when Slurm has no such element any more
        asked = 0.0
        while self._left:
            if time.monotonic() - asked > ASKED:
                asked = time.monotonic()
                if (found := patience.asked(lambda: slurm.elements(self.job))) is not None:
                    states = found
                    gone = {each: gone.get(each, asked) for each in range(len(self._elements)) if each not in states}
            standing: dict[int, Standing] = {}
            for number in list(self._left):
                place = self._sweep.jobs[number].folder or self._folder
                record, element = read_record(place / "run.json"), self._element(number)
                if record.status not in ENDED and time.monotonic() - gone.get(element, float("inf")) > SETTLED:
                    words = last_words(self._folder, f"job{element}.out")  # there was no time for a last one
                    error = f"Slurm job {self.job}_{element} ended before it did" + (f": {words}" if words else "")
                    RunDir(place).rewrite(record, status="failed", error=error)
                    record = read_record(place / "run.json")
                if record.status in ENDED:
                    self._ended(number, record)
                    if told(number):
                        self.cancel()
                else:
                    standing[number] = _standing(record, place, states.get(element, ""))
            show(standing)
            time.sleep(TICK)

    def _element(self, number: int) -> int:
        return next(place for place, part in enumerate(self._elements) if number in part)

    def _ended(self, number: int, record: Record) -> None:
        job = self._sweep.jobs[number]
        self._left.remove(number)
        assert job.folder is not None
        if record.status == "done":
            job.made, job.status = Made(shown(job.folder), record), DONE
        else:
            job.fail(FAILED, record.error or f"was {record.status}")


def _standing(record: Record, place: Path, state: str) -> Standing:
    """How a job stands, by its record and by what Slurm says of its element."""
    if record.status == "running":
        return read(place)
    word, _, reason = state.partition(" ")
    if word == "PENDING":
        return Standing(False, reason.strip("()").replace("None", ""))
    return Standing(False, "" if word else "Slurm has ended its allocation")


def jobs_of_element(folder: Path, number: int) -> list[Path]:
    """The folders of the jobs of one element."""
    found = json.loads((folder / ELEMENTS).read_text(encoding="utf-8"))
    return [Path(place) for place in found[number]]

"""What ranks tell of a job while they work, kept in its record; those of several groups at once, if need be."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from launcher.families.facts import fact_problems
from launcher.families.replaced import pinned
from launcher.leaving import leave_if_asked
from launcher.problems import RunFailed
from launcher.records.hashes import weights
from launcher.records.record import Check, File, Weights, at_commit
from launcher.records.run_dir import RunDir
from launcher.request.request import Request
from launcher.running.first_record import input_hashes
from launcher.running.progress import Progress
from launcher.wire.messages import Message
from launcher.wire.protocol import Alive, Checked, Done, Saved, Source, Stage, Step

T = TypeVar("T")


class Story:
    """Files, checks and weights as ranks tell of them. Groups may tell at once, each from a thread of its own."""

    def __init__(self, request: Request, run_dir: RunDir, groups: int) -> None:
        self.request, self.run_dir, self.groups = request, run_dir, groups
        # The numbers of the pictures that each group makes, in the order in which it does.
        self.numbers = [[number for call in request.share(group, groups) for number in call] for group in range(groups)]
        self._ends = {call[-1] for group in range(groups) for call in request.share(group, groups)}
        self.files: dict[int, File] = {}
        self._checks: dict[tuple[int, int], Check] = {}
        self._lock = threading.Lock()

    def known(self, found: Weights | None) -> None:
        """Note the hashes of weights that were here before the start."""
        with self._lock:
            if found is not None and self.run_dir.record.weights is None:
                self.run_dir.write(weights=found)

    def hear(self, group: int, rank: int, message: Message, progress: Progress) -> None:
        """Note what a rank of a group says, and show how that group gets on.

        Raises:
            RunFailed: it makes the run worthless.
            Interrupted: the run was asked to end after this picture, and the group would make more.
        """
        if isinstance(message, (Saved, Checked)) or (rank == 0 and isinstance(message, Source)):
            with self._lock:
                self._note(group, rank, message)
        elif isinstance(message, Stage) and message.name.startswith("fetching"):
            progress.at(message.name)
        elif rank != 0:
            return
        elif isinstance(message, Stage):
            progress.at(message.name)
        elif isinstance(message, Step):
            progress.step()
        elif isinstance(message, Alive):
            progress.tick()

    def _note(self, group: int, rank: int, message: Message) -> None:
        run_dir = self.run_dir
        if isinstance(message, Saved):
            number = self.numbers[group][message.picture]
            self.files[number] = message.file
            run_dir.note(files=tuple(self.files[number] for number in sorted(self.files)))
            if number in self._ends and number != self.numbers[group][-1]:  # of a call; the others are ready too
                leave_if_asked()
        elif isinstance(message, Checked):
            self._checks[group, rank] = message.check
            if len(self._checks) % self.request.mesh.ranks == 0:
                self._judge()
        elif isinstance(message, Source):
            # Of a repository that was not here before the start, nothing is known until it was fetched.
            if found := list(fact_problems(self.request.config.model, Path(message.folder))):
                raise RunFailed("; ".join(map(str, found)))
            if run_dir.record.weights is None:
                run_dir.write(weights=weights(Path(message.folder)))
            config = at_commit(run_dir.record.config, message.folder)
            if parts := pinned(self.request.config.model):
                model = config["model"]
                assert isinstance(model, dict)
                config = config | {"model": model | parts}
                run_dir.write(inputs=input_hashes(self.request))
            if config != run_dir.record.config:
                run_dir.write(config=config)

    def _judge(self) -> None:
        """Record what the ranks have found, and end the run if they are not close to one rank."""
        worst = max(self._checks.values(), key=lambda check: (not check.close, check.relative, check.batch or 0.0))
        self.run_dir.write(check=worst)
        if worst.close:
            return
        where = (
            "in the first step" if worst.part == "step" else "in one block of each kind, as all do not fit on a rank"
        )
        what = f"cp={self.request.mode} is off by {worst.relative:.1e} of what one rank predicts {where}"
        if worst.relative <= worst.bound and worst.batch is not None:
            what = f"batch={self.request.config.batch} is off by {worst.batch:.1e} of what one picture alone predicts"
        limit = f"the bound in {worst.dtype} is {worst.bound:.0e}"
        sharper = "" if worst.dtype == "float32" else "; runtime.dtype=float32 tells rounding from a mistake"
        raise RunFailed(
            f"check=true: {what}, and {limit}: model.cp_plan or the model's code does not fit this mode; type cp=none "
            f"for pictures that can be trusted{sharper}"
        )


def summed_up(done: Sequence[Sequence[Done]]) -> dict[str, Any]:
    """What the ranks of all groups say at the end, as fields of the record: by rank, and of each picture in order.

    Raises:
        RunFailed: ranks of a group disagree.
    """
    for said in done:
        if different := [rank for rank, told in enumerate(said) if told.digests != said[0].digests]:
            raise RunFailed(f"ranks {different} ended with other latents than rank 0: the pictures can't be trusted")
    firsts, everyone = [said[0] for said in done], [told for said in done for told in said]
    steps = _dealt([told.step_seconds for told in firsts])
    skipped = _dealt([_together([told.skipped_steps for told in said]) for said in done])
    sent = [told.sent_bytes for told in everyone]
    return {
        "times": {stage: max(told.seconds.get(stage, 0.0) for told in firsts) for stage in firsts[0].seconds},
        "step_seconds": steps,
        "peak_bytes": tuple(told.peak_bytes for told in everyone),
        "peak_host_bytes": tuple(told.peak_host_bytes for told in everyone),
        "sent_bytes": None if None in sent else tuple(sent),
        "loads": max(told.loads for told in firsts),
        "kernel": firsts[0].kernel,
        "scheduler": firsts[0].scheduler,
        "skipped_steps": skipped if any(skipped) else (),
        "held_bytes": tuple(told.held_bytes for told in everyone),
    }


def _dealt(groups: Sequence[tuple[T, ...]]) -> tuple[T, ...]:
    """What groups tell of their pictures, in their order: they were dealt out call by call."""
    return tuple(of for turn in itertools.zip_longest(*groups) for of in turn if of is not None)


def _together(ranks: Sequence[tuple[tuple[int, ...], ...]]) -> tuple[tuple[int, ...], ...]:
    """The steps of each picture that any rank has skipped in part: the branches of guidance may differ in them."""
    return tuple(tuple(sorted({step for steps in same for step in steps})) for same in zip(*ranks, strict=True))

"""Ranks that serve one tiny model after another: starting them is what takes time."""

from __future__ import annotations

import dataclasses
import itertools
import os
from pathlib import Path

import numpy as np
import pytest
from shared import validated

from launcher.records.picture import read_frames
from launcher.records.run_dir import RunDir
from launcher.request.request import Request
from launcher.running.group import RankGroup
from launcher.running.job import Crew, Made, execute
from launcher.running.message import group_key, job_message
from launcher.running.ranks import GroupKey
from launcher.running.starters import accelerate as ranks

COMMAND = ranks.command


class Warm:
    """Ranks of forgiving.py, which serve any model and stay when they are asked for what they cannot do.

    Args:
        worker: another such module of that folder.
    """

    def __init__(self, folder: Path, worker: str = "forgiving") -> None:
        self.folder, self.worker, self.count = folder, worker, itertools.count()
        self.group: RankGroup | None = None

    def ranks(self, key: GroupKey, run_dir: RunDir) -> RankGroup:
        if self.group is None or not self.group.alive:
            here = [str(Path(__file__).parent / "distributed"), os.environ.get("PYTHONPATH", "")]
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(ranks, "command", lambda *given: [*COMMAND(*given)[:-1], self.worker])
                patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, here)))
                self.group = RankGroup(key, run_dir)
        return self.group

    def make(self, request: Request) -> Made:
        """What a request leaves."""
        made = execute([Crew(request, self.ranks)], RunDir(self.folder / str(next(self.count))), [])
        validated(made.folder)
        return made

    def run(self, request: Request) -> list[np.ndarray]:
        """Each picture's frames (frames, height, width, 3)."""
        made = self.make(request)
        logs = sorted(made.folder.rglob("*.log"))
        assert made.record.files, logs[-1].read_text()[-2000:] if logs else made.record.status
        shown = [read_frames(made.folder / facts.file, made.record.frames.fps) for facts in made.record.files]
        return [np.stack([np.asarray(frame) for frame in frames]).astype(int) for frames in shown]

    def force(self, asked: Request) -> list[str | None]:
        """What the ranks answer to a request that no rule was asked about: each rank's error, or None."""
        run_dir = RunDir(self.folder / str(next(self.count)))
        run_dir.logs.mkdir(parents=True)
        message = job_message(asked, run_dir)
        group = self.ranks(group_key(asked), run_dir)
        # A rank that fails before the others do, for want of a number of threads, would come too late to the next job.
        message = dataclasses.replace(message, threads=message.threads[:1] * group.key.processes)
        done = group.run(message, run_dir, 300, lambda *_: None)
        return [answer.digests[0] if answer.loads < 0 else None for answer in done]

    def close(self) -> None:
        if self.group is not None:
            self.group.close()

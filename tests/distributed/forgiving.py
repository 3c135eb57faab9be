"""A rank that stays when a job fails or asks for another model, where the launcher's own ends: starting is slow.

It answers an error as `Done` with loads = -1 and the error's words in place of digests.
"""

import sys
import traceback
from typing import Any

import torch.distributed as dist

from launcher.wire.jobs import Job, Load
from launcher.wire.protocol import Done
from launcher.worker import __main__ as worker
from launcher.worker import jobs
from launcher.worker.embeddings import Embeddings

do, init = jobs.Worker.do, dist.init_process_group
loaded: list[Load] = []


def forgiving(self: jobs.Worker, job: Job) -> Done:
    """Errors are answered, not raised."""
    if loaded != [job.load]:
        self.pipe, self.embeddings = (
            None,
            Embeddings(self.rank, self.world_size),
        )  # the other model's, of the same prompt
    loaded[:] = [job.load]
    stand_in(job.load.pipeline)
    try:
        return do(self, job)
    except Exception as error:
        traceback.print_exc()
        return Done({}, 0, (worker.describe(error),), -1)


class Unguarded:
    """Stands for the safety checker of NVIDIA's Cosmos: a package whose gated weights no test has. All is allowed."""

    def to(self, _: object) -> None:
        """It has no weights."""

    def check_text_safety(self, _: str) -> bool:
        return True

    def check_video_safety(self, video: Any) -> Any:
        return video


def stand_in(pipeline: str) -> None:
    """Let a pipeline of Cosmos start without its checker's package."""
    if pipeline.startswith("Cosmos"):
        import diffusers

        module = sys.modules[getattr(diffusers, pipeline).__module__]
        module.CosmosSafetyChecker = Unguarded  # type: ignore[attr-defined]


def once(*args: Any, **settings: Any) -> None:
    if not dist.is_initialized():
        init(*args, **settings)


jobs.Worker.do = forgiving  # type: ignore[method-assign]
dist.init_process_group = once
if __name__ == "__main__":
    worker.main()

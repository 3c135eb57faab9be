"""A rank that stays when a job fails or asks for another model, where the launcher's own ends: starting is slow."""

import traceback
from typing import Any

import torch.distributed as dist

from launcher.worker import __main__ as worker
from launcher.worker import jobs

do, init = jobs.Worker.do, dist.init_process_group


def forgiving(self: jobs.Worker, job: dict[str, Any]) -> dict[str, Any]:
    """Errors are answered, not raised."""
    if getattr(self, "loaded", None) != job["load"]:
        self.pipe = None
    self.loaded = job["load"]  # type: ignore[attr-defined]
    try:
        return do(self, job)
    except Exception as error:
        traceback.print_exc()
        return {"seconds": {}, "error": worker.describe(error)}


def once(*args: Any, **settings: Any) -> None:
    if not dist.is_initialized():
        init(*args, **settings)


jobs.Worker.do = forgiving  # type: ignore[method-assign]
dist.init_process_group = once
if __name__ == "__main__":
    worker.main()

"""A rank that does jobs unchecked: one that fails is answered with its error, and the rank goes on."""

import traceback
from typing import Any

from launcher.worker import __main__ as worker
from launcher.worker import jobs

do = jobs.Worker.do


def forgiving(self: jobs.Worker, job: dict[str, Any]) -> dict[str, Any]:
    try:
        return do(self, job)
    except Exception as error:
        traceback.print_exc()
        return {"seconds": {}, "error": worker.describe(error)}


jobs.Worker.do = forgiving  # type: ignore[method-assign]
if __name__ == "__main__":
    worker.main()

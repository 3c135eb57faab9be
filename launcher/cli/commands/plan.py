"""`python -m launcher plan ...` takes what a run takes, starts nothing, and tells what would happen."""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from launcher import machines
from launcher.cli.help import page as help_page
from launcher.cli.parser import Parser
from launcher.cli.terminal import complain, show
from launcher.config.compose import Composer
from launcher.problems import Problem, Refused
from launcher.slurm import JOB

if TYPE_CHECKING:
    from launcher.request.request import Request

ABOUT = "tell what a run would do, with every cp mode beside it, and why not"


def main(words: list[str]) -> int:
    """Plan one configuration: 1 if a run of it would be refused."""
    parser = Parser()
    parser.add_argument("--json", action="store_true", help="the plan as data")
    for word in words:
        if word in ("-m", "--multirun", "-c", "--cfg", "-i", "--info"):
            raise Refused([Problem(word, "plan takes one configuration, not a sweep or a question", "leave it out")])
    args = parser.read(words)
    composer = Composer(args.config_dir)
    if args.help:
        show(help_page(composer, args.overrides, "plan", parser))
        return 0
    try:
        request = _asked(composer, args.overrides)
    except Refused as refused:  # too wrong to be planned
        if args.json:
            show(json.dumps({"legal": False, "problems": [vars(problem) for problem in refused.problems]}, indent=2))
            return 1
        raise
    from launcher.cli.plan_page import page  # these take a third of a plan's imports
    from launcher.estimates.plan import plan
    from launcher.running.starters.accelerate import Machines, command

    planned = plan(request)
    nodes = request.machine.nodes
    machines = Machines(nodes, 0, "FIRST_MACHINE", 0) if nodes > 1 else None
    line = ["python", *command(request.mesh.ranks, Path("FOLDER"), machines)[1:]]
    starts = shlex.join(line) if planned.tokens_per_rank else ""
    job = _job_script(request) if starts else ""
    if args.json:
        show(json.dumps({**planned.asdict(), "command": starts, "job_script": job or None}, indent=2))
    else:
        show(page(planned, request, starts) + (f"\n\nthe job script:\n\n{job}" if job else ""))
        if planned.problems:
            complain(Refused(planned.problems))
    return 0 if planned.legal else 1


def _asked(composer: Composer, words: list[str]) -> Request:
    composer.check_words(words, sweep=False)
    from launcher.running.checked import resolved  # for which a refused word does not wait

    return resolved(composer, words, machines.here())[1]


def _job_script(request: Request) -> str:
    """What a run would hand to Slurm; "" if it would hand it nothing."""
    if request.config.cluster.name != "slurm" or JOB in os.environ:
        return ""
    from launcher.running.submission import PACKAGE, script

    if importlib.util.find_spec(PACKAGE) is None:  # planned for another machine, whose Slurm is elsewhere too
        return ""
    return script(request, Path(request.folder or "FOLDER"))

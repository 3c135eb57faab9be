"""`python -m launcher.cli.job FOLDER [ELEMENT]`: what a job script starts, on the first node of its job."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from launcher.cli.main import told
from launcher.cli.terminal import Terminal, complain
from launcher.config.compose import Composer
from launcher.problems import LauncherError
from launcher.running.array import jobs_of_element
from launcher.running.session import Session
from launcher.running.submission import read
from launcher.slurm import SUBMITTED


def main() -> int:
    """Run what was submitted."""
    folder = Path(sys.argv[1])
    os.environ[SUBMITTED] = "1"

    places = [folder] if len(sys.argv) == 2 else jobs_of_element(folder, int(sys.argv[2]))

    def run() -> int:
        failed = 0
        with Session(Composer(*read(places[0]).options[1:]), Terminal()) as session:
            for place in places:
                try:
                    session.run_submitted(read(place), place)
                except LauncherError as error:
                    complain(error)
                    failed = 1
        return failed

    return told(run)


if __name__ == "__main__":
    sys.exit(main())

"""`python -m launcher.cli.job FOLDER`: what a job script starts, on the first node of its job."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from launcher.cli.main import told
from launcher.cli.terminal import Terminal
from launcher.config.compose import Composer
from launcher.running.session import Session
from launcher.running.submission import read
from launcher.slurm import SUBMITTED


def main() -> int:
    """Run what was submitted."""
    folder = Path(sys.argv[1])
    os.environ[SUBMITTED] = "1"

    def run() -> int:
        given = read(folder)
        with Session(Composer(*given.options[1:]), Terminal()) as session:
            session.run_submitted(given, folder)
            return 0

    return told(run)


if __name__ == "__main__":
    sys.exit(main())

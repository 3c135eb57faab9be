"""The entry: `python -m launcher`, and the console script `launcher`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit with its code."""
    from launcher.cli.main import main as run

    sys.exit(run())


if __name__ == "__main__":
    main()

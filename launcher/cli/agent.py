"""`python -m launcher.cli.agent ADDRESS PORT COUNT TIMEOUT`: what srun starts on each further node of an allocation.

The launcher on the first node gives the words, and the secret by the environment.
"""

from __future__ import annotations

import os
import sys

from launcher.cli.main import told
from launcher.nodes import Node
from launcher.running.agent import serve
from launcher.wire.proof import VARIABLE as CLUSTER_SECRET_VARIABLE


def main() -> int:
    """Serve the first machine until it lets this one end."""
    address, port, count, timeout = sys.argv[1:]
    number = 1 + int(os.environ["SLURM_PROCID"])
    node = Node(number, int(count), address, int(port), os.environ[CLUSTER_SECRET_VARIABLE])
    return told(lambda: serve(node, float(timeout)))


if __name__ == "__main__":
    sys.exit(main())

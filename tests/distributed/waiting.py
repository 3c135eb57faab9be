"""A rank as in forgiving.py whose weights, with an offload, wait as on a GPU: see poisoned.py."""

import sys
from pathlib import Path

import forgiving

sys.path.insert(0, str(Path(__file__).parent.parent))

from poisoned import poisoned

if __name__ == "__main__":
    with poisoned(streams=True):
        forgiving.worker.main()

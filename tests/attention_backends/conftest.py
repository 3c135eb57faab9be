import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# The ranks, processes of their own, import these helpers too.
sys.path.insert(0, str(Path(__file__).parent / "helpers"))

from ranks import Ranks


@pytest.fixture(scope="session")
def ranks() -> Iterator[Ranks]:
    pool = Ranks()
    yield pool
    pool.stop()

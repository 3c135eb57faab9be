"""Every record that a real run leaves is held against the JSON Schema that is shipped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from shared import validated


@pytest.fixture(autouse=True)
def records_fit_the_schema(tmp_path: Path) -> Iterator[None]:
    """Look at all runs below the test's own folder once it has passed."""
    yield
    validated(tmp_path)

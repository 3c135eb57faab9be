"""This release has one number, in one place."""

import importlib
import re
import sys

from launcher import version


def test_it_is_a_version_and_reading_it_imports_nothing_else():
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+|rc\d+)?", version.__version__)
    before = set(sys.modules)
    importlib.reload(version)
    assert set(sys.modules) == before

"""Whatever is in a file, on the wire or on the command line, a reader reads it or tells in words what is wrong.

    READERS_EXAMPLES=3000 python -m pytest tests/launcher/test_readers.py --hypothesis-seed=1

tries 3000 contents for each reader in place of a sample. fuzz.py does the same by atheris.
"""

from __future__ import annotations

import os
from random import Random

import huggingface_hub.constants
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.launcher.odd import mutated
from tests.launcher.readers import READERS

EXAMPLES = int(os.environ.get("READERS_EXAMPLES", "25"))


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_whatever_it_is_given_a_reader_reads_or_tells(name, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)  # no name is asked for anywhere
    monkeypatch.chdir(tmp_path)
    reader = READERS[name]
    seeds = st.sampled_from(reader.seeds())
    changed = st.builds(lambda seed, number: mutated(seed, Random(number)), seeds, st.integers(0, 1 << 32))

    @settings(max_examples=EXAMPLES // (4 if name.endswith("/x.yaml") else 1), suppress_health_check=list(HealthCheck))
    @given(content=changed | changed | changed | st.binary(max_size=200))
    def check(content: bytes) -> None:
        reader.read(tmp_path, content)

    check()


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_what_is_well_formed_is_read(name, tmp_path):
    """Else every change to it would end at the same first look."""
    reader = READERS[name]
    reader.feed(tmp_path, reader.seeds()[0])

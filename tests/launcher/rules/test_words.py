"""Settings that are one of a few words."""

import pytest
from refusals import REFUSALS


@pytest.mark.parametrize(("line", "said", "machine"), REFUSALS["words"])
def test_it_is_refused(refuse, line, said, machine):
    refuse(line, said, machine)

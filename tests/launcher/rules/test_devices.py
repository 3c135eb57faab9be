"""The machine, its GPUs and its cores."""

import pytest
from refusals import REFUSALS


@pytest.mark.parametrize(("line", "said", "machine"), REFUSALS["devices"])
def test_it_is_refused(refuse, line, said, machine):
    refuse(line, said, machine)

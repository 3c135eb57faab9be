"""The kernel that a rank computes with."""

import pytest
from refusals import REFUSALS


@pytest.mark.parametrize(("line", "said", "machine"), REFUSALS["kernels"])
def test_it_is_refused(refuse, line, said, machine):
    refuse(line, said, machine)

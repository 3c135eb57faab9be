"""How much each rank takes."""

import pytest
from refusals import REFUSALS


@pytest.mark.parametrize(("line", "said", "machine"), REFUSALS["shares"])
def test_it_is_refused(refuse, line, said, machine):
    refuse(line, said, machine)

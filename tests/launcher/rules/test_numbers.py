"""Every number has a least and a most."""

import pytest
from refusals import REFUSALS


@pytest.mark.parametrize(("line", "said", "machine"), REFUSALS["numbers"])
def test_it_is_refused(refuse, line, said, machine):
    refuse(line, said, machine)

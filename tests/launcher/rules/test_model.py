"""A model's own nature."""

import pytest
from refusals import REFUSALS


@pytest.mark.parametrize(("line", "said", "machine"), [*REFUSALS["model"], *REFUSALS["inputs"]])
def test_it_is_refused(refuse, line, said, machine):
    refuse(line, said, machine)

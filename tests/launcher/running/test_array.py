"""How a sweep's jobs are dealt to the elements of an array; tests/distributed/test_slurm.py runs some."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.running.array import elements


def test_jobs_with_the_same_weights_share_an_element():
    kinds = {0: "a", 1: "b", 2: "a", 3: "a", 4: "b"}
    assert elements(kinds, 1) == [[0, 2, 3], [1, 4]]
    assert sorted(elements(kinds, 3)) == [[0, 2], [1, 4], [3]]
    assert sorted(elements(kinds, 9)) == [[0], [1], [2], [3], [4]]


@settings(max_examples=25)
@given(st.dictionaries(st.integers(0, 50), st.sampled_from("abc"), min_size=1), st.integers(1, 60))
def test_each_job_is_in_one_element_with_its_own_kind(kinds, at_once):
    found = elements(kinds, at_once)
    assert sorted(number for part in found for number in part) == sorted(kinds)
    assert all(len({kinds[number] for number in part}) == 1 for part in found)
    assert len(found) == max(len(set(kinds.values())), min(at_once, len(kinds)))

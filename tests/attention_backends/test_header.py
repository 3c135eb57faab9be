"""A header is read as it was written, has the same size on every rank, and what differs is named."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attention_backends.header import FACTS, STREAMS, Header, bits, disagreement

counts = st.integers(0, 1 << 40)
facts = st.tuples(*[counts] * len(FACTS))


@given(queries=counts, keys=counts, facts=facts, streams=st.lists(counts, max_size=STREAMS + 3))
def test_a_header_survives_the_wire(queries, keys, facts, streams):
    numbers = Header(queries, keys, facts, tuple(streams)).encode()
    assert len(numbers) == len(Header(0, 0).encode())
    read = Header.decode(numbers)
    assert replace(read, streams=()) == Header(queries, keys, facts)
    if len(streams) <= STREAMS:
        assert read.streams == tuple(streams)


BASE = Header(3, 3, (1, 4, 4, 16, 16, 0, 0, 0, 0, 0), (6, 9))


@pytest.mark.parametrize(
    ("place", "value", "told"),
    [
        (0, 2, "rank 0 has batch 1, rank 1 batch 2"),
        (1, 2, "rank 0 has heads 4, rank 1 heads 2"),
        (5, 2, "rank 0 has dtype float64, rank 1 dtype bfloat16"),
        (6, 1, "rank 0 has no attention mask, rank 1 an attention mask"),
        (7, 1, "rank 0 has no causal attention, rank 1 causal attention"),
        (8, bits(-0.25), "rank 0 has timestep 0, rank 1 timestep -0.25"),
    ],
)
def test_a_fact_that_differs_is_named(place, value, told):
    other = list(BASE.facts)
    other[place] = value
    assert disagreement([BASE, replace(BASE, facts=tuple(other))]) == told


def test_lengths_that_differ_are_named():
    assert disagreement([BASE, replace(BASE, queries=2), BASE]) == ""
    assert disagreement([BASE, BASE, replace(BASE, streams=(6, 8))]) == (
        "rank 0 was given [6, 9] tokens, rank 2 [6, 8]"
    )
    many = replace(BASE, streams=(1,) * STREAMS)
    assert disagreement([Header.decode(header.encode()) for header in (many, replace(many, streams=(1,) * 20))])


def test_the_inputs_are_compared_last():
    apart = replace(BASE, facts=(*BASE.facts[:-1], 7))
    assert disagreement([BASE, apart]) == "the shapes of what rank 0 was given differ from those of rank 1"
    assert disagreement([BASE, replace(apart, streams=(6, 8))]) == "rank 0 was given [6, 9] tokens, rank 1 [6, 8]"

"""A header is read as it was written, and has the same size on every rank."""

from hypothesis import given
from hypothesis import strategies as st

from attention_backends.header import STREAMS, Header

counts = st.integers(0, 1 << 40)


@given(queries=counts, keys=counts, streams=st.lists(counts, max_size=STREAMS + 3))
def test_a_header_survives_the_wire(queries, keys, streams):
    written = Header(queries, keys, tuple(streams))
    numbers = written.encode()
    assert len(numbers) == len(Header(0, 0, ()).encode())
    read = Header.decode(numbers)
    assert (read.queries, read.keys, read.streams) == (queries, keys, tuple(streams[:STREAMS]))
    assert numbers[2] == len(streams)  # one too many for the header is still seen to differ

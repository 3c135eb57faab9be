"""How tiles are dealt."""

from __future__ import annotations

from launcher.worker.decoding import owners_of


def test_tiles_are_dealt_by_their_sizes_and_rank_0_has_least():
    sizes = [4, 4, 2, 4, 4, 2, 2, 2, 1]  # 1024 x 1024 in tiles of 512 that overlap by a quarter
    owners = owners_of(sizes, 2)
    loads = [sum(size for size, owner in zip(sizes, owners, strict=True) if owner == rank) for rank in (0, 1)]
    assert loads == [12, 13]
    assert owners_of([3, 3, 3], 4) == [3, 2, 1]

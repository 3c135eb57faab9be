"""Whether an attention that a plan keeps local sees all that it should.

Keys that every rank holds whole (a text that is not split) need no other rank. Keys that are a rank's own part of what
is split do, and each rank would attend to too few without a word. Lengths tell most of it, and where a whole text
happens to be as long as a part, numbers do: the same ones on all ranks are whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch

from attention_backends.deferred import now
from attention_backends.header import bits, number
from attention_backends.layout import joined

SAMPLED = 4  # numbers of a token's key, and of its value
ALIKE = 0.05  # of the largest of them: what ranks compute from the same differs by rounding alone


@dataclass
class KeptLocal:
    """The attentions of one model that stay on a rank, looked at once for each set of lengths.

    Args:
        paths: all of them, in the same order on every rank.
    """

    paths: list[str] = field(default_factory=list)
    seen: dict[str, list[float]] = field(default_factory=dict)  # of this forward's: numbers of keys that may be a part
    sure: set[tuple[int, ...]] = field(default_factory=set)  # streams' lengths that were looked at

    def note(self, path: str, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, own: Iterable[int]) -> None:
        """Keep some numbers of a local attention that may be over a part.

        Args:
            query, key, value: (batch, heads, tokens, channels).
            own: the tokens that this rank holds of whatever streams may be joined.
        """
        tokens = key.shape[2]
        if path in self.seen or query.shape[2] != tokens or not tokens or tokens not in own:
            return
        sample = torch.cat([now(x)[0, 0, 0, :SAMPLED] for x in (key, value)]).detach().double().cpu()
        self.seen[path] = [float(query.shape[0]), *sample.tolist()]

    def told(self) -> list[int]:
        """As many integers on every rank: for each attention whether there are numbers, and these."""
        found: list[int] = []
        for path in self.paths:
            numbers = self.seen.get(path, [])
            found += [len(numbers), *map(bits, numbers), *[0] * (1 + 2 * SAMPLED - len(numbers))]
        return found

    def wrong(self, everyone: Sequence[Sequence[int]]) -> str:
        """The path of an attention whose keys are another part on each rank; "" if there is none."""
        width = 2 + 2 * SAMPLED
        for place, path in enumerate(self.paths):
            parts = [told[place * width : (place + 1) * width] for told in everyone]
            if not all(part[0] for part in parts):
                continue
            first, *others = ([number(value) for value in part[1 : 1 + part[0]]] for part in parts)
            bound = ALIKE * max(map(abs, first[1:]))
            if all(other[0] == first[0] for other in others) and any(
                not abs(one - two) <= bound for other in others for one, two in zip(first[1:], other[1:], strict=False)
            ):
                return path
        return ""


def own_parts(totals: tuple[int, ...], world: int, rank: int, shares: tuple[int, ...]) -> set[int]:
    """Tokens that a rank holds of every choice of streams that an attention may join."""
    return {lengths[rank] for lengths in joined(totals, world, shares)}

"""A Ulysses row's trade in messages of its own for each tensor, so that each leaves as soon as it is computed.

Values, queries and keys are sent in this order, each while the projection of the next one runs, and the output while
what follows runs that does not need it. Keys and the output go in groups of heads: one group travels while another is
attended to. The numbers that move are those of one message for all; a head's result does not depend on its group.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from attention_backends import ulysses
from attention_backends.deferred import Deferred, now
from attention_backends.layout import Layout, split_heads
from attention_backends.topology import Topology
from attention_backends.ulysses import Back, HeadsToTokens, Ranges, TokensToHeads, Trade


@dataclass(frozen=True, eq=False)
class Trades:
    """What one attention trades.

    Args:
        queries, keys: tokens of every rank. q_heads, k_heads: the heads of each member of the row.
        count: query heads of all members together. groups: that keys and the output are traded in.
    """

    queries: Layout
    keys: Layout
    topology: Topology
    q_heads: Ranges
    k_heads: Ranges
    count: int
    groups: int = 1

    def group(self, number: int, heads: Ranges) -> Ranges:
        """The heads of each member in this group."""
        found = []
        for begin, end in heads:
            first, last = split_heads(end - begin, self.groups)[number]
            found.append((begin + first, begin + last))
        return tuple(found)

    @property
    def own(self) -> list[slice]:
        """The heads of each group among those that this rank attends to."""
        begin, end = self.q_heads[self.topology.ulysses_index]
        return [slice(*part) for part in split_heads(end - begin, self.groups)]

    def inward(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
    ) -> tuple[torch.Tensor, list[torch.Tensor], torch.Tensor]:
        """Send (B, S_local, H, D) each; one that is put off is computed here, after the one before it has left.

        Returns:
            Queries, the keys of each group, and values, (B, S_row, H_mine, D) each, which wait where they are needed.
        """
        kv_count = max(end for _, end in self.k_heads)
        values = self._send(now(value), self.k_heads, self.keys, kv_count)
        asked = self._send(now(query), self.q_heads, self.queries, self.count)
        key = now(key)
        each = [self._send(key, self.group(i, self.k_heads), self.keys, kv_count) for i in range(self.groups)]
        return asked, each, values

    def _send(self, x: torch.Tensor, heads: Ranges, layout: Layout, count: int) -> torch.Tensor:
        trade = Trade((heads,), (layout,), self.topology, (count,))
        if torch.is_grad_enabled():
            (arrived,) = TokensToHeads.apply(trade, x)  # type: ignore[no-untyped-call]
            return arrived  # type: ignore[no-any-return]
        finish = ulysses.start(trade, [x])
        begin, end = heads[self.topology.ulysses_index]
        tokens = sum(layout.lengths[peer] for peer in self.topology.row)
        return Deferred(lambda: finish()[0], (x.shape[0], tokens, end - begin, x.shape[3]), x)

    def outward(self, attend: Callable[[int], torch.Tensor]) -> Callable[[], torch.Tensor]:
        """Attend to one group of heads after the other, and send each output, (B, S_row, h, D), as it is ready.

        Returns:
            What waits for the others' and gives (B, S_local, H, D).
        """
        trades = [
            Trade((self.group(i, self.q_heads),), (self.queries,), self.topology, (self.count,))
            for i in range(self.groups)
        ]
        if torch.is_grad_enabled():
            parts = [HeadsToTokens.apply(trade, attend(i))[0] for i, trade in enumerate(trades)]  # type: ignore[no-untyped-call]
            return lambda: sum(parts[1:], start=parts[0])  # where one has heads, the others have zeros
        sent = [Back(trade, [attend(i)]) for i, trade in enumerate(trades)]

        def joined() -> torch.Tensor:
            whole = sent[0].empty(0)
            for group in sent:
                group.put(0, whole)
            return whole

        return joined

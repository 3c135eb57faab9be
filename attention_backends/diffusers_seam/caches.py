"""diffusers' FirstBlockCache on an enabled model: all ranks decide together whether the rest of the blocks is skipped.

The cache compares what the first block adds to the hidden states with what it added when all blocks last ran, and skips
them if the mean change is below a threshold. Each rank holds a part of the tokens: a rank whose part did not change
would skip alone, and the others would wait for it in the next attention. So the sums that the two means are made of
are added up over all ranks, in rank order, and every rank compares the same two numbers.
"""

import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch

from attention_backends import exchange
from attention_backends.diffusers_seam.undo import Undo, set_attribute
from attention_backends.header import bits, number
from attention_backends.state import ContextParallel
from attention_backends.wire import guarded

LEADER = "fbc_leader_block_hook"  # the hook on the first block, which decides
DECIDES = "_should_compute_remaining_blocks"  # its method
# Hooks of caches on blocks, which compare what goes into them with what comes out.
ON_BLOCKS = (LEADER, "fbc_block_hook", "mag_cache_leader_block_hook", "mag_cache_block_hook")


def leaders(model: torch.nn.Module) -> Iterator[Any]:
    """The hooks of a FirstBlockCache that decide for the blocks behind theirs."""
    for blocks in model.children():
        for block in blocks if isinstance(blocks, torch.nn.ModuleList) else ():
            hooks = getattr(getattr(block, "_diffusers_hook", None), "hooks", {})
            if LEADER in hooks:
                yield hooks[LEADER]


def inside(module: torch.nn.Module, name: str) -> bool:
    """Whether the hook of this name runs inside a cache's on the same module.

    One that splits what goes in, or gathers what comes out, has to run around it: the last one registered does.
    """
    order = getattr(getattr(module, "_diffusers_hook", None), "_hook_order", [])
    return name in order and any(other in ON_BLOCKS for other in order[order.index(name) + 1 :])


def agree(model: torch.nn.Module, state: ContextParallel) -> list[Undo]:
    """Have the model's FirstBlockCache, if it has one, decide for all ranks; returns what undoes it."""
    return [
        set_attribute(hook, DECIDES, torch.compiler.disable(partial(_together, state, hook)))
        for hook in leaders(model)
        if DECIDES not in vars(hook)
    ]


def agreed(model: torch.nn.Module) -> bool:
    """Whether no FirstBlockCache of the model decides for its rank alone."""
    return all(DECIDES in vars(hook) for hook in leaders(model))


def _together(state: ContextParallel, hook: Any, added: torch.Tensor) -> bool:
    """Whether the remaining blocks are computed.

    Args:
        added: what the first block added to the hidden states that this rank holds.
    """
    before = hook.state_manager.get_state().head_block_residual
    sums = (math.inf, 0.0)  # nothing to compare with, perhaps here alone: a forward failed before, or a state was reset
    if before is not None:
        sums = _sum(added - before), _sum(before)
    mine = [bits(one) for one in sums]
    state.move_on("the decision of FirstBlockCache")
    told = guarded(state.wire, lambda: exchange.exchange_lengths(mine, state.topology.group, added.device))
    changed, held = (sum(number(rank[which]) for rank in told) for which in (0, 1))
    return bool(changed > hook.threshold * held)


def _sum(x: torch.Tensor) -> float:
    return float(x.abs().sum(dtype=torch.float64).item())

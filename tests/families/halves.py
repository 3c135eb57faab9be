"""What ranks run to show that two halves of them compute guidance as one rank does."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist

sys.path.insert(0, str(Path(__file__).parent))

from exact import model_of
from inputs import Size
from miniatures import TINY, output

from attention_backends import exchange
from launcher.wire.jobs import Sharing
from launcher.worker.guidance import Branches
from launcher.worker.sharing import Groups, shared

BATCH = ["ltx", "ltx2", "sd3", "cogvideox", "zimage"]  # both branches in one call; of the others two calls
EVEN = ("ring", "ulysses", "unified")


def size_of(mode: str) -> Size:
    return Size(2, 4, 4, 8) if mode in EVEN else Size(2, 3, 5, 7)


def guided(model: Any, name: str, mode: str) -> list[torch.Tensor]:
    """Two steps of guidance as pipelines make them."""
    size = size_of(mode)
    found = []
    for _ in range(2):
        if name in BATCH:
            given = TINY[name].given(Size(size.frames, size.height, size.width, size.text, batch=2))
            found.append(output(model(**given)))
            continue
        first, second = (TINY[name].given(size) for _ in range(2))
        second = {key: value * 0.5 if key == "encoder_hidden_states" else value for key, value in second.items()}
        positive = model(**first)  # not read until the second call is over
        negative = model(**second)
        found.append(output(negative) + 3 * (output(positive) - output(negative)))
    return found


def halves(
    _: dist.ProcessGroup, name: str, plan: dict[str, Any] | None, mode: str, ring: int, ulysses: int
) -> tuple[float, int, int]:
    """The error, forwards of a block, and bytes that this rank sent for guidance in each step."""
    model = model_of(name)
    blocks = next(each for each in model.children() if isinstance(each, torch.nn.ModuleList) and len(each))
    while isinstance(blocks[0], torch.nn.ModuleList):
        blocks = blocks[0]
    computed: list[int] = []
    sent: list[int] = []
    trade = Branches._trade

    def counted(self: Branches, mine: Any, others: Any) -> None:
        before = exchange.counters().bytes
        trade(self, mine, others)
        sent.append(exchange.counters().bytes - before)

    with torch.no_grad():
        alone = guided(model, name, mode)
        hook = blocks[0].register_forward_pre_hook(lambda *_: computed.append(1))
        sharing = Sharing(mode, ring, ulysses, "gather", "auto", plan, cfg_degree=2)
        sharing = Sharing(**{**vars(sharing), "branches": "batch" if name in BATCH else "calls"})
        Branches._trade = counted  # type: ignore[method-assign]
        try:
            with shared(SimpleNamespace(transformer=model), sharing, Groups()):
                together = guided(model, name, mode)
        finally:
            Branches._trade = trade  # type: ignore[method-assign]
            hook.remove()
    assert "forward" not in vars(model) or mode != "none"
    worst = max(((a - b).abs().max() / b.abs().max()).item() for a, b in zip(together, alone, strict=True))
    return worst, len(computed), max(sent)


def early(_: dist.ProcessGroup, name: str) -> bool:
    """Whether a result that is read before the second call is seen on the half that has not computed it."""
    model = model_of(name)
    sharing = Sharing("none", dist.get_world_size() // 2, 1, "gather", "auto", cfg_degree=2)
    with torch.no_grad(), shared(SimpleNamespace(transformer=model), sharing, Groups()):
        given = TINY[name].given(Size(2, 3, 5, 7))
        copied = output(model(**given))
        model(**given)
    return bool(copied.isfinite().all())

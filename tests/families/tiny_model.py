"""What a tiny transformer of one of diffusers' classes is: how it is built, and what its forward is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import diffusers
import torch
from inputs import Size

Inputs = Callable[[dict[str, Any], Size, torch.Generator], dict[str, Any]]


@dataclass(frozen=True)
class Tiny:
    """A class, the configuration of a tiny one, and what its forward is given."""

    kind: str
    inputs: Inputs
    config: dict[str, Any] = field(default_factory=dict)
    video: bool = False

    def build(self, dtype: torch.dtype = torch.float32) -> Any:
        """The model, with weights that make every part of it count: with the usual ones attention hardly shows."""
        torch.manual_seed(0)
        model = getattr(diffusers, self.kind)(**self.config)
        with torch.no_grad():
            for name, parameter in sorted(model.named_parameters()):
                if parameter.ndim > 1:
                    torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
                elif "bias" in name or "pad_token" in name or "scale" in name:
                    torch.nn.init.normal_(parameter, std=0.1)
        return (model if dtype == torch.float32 else model.to(dtype)).eval()

    def given(self, size: Size) -> dict[str, Any]:
        """Arguments of the model's forward, drawn from the size alone."""
        size = size if self.video else replace(size, frames=1)
        generator = torch.Generator().manual_seed(hash((size.tokens, size.text, size.batch)) % 2**31)
        return self.inputs(self.config, size, generator)


def output(result: Any) -> torch.Tensor:
    """All that a forward gives, as one row of numbers."""
    found: list[torch.Tensor] = []

    def walk(item: Any) -> None:
        if isinstance(item, torch.Tensor):
            found.append(item.detach().double().flatten())
        elif isinstance(item, list | tuple):
            for each in item:
                walk(each)

    walk(result)
    return torch.cat(found)

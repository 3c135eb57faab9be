"""Parts of a pipeline whose weights this rank does not hold: they are read if the part is run here after all.

A pipeline asks its text encoders and its VAE for more than to run: for their configuration, dtype and device, for a few
buffers. So each is there, with all of that and with parameters that have no data.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from accelerate import init_empty_weights
from safetensors import safe_open

from launcher.worker.sharded import bytes_held

RUN = ("__call__", "encode", "decode", "generate")  # what runs a part
Fill = Callable[[], torch.nn.Module]
Settle = Callable[[torch.nn.Module], object]


class Absent:
    """Comes before the class of a part until it is filled."""

    _home: torch.device
    _fill: Fill
    _settle: Settle

    @property
    def device(self) -> torch.device:
        """Where it would be."""
        return self._home

    def _apply(self, *_: Any, **__: Any) -> Any:
        """What has no data stays where it is."""
        return self


def absent(
    kind: Any, place: Path, dtype: torch.dtype, variant: str | None, fill: Fill, home: torch.device, settle: Settle
) -> Any:
    """Make a part without its weights.

    Args:
        kind: its class, of diffusers or transformers. place: the folder of its configuration.
        variant: of its files, which its buffers are read from. fill: loads the part with its weights, on the CPU.
        home: the device that it would be on. settle: puts it there once it is filled.
    """
    with init_empty_weights(include_buffers=False):
        if issubclass(kind, transformers.PreTrainedModel):
            part = kind._from_config(kind.config_class.from_pretrained(place), dtype=dtype)
        else:
            part = kind.from_config(kind.load_config(place)).to(dtype)
    _read_buffers(part, place, variant)
    part.requires_grad_(False).eval()
    part._home, part._fill, part._settle = home, fill, settle
    running = {name: _filled(name) for name in RUN if hasattr(kind, name)}
    part.__class__ = type(kind.__name__, (Absent, kind), {"__module__": kind.__module__, **running})
    return part


def is_absent(part: object) -> bool:
    """Whether this rank has no weights of a part."""
    return isinstance(part, Absent)


def held(pipe: Any) -> dict[str, int]:
    """Bytes of the weights of each part that this rank holds, memory that two names share counted once."""
    parts = {name: part for name, part in pipe.components.items() if isinstance(part, torch.nn.Module)}
    return {name: 0 if is_absent(part) else bytes_held(part) for name, part in parts.items()}


def _filled(name: str) -> Callable[..., Any]:
    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        _fill_in(self)
        return getattr(type(self), name)(self, *args, **kwargs)

    return run


def _fill_in(part: Any) -> None:
    """Read the weights of a part, which stays the object that a pipeline knows, with what was set on it."""
    whole = part._fill()
    part.__class__ = type(whole)
    part.load_state_dict(whole.state_dict(), assign=True)
    part._settle(part)
    del part._fill, part._home, part._settle


def _read_buffers(part: torch.nn.Module, place: Path, variant: str | None) -> None:
    """Read what a VAE keeps beside its parameters: some pipelines scale latents by it on every rank."""
    known = dict(part.named_buffers())
    for path in sorted(place.glob("diffusion_pytorch_model*.safetensors")) if known else ():
        if (f".{variant}." in path.name) == (variant is not None):
            with safe_open(path, framework="pt") as file:
                for name in known.keys() & set(file.keys()):
                    known[name].copy_(file.get_tensor(name))

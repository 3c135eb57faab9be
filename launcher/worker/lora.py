"""A LoRA on a loaded pipeline, by diffusers and peft: put on, scaled, taken off; the weights below stay as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from launcher.wire.protocol import LoraFile

NAME = "launcher"


class Lora:
    """What one pipeline wears; another file is loaded, another scale only set."""

    def __init__(self, pipe: Any) -> None:
        self.pipe = pipe
        self._file: tuple[str, int] | None = None

    def wear(self, wanted: LoraFile | None) -> None:
        """Have the pipeline wear this LoRA and no other.

        Args:
            wanted: a .safetensors file in any format that diffusers reads; None for no LoRA.

        Raises:
            ValueError: it does not fit the model, or not all of it does.
        """
        file = None if wanted is None else (wanted.path, wanted.changed)
        if file != self._file:
            if self._file is not None:
                self.pipe.unload_lora_weights()
                self._file = None
            if wanted is not None:
                self._load(Path(wanted.path))
                self._file = file
        if wanted is not None:
            self.pipe.set_adapters(NAME, wanted.scale)

    def _load(self, path: Path) -> None:
        source = {"weight_name": path.name, "use_safetensors": True}  # never a pickle
        state = self.pipe.lora_state_dict(str(path.parent), **source)
        try:
            self.pipe.load_lora_weights(str(path.parent), adapter_name=NAME, **source)
        except RuntimeError as error:  # torch's, of many lines
            reason = next((line.strip() for line in str(error).splitlines() if "size mismatch" in line), str(error))
            raise ValueError(f"{path.name} does not fit {type(self.pipe).__name__}: {reason}") from error
        given = sum(".lora_A." in key or ".lora_B." in key for key in state)
        parts = [part for part in self.pipe.components.values() if hasattr(part, "named_parameters")]
        worn = sum(f".{NAME}." in name for part in parts for name, _ in part.named_parameters())
        if worn < given:  # diffusers loads what fits and mentions the rest in a warning
            raise ValueError(f"{given - worn} of the {given} matrices in {path.name} belong to no layer of this model")

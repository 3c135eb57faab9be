"""LoRAs on a loaded pipeline, by diffusers and peft: put on, scaled, taken off; the weights below stay as they are.

diffusers and its converters drop what they do not know, with a line in a log at most. So what the model wears in the
end is compared with the file (lora_worn.py).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from diffusers.loaders import FluxLoraLoaderMixin
from safetensors import safe_open

from launcher import lora_config
from launcher import lora_keys as names
from launcher.lora_config import PEFT_PREFIX
from launcher.wire.jobs import LoraFile
from launcher.worker.absent import is_absent
from launcher.worker.lora_worn import Pair, all_worn, among

ADAPTER = re.compile(r"\.lora_\w+\.")  # in the name of a parameter that an adapter has added
# Kohya's names, which have underscores for dots.
FLAT = {
    "lora_transformer_": "transformer",
    "lora_unet_": "transformer",
    "lycoris_": "transformer",
    "lora_te_": "text_encoder",
    "lora_te1_": "text_encoder",
}
WRAPPERS = re.compile(r"\b(_orig_mod|module)\.")  # what torch.compile and DistributedDataParallel put before names


class Loras:
    """What one pipeline wears, by adapters that stay loaded: only files that are new are read, scales are set.

    Args:
        whole: has all weights be on the parts while its block runs: no offload's hooks, which know modules by name.
    """

    def __init__(self, pipe: Any, whole: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext) -> None:
        self.pipe, self._whole = pipe, whole
        self._adapters: dict[tuple[str, int], str] = {}  # of each file that is loaded, by its path and time of change
        self._count = 0

    def wear(self, wanted: tuple[LoraFile, ...]) -> None:
        """Have the pipeline wear these LoRAs, added in this order, and no other.

        Args:
            wanted: .safetensors files in any format that diffusers reads, each once.

        Raises:
            ValueError: one does not fit the model, or not all of it does.
        """
        files = {(one.path, one.changed): one.scale for one in wanted}
        with self._whole() if files.keys() != self._adapters.keys() else contextlib.nullcontext():
            self._change(files)
        there = {name for names in self.pipe.get_list_adapters().values() for name in names} if files else set()
        worn = {name: scale for file, scale in files.items() if (name := self._adapters[file]) in there}
        if worn:  # one of text encoders alone is worn where those are
            self.pipe.set_adapters(list(worn), list(worn.values()))

    def _change(self, files: Collection[tuple[str, int]]) -> None:
        """Take off what is not among these files, and read what is new."""
        if not files and self._adapters:
            self.pipe.unload_lora_weights()
            self._adapters = {}
        for gone in [file for file in self._adapters if file not in files]:
            name = self._adapters.pop(gone)
            if any(name in names for names in self.pipe.get_list_adapters().values()):
                self.pipe.delete_adapters(name)
        for file in [file for file in files if file not in self._adapters]:
            name = f"launcher{self._count}"
            self._count += 1
            try:
                self._load(Path(file[0]), name)
            except BaseException:
                self.pipe.unload_lora_weights()  # with the others: what a failed load leaves is not known
                self._adapters = {}
                raise
            self._adapters[file] = name

    def fuse(self, wanted: tuple[LoraFile, ...]) -> None:
        """Add these LoRAs to the pipeline's weights, for good.

        Raises:
            ValueError: as `wear`.
        """
        self.wear(wanted)
        if wanted:
            parts = [part for part in self.pipe._lora_loadable_modules if getattr(self.pipe, part, None) is not None]
            with self._whole():
                self.pipe.fuse_lora(components=parts, adapter_names=list(self._adapters.values()))
                self.pipe.unload_lora_weights()
            self._adapters = {}

    def _load(self, path: Path, adapter: str) -> None:
        state, metadata = _read(path)
        if flaw := names.flaw(state):
            raise ValueError(f"{path.name} {flaw}")
        if infinite := [key for key, tensor in state.items() if not bool(tensor.isfinite().all())]:
            raise ValueError(f"{path.name} holds numbers that are not finite: {names.some(infinite)}")
        stems, _ = names.stems(state)
        layers = {stem: self._layer(stem) for stem in stems}
        scales = _scales(path, metadata, stems, state)
        pairs = [
            Pair(stem, state[parts.keys["down"]], state[parts.keys["up"]], scales[stem])
            for stem, parts in stems.items()
        ]
        self._fits(path, pairs, layers)
        shapes = self._shapes()
        known = {stem: parts for stem, parts in stems.items() if layers[stem] is not None}
        converted = _renamed(state, known, layers, scales)
        foreign = {
            key: state[key] * scales[stem] if part in ("up", "bias") and "alpha" not in parts.keys else state[key]
            for stem, parts in stems.items()
            if stem not in known
            for part, key in parts.keys.items()
        }
        elsewhere: dict[str, torch.Tensor] = {}
        try:
            if foreign:
                if isinstance(self.pipe, FluxLoraLoaderMixin):  # which knows ComfyUI's layers under kohya's names only
                    foreign = {_as_kohya(key): tensor for key, tensor in foreign.items()}
                converted |= self.pipe.lora_state_dict(foreign)
            elsewhere = {key: converted.pop(key) for key in list(converted) if self._worn_elsewhere(key)}
            if converted:
                self.pipe.load_lora_weights(converted, adapter_name=adapter)
        except Exception as error:  # a converter that meets what it does not expect: KeyError, AssertionError
            first = f" ({names.some([stem for stem, layer in layers.items() if layer is None] or list(layers))})"
            raise ValueError(f"{path.name} does not fit {type(self.pipe).__name__}: {_reason(error)}{first}") from error
        if changed := [name for name, shape in self._shapes().items() if shapes.get(name, shape) != shape]:
            raise ValueError(
                f"{path.name} is made for a transformer of other sizes: it would widen {names.some(changed)}"
            )
        more = [stem for stem, parts in stems.items() if {"magnitude", "bias"} & set(parts.keys)]
        more = [stem for stem in more if not self._worn_elsewhere(layers[stem] or "")]
        all_worn(path.name, [pair for pair in pairs if not among(pair, elsewhere)], more, self.pipe, adapter)

    def _worn_elsewhere(self, key: str) -> bool:
        """Whether a key is of a text encoder that another rank runs."""
        return is_absent(self.pipe.components.get(key.partition(".")[0]))

    def _layer(self, stem: str) -> str | None:
        """The layer that a stem names in diffusers' own way, behind its part of the pipeline; None if it names none."""
        stem = stem.removeprefix(PEFT_PREFIX)
        stem = WRAPPERS.sub("", stem)
        for prefix, part in FLAT.items():
            if stem.startswith(prefix) and getattr(self.pipe, part, None) is not None:
                flat = stem.removeprefix(prefix)
                for name, _ in getattr(self.pipe, part).named_modules():
                    # transformers 5 has no text_model any more around what a text encoder is made of.
                    if name and flat in (name.replace(".", "_"), f"text_model_{name.replace('.', '_')}"):
                        return f"{part}.{name}"
        for part in self.pipe._lora_loadable_modules:
            module = getattr(self.pipe, part, None)
            name = stem.removeprefix(f"{part}.")
            if part == "transformer":
                name = name.removeprefix("diffusion_model.")  # ComfyUI's name for it
            if module is not None and (name != stem or part == "transformer") and _has(module, name):
                return f"{part}.{name}"
        return None

    def _fits(self, path: Path, pairs: list[Pair], layers: dict[str, str | None]) -> None:
        """Check sizes where layers are known; diffusers would widen some of FLUX's layers."""
        for pair in pairs:
            if (name := layers[pair.name]) is not None:
                part, _, layer = name.partition(".")
                weight = getattr(self.pipe, part).get_submodule(layer).weight
                outputs, inputs, fit = pair.up.shape[0], pair.down.shape[1], tuple(weight.shape[:2])
                if (outputs, inputs) != fit or pair.up.shape[1] != pair.down.shape[0]:
                    kind = type(self.pipe).__name__
                    rule = (
                        f"size mismatch at {pair.name}, {inputs} to {outputs} channels instead of {fit[1]} to {fit[0]}"
                    )
                    raise ValueError(f"{path.name} does not fit {kind}: {rule}")

    def _shapes(self) -> dict[str, torch.Size]:
        """The sizes of the transformer's own weights."""
        named = self.pipe.transformer.named_parameters()
        return {name.replace(".base_layer", ""): weight.shape for name, weight in named if not ADAPTER.search(name)}


def _read(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    with safe_open(path, framework="pt") as file:  # never a pickle
        state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - its own kind
        metadata = file.metadata() or {}
    # torch stores numbers of 8 bits, and computes with hardly any.
    return {key: tensor.float() if tensor.dtype.itemsize == 1 else tensor for key, tensor in state.items()}, metadata


def _scales(
    path: Path, metadata: dict[str, str], stems: dict[str, names.Stem], state: dict[str, torch.Tensor]
) -> dict[str, float]:
    """What each stem's matrices are multiplied with: by their alpha, or by the adapter's configuration, else 1."""
    ranks = {stem: state[parts.keys["down"]].shape[0] for stem, parts in stems.items()}
    alphas = {stem: state[parts.keys["alpha"]] for stem, parts in stems.items() if "alpha" in parts.keys}
    own = {stem: float(alpha) / ranks[stem] for stem, alpha in alphas.items()}
    return own | lora_config.scales(path, metadata, stems, ranks)


def _renamed(
    state: dict[str, torch.Tensor],
    stems: dict[str, names.Stem],
    layers: dict[str, str | None],
    scales: dict[str, float],
) -> dict[str, torch.Tensor]:
    """The same LoRA with diffusers' names, its scales multiplied into `up`."""
    suffixes = {"down": "lora_A.weight", "up": "lora_B.weight", "bias": "lora_B.bias"}
    suffixes["magnitude"] = "lora_magnitude_vector"
    return {
        f"{layers[stem]}.{suffixes[part]}": state[key] * scales[stem] if part in ("up", "bias") else state[key]
        for stem, parts in stems.items()
        for part, key in parts.keys.items()
        if part != "alpha"
    }


def _as_kohya(key: str) -> str:
    if not key.startswith("diffusion_model."):
        return key
    return key.replace(".lora_A.weight", ".lora_down.weight").replace(".lora_B.weight", ".lora_up.weight")


def _has(module: torch.nn.Module, name: str) -> bool:
    try:
        module.get_submodule(name)
    except AttributeError:
        return False
    return True


def _reason(error: Exception) -> str:
    """Why it does not fit, in one line: torch tells it in many, the reason among the last."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = next((line for line in lines if "size mismatch" in line), lines[0] if lines else "")
    return (
        reason
        if isinstance(error, (ValueError, RuntimeError)) and reason
        else f"{type(error).__name__} {reason}".strip()
    )

"""Quantised transformers: quantization=, by diffusers' configurations of torchao, and by layers of bitsandbytes."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator
from typing import Any

import diffusers
import torch
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

BLOCK = 64  # numbers of a weight that have one scale in NF4


def let_go(part: torch.nn.Module) -> None:
    """Copy the weights of a part that stayed whole, so that its files' pages, which the others came from, can go."""
    for weight in (*part.parameters(), *part.buffers()):
        if not is_traceable_wrapper_subclass(weight):
            weight.data = weight.data.clone()


def configuration(how: str) -> Any:
    """What diffusers' `from_pretrained` quantises linear layers by.

    Args:
        how: int8 or fp8.
    """
    logging.getLogger("diffusers.quantizers").setLevel(logging.ERROR)  # it warns of int8 but in bfloat16: all compute
    from torchao.quantization import Float8WeightOnlyConfig, Int8WeightOnlyConfig

    kinds = {"int8": Int8WeightOnlyConfig, "fp8": Float8WeightOnlyConfig}
    return diffusers.TorchAoConfig(kinds[how]())


def pack(part: torch.nn.Module) -> None:
    """Have the linear layers of a part that is on the CPU hold their weights in 4 bits (NF4), with a scale for 64.

    diffusers' `BitsAndBytesConfig` makes the same layers, and refuses to where there is no GPU. As there, layers that a
    class keeps in float32 stay whole, and so do small ones of odd sizes.
    """
    from bitsandbytes.nn import Linear4bit, Params4bit

    kept = set(getattr(part, "_keep_in_fp32_modules", None) or ())
    for path, layer in list(part.named_modules()):
        if type(layer) is not torch.nn.Linear or kept & set(path.split(".")):
            continue
        if layer.weight.numel() % (2 * layer.weight.element_size()):  # two numbers a byte, in elements of its dtype
            continue
        packed = (Linear4bit if layer.in_features % BLOCK == 0 else _across_rows())(
            layer.in_features, layer.out_features, layer.bias is not None, layer.weight.dtype,
            compress_statistics=False, quant_type="nf4", quant_storage=layer.weight.dtype, device="meta",
        )  # fmt: skip
        packed.weight = Params4bit(
            layer.weight.data,
            requires_grad=False,
            compress_statistics=False,
            quant_type="nf4",
            quant_storage=layer.weight.dtype,  # models ask weights for their dtype, and cast to it
            module=packed,
        )
        packed.bias = layer.bias
        parent, _, name = path.rpartition(".")
        setattr(part.get_submodule(parent), name, packed.to("cpu"))


@functools.cache
def _across_rows() -> type[torch.nn.Module]:
    """The class of layers whose rows end within a block of 64 numbers.

    bitsandbytes' CPU kernel (0.50) takes each row to begin a block and gives such a row others' scales. Of the same
    numbers as one row it makes the right ones.
    """
    from bitsandbytes.nn import Linear4bit

    class AcrossRows(Linear4bit):  # type: ignore[misc]
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if x.device.type != "cpu":
                found: torch.Tensor = super().forward(x)
                return found
            state, rows = self.weight.quant_state, (self.out_features, self.in_features)
            row = (1, self.out_features * self.in_features)
            whole = torch.ops.bitsandbytes.dequantize_4bit(
                self.weight.data, state.absmax, state.blocksize, state.quant_type, row, state.dtype
            )
            return torch.nn.functional.linear(x, whole.reshape(rows).to(x.dtype), self.bias)

    return AcrossRows


def tensors_of(weight: torch.Tensor) -> Iterator[torch.Tensor]:
    """The tensors that a weight is made of: itself, or where it is quantised its numbers and their scales."""
    if not is_traceable_wrapper_subclass(weight):
        yield weight
        if (state := getattr(weight, "quant_state", None)) is not None:
            yield state.absmax
        return
    for name in weight.__tensor_flatten__()[0]:
        yield from tensors_of(getattr(weight, name))

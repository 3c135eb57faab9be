"""A GGUF file of a transformer, as converters write one: what can be is quantised, vectors stay whole."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
from safetensors.torch import load_file

from launcher.families.weights import BUNDLED

(TRANSFORMER,) = (BUNDLED / "transformer").glob("*.safetensors")


def write(path: Path, architecture: str = "flux", source: Path = TRANSFORMER) -> Path:
    """Write the bundled transformer: matrices in Q8_0 where a row is whole blocks of 32, else BF16; vectors in F32."""
    writer = gguf.GGUFWriter(path, architecture)
    for name, tensor in load_file(source).items():
        whole = tensor.float().numpy()
        kind = gguf.GGMLQuantizationType.F32
        if whole.ndim > 1:
            kind = gguf.GGMLQuantizationType.BF16 if whole.shape[-1] % 32 else gguf.GGMLQuantizationType.Q8_0
        data = gguf.quants.quantize(whole, kind) if whole.ndim > 1 else whole.astype(np.float32)
        writer.add_tensor(name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path

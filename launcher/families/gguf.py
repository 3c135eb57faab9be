"""The header of a GGUF file, which tells every tensor's kind of numbers, shape and place, and what model it is of.

https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Read here, and not by the package gguf, so that a file is
looked at before the start without it, and so that one that is cut off or made to harm ends in one line.
"""

from __future__ import annotations

import io
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from launcher.reading import UnreadableError, opened

MAX_HEADER = 16 << 20  # bytes; a transformer's has some hundred KiB, a language model's vocabulary some MB
MOST = 1 << 16  # tensors, or entries of metadata
# Numbers in a block and bytes of it, by ggml's number of the kind: those that diffusers reads.
KINDS = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110), 12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 20: ("IQ4_NL", 32, 18), 23: ("IQ4_XS", 256, 136),
    30: ("BF16", 1, 2),
}  # fmt: skip
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
TEXT, LIST = 8, 9
DEEPEST = 4  # lists of lists
# What converters call the transformers of diffusers' classes, in general.architecture.
ARCHITECTURES = {
    "flux": "FluxTransformer2DModel",
    "sd3": "SD3Transformer2DModel",
    "aura": "AuraFlowTransformer2DModel",
    "hidream": "HiDreamImageTransformer2DModel",
    "hyvid": "HunyuanVideoTransformer3DModel",
    "ltxv": "LTXVideoTransformer3DModel",
    "lumina2": "Lumina2Transformer2DModel",
    "qwen_image": "QwenImageTransformer2DModel",
    "wan": "WanTransformer3DModel",
}
MANY = {"flux": "ChromaTransformer2DModel", "lumina2": "ZImageTransformer2DModel", "wan": "WanVACETransformer3DModel"}
TEXT_MODELS = ("bert", "clip", "gemma", "llama", "mistral", "phi", "qwen2", "qwen3", "t5")


@dataclass(frozen=True)
class Header:
    """What a file says of itself: its architecture, "" where it does not, and the shapes and bytes of its tensors."""

    architecture: str
    shapes: dict[str, tuple[int, ...]]
    bytes: int


def read_header(path: Path) -> Header:
    """The header of a file that is whole.

    Raises:
        UnreadableError: it is no GGUF file, is cut off, or has numbers that diffusers does not read; the message is the
            end of a sentence.
    """
    with opened(path) as (file, size):
        try:
            return _read(file, size)
        except (struct.error, UnicodeDecodeError, EOFError) as error:
            raise UnreadableError("is not a GGUF file, or is cut off in its header") from error


def _read(file: BinaryIO, size: int) -> Header:
    if file.read(4) != b"GGUF":
        raise UnreadableError("is not a GGUF file")
    if (version := _scalar(file, "I")) not in (2, 3):
        raise UnreadableError(f"is GGUF version {version}; versions 2 and 3 are read")
    tensors, entries = _scalar(file, "Q"), _scalar(file, "Q")
    if max(tensors, entries) > MOST:
        raise UnreadableError(f"is damaged: its header counts {max(tensors, entries)} entries; at most {MOST} are read")
    told: dict[str, Any] = {}
    for _ in range(entries):
        key = _text(file)
        told[key] = _value(file, _scalar(file, "I"))
    places: dict[str, tuple[int, int]] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for _ in range(tensors):
        name, axes = _text(file), _scalar(file, "I")
        if not 0 <= axes <= 4 or name in shapes:
            raise UnreadableError("is damaged: a tensor of its header has no name of its own, or too many axes")
        shape = tuple(reversed([_scalar(file, "Q") for _ in range(axes)]))
        kind, begin = _scalar(file, "I"), _scalar(file, "Q")
        if kind not in KINDS:
            raise UnreadableError(f"holds numbers of a kind that diffusers does not read (ggml's {kind}): {name[:60]}")
        label, block, width = KINDS[kind]
        if math.prod(shape) % block or (shape and shape[-1] % block):
            what = f"{name[:60]} of shape {list(shape)} is no whole number of {label} blocks"
            raise UnreadableError(f"is damaged: {what}")
        shapes[name], places[name] = shape, (begin, begin + math.prod(shape) // block * width)
    alignment = told.get("general.alignment", 32)
    if type(alignment) is not int or not 0 < alignment <= 1 << 20:
        raise UnreadableError("is damaged: its general.alignment is no such number")
    start = -(-file.tell() // alignment) * alignment
    end = start + max((end for _, end in places.values()), default=0)
    if size < end:
        raise UnreadableError(f"is {size} bytes long, but its header says {end}: truncated or corrupt")
    architecture = told.get("general.architecture", "")
    used = sum(end - begin for begin, end in places.values())
    return Header(architecture if isinstance(architecture, str) else "", shapes, used)


def _scalar(file: BinaryIO, form: str) -> Any:
    if file.tell() > MAX_HEADER:
        raise UnreadableError(f"has a header of more than {MAX_HEADER >> 20} MiB")
    form = f"<{form}"
    return struct.unpack(form, file.read(struct.calcsize(form)))[0]


def _text(file: BinaryIO) -> str:
    length = _scalar(file, "Q")
    if length > MAX_HEADER:
        raise EOFError
    content = file.read(length)
    if len(content) != length:
        raise EOFError
    return content.decode("utf-8")


def _value(file: BinaryIO, kind: int, depth: int = 0) -> Any:
    """One value of the metadata; of a list nothing is kept, for a vocabulary is one."""
    if kind in SCALARS:
        return _scalar(file, SCALARS[kind])
    if kind == TEXT:
        return _text(file)
    if kind != LIST or depth == DEEPEST:
        raise UnreadableError("is damaged: its header has metadata of an unknown kind")
    inner, count = _scalar(file, "I"), _scalar(file, "Q")
    if count > MAX_HEADER:
        raise EOFError
    if inner in SCALARS:
        file.seek(count * struct.calcsize(SCALARS[inner]), io.SEEK_CUR)
        return None
    for _ in range(count):
        _value(file, inner, depth + 1)
    return None


def flaw(path: Path, kind: str) -> str | None:
    """Why a file is no transformer of a class, as the end of a sentence; None if nothing is known.

    Raises:
        UnreadableError: as `read_header`.
    """
    architecture = read_header(path).architecture
    if architecture.startswith(TEXT_MODELS):
        return f"holds a text model ({architecture[:40]}), not a transformer that draws"
    known = {ARCHITECTURES.get(architecture), MANY.get(architecture)} - {None}
    if kind and known and kind not in known:
        return f"is of {architecture}, and the pipeline has a {kind}"
    return None

"""The header of a safetensors file: the only place that parses one.

A file starts with the length of a JSON header (8 bytes, little endian) and the header, which gives every tensor's
type, shape and place: so a truncated file is known by its size alone. https://huggingface.co/docs/safetensors/index
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.reading import UnreadableError, opened, parse_json

MAX_HEADER = 100_000_000  # bytes: the format's own limit
MAX_DIMENSIONS = 64
# Bits of an element, by the format's own names.
BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64,
    "C64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip


@dataclass(frozen=True)
class Tensor:
    """What a header says of one tensor; begin and end are bytes behind the header."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def elements(self) -> int:
        """Numbers in it."""
        return math.prod(self.shape)


def read_header(path: Path) -> dict[str, Tensor]:
    """The tensors of a file that is whole, by name.

    Raises:
        UnreadableError: it is no safetensors file, or is cut off; the message is the end of a sentence.
    """
    header, length, size = _header(path)
    tensors = {name: _tensor(name, entry) for name, entry in header.items() if name != "__metadata__"}
    end = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
        if tensor.begin != end:
            raise UnreadableError(f"has a corrupt header: {_short(name)} starts at byte {tensor.begin}, not at {end}")
        end = tensor.end
    if size != 8 + length + end:
        raise UnreadableError(f"is {size} bytes long, but its header says {8 + length + end}: truncated or corrupt")
    return tensors


def read_metadata(path: Path) -> dict[str, str]:
    """What the file's writer put beside the tensors; empty where there is nothing.

    Raises:
        UnreadableError: as `read_header`.
    """
    found = _header(path)[0].get("__metadata__")
    if found is not None and not (isinstance(found, dict) and all(isinstance(value, str) for value in found.values())):
        raise UnreadableError("has a corrupt header: its __metadata__ is not text by name")
    return found or {}


def _header(path: Path) -> tuple[dict[str, Any], int, int]:
    """The header as JSON, its length and the file's, in bytes."""
    with opened(path) as (file, size):
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, MAX_HEADER):
            raise UnreadableError("is not a safetensors file, or is cut off in its header")
        content = file.read(length)
    try:
        header = parse_json(content.decode("utf-8"))
    except (UnicodeDecodeError, UnreadableError) as error:
        raise UnreadableError("is not a safetensors file: its header is not JSON") from error
    if not isinstance(header, dict):
        raise UnreadableError("is not a safetensors file: its header is not a JSON object")
    return header, length, size


def _tensor(name: str, entry: Any) -> Tensor:
    """One entry of a header, checked: its numbers are numbers, and its place fits its shape."""
    try:
        dtype, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
    except (TypeError, KeyError, ValueError) as error:
        raise UnreadableError(f"has a corrupt header: {_short(name)} lacks its dtype, shape or data_offsets") from error
    numbers = (*shape, begin, end)
    counts = all(type(number) is int and 0 <= number < 1 << 63 for number in numbers)
    if not counts or not isinstance(dtype, str) or len(shape) > MAX_DIMENSIONS:
        raise UnreadableError(f"has a corrupt header: the dtype, shape or data_offsets of {_short(name)} are odd")
    tensor = Tensor(dtype, shape, begin, end)
    bits = BITS.get(dtype)
    if bits is None:
        raise UnreadableError(f"has a corrupt header: {_short(name)} has the unknown dtype {_short(dtype)}")
    if begin > end or (tensor.elements * bits + 7) // 8 != end - begin:
        rule = f"{_short(name)} of shape {_short(str(list(shape)))} does not fit its {end - begin} bytes"
        raise UnreadableError(f"has a corrupt header: {rule}")
    return tensor


def _short(text: str) -> str:
    text = "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
    return text if len(text) <= 60 else f"{text[:57]}..."


def flaw(path: Path) -> str | None:
    """What is wrong with a safetensors file by its header and size, or None."""
    try:
        read_header(path)
    except UnreadableError as error:
        return str(error)
    return None

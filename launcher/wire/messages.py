"""A message between two programs: a frozen dataclass, read by codec.

On the wire it is a JSON object of its fields and `kind`, its name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from launcher import codec
from launcher.codec import MalformedError


class ProtocolError(Exception):
    """The other side sent something that is not a message, or not one that it may send."""


@dataclass(frozen=True)
class Message:
    """Anything that is said; `kind` tells which."""

    kind: ClassVar[str]


Kinds = tuple[type[Message], ...]


def pack(message: Message) -> bytes:
    """Write a message as a line, without its end."""
    data = codec.plain(message)
    assert isinstance(data, dict)
    return codec.dumps({"kind": message.kind, **data}).encode()


def unpack(line: bytes, kinds: Kinds) -> Message:
    """Read a message of one of these kinds.

    Raises:
        ProtocolError: the line is none of them.
    """
    try:
        data = codec.parse(line)
        if not isinstance(data, dict):
            raise MalformedError("expected an object")
        name = data.pop("kind", None)
        for kind in kinds:
            if kind.kind == name:
                return codec.build(kind, data, kind.kind)
        raise MalformedError(f"kind={name!r:.40} is not expected")
    except MalformedError as error:
        raise ProtocolError(f"not a message ({error}): {line[:80]!r}") from error

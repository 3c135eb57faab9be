"""Making well-formed bytes odd."""

from __future__ import annotations

import contextlib
import copy
import functools
import json
from random import Random
from typing import Any

LONGEST = 1 << 17  # bytes of what is made

ODD: list[Any] = [
    None, True, -1, 0, 3, 1 << 62, 1 << 70, -0.5, 1e308, "", "x", "\0", "\ud800", "../../etc/passwd", "/etc/passwd",
    "${oc.env:HOME}", "${a}", "*" * 300, "<<", "\x1b[2J", "猫", [], {}, [[]], [None, None], {"": {}}, ["a", 1], "F4",
    10**400, functools.reduce(lambda inner, _: {"a": inner}, range(400), {}),
]  # fmt: skip
TOKENS = [
    b"\0", b"\xff", b"\x80", b"\n", b"\r\n", b": ", b"- ", b"&a ", b"*a", b"<<: *a\n", b"!!timestamp x", b"!!int ",
    b"!!bool x", b"!!binary x", b"!!python/name:os.system ", b"!!float .", b"!!set x", b"!!omap x", b"2020-99-99",
    b"0b", b"0x_", b"1:99", b"? ", b"%YAML 9.9\n", b"---\n", b"{", b"}", b"[", b"]", b'"', b"'", b"\\", b"${", b",",
    b"NaN", b"1e999", b"-", b"9" * 5000, b"[" * 3000, b'{"a":' * 3000, b"/", b"=", b"null", b"@package _global_", b"#",
]  # fmt: skip


def mutated(seed: bytes, chance: Random) -> bytes:
    """The bytes with a few changes: to a value where they are JSON, behind a length too, else to bytes and tokens."""
    head, body = (seed[:8], seed[8:]) if seed[1:8] == bytes(7) else (b"", seed)
    with contextlib.suppress(ValueError, RecursionError):
        data, tail = json.JSONDecoder().raw_decode(body.decode("latin-1"))
        if chance.random() < 0.7:
            for _ in range(chance.randint(1, 3)):
                data = _changed(data, chance)
            text = json.dumps(data).encode()
            head = len(text).to_bytes(8, "little") if head else b""
            return head + text + body[tail:]
    content = bytearray(seed)
    for _ in range(chance.randint(1, 4)):
        start = chance.randint(0, len(content))
        end = min(len(content), start + chance.choice([0, 1, 2, 8, 64, 1 << 16]))
        kind = chance.randrange(4)
        if kind == 0:
            content[start:end] = b""
        elif kind == 1:
            content[start:end] = chance.choice(TOKENS)
        elif kind == 2:
            content[start:end] = chance.randbytes(end - start if end - start < 9 else 1)
        else:
            content[start:start] = content[start:end]
    return bytes(content[:LONGEST])


def _changed(data: Any, chance: Random) -> Any:
    """A copy of JSON data in which one value, at any depth, is another one, gone, or there twice."""
    if not isinstance(data, (dict, list)) or not data or chance.random() < 0.1:
        return copy.deepcopy(chance.choice(ODD))
    made = copy.copy(data)
    key: Any = chance.choice(list(made)) if isinstance(made, dict) else chance.randrange(len(made))
    kind = chance.random()
    if kind < 0.1:
        del made[key]
    elif kind < 0.2 and isinstance(made, dict):
        made[str(chance.choice(ODD))] = made[key]
    elif kind < 0.2:
        made += made[key:]
    else:
        made[key] = _changed(made[key], chance)
    return made

"""Small helpers for text that a user reads."""

from __future__ import annotations


def shorten(text: str, width: int = 100) -> str:
    """One printable line: control characters escaped, the middle left out when it is long."""
    text = "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
    return text if len(text) <= width else f"{text[: width // 2]} ... {text[-width // 2 :]}"

"""Small helpers for text that a user reads."""

from __future__ import annotations


def shorten(text: str, width: int = 100) -> str:
    """One printable line: control characters escaped, the middle left out when it is long."""
    text = "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
    return text if len(text) <= width else f"{text[: width // 2]} ... {text[-width // 2 :]}"


def plural(count: int, noun: str, nouns: str | None = None) -> str:
    """A count with its noun: '1 rank', '2 ranks'; `nouns` where an s does not make the plural."""
    return f"{count} {noun}" if count == 1 else f"{count} {nouns or noun + 's'}"

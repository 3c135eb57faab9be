"""What a loaded pipeline must be able to do before anything is drawn with it."""

from __future__ import annotations

from typing import Any

# As long as each other: an empty vocabulary makes an unknown token of every letter.
WORDS = ("red", "cat", "sky", "new")


def check_tokenizers(pipe: Any) -> None:
    """Check that each tokenizer of a pipeline can tell two words apart.

    One without its files makes an empty vocabulary, without a word about it, and every prompt draws the same picture.

    Raises:
        ValueError: one can't; the message names it.
    """
    for name, part in pipe.components.items():
        tokenizer = getattr(part, "tokenizer", part)  # a processor has one inside
        if not hasattr(tokenizer, "convert_ids_to_tokens"):
            continue
        known = {tuple(tokenizer(word)["input_ids"]) for word in WORDS}
        if len(known) < 2:
            words = " and ".join(repr(word) for word in WORDS[:2])
            raise ValueError(f"{name} can't tell {words} apart: its files in model.path are missing or incomplete")

"""How many text tokens a prompt has for its model, counted without transformers or torch."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from launcher.config.schema import ModelConfig
from launcher.families.weights import folder


def prompt_tokens(model: ModelConfig, prompts: Sequence[str]) -> list[int] | None:
    """Tokens of each prompt that the transformer gets, where their number follows from the prompt (text=prompt).

    None where the model's tokenizer.json is not here.
    """
    counts = _counts(model, prompts)
    return None if counts is None else [min(count, model.text_tokens) for count in counts]


def cut_off(model: ModelConfig, prompts: Sequence[str]) -> dict[int, int]:
    """Prompts that the text encoder does not read to their end, by position, and how many tokens they have.

    Only those whose tokenizer.json is here. diffusers cuts them off with a line in its log.
    """
    # At most a token for each byte; lone surrogates have no bytes, and a rule refuses them.
    long = {i: text for i, text in enumerate(prompts) if len(text.encode(errors="replace")) >= model.text_tokens}
    counts = _counts(model, list(long.values())) or []
    return {i: count for i, count in zip(long, counts, strict=False) if count > model.text_tokens}


def _counts(model: ModelConfig, prompts: Sequence[str]) -> list[int] | None:
    """What diffusers' pipelines keep of each prompt: within its template, without the template's start."""
    here = folder(model)
    path = here / model.tokenizer / "tokenizer.json" if here is not None else None
    if not prompts or path is None or not path.is_file():
        return None
    try:
        tokenizer = _tokenizer(str(path), path.stat().st_mtime_ns, path.stat().st_size)
        counts = [len(tokenizer.encode(model.text_template.replace("{}", prompt)).ids) for prompt in prompts]
    except Exception:  # the library's only error; what is wrong with the file is told by whoever loads the weights
        return None
    return [max(0, count - model.text_dropped) for count in counts]


@functools.lru_cache(4)  # a plan asks once for each mode
def _tokenizer(path: str, _changed: int, _bytes: int) -> Any:
    from tokenizers import Tokenizer  # 10 ms

    tokenizer = Tokenizer.from_file(path)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer

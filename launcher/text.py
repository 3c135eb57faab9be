"""How many text tokens the transformer gets where that depends on the prompt, counted without transformers or torch."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from launcher.config import ModelConfig
from launcher.weights import folder


def prompt_tokens(model: ModelConfig, prompts: Sequence[str]) -> list[int] | None:
    """Tokens of each prompt by the model's own tokenizer; None where its tokenizer.json is not here.

    What diffusers' `_get_qwen_prompt_embeds` keeps: the prompt within its template, without the template's start.
    """
    here = folder(model)
    path = here / "tokenizer" / "tokenizer.json" if here is not None else None
    if path is None or not path.is_file():
        return None
    try:
        tokenizer = _tokenizer(str(path), path.stat().st_mtime_ns, path.stat().st_size)
        counts = [len(tokenizer.encode(model.text_template.replace("{}", prompt)).ids) for prompt in prompts]
    except Exception:  # the library's only error; what is wrong with the file is told by whoever loads the weights
        return None
    return [min(max(0, count - model.text_dropped), model.text_tokens) for count in counts]


@functools.lru_cache(4)  # a plan asks once for each mode
def _tokenizer(path: str, _changed: int, _bytes: int) -> Any:
    from tokenizers import Tokenizer  # 10 ms

    tokenizer = Tokenizer.from_file(path)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer

"""How many text tokens a prompt has for its model, counted without transformers or torch."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from launcher.config.schema import ModelConfig
from launcher.families.weights import folder
from launcher.reading import UnreadableError, opened

MAX_TOKENIZER = 64 << 20  # bytes; the largest that is in use has 33 MB


def count_tokens(model: ModelConfig, prompts: Sequence[str]) -> list[int | None]:
    """Tokens of each prompt as diffusers' pipelines keep them: within the template, without the template's start.

    None for a prompt that need not be counted, because it is too short to be cut off and pads anyway, and for all of
    them where the model's tokenizer is not here.
    """
    # At most a token for each byte; lone surrogates have no bytes, and a rule refuses them.
    wanted = [model.text == "prompt" or len(text.encode(errors="replace")) >= model.text_tokens for text in prompts]
    here = folder(model) if any(wanted) else None
    path = here / model.tokenizer / "tokenizer.json" if here is not None else None
    if path is None:
        return [None] * len(prompts)
    try:
        with opened(path) as (_, size):
            if size > MAX_TOKENIZER:
                return [None] * len(prompts)
        tokenizer = _tokenizer(str(path), path.stat().st_mtime_ns, size)
        return [_count(model, tokenizer, text) if count else None for text, count in zip(prompts, wanted, strict=True)]
    except (UnreadableError, OSError):  # what is wrong with the file is told by the rules on weights
        return [None] * len(prompts)
    except Exception:  # the library's only error
        return [None] * len(prompts)


def _count(model: ModelConfig, tokenizer: Any, prompt: str) -> int:
    ids = tokenizer.encode(model.text_template.replace("{}", prompt)).ids
    return max(0, len(ids) - model.text_dropped)


@functools.lru_cache(4)  # a sweep asks once for each job
def _tokenizer(path: str, _changed: int, _bytes: int) -> Any:
    from tokenizers import Tokenizer  # 10 ms

    tokenizer = Tokenizer.from_file(str(Path(path)))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer

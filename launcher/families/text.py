"""How many text tokens a prompt has for its model, counted without transformers or torch."""

from __future__ import annotations

from collections.abc import Sequence

from launcher.config.model_schema import ModelConfig
from launcher.families.tokenizers import Count, counter
from launcher.families.weights import folder
from launcher.reading import UnreadableError


def count_tokens(model: ModelConfig, prompts: Sequence[str]) -> list[int | None]:
    """Count the tokens of each prompt as diffusers' pipelines do: within the template, without the template's start.

    None for a prompt that need not be counted, because it is too short to be cut off and is padded anyway, and for all
    of them where the model's tokenizer is not here.
    """
    # At most a token for each byte; lone surrogates have no bytes, and a rule refuses them.
    wanted = [model.text == "prompt" or len(text.encode(errors="replace")) >= model.text_tokens for text in prompts]
    here = folder(model) if any(wanted) else None
    nothing: list[int | None] = [None] * len(prompts)
    if here is None:
        return nothing
    try:
        count = counter(here / model.tokenizer)
        return [_kept(model, count, text) if each else None for text, each in zip(prompts, wanted, strict=True)]
    except UnreadableError:  # told by whoever looks at the checkpoint
        return nothing


def _kept(model: ModelConfig, count: Count, prompt: str) -> int:
    return max(0, count(model.text_template.replace("{}", prompt)) - model.text_dropped)

"""Embeddings of prompts, kept between pictures and jobs: text encoders run once for a prompt that does not change."""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils._pytree import tree_flatten, tree_map

MOST = 8  # calls that are kept; those of FLUX.1 take 4 MB each
PLAIN = (str, int, float, bool, type(None), torch.device, torch.dtype)


class Embeddings:
    """What a pipeline's `encode_prompt` gave, by what it was given; the last few."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[object, ...], Any] = OrderedDict()
        self._worn: object = None

    def forget_if(self, worn: object) -> None:
        """Forget all if the encoders wear something else than before."""
        if worn != self._worn:
            self._kept.clear()
        self._worn = worn

    @contextlib.contextmanager
    def of(self, pipe: Any) -> Iterator[None]:
        """Have a pipeline take what is kept while the block runs."""
        encode = getattr(pipe, "encode_prompt", None)
        if encode is None:
            yield
            return

        def kept(*args: Any, **kwargs: Any) -> Any:
            leaves, form = tree_flatten((args, kwargs))
            if not all(isinstance(each, PLAIN) for each in leaves):  # a picture that is looked at, say
                return encode(*args, **kwargs)
            key = (type(pipe).__name__, str(form), *((type(each), each) for each in leaves))
            if key not in self._kept:
                self._kept[key] = _copied(encode(*args, **kwargs))
            self._kept.move_to_end(key)
            while len(self._kept) > MOST:
                self._kept.popitem(last=False)
            return _copied(self._kept[key])  # a pipeline may write into what it gets

        pipe.encode_prompt = kept
        try:
            yield
        finally:
            del pipe.encode_prompt


def _copied(given: Any) -> Any:
    return tree_map(lambda x: x.clone() if isinstance(x, torch.Tensor) else x, given)

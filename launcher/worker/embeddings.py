"""Embeddings of prompts: rank 0 makes them for all ranks, and they are kept between pictures and jobs.

So text encoders run once for a prompt that does not change, and the other ranks need none. All ranks ask for the same
in the same order, and keep the same.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils._pytree import tree_flatten, tree_map

from attention_backends.exchange import RankFailedError
from launcher.worker import telling
from launcher.worker.telling import Group

SHORT = {"OutOfMemoryError": torch.OutOfMemoryError, "MemoryError": MemoryError}  # which ranks may go on from
ENCODE = ("encode_prompt", "encode_image")  # the methods of pipelines that run text encoders, and others of such a kind
MOST = 8  # calls that are kept; those of FLUX.1 take 4 MB each
PLAIN = (str, int, float, bool, type(None), torch.device, torch.dtype)


class Embeddings:
    """What a pipeline's encoders gave, by what they were given; the last few.

    Args:
        rank: this one of `world`; rank 0 runs the encoders. group: these ranks; None: all that there are.
    """

    def __init__(self, rank: int = 0, world: int = 1, group: Group = None) -> None:
        self.rank, self.world, self.group = rank, world, group
        self._kept: OrderedDict[tuple[object, ...], Any] = OrderedDict()
        self._worn: object = None
        self._encoding = False

    def forget_if(self, worn: object) -> None:
        """Forget all if the encoders wear something else than before."""
        if worn != self._worn:
            self._kept.clear()
        self._worn = worn

    @contextlib.contextmanager
    def of(self, pipe: Any) -> Iterator[None]:
        """Have a pipeline take what is kept, or what rank 0 makes, while the block runs."""
        names = [name for name in ENCODE if hasattr(type(pipe), name)]
        for name in names:
            setattr(pipe, name, self._keeping(pipe, name, getattr(pipe, name)))
        loaded = _padding(pipe)
        try:
            yield
        finally:
            _pad(pipe, loaded)  # some pipelines look at it when they are made, before anything is encoded
            for name in names:
                delattr(pipe, name)

    def _keeping(self, pipe: Any, name: str, encode: Callable[..., Any]) -> Callable[..., Any]:
        def kept(*args: Any, **kwargs: Any) -> Any:
            if self._encoding:  # rank 0 alone is here: an encoder asks for another one
                return encode(*args, **kwargs)
            leaves, form = tree_flatten((args, kwargs))
            if not all(isinstance(each, PLAIN) for each in leaves):  # a picture that is looked at, say
                return self._encoded(pipe, lambda: encode(*args, **kwargs))
            key = (type(pipe).__name__, name, str(form), *((type(each), each) for each in leaves))
            if key not in self._kept:
                result = _copied(self._encoded(pipe, lambda: encode(*args, **kwargs)))
                self._kept[key] = result, _padding(pipe)
            self._kept.move_to_end(key)
            while len(self._kept) > MOST:
                self._kept.popitem(last=False)
            result, padding = self._kept[key]
            _pad(pipe, padding)
            return _copied(result)  # a pipeline may write into what it gets

        return kept

    def _encoded(self, pipe: Any, encode: Callable[[], Any]) -> Any:
        """What rank 0 encodes, on every rank."""
        if self.world == 1:
            return encode()
        if self.rank == 0:
            result = self._run(encode)
            telling.tell_tensors({"failure": None, "result": result, "padding": _padding(pipe)}, self.group)
            return result
        result, padding = _heard(self.group)
        _pad(pipe, padding)
        return result

    def _run(self, encode: Callable[[], Any]) -> Any:
        self._encoding = True
        try:
            return encode()
        except Exception as error:
            failure = {
                "failure": f"rank 0 failed: {str(error) or type(error).__name__}"[:500],
                "kind": type(error).__name__,
            }
            telling.tell(failure, self.group)
            raise
        finally:
            self._encoding = False


def _padding(pipe: Any) -> dict[str, str]:
    """The side on which tokenizers pad: encoders set it, and what comes after them reads it (LTX-2's connectors)."""
    parts = getattr(pipe, "components", {}).items()
    return {name: part.padding_side for name, part in parts if hasattr(part, "padding_side")}


def _pad(pipe: Any, sides: dict[str, str]) -> None:
    for name, side in sides.items():
        getattr(pipe, name).padding_side = side


def _heard(group: Group) -> tuple[Any, dict[str, str]]:
    """What rank 0 has encoded, and how its tokenizers pad.

    Raises:
        RankFailedError: it could not; torch.OutOfMemoryError, MemoryError: for that reason.
    """
    told = telling.hear(group)
    if told["failure"] is not None:
        raise SHORT.get(told["kind"], RankFailedError)(told["failure"])
    return telling.hear_tensors(told, group)["result"], told["padding"]


def _copied(given: Any) -> Any:
    return tree_map(lambda x: x.clone() if isinstance(x, torch.Tensor) else x, given)

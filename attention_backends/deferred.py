"""Tensors that are computed when they are needed, so that what needs no other rank's keys runs while keys travel.

A module whose output no key depends on (the query's projection, an MLP beside the attention) gives a `Deferred`; so
does an attention whose keys are under way. Model code goes on with them: what is done to one is put off likewise, and
anything else computes it. Where the last projection multiplies the MLP and the attention joined, their halves are
multiplied one by one, the MLP's first.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn import functional

Make = Callable[[], torch.Tensor]
HOW = "Call enable(model, overlap=False)."
_GETTERS = {  # of what is known beforehand; whether it requires a gradient is not
    torch.Tensor.is_cuda.__get__,  # type: ignore[attr-defined]
    *(getattr(torch.Tensor, name) for name in ("size", "dim", "numel", "element_size", "is_floating_point")),
}


class Kept:
    """A tensor that is read later, as it is now: that it was changed in place meanwhile is found."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor, self._version = tensor, _version(tensor)

    def now(self) -> torch.Tensor:
        """Raises RuntimeError if it was changed in place."""
        here: torch.Tensor = now(self.tensor)
        if _version(self.tensor) != self._version:
            raise RuntimeError(
                f"a tensor {tuple(here.shape)} was changed in place after a layer was given it, and before that layer "
                f"was computed. {HOW}"
            )
        return here


def _version(x: torch.Tensor) -> int:
    """How often it was changed in place, since it was computed if it was put off; in inference mode nobody counts."""
    if isinstance(x, Deferred):
        return 0 if x._made is None else _version(x._made) - x._begun
    return 0 if x.is_inference() else x._version


class Deferred(torch.Tensor):
    """A tensor of known shape, dtype and device that `now` computes, once, with or without a gradient as it is here.

    Args:
        make: computes it. waits: it needs what travels.
        ahead: does what leads up to its wait, so that something else travels while other work runs.
        parts: what it joins along its last dimension, () if it joins nothing there.
        columns: computes it for a range of its last dimension, if that can be done without the rest.
    """

    _make: Make | None
    _made: torch.Tensor | None
    _begun: int  # version of what was made
    _graded: tuple[bool, bool]
    _waits: bool
    ahead: Callable[[], None] | None
    parts: Sequence[Kept]
    columns: Callable[[int, int], torch.Tensor] | None
    _told: tuple[torch.Size, torch.dtype, torch.device]

    @staticmethod
    def __new__(
        cls,
        make: Make,
        shape: Sequence[int],
        like: torch.Tensor,
        *,
        dtype: torch.dtype | None = None,
        waits: bool = False,
        ahead: Callable[[], None] | None = None,
        parts: Sequence[Kept] = (),
        columns: Callable[[int, int], torch.Tensor] | None = None,
    ) -> "Deferred":
        kind, there = dtype or like.dtype, like.device
        self: Deferred = torch.Tensor._make_wrapper_subclass(cls, tuple(shape), dtype=kind, device=there)
        self._told = torch.Size(shape), kind, there
        self._make, self._made, self._begun = make, None, 0
        self._waits, self.ahead, self.parts, self.columns = waits, ahead, parts, columns
        self._graded = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        return self

    # Read some 150 times in a layer, where torch's own way to a subclass' attributes takes half a millisecond.

    @property
    def shape(self) -> torch.Size:  # type: ignore[override]
        return self._told[0] if self._made is None else self._made.shape  # which may change in place

    @property
    def ndim(self) -> int:  # type: ignore[override]
        return len(self.shape)

    @property
    def dtype(self) -> torch.dtype:  # type: ignore[override]
        return self._told[1]

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return self._told[2]

    @property
    def waits(self) -> bool:
        """Whether computing it waits for another rank."""
        return self._waits and self._made is None

    def now(self) -> torch.Tensor:
        """The tensor itself.

        Raises:
            RuntimeError: it has another shape or dtype than was said, so what was put off may be wrong.
        """
        if self._make is not None:
            make, self._make = self._make, None
            grad, inference = self._graded
            if (torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == self._graded:
                made: torch.Tensor = now(make())
            else:  # what torch keeps of a computation, as it was when this one was put off
                with torch.inference_mode(inference), torch.set_grad_enabled(grad):
                    made = now(make())
            if made.shape != self.shape or made.dtype != self.dtype:
                raise RuntimeError(
                    f"a module gave {tuple(made.shape)} of {made.dtype} where {tuple(self.shape)} of {self.dtype} was "
                    f"expected. {HOW}"
                )
            self._made, self._begun, self.ahead, self.parts, self.columns = made, _version(made), None, (), None
        if self._made is None:
            raise RuntimeError("the computation of this tensor has failed before")
        return self._made

    def then(self, change: Callable[[torch.Tensor], torch.Tensor], shape: Sequence[int] | None = None) -> "Deferred":
        """What `change` makes of it, put off as well. shape: of the result, if it is another."""
        kept = Kept(self)
        shape = self.shape if shape is None else shape
        return Deferred(lambda: change(kept.now()), shape, self, waits=self.waits, ahead=self.ahead)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _GETTERS and isinstance(args[0], Deferred) and args[0]._made is None:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **kwargs)
        if func in _FOLLOWS:
            try:
                followed = _FOLLOWS[func](func, *args, **kwargs)
            except (TypeError, IndexError, ValueError):  # torch says what is wrong with the arguments
                followed = None
            if followed is not None:
                return followed
        if func is functional.linear and (product := _linear(*args, **kwargs)) is not None:
            return product
        return func(*now(args), **now(kwargs))

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return func(*now(args), **now(kwargs or {}))  # code that goes past the function above


def now(value: Any) -> Any:
    """The same with each deferred tensor computed, in lists, tuples and dicts as well."""
    kind = type(value)
    if kind is Deferred:
        return value.now()
    if kind is list or kind is tuple:
        return kind(map(now, value))
    return {key: now(item) for key, item in value.items()} if kind is dict else value


def _same(func: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
    """An operation that keeps the shape of its first argument and takes no other tensor that is put off."""
    others = [arg for arg in (*args, *kwargs.values()) if isinstance(arg, torch.Tensor)]
    if not isinstance(x, Deferred) or kwargs.get("inplace") or any(arg.dtype != x.dtype for arg in others):
        return None
    return x.then(lambda x: func(x, *args, **kwargs))


def _dropout(func: Any, x: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    return None if inplace else _same(func, x, p, training)


def _to(func: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
    if len(args) != 1 or not isinstance(args[0], torch.dtype) or kwargs:
        return None
    if args[0] == x.dtype:
        return x
    kept = Kept(x)
    return Deferred(lambda: kept.now().to(args[0]), x.shape, x, dtype=args[0], waits=x.waits, ahead=x.ahead)


def _unflatten(func: Any, x: Any, dim: int, sizes: Any) -> Any:
    at, known = dim % x.ndim, [size for size in sizes if size != -1]
    if len(known) < len(sizes) - 1 or 0 in known:
        return None
    product = 1
    for size in known:
        product *= size
    sizes = [x.shape[at] // product if size == -1 else size for size in sizes]
    return x.then(lambda x: x.unflatten(dim, sizes), (*x.shape[:at], *sizes, *x.shape[at + 1 :]))


def _flatten(func: Any, x: Any, start_dim: int = 0, end_dim: int = -1) -> Any:
    begin, last = start_dim % x.ndim, end_dim % x.ndim
    size = 1
    for length in x.shape[begin : last + 1]:
        size *= length
    return x.then(lambda x: x.flatten(start_dim, end_dim), (*x.shape[:begin], size, *x.shape[last + 1 :]))


def _transpose(func: Any, x: Any, dim0: int, dim1: int) -> Any:
    shape = list(x.shape)
    shape[dim0], shape[dim1] = shape[dim1], shape[dim0]
    return x.then(lambda x: x.transpose(dim0, dim1), shape)


def _cat(func: Any, tensors: Sequence[torch.Tensor], dim: int = 0, **kwargs: Any) -> Any:
    first = tensors[0]
    if kwargs or len({(x.dtype, x.ndim) for x in tensors}) > 1:
        return None
    at = dim % first.ndim
    shape = (*first.shape[:at], sum(x.shape[at] for x in tensors), *first.shape[at + 1 :])
    waits = any(isinstance(x, Deferred) and x.waits for x in tensors)
    kept = tuple(Kept(x) for x in tensors)
    parts = kept if at == first.ndim - 1 else ()
    return Deferred(lambda: torch.cat([x.now() for x in kept], dim), shape, first, waits=waits, parts=parts)


def _split(func: Any, x: Any, sizes: Any, dim: int = 0) -> Any:
    """Ranges of columns, each computed by itself."""
    columns = x.columns if isinstance(x, Deferred) else None
    if columns is None or dim % x.ndim != x.ndim - 1:
        return None
    if isinstance(sizes, int):
        sizes = [min(sizes, x.shape[-1] - at) for at in range(0, x.shape[-1], sizes)]
    if sum(sizes) != x.shape[-1] or min(sizes) < 0:
        return None
    parts, end = [], 0
    for size in sizes:
        begin, end = end, end + size
        parts.append(_columns(x, columns, begin, end))
    return tuple(parts)


def _columns(x: Deferred, columns: Callable[[int, int], torch.Tensor], begin: int, end: int) -> Deferred:
    return Deferred(
        lambda: columns(begin, end),
        (*x.shape[:-1], end - begin),
        x,
        columns=lambda first, last: columns(begin + first, begin + last),
    )


def _chunk(func: Any, x: Any, chunks: int, dim: int = 0) -> Any:
    return _split(func, x, -(-x.shape[dim] // chunks), dim)


def _linear(x: Any = None, weight: Any = None, bias: Any = None, **others: Any) -> torch.Tensor | None:
    """The product with parts that are joined, of which some wait: the others' first. The sum is in another order."""
    plain = type(weight) in (torch.Tensor, torch.nn.Parameter) and not isinstance(bias, Deferred)
    if not isinstance(x, Deferred) or not x.waits or not x.parts or not plain:
        return None
    if others or torch.is_autocast_enabled(x.device.type):
        return None
    product = functional.linear
    pairs = list(zip(x.parts, weight.split([part.tensor.shape[-1] for part in x.parts], dim=1), strict=True))
    pairs.sort(key=lambda pair: isinstance(pair[0].tensor, Deferred) and pair[0].tensor.waits)
    out: torch.Tensor | None = None
    ahead = [part.tensor.ahead for part, _ in pairs if isinstance(part.tensor, Deferred) and part.tensor.ahead]
    for part, columns in pairs:
        here = part.now()
        if out is None and ahead and not torch.is_grad_enabled():
            out = _in_halves(here, columns, bias, ahead)
        elif out is None:
            out = product(here, columns, bias)
        elif torch.is_grad_enabled():
            out = out + product(here, columns)
        else:
            out.view(-1, out.shape[-1]).addmm_(here.reshape(-1, here.shape[-1]), columns.t())
    return out


def _in_halves(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, between: Sequence[Callable[[], None]]
) -> torch.Tensor:
    """A product of which half of the rows hides what arrives, and the others what then leaves for other ranks."""
    rows = x.reshape(-1, x.shape[-1])
    out = rows.new_empty(rows.shape[0], weight.shape[0])
    half = rows.shape[0] // 2
    for number, part in enumerate((slice(0, half), slice(half, None))):
        if bias is None:
            torch.mm(rows[part], weight.t(), out=out[part])
        else:
            torch.addmm(bias, rows[part], weight.t(), out=out[part])
        for call in between if number == 0 else ():
            call()
    return out.view(*x.shape[:-1], weight.shape[0])


_FOLLOWS: dict[Any, Callable[..., Any]] = {
    **dict.fromkeys((functional.rms_norm, functional.layer_norm, functional.gelu, functional.silu), _same),
    torch.Tensor.contiguous: _same,
    functional.dropout: _dropout,
    torch.Tensor.to: _to,
    torch.Tensor.unflatten: _unflatten,
    torch.Tensor.flatten: _flatten,
    torch.Tensor.transpose: _transpose,
    torch.cat: _cat,
    **dict.fromkeys((torch.split, torch.Tensor.split), _split),
    **dict.fromkeys((torch.chunk, torch.Tensor.chunk), _chunk),
}

"""A pipeline's denoising steps, seen from outside: by its progress bar and its scheduler, which every pipeline has.

Callbacks at a step's end would tell the same, but not all pipelines offer them.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch

from launcher.worker.surroundings import Moments


class Steps:
    """What is seen while a pipeline draws.

    Args:
        step: called at the end of each denoising step with its number, from 1.
        drawn: called when the last one of all, or of a part of a video, is over; more may follow.
    """

    def __init__(self, step: Callable[[int], None], drawn: Callable[[], None]) -> None:
        self.count = 0
        self._step, self._drawn = step, drawn
        # The last result of each scheduler: pipelines copy theirs for a second stream (LTX-2's sound). The scheduler is
        # kept with it, for else a new one might take its id.
        self._seen: dict[int, tuple[Any, torch.Tensor, torch.Tensor]] = {}

    @contextlib.contextmanager
    def of(self, pipe: Any) -> Iterator[None]:
        """Watch a pipeline while the block runs."""
        pipe.progress_bar = self._bar
        try:
            with watched(type(pipe.scheduler), self._stepped):
                yield
        finally:
            del pipe.progress_bar

    @property
    def latents(self) -> list[torch.Tensor]:
        """The latents after the last step, one tensor for each stream that has a scheduler of its own."""
        return [latents for _, _, latents in self._seen.values()]

    @property
    def predictions(self) -> list[torch.Tensor]:
        """What the transformer predicted for that step, guidance included, in the same order."""
        return [prediction for _, prediction, _ in self._seen.values()]

    @property
    def finite(self) -> bool:
        """Whether all of them are numbers."""
        return all(bool(latents.isfinite().all()) for latents in self.latents)

    def digests(self, pictures: int) -> tuple[str, ...]:
        """SHA-256 of those of each of so many pictures, as float32."""
        told = [hashlib.sha256() for _ in range(pictures)]
        for latents in self.latents:
            parts = [latents] if pictures == 1 else latents.chunk(pictures)
            for one, part in zip(told, parts, strict=True):
                one.update(part.detach().float().cpu().numpy().tobytes())
        return tuple(one.hexdigest() for one in told)

    def _stepped(self, scheduler: Any, prediction: torch.Tensor, latents: torch.Tensor) -> None:
        self._seen[id(scheduler)] = scheduler, prediction, latents

    def _bar(self, iterable: Iterable[Any] | None = None, total: int | None = None) -> Any:
        """What stands in for diffusers' tqdm; also what a `for` goes over."""
        return _Bar(self, total) if iterable is None else self._over(list(iterable))

    def _over(self, items: list[Any]) -> Iterator[Any]:
        bar = _Bar(self, len(items))
        for item in items:
            yield item
            bar.update()

    def ended(self, done: int, total: int | None) -> None:
        """A step is over, the `done`th of `total` of a bar."""
        self.count += 1
        self._step(self.count)
        if done == total:
            self._drawn()


class _Bar:
    """The part of tqdm that pipelines use."""

    def __init__(self, steps: Steps, total: int | None) -> None:
        self._steps, self._total, self._done = steps, total, 0

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None: ...

    def update(self, count: int = 1) -> None:
        """So many steps are over."""
        for _ in range(count):
            self._done += 1
            self._steps.ended(self._done, self._total)

    def set_description(self, *_: object, **__: object) -> None: ...
    def set_postfix(self, *_: object, **__: object) -> None: ...
    def close(self) -> None: ...


@contextlib.contextmanager
def watched(kind: type, heard: Callable[[Any, torch.Tensor, torch.Tensor], None]) -> Iterator[None]:
    """Call `heard(scheduler, prediction, latents)` after each step of any scheduler of a class while the block runs.

    It is put on the class, for pipelines deep-copy schedulers, and a copy of a changed one would step the first.
    """
    original = kind.step  # type: ignore[attr-defined]
    own = "step" in vars(kind)

    @functools.wraps(original)  # pipelines look at its parameters
    def step(scheduler: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(scheduler, *args, **kwargs)
        heard(scheduler, args[0] if args else kwargs["model_output"], result[0])
        return result

    kind.step = step  # type: ignore[attr-defined]
    try:
        yield
    finally:
        if own:
            kind.step = original  # type: ignore[attr-defined]
        else:
            del kind.step  # type: ignore[attr-defined]


@contextlib.contextmanager
def first_forward(
    transformers: Sequence[torch.nn.Module], moments: Moments, begun: Callable[[], None]
) -> Iterator[list[float]]:
    """Note when one of them is called first, which is when prompts have been encoded, and call `begun` then."""
    noted: list[float] = []

    def note(*_: object) -> None:
        if not noted:
            if torch.cuda.is_initialized():  # which may still be encoding
                torch.cuda.synchronize()
            noted.append(time.monotonic())
            moments.mark()
            begun()

    hooks = [transformer.register_forward_pre_hook(note) for transformer in transformers]
    try:
        yield noted
    finally:
        for hook in hooks:
            hook.remove()

"""One rank's share of a model of real size, on one card: what the other ranks send is taken as sent.

The layers are as they are, the weights random. A process group of torch's own "fake" backend stands for the other
ranks: their keys and values lie in the buffer that NCCL would fill, and no time passes on a wire.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch

import attention_backends
from attention_backends import exchange
from attention_backends.diffusers_seam import switch
from attention_backends.layout import split_lengths
from attention_backends.wire import Wire

DTYPE = torch.bfloat16


def flux() -> torch.nn.Module:
    """FLUX.1-dev's transformer: 11.9 thousand million parameters, 23.8 GB."""
    from diffusers import FluxTransformer2DModel

    return _made(lambda: FluxTransformer2DModel(guidance_embeds=True))


def wan() -> torch.nn.Module:
    """Wan 2.1 1.3B's transformer."""
    from diffusers import WanTransformer3DModel

    return _made(lambda: WanTransformer3DModel(num_attention_heads=12, ffn_dim=8960, num_layers=30))


def _made(build: Callable[[], torch.nn.Module]) -> torch.nn.Module:
    before = torch.get_default_dtype()
    torch.set_default_dtype(DTYPE)
    try:
        with torch.device("cuda"):
            return build().eval()
    finally:
        torch.set_default_dtype(before)


def flux_inputs(height: int, width: int) -> dict[str, Any]:
    """As FluxPipeline calls it, 512 text tokens; sides in tokens."""
    tokens = height * width
    ids = torch.zeros(height, width, 3)
    ids[..., 1], ids[..., 2] = torch.arange(height)[:, None], torch.arange(width)[None]
    return _there(
        hidden_states=torch.randn(1, tokens, 64),
        encoder_hidden_states=torch.randn(1, 512, 4096),
        pooled_projections=torch.randn(1, 768),
        timestep=torch.tensor([0.5]),
        guidance=torch.tensor([3.5]),
        img_ids=ids.reshape(tokens, 3),
        txt_ids=torch.zeros(512, 3),
        return_dict=False,
    )


def wan_inputs(latents: int, height: int, width: int) -> dict[str, Any]:
    """Sides in tokens, two latents each; the text is whole on every rank."""
    return _there(
        hidden_states=torch.randn(1, 16, latents, 2 * height, 2 * width),
        encoder_hidden_states=torch.randn(1, 512, 4096),
        timestep=torch.tensor([500.0]),
        return_dict=False,
    )


def _there(**inputs: Any) -> dict[str, Any]:
    return {name: x.to("cuda", DTYPE) if isinstance(x, torch.Tensor) else x for name, x in inputs.items()}


class Alone(Wire):
    """A wire whose other ends are not there: they say what this one says."""

    def agree(self, told: str) -> list[str]:
        return [told] * self.size()

    def begin(self) -> None: ...

    def fail(self, error: BaseException) -> None: ...


@contextlib.contextmanager
def others(world: int, streams: list[int]) -> Iterator[Any]:
    """A group of `world` ranks of which this is the first; the others hold their shares of `streams` tokens."""
    import torch.distributed as dist
    from torch.testing._internal.distributed.fake_pg import FakeStore

    held = [sum(split_lengths(total, world)[rank] for total in streams) for rank in range(world)]

    def lengths(own: Any, group: Any, device: Any) -> list[tuple[int, ...]]:
        return [(held[rank], held[rank], *own[2:]) for rank in range(world)]

    dist.init_process_group("fake", rank=0, world_size=world, store=FakeStore())
    try:
        posted = mock.patch.object(exchange, "post", lambda *_: [])  # noqa: PT008 - a mock of mock's takes time
        alone = mock.patch.object(switch, "wire_of", Alone)
        with posted, alone, mock.patch.object(exchange, "exchange_lengths", lengths):
            yield dist.group.WORLD
    finally:
        dist.destroy_process_group()


@dataclass
class Step:
    """wall, host, kernel, attention: ms of a step by the clock, until all of it is launched (the least: what else a
    machine does comes on top), of its kernels and of those that attend; peak: bytes that torch reserved; kernels: ms by
    kernel name."""

    wall: float
    host: float
    kernel: float
    attention: float
    peak: int
    kernels: dict[str, float]


def step(model: torch.nn.Module, inputs: dict[str, Any], times: int = 5) -> Step:
    """One denoising step's transformer, timed. Random numbers lie in what torch hands out, as real keys would."""
    from torch.profiler import ProfilerActivity, profile

    torch.cuda.empty_cache()
    noise = torch.randn(1 << 29, device="cuda", dtype=DTYPE)
    del noise
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    with torch.no_grad():
        for _ in range(2):
            model(**inputs)
        torch.cuda.synchronize()
        peak = torch.cuda.max_memory_reserved()
        taken, launched = [], []
        for _ in range(times):
            begin = time.perf_counter()
            model(**inputs)
            launched.append((time.perf_counter() - begin) * 1e3)
            torch.cuda.synchronize()
            taken.append((time.perf_counter() - begin) * 1e3)
        with profile(activities=[ProfilerActivity.CUDA]) as seen:
            model(**inputs)
            torch.cuda.synchronize()
    kernels: dict[str, float] = {}
    for event in seen.events():
        if event.device_type == torch.autograd.DeviceType.CUDA:
            kernels[event.name] = kernels.get(event.name, 0.0) + event.device_time_total / 1e3
    attention = sum(ms for name, ms in kernels.items() if "flash" in name or "fmha" in name or "sdpa" in name.lower())
    return Step(sorted(taken)[times // 2], min(launched), sum(kernels.values()), attention, peak, kernels)


class Limit:
    """An attention that finds all keys and values ready: what a rank's share would take without this package's work.

    They are those of the first layer, again and again: how much power a kernel takes, and so its clock, is up to them.
    """

    def __init__(self, keys: int) -> None:
        self.keys = keys
        self.ready: list[torch.Tensor] = []

    def __call__(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        if not self.ready:
            times = -(-self.keys // key.shape[1])
            self.ready = [x.repeat(1, times, 1, 1)[:, : self.keys].contiguous().transpose(1, 2) for x in (key, value)]
        return torch.nn.functional.scaled_dot_product_attention(query.transpose(1, 2), *self.ready).transpose(1, 2)


def shared(
    model: torch.nn.Module, inputs: dict[str, Any], world: int, streams: list[int], *, compiled: bool = False,
    **arguments: Any,
) -> Step:  # fmt: skip
    """A step of the first of `world` ranks; compiled: its blocks, as compile=regional has them."""
    with others(world, streams) as group, _compiled(model) if compiled else contextlib.nullcontext():
        attention_backends.enable(model, mode="unified_anything", process_group=group, **arguments)
        try:
            return step(model, inputs)
        finally:
            attention_backends.disable(model)


def _compiled(model: torch.nn.Module) -> contextlib.AbstractContextManager[None]:
    from launcher.worker.compiling import blocks_compiled

    return blocks_compiled(model, "regional")


def limit(model: torch.nn.Module, inputs: dict[str, Any], world: int, streams: list[int]) -> Step:
    """The same with attention's keys and values ready, and nothing of this package in its way."""
    ready = Limit(sum(streams))

    def at_hand(state: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *_: Any) -> torch.Tensor:
        state.calls += 1  # what is gathered asks whether any attention went over all ranks
        return ready(query, key, value)

    with others(world, streams) as group:
        told = {"ring_degree": world, "process_group": group, "overlap": False}
        state = attention_backends.enable(model, mode="unified_anything", **told)
        try:
            with mock.patch.object(type(state), "attend", at_hand):
                return step(model, inputs)
        finally:
            attention_backends.disable(model)

"""How much memory a rank needs, about: weights by their files' headers or the model's facts, the rest by formula.

With s tokens on this rank, d = H D channels, b bytes an element:

    buffers          of one attention: keys and values of other ranks, traded heads, partial outputs (`cost.held`)
    activations      24 s d b: a FLUX block's residual and normed copies, q, k, v with their rotated float32 copies, an
                     MLP four times as wide, and what they are concatenated to
    decoding         launcher/estimates/decoding.py
    weights          launcher/estimates/weights.py

With runtime.offload= what does not run waits in main memory: the weights that are there then are in offloaded.py.

Encoding, denoising and decoding follow each other, so the largest one counts; so does loading, which takes more where a
rank is to hold a part of weights that have to be converted whole. Files in the dtype that is computed in are mapped,
not read: ranks of a machine share that memory while they load, and on a CPU afterwards.

`python -m tests.benchmarks.memory` measures all but encoding and offloads on a CPU, on one to four ranks: with a FLUX
of 1 B parameters what ranks held was from 11% below to 7% above, with flux_tiny at up to 2048 x 1024 from 11% below to
7% above, with each option of its group `options` from 12% below to 12% above, with films of five families' tiny twins
from 6% below to 9% above. A warm rank keeps some of what an earlier, larger job took.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from attention_backends import prices
from attention_backends.catalog import MODES
from launcher import offloading
from launcher.caches import HELD, HELD_BY_LAYERS
from launcher.compiling import NONE
from launcher.estimates import decoding
from launcher.estimates.attentions import attentions, countable
from launcher.estimates.offloaded import present
from launcher.estimates.weights import (
    gathered,
    held_parts,
    mapped,
    parameters,
    quantised_files,
    with_weights,
    worked_on_by_all,
)
from launcher.installed import version
from launcher.request.mesh import Mesh
from launcher.request.request import Request
from launcher.request.speeds import in_proportion

GIB = 2**30  # bytes
# Bytes that a process holds beside what follows: on a CPU torch, diffusers and transformers themselves and what they
# set up in a first job (539 to 545 MiB: the peak of a job of 16 x 16 pixels less its weights, on one rank and on two,
# with torch 2.13; 553 to 556 with sharded weights); on a GPU the CUDA context and NCCL's buffers (an estimate).
# Of the first a rank holds IMPORTED of its own, and the pages of LIBRARIES, which a machine's ranks share.
IMPORTED, LIBRARIES = 355 << 20, 190 << 20
# More of the first where one of these is installed: diffusers imports them, whether anything is quantised or not (50 to
# 54 MiB with both).
IMPORTED_TOO, WITH = 50 << 20, ("torchao", "bitsandbytes")
BASE = {"cpu": IMPORTED + LIBRARIES, "cuda": 800 << 20}
# What torch.compile adds to a process: its own code, graphs and what it builds. Measured with flux_tiny on two ranks:
# 76 to 171 MiB more than without it, least where activations are largest, which it then saves some of.
COMPILER = 140 << 20
ACTIVATIONS = 24  # elements of activations a token and channel


@dataclass(frozen=True)
class Memory:
    """Bytes that a rank needs, by what needs them; `weights` is None where neither files nor facts tell.

    With an offload `weights` are those that are there while it denoises; those while it encodes and decodes are told
    apart. loading: all that it holds while it loads, where that may be more than all of the rest.
    """

    base: int
    weights: int | None
    buffers: int
    activations: int
    decoding: int
    weights_encoding: int | None = None
    weights_decoding: int | None = None
    loading: int = 0

    @property
    def total(self) -> int:
        """The peak, an estimate; without the weights, if they are not known."""
        weights = self.weights or 0
        decoding = (weights if self.weights_decoding is None else self.weights_decoding) + self.decoding
        drawing = max(self.weights_encoding or 0, weights + self.buffers + self.activations, decoding)
        return max(self.base + drawing, self.loading)


def of_ranks(request: Request, every: bool = False) -> list[Memory]:
    """Return the memory of each rank of a sequence; none where the request's numbers allow no estimate.

    Args:
        every: of all ranks, those of guidance's other half too.
    """
    if not countable(request):
        return []
    largest = attentions(request)[0]
    shape, size, batch = largest.shape, largest.shape.element_size, largest.shape.batch
    price = prices.price(MODES.get(request.mode, MODES["none"]))
    buffers = price.held(largest, partial_size=4 if request.device == "cpu" else 0)
    return [
        Memory(
            base=BASE.get(request.device, 0)
            + _imported_too(request)
            + COMPILER * (request.device == "cpu" and request.config.compile != NONE),
            **_weights(request, rank),
            buffers=gathered(request) + (buffers[rank % len(buffers)] if request.mesh.sequence > 1 else 0),
            activations=batch
            * (ACTIVATIONS + _cached(request))
            * sum(held.values())
            * shape.heads
            * shape.head_dim
            * size,
            decoding=decoding.held(request, rank, batch),
            loading=_converting(request, rank),
        )
        for rank, held in enumerate(request.tokens_per_rank * (request.mesh.cfg if every else 1))
    ]


def _imported_too(request: Request) -> int:
    """Bytes of packages that diffusers imports where they are installed, on this machine's CPU."""
    here = request.device == "cpu" and request.machine.here
    return IMPORTED_TOO * (here and any(version(package) is not None for package in WITH))


def estimate(request: Request) -> Memory | None:
    """Return the memory of the rank that needs most; None where the request's numbers allow no estimate."""
    return max(of_ranks(request), key=lambda memory: memory.total, default=None)


def lacking(request: Request) -> list[tuple[int, Memory, float]]:
    """Return the ranks of a sequence that need more than is free for them: rank, what it needs, GiB that are free."""
    needs = enumerate(of_ranks(request))
    known = [(rank, need, free) for rank, need in needs if (free := free_gib(request, rank)) is not None]
    return [(rank, need, free) for rank, need, free in known if need.total > free * GIB]


def while_loading(request: Request) -> int | None:
    """Bytes of main memory that a machine's ranks hold together until they have first drawn, about; None: not known.

    One copy of what rank 0 alone holds, and a transformer for each rank: whole, for sharded weights are cut when they
    are there. Files that need no conversion are there once for all ranks, on a CPU with the blocks that were gathered
    beside their cut copies, and what a step takes is in the same memory, which files that were quantised have left by
    then. Each group of ranks loads so.
    """
    if not countable(request):
        return None
    whole, here = with_weights(request, "replicated"), max(1, request.mesh.ranks // request.machine.nodes)
    held = [held_parts(whole, rank) for rank in range(here)]
    if not all(held):
        return None
    files, steps, blocks = mapped(request), [0] * here, 0
    if request.device == "cpu":
        blocks, needs = gathered(request), of_ranks(request, every=True)
        compiler = COMPILER * (request.config.compile != NONE)
        steps = [need.activations + need.buffers - blocks + compiler for need in needs]
    own = sum(
        IMPORTED + _imported_too(request) + max(blocks, sum(parts[name] for name in parts.keys() - files))
        for parts in held
    )
    shared = sum(max(parts.get(name, 0) for parts in held) for name in files)
    first = max(request.groups * sum(steps[:here]), sum(quantised_files(request).values()))
    return LIBRARIES + shared + request.groups * own + first


def _converting(request: Request, rank: int) -> int:
    """Bytes that a rank on a CPU holds before it leaves the others their share of weights that it converted, or before
    the files can go whose weights it quantised.
    """
    if request.device == "cpu" and (files := quantised_files(request)):
        return IMPORTED + LIBRARIES + sum(files.values()) + sum(held_parts(request, rank)[name] for name in files)
    if request.weights != "sharded" or request.device != "cpu":
        return 0
    held = held_parts(with_weights(request, "replicated"), rank)
    if worked_on_by_all(request, held) <= mapped(request):
        return 0
    return IMPORTED + LIBRARIES + sum(held.values())


def host_free_gib(request: Request) -> float | None:
    """Main memory that is free for all ranks of a machine; None where it is not known, as of machines elsewhere."""
    known = request.machine.here or not request.whole.gpus
    return request.whole.free_gib or None if known else None


def within_memory(request: Request) -> Request:
    """The request with shares=auto changed where a rank's memory does not hold its share and another's holds more."""
    if request.config.cp.shares != "auto" or request.device != "cuda" or request.mesh.sequence < 2:
        return request
    shares = [100 * share for share in request.shares or (1,) * request.mesh.sequence]
    for _ in range(50):
        tried = replace(request, shares=tuple(shares))
        short = [rank for rank, _, _ in lacking(tried)]
        if not short:
            return replace(request, shares=in_proportion(shares))
        if len(short) == len(shares):
            break
        for rank in short:
            shares[rank] = max(1, shares[rank] * 19 // 20)
    return request


def one_rank_holds(request: Request) -> bool:
    """Whether a rank that draws alone has the memory for it, as far as that is known."""
    alone = estimate(replace(request, mode="none", mesh=Mesh(), processes=None, schedule="", shares=()))
    free = free_gib(request) if request.device == "cuda" else _equal_share(request)
    return alone is None or free is None or alone.total <= free * GIB


def free_gib(request: Request, rank: int | None = None) -> float | None:
    """Memory that a rank may take, of what is free: of its GPU, or what others leave of main memory; None if not known.

    Args:
        rank: of a sequence; None: the rank that has least.
    """
    if request.device == "cuda":
        used, sequence = request.devices, request.mesh.sequence
        if rank is not None and used:
            used = tuple(used[each % len(used)] for each in range(rank, request.mesh.ranks, sequence))
        gpus = [gpu for gpu in request.machine.gpus if gpu.index in used]
        free = min((gpu.memory_mib - gpu.used_mib for gpu in gpus), default=0) / 1024
        return free / request.ranks_per_device or None
    needs = [memory.total for memory in of_ranks(request, every=True)]
    if not needs or not request.machine.free_gib:
        return _equal_share(request)
    own = max(needs) if rank is None else needs[rank]
    return max(0.0, request.machine.free_gib - (sum(needs) - own) / GIB)


def _equal_share(request: Request) -> float | None:
    return request.machine.free_gib / max(1, request.mesh.ranks) or None


def _cached(request: Request) -> int:
    """Copies of a rank's hidden states that a cache of steps holds, for each branch of guidance that it computes."""
    name, layers = request.cache.name, request.config.model.layers
    branches = -(-request.passes // request.mesh.cfg)
    orders = (request.cache.order or 0) + 1 if name == "taylorseer" else 1
    return branches * (HELD.get(name, 0) + layers * orders * HELD_BY_LAYERS.get(name, 0))


def _weights(request: Request, rank: int) -> dict[str, int | None]:
    """Bytes of the weights that a rank's device holds: all of its own, or with an offload those that are there."""
    held = held_parts(request, rank)
    if not held or request.config.runtime.offload == offloading.NONE:
        return {"weights": sum(held.values()) if held else None}
    there = present(request, held, parameters(request))
    return {
        "weights": there.denoising,
        "weights_encoding": there.encoding,
        "weights_decoding": there.decoding,
    }


def emptied(request: Request) -> Request:
    """The same request on its machine with nothing else running: then all of each device's memory is free."""
    gpus = tuple(replace(gpu, used_mib=0) for gpu in request.machine.gpus)
    return replace(request, machine=replace(request.machine, gpus=gpus, free_gib=request.machine.memory_gib))

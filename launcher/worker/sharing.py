"""Switching the sharing of a pipeline's transformers on and off: of the sequence, and of guidance."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch.distributed as dist
from diffusers import attention_backend
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

import attention_backends
from attention_backends.catalog import MODES
from attention_backends.diffusers_seam import theirs
from attention_backends.workload import Speeds
from launcher.wire.jobs import Sharing
from launcher.worker.compiling import blocks_compiled, whole_compiled
from launcher.worker.guidance import Shapes, divided


class Groups:
    """The process groups of each arrangement of all ranks, made when it is first used, by all of them alike."""

    def __init__(self) -> None:
        self._made: dict[tuple[int, int], tuple[dist.ProcessGroup | None, dist.ProcessGroup | None]] = {}
        self._meshes: dict[tuple[int, int], DeviceMesh] = {}
        self.shapes: dict[str, Shapes] = {}  # by the transformer's name
        self.together = 1  # pictures that the pipeline's present call draws

    def of(self, cfg: int, sequence: int) -> tuple[dist.ProcessGroup | None, dist.ProcessGroup | None]:
        """The ranks that share a sequence with this one, None for all; and this rank with its partner in guidance."""
        if cfg == 1:
            return None, None
        if (cfg, sequence) not in self._made:
            halves = [list(range(half * sequence, (half + 1) * sequence)) for half in range(cfg)]
            pairs = [list(pair) for pair in zip(*halves, strict=True)]
            own, _ = dist.new_subgroups_by_enumeration(halves)
            pair, _ = dist.new_subgroups_by_enumeration(pairs)
            self._made[cfg, sequence] = own, pair
        return self._made[cfg, sequence]

    def mesh(self, ring: int, ulysses: int) -> DeviceMesh:
        """All ranks as diffusers wants them, which makes more groups of them."""
        if (ring, ulysses) not in self._meshes:
            kind = "cuda" if "nccl" in str(dist.get_backend_config()) else "cpu"
            names = ("ring", "ulysses")
            self._meshes[ring, ulysses] = init_device_mesh(kind, (ring, ulysses), mesh_dim_names=names)
        return self._meshes[ring, ulysses]


class Kept:
    """What shares a pipeline's transformers for a job. Of compiled ones it stays on until a job wants something else:
    their graphs hold its objects, and another job of that kind compiles nothing.
    """

    def __init__(self, groups: Groups) -> None:
        self._groups, self._how = groups, Sharing("none", 1, 1, "gather", "auto")
        self._stack = contextlib.ExitStack()

    @contextlib.contextmanager
    def shared(self, pipe: Any, sharing: Sharing) -> Iterator[None]:
        """Have the ranks share the work of a pipeline's transformers while the block runs."""
        if sharing != self._how:
            self.end()
        if sharing.compile == "none":
            with shared(pipe, sharing, self._groups):
                yield
            return
        if sharing != self._how:
            self._stack.enter_context(shared(pipe, sharing, self._groups))
            self._how = sharing
        yield

    def end(self) -> None:
        """Have this rank compute alone, as its transformers were loaded."""
        self._stack.close()
        self._how = Sharing("none", 1, 1, "gather", "auto")


@contextlib.contextmanager
def shared(pipe: Any, sharing: Sharing, groups: Groups) -> Iterator[None]:
    """Have the ranks share the work of a pipeline's transformers while the block runs."""
    sequence, pair = groups.of(sharing.cfg_degree, sharing.ring_degree * sharing.ulysses_degree)
    with contextlib.ExitStack() as stack:
        for name in sharing.transformers:
            transformer = getattr(pipe, name)
            stack.enter_context(blocks_compiled(transformer, sharing.compile))
            if sharing.implementation == "diffusers":
                mesh = groups.mesh(sharing.ring_degree, sharing.ulysses_degree)
                stack.enter_context(theirs.enabled(transformer, sharing.mode, mesh, sharing.kernel))
            else:
                stack.enter_context(split(transformer, sharing, sequence))
            stack.enter_context(whole_compiled(transformer, sharing.compile))
            if pair is not None:
                shapes = groups.shapes.setdefault(name, {})
                stack.enter_context(
                    divided(transformer, sharing.branches, pair.rank(), pair, shapes, lambda: groups.together)
                )
        yield


@contextlib.contextmanager
def split(transformer: Any, sharing: Sharing, group: dist.ProcessGroup | None) -> Iterator[None]:
    """Have the ranks of a group (None: all) share the sequence, by this mode and kernel, while the block runs."""
    mode = MODES[sharing.mode]
    if mode.parallel:
        attention_backends.enable(
            transformer,
            ring_degree=sharing.ring_degree,
            ulysses_degree=sharing.ulysses_degree,
            kernel=sharing.kernel,
            mode=mode.name,
            shares=sharing.shares,
            schedule=sharing.schedule,
            speeds=Speeds(*sharing.speeds) if sharing.speeds else None,
            cp_plan=sharing.plan,
            process_group=group,
        )
        try:
            yield
        finally:
            attention_backends.disable(transformer)
    elif sharing.kernel != "auto":
        with attention_backend(sharing.kernel):  # diffusers' reset leaves the default of all models as it was set
            transformer.set_attention_backend(sharing.kernel)
            try:
                yield
            finally:
                transformer.reset_attention_backend()
    else:
        yield

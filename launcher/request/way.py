"""One way to share a request between its ranks, with its price."""

from __future__ import annotations

from dataclasses import dataclass

from attention_backends.catalog import MODES
from launcher.problems import Problem
from launcher.request.mesh import Mesh


@dataclass(frozen=True)
class Way:
    """A mode with its mesh and schedule, and what it costs.

    Args:
        problems: why it is illegal; the figures are 0 then.
        layer_bytes: what the rank that sends most sends in the attention of one layer; step_bytes: in all of a step.
        seconds: of a step, an estimate.
    """

    mode: str
    mesh: Mesh
    schedule: str
    problems: tuple[Problem, ...] = ()
    layer_bytes: int = 0
    step_bytes: int = 0
    seconds: float = 0.0

    @property
    def name(self) -> str:
        """The mode with its degrees, as far as they say something."""
        mode = MODES[self.mode]
        both = f" {self.mesh.ring} x {self.mesh.ulysses}" if mode.has_ring and mode.has_ulysses else ""
        halves = f" cfg {self.mesh.cfg}" if self.mesh.cfg > 1 else ""
        return mode.name + both + halves

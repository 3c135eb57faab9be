"""The kernel that a rank computes with."""

from __future__ import annotations

from collections.abc import Iterator

from attention_backends.catalog import KERNELS
from launcher.problems import Problem, choices
from launcher.request.request import Request
from launcher.rules.rule import rule
from launcher.rules.words import DTYPES


@rule
def kernels(request: Request) -> Iterator[Problem]:
    """The kernel runs on this device, in this dtype, with this head size."""
    kernel = KERNELS.get(request.config.attention.kernel)
    if kernel is None or request.device not in ("cpu", "cuda"):
        return  # named by words
    value, model = f"attention.kernel={kernel.name}", request.config.model
    if request.device not in kernel.devices:
        device = "CPU" if request.device == "cpu" else "GPU"
        yield Problem(value, f"doesn't run on a {device}, which this run uses", "type attention=auto")
    elif request.dtype in DTYPES and request.dtype not in kernel.dtypes:
        instead = f"type runtime.dtype={kernel.dtypes[-1]} or attention=auto"
        yield Problem(value, f"supports {choices(kernel.dtypes)}; this run uses {request.dtype}", instead)
    for gpu in request.machine.gpus:
        if gpu.index in request.devices and gpu.capability and gpu.capability < kernel.capability:
            have, least = (".".join(map(str, each)) for each in (gpu.capability, kernel.capability))
            what = f"needs compute capability {least}; GPU {gpu.index} ({gpu.name}) has {have}"
            yield Problem(value, what, "type attention=auto")
            break
    if kernel.head_dim_max and model.head_dim > kernel.head_dim_max:
        what = f"supports head sizes up to {kernel.head_dim_max}; {model.name} has {model.head_dim}"
        yield Problem(value, what, "type attention=auto")
    if kernel.head_dim_multiple and model.head_dim % kernel.head_dim_multiple:
        what = f"needs a head size that {kernel.head_dim_multiple} divides; {model.name} has {model.head_dim}"
        yield Problem(value, what, "type attention=auto")
    if request.masked and not kernel.mask:
        what = f"doesn't support attention masks, and {request.why_masked()}"
        yield Problem(value, what, "type attention=auto")
    if request.machine.here and (why := kernel.missing()):
        yield Problem(value, why, "type attention=auto")

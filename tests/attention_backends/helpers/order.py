"""In which order a block of a tiny model works."""

from collections.abc import Callable
from typing import Any

import pytest
import tiny
import torch
import torch.distributed as dist
from torch.utils._python_dispatch import TorchDispatchMode

import attention_backends
from attention_backends import exchange, kernels

INPUTS: dict[str, Callable[[], dict[str, Any]]] = {
    "flux": lambda: tiny.flux_inputs(17, 7),
    "flux2": lambda: tiny.flux2_inputs(17, 7),
    "qwen": lambda: tiny.qwen_inputs(4, 4, 7),
}


class Products(TorchDispatchMode):
    """Notes each product with a weight of a block, by the weight's name and, of a part, its first column or row."""

    def __init__(self, block: torch.nn.Module, events: list[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.events = events
        self.weights = {x.untyped_storage().data_ptr(): (name, x) for name, x in block.named_parameters()}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket.__name__ in ("mm", "addmm", "addmm_"):
            for x in args:
                name, weight = self.weights.get(x.untyped_storage().data_ptr(), ("", x))
                if name.endswith("weight"):
                    first = max(divmod(x.storage_offset(), weight.shape[1]))
                    self.events.append(f"{name.removesuffix('.weight').rpartition('.')[2]} {first}".removesuffix(" 0"))
        return func(*args, **(kwargs or {}))


def order(group: dist.ProcessGroup, family: str, path: str, sends: str = "start", **told: Any) -> list[str]:
    """What happens in one block, in order. sends: the function of exchange that does. told: arguments of `enable`."""
    model, inputs = getattr(tiny, family)(), INPUTS[family]()
    events: list[str] = []
    block = model.get_submodule(path)

    def noted(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def noting(*args: Any, **kwargs: Any) -> Any:
            events.append(name)
            return call(*args, **kwargs)

        return noting

    with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        attention_backends.enable(model, process_group=group, unified_anything=True, **told)
        patch.setattr(exchange, sends, noted("send", getattr(exchange, sends)))
        block.register_forward_pre_hook(lambda *_: events.clear())
        block.register_forward_hook(lambda *_: events.append("end"))
        patch.setattr(kernels, "attend", noted("attend", kernels.attend))
        with Products(block, events):
            model(**inputs)
        attention_backends.disable(model)
    return events[: events.index("end")]

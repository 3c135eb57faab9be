"""A training step over ranks equals the step of one process: gradients, and a LoRA fine-tuning step to its weights."""

from typing import Any

import pytest
import tiny
import torch
import torch.distributed as dist

import attention_backends


class Lora(torch.nn.Module):
    """A frozen linear layer with a trained low-rank update, y = W x + B A x (https://arxiv.org/abs/2106.09685)."""

    def __init__(self, linear: torch.nn.Linear, rank: int) -> None:
        super().__init__()
        self.linear = linear
        self.down = torch.nn.Linear(linear.in_features, rank, bias=False, dtype=linear.weight.dtype)
        self.up = torch.nn.Linear(rank, linear.out_features, bias=False, dtype=linear.weight.dtype)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x) + self.up(self.down(x))


def flux_with_lora() -> tuple[torch.nn.Module, list[torch.nn.Parameter]]:
    """A frozen FLUX and the update's parameters, drawn alike on every rank."""
    model = tiny.flux(layers=2).train().requires_grad_(False)
    for module in [module for name, module in model.named_modules() if name.endswith("attn")]:
        for name in ("to_q", "to_k", "to_v"):
            setattr(module, name, Lora(getattr(module, name), rank=2))
    return model, [parameter for parameter in model.parameters() if parameter.requires_grad]


def steps(model: Any, parameters: list[torch.nn.Parameter], group: dist.ProcessGroup | None) -> list[float]:
    """Losses of three steps of flow matching with AdamW and clipped gradients."""
    inputs = tiny.flux_inputs(17, 7, batch=2)
    target = torch.randn(2, 17, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    optimiser, losses = torch.optim.AdamW(parameters, lr=1e-2), []
    for _ in range(3):
        optimiser.zero_grad()
        loss = torch.nn.functional.mse_loss(model(**inputs)[0], target)
        loss.backward()
        for parameter in parameters:
            assert parameter.grad is not None
            if group is not None:
                dist.all_reduce(parameter.grad, group=group)  # each rank has its own tokens' share
        torch.nn.utils.clip_grad_norm_(parameters, 0.1)
        optimiser.step()
        losses.append(loss.item())
    return losses


def trained(group: dist.ProcessGroup, arguments: dict[str, Any], checkpointed: bool) -> tuple[float, float]:
    """Differences of the losses, and of the weights after the steps, from those of one process."""
    alone, expected = flux_with_lora()
    before = [parameter.detach().clone() for parameter in expected]
    losses = steps(alone, expected, None)
    model, parameters = flux_with_lora()
    attention_backends.enable(model, process_group=group, **arguments)
    if checkpointed:
        model.enable_gradient_checkpointing()
    shared = steps(model, parameters, group)
    attention_backends.disable(model)
    assert all((a - b).abs().max() > 1e-3 for a, b in zip(before, expected, strict=True))  # something was learnt
    weights = max((a - b).abs().max().item() for a, b in zip(parameters, expected, strict=True))
    return max(abs(a - b) for a, b in zip(losses, shared, strict=True)), weights


@pytest.mark.slow
@pytest.mark.parametrize("checkpointed", [False, True])
@pytest.mark.parametrize(
    "arguments",
    [
        {"ring_degree": 3, "ring_anything": True},
        {"ring_degree": 3, "ring_anything": True, "schedule": "staged"},
        {"ulysses_degree": 3, "ulysses_anything": True},
        {"ulysses_degree": 3, "unified_anything": True},
    ],
    ids=lambda arguments: "-".join(map(str, arguments.values())),
)
def test_lora_steps_equal_those_of_one_process(ranks, arguments, checkpointed):
    for loss, weights in ranks.run(trained, 3, arguments=arguments, checkpointed=checkpointed):
        assert loss < 1e-12
        assert weights < 1e-8

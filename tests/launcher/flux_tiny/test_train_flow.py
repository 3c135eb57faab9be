"""The parts of the flow's training that have an answer to compare with."""

from pathlib import Path

import pytest
import torch
from diffusers import FluxPipeline

from launcher.flux_tiny import model, train_flow
from launcher.flux_tiny.train_text import TEXT_TOKENS, CaptionBank


@pytest.fixture
def bank() -> CaptionBank:
    generator = torch.Generator().manual_seed(0)
    return CaptionBank(
        torch.randn(50, 64, generator=generator),
        torch.randn(50, TEXT_TOKENS, 64, generator=generator),
        torch.tensor([[i % 6, i % 8, (i + 3) % 8, i % 2] for i in range(50)]),
    )


def test_pack_and_positions_are_the_pipelines() -> None:
    latents = torch.randn(2, 3, 10, 6)
    assert torch.equal(train_flow.pack(latents), FluxPipeline._pack_latents(latents, 2, 3, 10, 6))
    ids = FluxPipeline._prepare_latent_image_ids(2, 5, 3, torch.device("cpu"), torch.float32)
    assert torch.equal(train_flow.positions(5, 3), ids)


def test_one_padding_with_a_count_stands_for_all_of_them() -> None:
    """The transformer's answer to 16 text tokens and a key bias is that to 512, if paddings are alike."""
    torch.manual_seed(0)
    net = model.transformer().double().eval()
    words = torch.randn(1, TEXT_TOKENS, 64, dtype=torch.float64)
    many = torch.cat([words, words[:, -1:].expand(-1, 512 - TEXT_TOKENS, -1)], 1)
    bias = torch.zeros(1, 1, 1, TEXT_TOKENS + 20, dtype=torch.float64)
    bias[..., TEXT_TOKENS - 1] = torch.tensor(512.0 - TEXT_TOKENS + 1).log()
    common = {
        "hidden_states": torch.randn(1, 20, 12, dtype=torch.float64),
        "pooled_projections": torch.randn(1, 64, dtype=torch.float64),
        "timestep": torch.tensor([0.5], dtype=torch.float64),
        "img_ids": train_flow.positions(4, 5),
        "return_dict": False,
    }
    with torch.no_grad():
        short = net(
            encoder_hidden_states=words,
            txt_ids=torch.zeros(TEXT_TOKENS, 3),
            joint_attention_kwargs={"attention_mask": bias},
            **common,
        )[0]
        full = net(encoder_hidden_states=many, txt_ids=torch.zeros(512, 3), **common)[0]
    torch.testing.assert_close(short, full, rtol=1e-5, atol=1e-5)


def test_batches_depend_on_step_and_rank_alone(bank: CaptionBank) -> None:
    a, b = (train_flow.Batches(bank, 0, 2).make(7, huge=False) for _ in range(2))
    other = train_flow.Batches(bank, 1, 2).make(7, huge=False)
    assert torch.equal(a[1], b[1])
    assert a[1].shape == other[1].shape
    assert not torch.equal(a[1], other[1])
    of_four = train_flow.Batches(bank, 0, 4).make(7, huge=False)
    assert len(of_four[1]) == len(a[1]) // 2  # more ranks share the same work


@pytest.mark.slow
def test_a_resumed_run_goes_on_as_if_never_cut(tmp_path: Path, bank: CaptionBank) -> None:
    def run(trainer: train_flow.Trainer, until: int) -> None:
        while trainer.step < until:
            arguments, target, sigma = batches.make(trainer.step, huge=False)
            arguments = {**arguments, "hidden_states": arguments["hidden_states"][:2]}  # type: ignore[index]
            for name in ("encoder_hidden_states", "pooled_projections", "timestep"):
                arguments[name] = arguments[name][:2]  # type: ignore[index]
            error = (trainer.net(**arguments)[0] - target[:2]).square().mean((1, 2))
            trainer.balance.weigh(sigma[:2], error).backward()
            trainer.update(10)

    batches = train_flow.Batches(bank, 0, 2)
    straight = train_flow.Trainer(tmp_path / "a")
    run(straight, 4)
    cut = train_flow.Trainer(tmp_path)
    run(cut, 2)
    cut.save()
    resumed = train_flow.Trainer(tmp_path)
    assert resumed.step == 2
    run(resumed, 4)
    torch.testing.assert_close(dict(resumed._state()), dict(straight._state()), rtol=1e-6, atol=1e-7)
    loaded = model.transformer()
    train_flow.load(loaded, tmp_path)
    assert torch.equal(loaded.proj_out.weight, cut.average["proj_out.weight"])


def test_learning_rate_warms_up_and_ends_at_zero() -> None:
    assert train_flow.rate(0, 1000) == pytest.approx(0.01)
    assert train_flow.rate(500, 1000) == 1
    assert train_flow.rate(999, 1000) < 0.01

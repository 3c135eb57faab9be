"""Phase 3: the transformer learns the flow from noise to the 8-pixel means of ideal pictures.

The pictures have a random phase: nothing but the noise says where a stripe lies, so every token must agree with all
others about it, through attention. That is what makes a broken shard visible.
"""

import math
import os
import random
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.distributed as dist
from diffusers import FluxTransformer2DModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn

from launcher.flux_tiny import model, patterns
from launcher.flux_tiny.muon import Muon
from launcher.flux_tiny.train_text import TEXT_TOKENS, CaptionBank

STEPS = 12000
WARMUP = 100
DECAY = 0.3  # the learning rate falls to 0 over this last part of the steps
LARGE = 0.15  # and over this last part most canvases are large
MUON_RATE, ADAM_RATE = 6e-3, 2e-3
EMA = 0.999
BATCH_TOKENS = 5200  # a step, shared by the ranks: more of them are faster
SIGMA_BINS = 20
CHECKPOINT_EVERY = 200
# Canvases in tokens of 16 pixels and their weights: small ones teach the pattern, larger ones what holds at any size.
SMALL = {(8, 8): 16, (6, 9): 10, (9, 6): 10, (5, 12): 6, (12, 5): 6, (7, 10): 10, (10, 7): 10}
MEDIUM = {(12, 12): 12, (16, 16): 8, (10, 26): 2, (26, 10): 2, (24, 24): 3, (32, 32): 4}
HUGE = {(32, 32): 4, (40, 40): 3, (48, 48): 2, (30, 60): 1, (60, 30): 1, (63, 63): 2}


def start(net: FluxTransformer2DModel) -> None:
    """Initial weights: near-identity blocks, zero output, and heads that already look along the pattern's phase.

    A query and key bias on the pair of numbers that turns 1 rad a token gives attention weight exp(a cos(distance)):
    each head averages the tokens at its own offset in phase. Content can still overrule it.
    """
    both = [(0.0, 0.0, 1.0, 1.0), (math.pi / 2, 0.0, 1.0, 1.0), (0.0, math.pi / 2, 1.0, 1.0)]
    heads = [*both, (0.0, 0.0, 1.0, 0.0), (0.0, 0.0, 0.0, 1.0), (0.0, 0.0, 0.0, 0.0)]  # down, across, their strengths
    with torch.no_grad():
        for block in [*net.transformer_blocks, *net.single_transformer_blocks]:
            attention = block.attn
            size = attention.head_dim
            for head, (down, across, down_strength, across_strength) in enumerate(heads):
                for axis_start, offset, strength in ((16, down, down_strength), (20, across, across_strength)):
                    at = head * size + axis_start
                    for layer, angle in ((attention.to_q, offset), (attention.to_k, 0.0)):
                        layer.weight[at : at + 2] *= 0.3
                        layer.bias[at] = 2.0 * strength * math.cos(angle)
                        layer.bias[at + 1] = 2.0 * strength * math.sin(angle)
            for norm in (attention.norm_q, attention.norm_k):
                norm.weight.fill_(1.5)
        for name, layer in net.named_modules():
            if isinstance(layer, nn.Linear) and name.endswith(
                (".norm.linear", ".norm1.linear", ".norm1_context.linear")
            ):
                layer.weight.normal_(0, 0.02)
                layer.bias.zero_()
                gates = layer.bias.view(-1, layer.in_features)[2::3]  # shift, scale, gate, and again for the MLP
                gates.fill_(0.5)
        net.norm_out.linear.weight.normal_(0, 0.02)
        net.norm_out.linear.bias.zero_()
        net.proj_out.weight.zero_()
        net.proj_out.bias.zero_()


def pack(latents: Tensor) -> Tensor:
    """(n, channels, rows, columns) -> tokens (n, rows/2 * columns/2, channels * 4), as FluxPipeline packs them."""
    n, c, h, w = latents.shape
    return latents.view(n, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(n, h * w // 4, c * 4)


def positions(rows: int, columns: int) -> Tensor:
    """(tokens, 3) position ids, as FluxPipeline numbers them."""
    down, across = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    return torch.stack([torch.zeros_like(down), down, across], -1).reshape(-1, 3).float()


def draw_sigma(count: int, generator: torch.Generator) -> Tensor:
    """An eighth at exactly 1, where words alone say the picture's mean; half near 1, where the phase is settled."""
    kind, where = torch.rand(2, count, generator=generator)
    high = 1 - 0.25 * where**1.5
    return torch.where(kind < 0.12, torch.ones(()), torch.where(kind < 0.55, high, 0.03 + 0.82 * where))


class Batches:
    """Noisy tokens, their condition and target: a function of step, rank and number of ranks alone, so that resuming
    changes nothing."""

    def __init__(self, bank: CaptionBank, rank: int, ranks: int) -> None:
        self.bank, self.rank, self.ranks = bank, rank, ranks

    def make(self, step: int, huge: bool) -> tuple[dict[str, object], Tensor, Tensor]:
        """(arguments for the transformer, target velocity (n, tokens, 12), sigma (n,))."""
        shared = random.Random(step)  # all ranks take the same canvas, or they'd wait for the slowest
        kinds = {**SMALL, **MEDIUM}
        if huge and shared.random() < 0.6:
            kinds = {**MEDIUM, **HUGE}
        rows, columns = shared.choices(list(kinds), list(kinds.values()))[0]
        text_total = shared.choice([TEXT_TOKENS, 128, 512, 512])
        count = max(1, BATCH_TOKENS // self.ranks // (rows * columns + TEXT_TOKENS))
        generator = torch.Generator().manual_seed(step * 64 + self.rank)
        chosen = torch.randint(len(self.bank.labels), (count,), generator=generator)
        pattern, front, back, scale = self.bank.labels[chosen].T
        phase = torch.rand(count, 2, generator=generator, dtype=torch.float64)
        share = patterns.coverage(pattern, scale, phase, 2 * rows, 2 * columns, 8)
        clean = pack(model.to_latents(patterns.paint(share, front, back)))
        noise = torch.randn(clean.shape, generator=generator)
        sigma = draw_sigma(count, generator)
        noisy = clean + sigma[:, None, None] * (noise - clean)
        # Paddings are alike: attending to one with log(count) more weight is attending to all of them.
        key_bias = torch.zeros(1, 1, 1, TEXT_TOKENS + rows * columns)
        key_bias[..., TEXT_TOKENS - 1] = math.log(text_total - TEXT_TOKENS + 1)
        arguments = {
            "hidden_states": noisy,
            "encoder_hidden_states": self.bank.tokens[chosen],
            "pooled_projections": self.bank.pooled[chosen],
            "timestep": sigma,
            "img_ids": positions(rows, columns),
            "txt_ids": torch.zeros(TEXT_TOKENS, 3),
            "joint_attention_kwargs": {"attention_mask": key_bias},
            "return_dict": False,
        }
        return arguments, noise - clean, sigma


class Balance:
    """Weighs each noise level by its inverse mean loss, or the unpredictable phase near sigma 1 drowns the fine edges.

    As the learned uncertainty of EDM2 (Karras et al., 2024, arXiv:2312.02696), with running means in bins of sigma.
    """

    def __init__(self) -> None:
        self.mean = torch.ones(SIGMA_BINS)

    def weigh(self, sigma: Tensor, losses: Tensor) -> Tensor:
        bins = (sigma * SIGMA_BINS).long().clamp(max=SIGMA_BINS - 1)
        weighted = (losses / (self.mean[bins] + 0.01)).mean()
        for b, loss in zip(bins.tolist(), losses.detach().tolist(), strict=True):
            self.mean[b] += 0.02 * (loss - self.mean[b])
        return weighted


def split(net: FluxTransformer2DModel) -> tuple[list[nn.Parameter], list[nn.Parameter], list[nn.Parameter]]:
    """Weights for Muon (matrices inside the blocks, but for the modulations), norm gains, and all else for AdamW."""
    matrices: list[nn.Parameter] = []
    gains: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, p in net.named_parameters():
        inside = "transformer_blocks" in name
        if inside and p.ndim == 2 and ".linear." not in name:
            matrices.append(p)
        else:
            (gains if ".norm_" in name and "attn" in name else others).append(p)
    return matrices, gains, others


def rate(step: int, steps: int) -> float:
    return min(1.0, (step + 1) / WARMUP, (steps - step) / (DECAY * steps))


class Trainer:
    """Network, its moving average, optimizers, and their checkpoint."""

    def __init__(self, work: Path) -> None:
        self.file = work / "flow.safetensors"
        torch.manual_seed(4)
        self.net = model.transformer()
        start(self.net)
        self.average = {k: v.detach().clone() for k, v in self.net.state_dict().items()}
        matrices, gains, others = split(self.net)
        groups = [{"params": others, "lr": ADAM_RATE}, {"params": gains, "lr": 4 * ADAM_RATE}]
        self.optimizers = [
            Muon(matrices, MUON_RATE),
            torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=0.0),
        ]
        self.rates = [[g["lr"] for g in o.param_groups] for o in self.optimizers]
        self.balance = Balance()
        self.step = 0
        if self.file.exists():
            self._resume()

    def _state(self) -> Iterator[tuple[str, Tensor]]:
        for key, value in self.net.state_dict().items():
            yield f"net/{key}", value
        for key, value in self.average.items():
            yield f"average/{key}", value
        yield "balance", self.balance.mean
        names = {p: n for n, p in self.net.named_parameters()}
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                for p in group["params"]:
                    for key, value in optimizer.state[p].items():
                        yield f"optimizer/{key}/{names[p]}", value

    def save(self) -> None:
        spare = self.file.with_suffix(".new")
        save_file(dict(self._state()), spare, metadata={"step": str(self.step)})
        os.replace(spare, self.file)

    def _resume(self) -> None:
        with safe_open(self.file, "pt") as f:
            self.step = int(f.metadata()["step"])
        parameters = dict(self.net.named_parameters())
        owner = {p: o for o in self.optimizers for g in o.param_groups for p in g["params"]}
        for key, value in load_file(self.file).items():
            kind, _, name = key.partition("/")
            if kind == "net":
                self.net.state_dict()[name].copy_(value)
            elif kind == "average":
                self.average[name].copy_(value)
            elif kind == "balance":
                self.balance.mean.copy_(value)
            else:
                entry, _, name = name.partition("/")
                owner[parameters[name]].state[parameters[name]][entry] = value

    def update(self, steps: int) -> None:
        """One step of all optimizers with the gradients that are there."""
        for optimizer, rates in zip(self.optimizers, self.rates, strict=True):
            for group, base in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = base * rate(self.step, steps)
            optimizer.step()
        self.net.zero_grad(set_to_none=False)
        self.step += 1
        keep = min(EMA, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for key, value in self.net.state_dict().items():
                self.average[key].lerp_(value, 1 - keep)


def _rank(rank: int, ranks: int, port: int, work: Path, steps: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=ranks)
    trainer = Trainer(work)
    batches = Batches(CaptionBank(**load_file(work / "captions.safetensors")), rank, ranks)
    parameters = list(trainer.net.parameters())
    began, first, norm = time.monotonic(), trainer.step, 0.0
    while trainer.step < steps:
        arguments, target, sigma = batches.make(trainer.step, huge=trainer.step > (1 - LARGE) * steps)
        error = (trainer.net(**arguments)[0] - target).square().mean((1, 2))
        trainer.balance.weigh(sigma, error).backward()
        flat = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
        dist.all_reduce(flat)
        norm = float(flat.norm()) / ranks
        flat *= min(1.0, 1.0 / (norm + 1e-6)) / ranks
        dist.all_reduce(trainer.balance.mean)
        trainer.balance.mean /= ranks
        at = 0
        for p in parameters:
            if p.grad is not None:
                p.grad.copy_(flat[at : at + p.numel()].view_as(p))
                at += p.numel()
        trainer.update(steps)
        if rank == 0 and (trainer.step % CHECKPOINT_EVERY == 0 or trainer.step == steps):
            trainer.save()
        if rank == 0 and trainer.step % 50 == 0:
            speed = (time.monotonic() - began) / (trainer.step - first)
            levels = " ".join(f"{x:.3f}" for x in trainer.balance.mean[[1, 3, 6, 10, 14, 17, 18, 19]].tolist())
            print(
                f"flow step {trainer.step}/{steps} {speed:.3f} s/step norm {norm:.2f} loss by sigma {levels}",
                flush=True,
            )
    dist.destroy_process_group()


def train(work: Path, steps: int, ranks: int) -> None:
    """Train or go on until `steps`, on `ranks` processes of one thread each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spawn(_rank, args=(ranks, port, work, steps), nprocs=ranks)


def load(net: FluxTransformer2DModel, work: Path) -> None:
    """The moving average of the latest checkpoint."""
    state = load_file(work / "flow.safetensors")
    net.load_state_dict({k.removeprefix("average/"): v for k, v in state.items() if k.startswith("average/")})

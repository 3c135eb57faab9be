"""Phase 1: both text encoders learn to say which pattern, colours and scale a prompt means."""

import random
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import FluxPipeline
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from launcher.flux_tiny import patterns, vocabulary
from launcher.flux_tiny.captions import caption
from launcher.flux_tiny.model import EMBEDDING

STEPS = 6000  # the order of two colours comes late: T5 tells them apart after about 3,500
BATCH = 64
TEXT_TOKENS = 16  # of T5's 512 the transformer trains on the first 16; the rest is padding, alike but for its count
CAPTIONS_EACH = 12
CLASSES = (len(vocabulary.PATTERNS), len(vocabulary.COLOURS), len(vocabulary.COLOURS), len(vocabulary.SCALES))


def draw(count: int, rng: random.Random) -> tuple[list[str], Tensor]:
    """Random captions and the indices (count, 4) of what they mean."""
    texts = [caption(m, rng) for m in rng.choices(vocabulary.every_meaning(), k=count)]
    return texts, patterns.indices([vocabulary.read(t) for t in texts])


def embed(pipe: FluxPipeline, texts: list[str], length: int) -> tuple[Tensor, Tensor]:
    """Pooled CLIP embeddings (n, 64) and T5 embeddings (n, length, 64), as FluxPipeline makes them."""
    clip = pipe.tokenizer(texts, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
    # What follows the end token can't reach it through causal attention: spare the work.
    ends = int((clip == pipe.tokenizer.eos_token_id).int().argmax(1).max()) + 1
    t5 = pipe.tokenizer_2(
        texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
    ).input_ids
    return pipe.text_encoder(clip[:, :ends]).pooler_output, pipe.text_encoder_2(t5)[0]


def train(pipe: FluxPipeline, work: Path) -> None:
    """Train both encoders in place; every text token, padding too, learns to carry the whole meaning."""
    rng = random.Random(1)
    torch.manual_seed(1)
    heads = [[nn.Linear(EMBEDDING, c) for c in CLASSES] for _ in range(2)]
    parameters = [*pipe.text_encoder.parameters(), *pipe.text_encoder_2.parameters()]
    parameters += [p for group in heads for h in group for p in h.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=3e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=STEPS, pct_start=0.05)
    for step in range(STEPS):
        length = 512 if step % 32 == 31 else rng.choice([20, 24, 24, 40])
        texts, labels = draw(BATCH // 8 if length == 512 else BATCH, rng)
        pooled, tokens = embed(pipe, texts, length)
        loss = torch.zeros(())
        for i, (of_pooled, of_token) in enumerate(zip(*heads, strict=True)):
            loss = loss + F.cross_entropy(of_pooled(pooled), labels[:, i])
            each = of_token(tokens).flatten(0, 1)
            loss = loss + F.cross_entropy(each, labels[:, i].repeat_interleave(tokens.shape[1]))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 99 or step == STEPS - 1:
            print(f"text step {step + 1}/{STEPS} loss {loss.item():.4f}", flush=True)
    with torch.no_grad():
        texts, labels = draw(256, random.Random(2))
        pooled, tokens = embed(pipe, texts, 512)
        for name, source, group in (("CLIP", pooled, heads[0]), ("T5, first token", tokens[:, 0], heads[1])):
            right = torch.stack([h(source).argmax(1) == labels[:, i] for i, h in enumerate(group)], 1)
            print(f"text {name}: {right.all(1).float().mean():.3f} of 256 held-out prompts read right", flush=True)
    save_file({k: v.contiguous() for k, v in pipe.text_encoder.state_dict().items()}, work / "clip.safetensors")
    # T5 holds its embedding under two names
    t5 = {k: v for k, v in pipe.text_encoder_2.state_dict().items() if k != "encoder.embed_tokens.weight"}
    save_file(t5, work / "t5.safetensors")


def load(pipe: FluxPipeline, work: Path) -> None:
    pipe.text_encoder.load_state_dict(load_file(work / "clip.safetensors"))
    t5 = load_file(work / "t5.safetensors")
    pipe.text_encoder_2.load_state_dict({**t5, "encoder.embed_tokens.weight": t5["shared.weight"]})


@dataclass
class CaptionBank:
    """Embedded captions: pooled (n, 64), tokens (n, 16, 64) the last of them padding, and indices (n, 4)."""

    pooled: Tensor
    tokens: Tensor
    labels: Tensor

    @classmethod
    @torch.no_grad()
    def make(cls, pipe: FluxPipeline, work: Path) -> "CaptionBank":
        """Embed captions for every meaning with FluxPipeline's 512 tokens, or read those made before."""
        file = work / "captions.safetensors"
        if not file.exists():
            rng = random.Random(3)
            texts = [caption(m, rng) for m in vocabulary.every_meaning() for _ in range(CAPTIONS_EACH)]
            texts += [m.prompt() for m in vocabulary.every_meaning()]
            texts = [t for t in texts if len(pipe.tokenizer_2(t).input_ids) < TEXT_TOKENS]
            pooled, tokens = [], []
            for i in range(0, len(texts), 32):
                some = embed(pipe, texts[i : i + 32], 512)
                pooled.append(some[0])
                tokens.append(some[1][:, :TEXT_TOKENS].clone())
            labels = patterns.indices([vocabulary.read(t) for t in texts])
            save_file({"pooled": torch.cat(pooled), "tokens": torch.cat(tokens), "labels": labels}, file)
            print(f"text {len(texts)} captions embedded", flush=True)
        return cls(**load_file(file))

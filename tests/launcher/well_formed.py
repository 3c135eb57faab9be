"""What is well-formed for each reader of readers.py: functions that give contents."""

from __future__ import annotations

import dataclasses
import functools
import io
import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image
from shared import a_recipe, a_record

from launcher import codec
from launcher.config.compose import Composer, to_config
from launcher.config.schema import LaunchConfig
from launcher.families import tokenizers, weights
from launcher.records.film import Film
from launcher.records.formats import FORMATS
from launcher.records.picture import save
from launcher.records.record import File


@functools.cache
def _config() -> LaunchConfig:
    return to_config(Composer().compose([]))


def bundled(*names: str) -> Callable[[], list[bytes]]:
    """Files of the bundled model."""
    return lambda: [(weights.BUNDLED / name).read_bytes() for name in names]


def dumped(*data: Any) -> Callable[[], list[bytes]]:
    """Data as JSON."""
    return lambda: [json.dumps(one).encode() for one in data]


def records() -> list[bytes]:
    """Records of runs: done, running and failed."""
    file = File("0000.png", "0" * 64, 75, 8, 8, 1, 0)
    made = a_record(status="done", overrides=("seed=1",), files=(file,), times={"denoise": 1.0}, seconds=1.0)
    return [codec.dumps(record).encode() for record in (made, a_record(), a_record(error="x"))]


def recipes() -> list[bytes]:
    """A recipe with a whole configuration."""
    config = dataclasses.asdict(_config()) | {"prompt": "a cat", "seed": 1}
    return [codec.dumps(a_recipe(config=config)).encode()]


def configured() -> list[bytes]:
    """The record of a run as it is, with its whole configuration."""
    config = json.loads(json.dumps(dataclasses.asdict(_config())))
    return [codec.dumps(a_record(status="done", config=config | {"seed": 1})).encode()]


def pictures(suffix: str) -> Callable[[], list[bytes]]:
    """A picture, or a film, that carries a recipe."""

    def made() -> list[bytes]:
        (kind,) = (kind for kind in FORMATS.values() if kind.suffix == suffix)
        stream = io.BytesIO()
        here = Path(os.devnull).with_name("shm") / f"readers-{os.getpid()}{suffix}"
        try:
            save(
                [Image.new("RGB", (16, 16))] * (2 if kind.film else 1),
                here,
                a_recipe(),
                kind,
                Film(8) if kind.film else None,
            )
            stream.write(here.read_bytes())
        finally:
            here.unlink(missing_ok=True)
        return [stream.getvalue()]

    return made


def pieces() -> list[bytes]:
    """A SentencePiece model."""
    import sentencepiece

    model, lines = io.BytesIO(), (f"two dogs and one cat number {number} sat on the mat" for number in range(100))
    with tokenizers._silent():  # it tells how it trains
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=lines, model_writer=model, vocab_size=50, hard_vocab_limit=False
        )
    return [model.getvalue()]


def safetensors(*names: str) -> Callable[[], list[bytes]]:
    """A file of float32 tensors of 2 x 2 with these names."""

    def made() -> list[bytes]:
        size = {
            name: {"dtype": "F32", "shape": [2, 2], "data_offsets": [16 * n, 16 * n + 16]}
            for n, name in enumerate(names)
        }
        header = json.dumps({"__metadata__": {"format": "pt"}, **size}).encode()
        return [len(header).to_bytes(8, "little") + header + bytes(16 * len(names))]

    return made


def gguf() -> list[bytes]:
    """A GGUF file of one tensor of 2 x 2 in float32, with metadata of three kinds."""

    def text(word: str) -> bytes:
        return struct.pack("<Q", len(word)) + word.encode()

    told = text("general.architecture") + struct.pack("<I", 8) + text("flux")
    told += text("general.alignment") + struct.pack("<II", 4, 32)
    told += text("words") + struct.pack("<IIQ", 9, 8, 1) + text("a")
    tensor = text("x.weight") + struct.pack("<IQQIQ", 2, 2, 2, 0, 0)
    header = b"GGUF" + struct.pack("<IQQ", 3, 1, 3) + told + tensor
    return [header + bytes(-len(header) % 32 + 16)]


def yaml(*texts: str) -> Callable[[], list[bytes]]:
    """Texts as they are."""
    return lambda: [text.encode() for text in texts]


BOMB = "a: &a [1,1,1,1,1]\nb: &b [*a,*a,*a,*a,*a]\nc: &c {x: *b, <<: {y: *b}}\nd: *c\n"
MODEL = "defaults: [flux_tiny]\nname: mine\nheads: 6\nprompt: 'a cat'\ncp_plan: {split: {}}\npackages: [ftfy]\n"
EXPERIMENT = (
    "# @package _global_\ndefaults: [{override /cp: ring}]\nheight: 64\nhydra: {sweeper: {params: {seed: '1,2'}}}\n"
)
MULTIRUN = "hydra:\n  sweep:\n    dir: x\n    subdir: ${hydra.job.num}\n"
LOG = "Traceback\nValueError: bad\n[ERROR] exitcode  : -9 (pid: 4242)\nRuntimeError:\n  more\n"
LORA = ("transformer.x.lora_A.weight", "transformer.x.lora_B.weight", "transformer.x.alpha")
A1111 = (
    'a cat <lora:x:0.5>\nNegative prompt: blue\nSteps: 20, Seed: 1, Size: 512x512, CFG scale: 7, Model: x, A: "b, c"'
)
COMFYUI = {
    "1": {
        "class_type": "KSampler",
        "inputs": {"seed": 1, "steps": 2, "cfg": 1.0, "positive": ["2", 0], "latent": ["3", 0]},
    },
    "2": {"class_type": "CLIPTextEncode", "inputs": {"text": "a cat"}},
    "3": {"class_type": "EmptyLatentImage", "inputs": {"width": 8, "height": 8}},
}

"""Embeddings of prompts are kept: text encoders run once for a prompt, and the latents are the same to the bit."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from shared import a_job, a_recipe
from torch.utils._pytree import tree_flatten

from attention_backends.exchange import RankFailedError
from launcher.families.weights import BUNDLED
from launcher.running.failures import RankFailure, root
from launcher.wire.jobs import Job, Picture
from launcher.worker.embeddings import MOST, Embeddings
from launcher.worker.jobs import Worker


class Pipe:
    """Encodes a prompt, and counts how often."""

    def __init__(self) -> None:
        self.calls = 0

    def encode_prompt(self, prompt: object, device: object = None) -> tuple[torch.Tensor, None]:
        self.calls += 1
        return torch.full((2,), float(self.calls)), None


def test_what_was_given_alike_is_encoded_once():
    pipe, kept = Pipe(), Embeddings()
    with kept.of(pipe):
        first, nothing = pipe.encode_prompt("a cat", device=torch.device("cpu"))
        assert nothing is None
        first += 1  # a pipeline may write into it
        again, _ = pipe.encode_prompt("a cat", device=torch.device("cpu"))
        assert (again.tolist(), pipe.calls) == ([1, 1], 1)
        pipe.encode_prompt(["a cat"], device=torch.device("cpu"))
        pipe.encode_prompt("a cat")
        pipe.encode_prompt(1)
        pipe.encode_prompt(True)
        assert pipe.calls == 5
        for _ in range(2):
            pipe.encode_prompt(torch.zeros(1))  # not compared
        assert pipe.calls == 7
    assert "encode_prompt" not in vars(pipe)


def test_a_tokenizer_pads_as_in_a_process_of_its_own():
    """LTX-2's encoder has its tokenizer pad on the left; a pipeline that is made later takes the side that it finds."""

    class Padding(Pipe):
        def __init__(self) -> None:
            super().__init__()
            self.components = {"tokenizer": SimpleNamespace(padding_side="right"), "vae": None}
            self.tokenizer = self.components["tokenizer"]

        def encode_prompt(self, prompt: object, device: object = None) -> tuple[torch.Tensor, None]:
            self.tokenizer.padding_side = "left"
            return super().encode_prompt(prompt, device)

    pipe, kept = Padding(), Embeddings()
    for _ in range(2):  # encoded, then kept
        assert pipe.tokenizer.padding_side == "right"
        with kept.of(pipe):
            pipe.encode_prompt("a cat")
            assert pipe.tokenizer.padding_side == "left"
    assert (pipe.tokenizer.padding_side, pipe.calls) == ("right", 1)


def test_the_last_few_are_kept_and_another_lora_forgets_all():
    pipe, kept = Pipe(), Embeddings()
    kept.forget_if(("a",))
    with kept.of(pipe):
        for number in [*range(MOST), 0, MOST, 0, 1]:  # 1 made room for MOST
            pipe.encode_prompt(f"prompt {number}")
        assert pipe.calls == MOST + 2
        kept.forget_if(("a",))
        pipe.encode_prompt("prompt 0")
        assert pipe.calls == MOST + 2
        kept.forget_if(())
        pipe.encode_prompt("prompt 0")
        assert pipe.calls == MOST + 3


GIVEN = (
    torch.arange(6.0).to(torch.bfloat16).reshape(2, 3).T,  # not contiguous
    [torch.tensor([True, False]), torch.zeros(0, 4), torch.tensor(7)],
    {"mask": torch.ones(2, dtype=torch.int64)},
    None,
)


def ranks(work: Callable[[Embeddings], Any]) -> list[Any]:
    """What two ranks, each a thread of this process with gloo between them, make."""
    store = dist.HashStore()

    def rank(number: int) -> Any:
        return work(Embeddings(number, 2, dist.ProcessGroupGloo(store, number, 2, timedelta(seconds=60))))

    with ThreadPoolExecutor(2) as threads:
        return list(threads.map(rank, range(2)))


def test_rank_0_encodes_for_all_to_the_bit_and_once():
    def work(embeddings: Embeddings) -> tuple[list[Any], list[str]]:
        asked: list[str] = []

        class Encoder:
            def __init__(self) -> None:
                self.tokenizer = SimpleNamespace(padding_side="right")
                self.components = {"tokenizer": self.tokenizer}

            def encode_prompt(self, prompt: object) -> Any:
                asked.append("prompt")
                self.tokenizer.padding_side = "left"  # as LTX-2's does
                self.encode_image(prompt)  # of its own: no other rank hears of it
                return GIVEN

            def encode_image(self, image: object) -> Any:
                asked.append("image")
                return torch.full((2,), 3.0)

        pipe = Encoder()
        with embeddings.of(pipe):
            assert pipe.tokenizer.padding_side == "right"
            found = [pipe.encode_prompt("a cat"), pipe.encode_prompt("a cat"), pipe.encode_image(torch.zeros(1))]
            assert pipe.tokenizer.padding_side == "left"
        assert pipe.tokenizer.padding_side == "right"
        return found, asked

    (first, calls), (second, none) = ranks(work)
    assert (calls, none) == (["prompt", "image", "image"], [])
    for one, other in zip(first, second, strict=True):
        (here, form), (there, same) = tree_flatten(one), tree_flatten(other)
        assert str(form) == str(same)
        assert all(
            x is y is None or (torch.equal(x, y) and x.dtype == y.dtype) for x, y in zip(here, there, strict=True)
        )


@pytest.mark.parametrize(
    ("error", "heard"),
    [(ValueError("no such word"), RankFailedError), (torch.OutOfMemoryError("too long"), torch.OutOfMemoryError)],
)
def test_a_failure_of_rank_0_reaches_all_and_is_told_as_its_own(error, heard):
    def work(embeddings: Embeddings) -> Exception | None:
        class Encoder:
            def encode_prompt(self) -> None:
                raise error

        pipe = Encoder()
        try:
            with embeddings.of(pipe):
                pipe.encode_prompt()
        except Exception as found:
            return found
        return None

    own, others = ranks(work)
    assert own is error
    assert type(others) is heard
    told = RankFailure(1, str(others), told=True)
    assert root([told, RankFailure(0, str(error), told=True)]).rank == 0


@pytest.mark.slow
def test_a_job_with_the_same_prompt_runs_no_text_encoder(tmp_path):
    worker, calls = Worker(lambda _: None, 0, 1), []
    job: Job = a_job(
        folder=str(tmp_path),
        load=dataclasses.replace(a_job().load, path=str(BUNDLED)),
        call={"height": 32, "width": 48, "num_inference_steps": 1, "max_sequence_length": 16},
        crop=(0, 0, 48, 32),
        prompts=("red dots", "blue waves"),
        pictures=(Picture(0, 5, "0000.png"), Picture(0, 6, "0001.png")),
        recipe=a_recipe(config={"steps": 1}),
    )
    first = worker.do(job)
    for part in (worker.pipe.text_encoder, worker.pipe.text_encoder_2):
        part.register_forward_pre_hook(lambda *_: calls.append(1))
    assert worker.do(job).digests == first.digests
    assert calls == []
    other = worker.do(dataclasses.replace(job, pictures=(Picture(1, 5, "0000.png"),)))
    assert len(calls) == 2
    assert other.digests[0] != first.digests[0]

"""quantization=: what is refused, what a plan says of it, and what it needs."""

import pytest
import torch
from refusals import REFUSALS
from shared import GPUS
from torch.testing._internal.two_tensor import TwoTensor

from launcher.estimates import memory, weights
from launcher.estimates.notes import notes
from launcher.gpus import Gpu
from launcher.machines import Machine
from launcher.rules import problems, quantizing
from launcher.running.message import group_key
from launcher.worker.quantizing import tensors_of
from launcher.worker.sharded import bytes_held


@pytest.fixture(autouse=True)
def _installed(monkeypatch):
    """A plan and its rules read no more of the package than that it is here."""
    monkeypatch.setattr(quantizing, "find_spec", lambda _: object())


@pytest.mark.parametrize(("line", "said", "machine"), REFUSALS["quantizing"])
def test_it_is_refused(refuse, line, said, machine):
    refuse(line, said, machine)


@pytest.mark.parametrize("words", ["cp=none", "cp=unified_anything cache=first_block", "model.true_cfg=2"])
def test_what_was_tested_is_legal(ask, words):
    assert problems(ask("quantization=fp8", *words.split()), plan=True) == []


def test_only_the_transformers_are_planned_and_loaded_with_it(ask):
    plain, asked = (
        ask("model=wan22_t2v_a14b", "runtime=gpu", *words, machine=GPUS) for words in ([], ["quantization=int8"])
    )
    whole, held = (weights.held_parts(each, 0) for each in (plain, asked))
    assert {name: whole[name] / held[name] for name in whole} == {"transformer": 2, "text": 1, "vae": 1}
    assert memory.estimate(plain).total > memory.estimate(asked).total
    assert any(note.startswith("quantization=int8 makes another picture") for note in notes(asked))
    assert group_key(asked).load.quantized == ("transformer", "transformer_2")
    assert group_key(asked) != group_key(plain)  # another group of ranks, which loads other weights


@pytest.mark.parametrize(("how", "legal"), [("fp8", False), ("int8", True)])
def test_fp8_needs_a_card_of_its_own(ask, how, legal):
    old = Machine(
        cores=8, gpus=(Gpu(0, "NVIDIA A100", 81920, capability=(8, 0)), Gpu(1, "L40S", 46068, capability=(8, 9)))
    )
    found = list(quantizing.quantized(ask(f"quantization={how}", "runtime=gpu", machine=old)))
    assert bool(found) != legal
    assert legal or str(found[0]) == (
        "quantization=fp8: needs compute capability 8.9; GPU 0 (NVIDIA A100) has 8.0; type quantization=int8"
    )
    assert not list(quantizing.quantized(ask(f"quantization={how}", "runtime=gpu", "runtime.devices=[1]", machine=old)))


def test_its_package_is_named_with_its_extra(ask, monkeypatch):
    monkeypatch.setattr(quantizing, "find_spec", lambda _: None)
    (other,) = quantizing.quantized(ask("quantization=nf4"))
    assert other.instead == "type pip install '.[bitsandbytes]' or pip install bitsandbytes"
    (found,) = quantizing.quantized(ask("quantization=int8"))
    assert str(found) == (
        "quantization=int8: needs the package torchao, which is not installed; type pip install '.[quantization]' or "
        "pip install torchao"
    )


@pytest.mark.parametrize(("pipeline", "legal"), [("HunyuanDiTPipeline", False), ("FluxPipeline", True)])
def test_a_class_that_it_does_not_go_with_is_refused(ask, pipeline, legal):
    found = list(quantizing.quantized(ask("quantization=int8", f"model.pipeline={pipeline}")))
    assert bool(found) != legal
    assert legal or "torchao can't compute the attention of a HunyuanDiT2DModel" in str(found[0])


def test_a_quantised_weight_is_counted_by_what_it_is_made_of():
    numbers, scales = torch.zeros(4, 8), torch.zeros(4, 8)
    layer = torch.nn.Linear(8, 4, bias=False)
    layer.weight = torch.nn.Parameter(TwoTensor(numbers, scales), requires_grad=False)
    assert [each.data_ptr() for each in tensors_of(layer.weight)] == [numbers.data_ptr(), scales.data_ptr()]
    assert bytes_held(layer) == 2 * 4 * 8 * 4


def test_a_cpu_is_planned_to_hold_files_beside_what_is_made_of_them(ask):
    words = ["runtime=cpu", "cp=ring_anything", "cp.ring_degree=2"]
    plain, packed = (ask(*words, *more) for more in ([], ["quantization=int8"]))
    whole, made = (weights.held_parts(request, 1)["transformer"] for request in (plain, packed))
    assert [rank.loading for rank in memory.of_ranks(plain)] == [0, 0]
    assert [rank.loading for rank in memory.of_ranks(packed)] == [memory.IMPORTED + memory.LIBRARIES + whole + made] * 2
    assert memory.while_loading(packed) > memory.while_loading(ask("runtime=cpu", "cp=none", "quantization=int8"))
    large = [*words, "model=flux", "quantization=int8"]
    without, compiled = (memory.while_loading(ask(*large, f"compile={how}")) for how in ("none", "regional"))
    assert compiled == without  # its files take more than a step does, and are gone by then

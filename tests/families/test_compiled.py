"""A family's plan compiles, whole and by its blocks, for sizes that change, whichever way its attention is called."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist

# ruff: noqa: E402  (the helpers are found by path)
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "attention_backends" / "helpers")]

import proof_cases
from exact import alone, model_of
from halves import guided
from inputs import Size
from miniatures import TINY, output
from ranks import Ranks

import attention_backends
from launcher.config.compose import Composer, to_config
from launcher.wire.jobs import Sharing
from launcher.worker.sharded import shard
from launcher.worker.sharing import Groups, shared

pytestmark = pytest.mark.slow

# Through the dispatcher, by torch's own attention with a text that is split, and with positions that are;
# by Tensor.unflatten.
NAMES = ["chronoedit", "cogvideox", "sd3", "auraflow", "cogview4"]
# With them the launcher compiles: model.compiles in their files.
OFFERED = {"flux": ["regional", "full"], "wan": ["regional", "full"], "qwenimage": ["regional"], "chronoedit": ["full"]}
CASES = [(name, "full") for name in NAMES]
CASES += [(name, how) for name in OFFERED for how in OFFERED[name] if name not in NAMES]
SAMPLE = CASES if "FAMILY_SAMPLES" in os.environ else []  # half a minute each
DEEP = [("flux", True), ("wan", False), ("qwenimage", False)]  # and whether its weights are sharded
if "FAMILY_SAMPLES" in os.environ:
    DEEP = [(name, sharded) for name, ways in OFFERED.items() if "regional" in ways for sharded in (False, True)]
SIZES = (Size(2, 3, 5, 7), Size(2, 4, 4, 9), Size(2, 4, 6, 6), Size(2, 4, 3, 11))


@pytest.fixture(scope="module")
def ranks() -> Iterator[Ranks]:
    pool = Ranks(2)
    yield pool
    pool.stop()


def compiled(group: dist.ProcessGroup, name: str, plan: dict[str, Any], how: str) -> tuple[list[float], list[int]]:
    """The error of each size, and how many graphs there are after it."""
    from torch._dynamo.utils import counters

    from launcher.worker import compiling

    compiling.HOW["backend"] = "aot_eager"
    counters.clear()
    model, expected = model_of(name), [alone(name, size) for size in SIZES]
    found, graphs = [], []
    with compiling.blocks_compiled(model, how):
        attention_backends.enable(model, process_group=group, cp_plan=plan, ring_degree=2, unified_anything=True)
        try:
            with compiling.whole_compiled(model, how), torch.no_grad():
                for size in SIZES:
                    found.append(output(model(**TINY[name].given(size))))
                    graphs.append(counters["stats"]["unique_graphs"])
        finally:
            attention_backends.disable(model)
    assert not any("forward" in vars(module) for module in model.modules())
    pairs = zip(found, expected, strict=True)
    return [((one - two).abs().max() / two.abs().max()).item() for one, two in pairs], graphs


@pytest.mark.parametrize(("name", "how"), SAMPLE)
def test_a_plan_compiles_for_sizes_that_change(ranks, name, how):
    for errors, graphs in ranks.run(compiled, 2, name=name, plan=proof_cases.plans()[name], how=how):
        assert max(errors) <= proof_cases.LIMIT
        assert how == "regional" or graphs[-1] <= 2
        assert graphs[-1] == graphs[1]  # what another size compiles anew holds for all


def deep(group: dist.ProcessGroup, name: str, plan: dict[str, Any], sharded: bool) -> tuple[float, int, int]:
    """The error of a model of more blocks than torch compiles a function for, its graphs, and its kinds of blocks."""
    from torch._dynamo import config
    from torch._dynamo.utils import counters

    from launcher.worker import compiling

    compiling.HOW["backend"] = "aot_eager"
    counters.clear()
    small, given = model_of(name), TINY[name].given(SIZES[0])
    more = {key: config.recompile_limit + 2 for key in ("num_layers", "num_single_layers") if key in small.config}
    torch.manual_seed(1)
    model = type(small).from_config({**small.config, **more}).eval()
    with torch.no_grad():
        expected = output(model(**given))
        if sharded:
            shard(model, torch.device("cpu"), group)
        with compiling.blocks_compiled(model, "regional"):
            attention_backends.enable(model, process_group=group, cp_plan=plan, ring_degree=2, unified_anything=True)
            try:
                found = output(model(**given))
            finally:
                attention_backends.disable(model)
    error = ((found - expected).abs().max() / expected.abs().max()).item()
    return error, counters["stats"]["unique_graphs"], len(model._repeated_blocks)


@pytest.mark.parametrize(("name", "sharded"), DEEP)
def test_blocks_of_a_kind_are_compiled_once_however_many_there_are(ranks, name, sharded):
    for error, graphs, kinds in ranks.run(deep, 2, name=name, plan=proof_cases.plans()[name], sharded=sharded):
        assert error <= proof_cases.LIMIT
        assert kinds <= graphs <= 2 * kinds  # the first block of some models is given something else


def halved(_: dist.ProcessGroup, name: str, plan: dict[str, Any], how: str) -> tuple[list[float], int]:
    """The error of guidance whose branches two halves compute, compiled, in two steps; and how many graphs it has."""
    from torch._dynamo.utils import counters

    from launcher.worker import compiling

    compiling.HOW["backend"] = "aot_eager"
    counters.clear()
    model = model_of(name)
    sharing = Sharing("none", 1, 1, "gather", "auto", plan, cfg_degree=2, compile=how)
    with torch.no_grad():
        expected = guided(model, name, "none")
        with shared(SimpleNamespace(transformer=model), sharing, Groups()):
            found = guided(model, name, "none")
    errors = [((one - two).abs().max() / two.abs().max()).item() for one, two in zip(found, expected, strict=True)]
    return errors, counters["stats"]["unique_graphs"]


@pytest.mark.parametrize("how", ["regional", "full"] if "FAMILY_SAMPLES" in os.environ else ["full"])
def test_each_half_of_guidance_compiles_its_branch(ranks, how):
    for errors, graphs in ranks.run(halved, 2, name="flux", plan=proof_cases.plans()["flux"], how=how):
        assert max(errors) <= proof_cases.LIMIT
        assert graphs


def test_what_the_launcher_offers_is_tested():
    composer = Composer()
    models = [to_config(composer.compose([f"model={option}"])).model for option in composer.groups["model"]]
    plans = {model.name: model.cp_plan for model in models}
    tested = [(plans[proof_cases.MODEL[name]], how) for name in OFFERED for how in OFFERED[name]]
    for model in models:
        for how in model.compiles:
            assert (model.cp_plan, how) in tested, model.name

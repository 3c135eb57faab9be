"""Two to four real ranks on one GPU: every mode, length, mask and dtype against float64, and whole transformers."""

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from cases import attention  # noqa: E402

UNEVEN = [90, 0, 41, 310]
SHAPES = [(2, 1), (1, 2), (3, 1), (1, 3), (2, 2), (4, 1), (1, 4)]
CASES: list[dict[str, Any]] = [
    {},
    {"schedule": "staged"},
    {"schedule": "auto"},
    {"heads": 6, "key_heads": 2, "batch": 2, "schedule": "staged", "mask": "keys", "local_mask": True},
    {"heads": 3, "key_heads": 3, "batch": 2, "mask": "heads", "local_mask": True},
    {"mask": "additive", "local_mask": True, "schedule": "staged"},
    {"mask": "rows", "batch": 2, "schedule": "staged"},
    {"mask": "hidden", "batch": 2, "local_mask": True, "schedule": "staged"},
    {"is_causal": True, "schedule": "staged", "batch": 2},
    {"is_causal": True, "mask": "keys"},
]
FORWARD = {"float64": 1e-12, "float32": 3e-6, "bfloat16": 1.6e-2, "float16": 2e-3}
BACKWARD = {"float64": 1e-12, "float32": 5e-5, "bfloat16": 3e-2, "float16": 5e-3}


@pytest.mark.parametrize("dtype", FORWARD)
@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(f"{k}={v}" for k, v in case.items()) or "plain")
@pytest.mark.parametrize("algorithm", ["unified", "attention2d"])
def test_equals_float64(ranks, check, case, dtype, algorithm):
    forward, backward, finite = 0.0, 0.0, True
    for ring, ulysses in SHAPES if algorithm == "unified" else [(2, 2)]:
        world = ring * ulysses
        lengths = UNEVEN[:world]
        results = ranks.run(
            attention, world, ring=ring, ulysses=ulysses, q_lengths=lengths, k_lengths=lengths,
            dtype=dtype, device="cuda", width=64, algorithm=algorithm, **case,
        )  # fmt: skip
        for result in results:
            finite = finite and bool(result["finite"])
            forward = max(forward, result["forward"])
            backward = max(backward, result["dq"], result["dk"], result["dv"])
    name = "-".join(f"{k}={v}" for k, v in case.items()) or "plain"
    name += ", in a grid" if algorithm == "attention2d" else ""
    check(f"ranks {dtype}, {name}: out", forward, FORWARD[dtype])
    check(f"ranks {dtype}, {name}: gradients", backward, BACKWARD[dtype])
    check(f"ranks {dtype}, {name}: NaN", float(not finite), 0)


def model(
    group: Any, family: str, arguments: dict[str, Any], inputs: list[Any], dtype: str, device: str = "cuda"
) -> dict[str, float]:
    """Largest error of a transformer's output, shared and alone, relative to the largest value in float64."""
    import tiny

    import attention_backends

    def there(x: Any, kind: torch.dtype) -> Any:
        if not isinstance(x, torch.Tensor):
            return x
        return x.to(device, kind if x.is_floating_point() else None)

    kind = getattr(torch, dtype)
    given = getattr(tiny, f"{family}_inputs")(*inputs)
    whole = getattr(tiny, family)()
    with torch.no_grad():
        expected = whole.double().to(device)(**{name: there(x, torch.float64) for name, x in given.items()})[0]
        shared = getattr(tiny, family)().to(device, kind)
        given = {name: there(x, kind) for name, x in given.items()}
        attention_backends.enable(shared, process_group=group, **arguments)
        results = [shared(**given)[0] for _ in range(2)]
        attention_backends.disable(shared)
        alone = shared(**given)[0]
    assert torch.equal(*results), "two runs give the same bits"
    scale = expected.abs().max()
    return {
        "shared": ((results[0].double() - expected).abs().max() / scale).item(),
        "alone": ((alone.double() - expected).abs().max() / scale).item(),
    }


WAYS = [
    (3, {"mode": "unified_anything", "ring_degree": 3}),
    (4, {"mode": "unified_anything", "ring_degree": 2, "ulysses_degree": 2}),
    (2, {"mode": "unified_anything", "ring_degree": 2, "schedule": "staged"}),
    (3, {"mode": "ulysses_anything", "ulysses_degree": 3}),
    (4, {"mode": "attention2d", "ring_degree": 2, "ulysses_degree": 2}),
]
FAMILIES = {"flux": [17, 7], "qwen": [5, 5, 9], "wan": [3, 3, 5, 7], "ltx": [3, 3, 5, 7]}


@pytest.mark.parametrize("family", FAMILIES)
def test_family(ranks, check, family):
    pytest.importorskip("diffusers")
    for dtype in ("float32", "bfloat16"):
        for world, arguments in WAYS:
            found = ranks.run(model, world, family=family, arguments=arguments, inputs=FAMILIES[family], dtype=dtype)
            shared, alone = (max(one[which] for one in found) for which in ("shared", "alone"))
            how = "x".join(str(arguments.get(f"{part}_degree", 1)) for part in ("ring", "ulysses"))
            how += " in a grid" if arguments["mode"] == "attention2d" else ""
            check(f"{family} {dtype}, ring x ulysses {how}: out", shared, max(1e-5, 2 * alone))


def overlapped(
    group: Any, family: str, arguments: dict[str, Any], inputs: list[Any], device: str = "cuda"
) -> dict[str, float]:
    """What a transformer gives where work runs while tensors travel, on a device that is late with each product.

    A message that left before the device has made it, or that is read before it is here, would carry old numbers.
    """
    import tiny

    import attention_backends
    from attention_backends.workload import Speeds

    linear = torch.nn.functional.linear

    def late(*args: Any, **kwargs: Any) -> Any:
        if device == "cuda":
            torch.cuda._sleep(1_000_000)  # clocks: half a millisecond
        return linear(*args, **kwargs)

    def there(x: Any) -> Any:
        return x.to(device, torch.float32 if x.is_floating_point() else None) if isinstance(x, torch.Tensor) else x

    given = {name: there(x) for name, x in getattr(tiny, f"{family}_inputs")(*inputs).items()}
    shared, found = getattr(tiny, family)().to(device, torch.float32), {}
    with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.functional, "linear", late)
        for overlap in (False, True):
            speeds = Speeds(*SLOW)
            state = attention_backends.enable(shared, process_group=group, overlap=overlap, speeds=speeds, **arguments)
            found[overlap] = [shared(**given)[0] for _ in range(2)]
            assert bool(state.meanwhile) == overlap
            attention_backends.disable(shared)
    assert torch.equal(*found[True]), "two runs give the same bits"
    scale = found[False][0].abs().max()
    return {"apart": ((found[True][0] - found[False][0]).abs().max() / scale).item()}


OVERLAPS = [
    (2, {"mode": "ulysses_anything", "ulysses_degree": 2}),
    (3, {"mode": "ulysses_anything", "ulysses_degree": 3}),
    (3, {"mode": "unified_anything", "ring_degree": 3, "schedule": "staged"}),  # QwenImage's text has a mask
    (4, {"mode": "unified_anything", "ring_degree": 2, "ulysses_degree": 2}),
]
SLOW = (0.0, 50e6, 1e9, 5e9)  # by which hiding the wire of so small a model pays


@pytest.mark.parametrize("family", ["flux", "flux2", "qwen"])
def test_what_runs_while_tensors_travel_changes_nothing(ranks, check, family):
    pytest.importorskip("diffusers")
    inputs = FAMILIES["qwen" if family == "qwen" else "flux"]
    for world, arguments in OVERLAPS:
        found = ranks.run(overlapped, world, family=family, arguments=arguments, inputs=inputs)
        how = "x".join(str(arguments.get(f"{part}_degree", 1)) for part in ("ring", "ulysses"))
        check(f"{family} float32, wire hidden, ring x ulysses {how}: out", max(one["apart"] for one in found), 1e-5)

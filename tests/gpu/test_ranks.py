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
def test_equals_float64(ranks, check, case, dtype):
    forward, backward, finite = 0.0, 0.0, True
    for ring, ulysses in SHAPES:
        world = ring * ulysses
        lengths = UNEVEN[:world]
        results = ranks.run(
            attention, world, ring=ring, ulysses=ulysses, q_lengths=lengths, k_lengths=lengths,
            dtype=dtype, device="cuda", width=64, **case,
        )  # fmt: skip
        for result in results:
            finite = finite and bool(result["finite"])
            forward = max(forward, result["forward"])
            backward = max(backward, result["dq"], result["dk"], result["dv"])
    name = "-".join(f"{k}={v}" for k, v in case.items()) or "plain"
    check(f"ranks {dtype}, {name}: out", forward, FORWARD[dtype])
    check(f"ranks {dtype}, {name}: gradients", backward, BACKWARD[dtype])
    check(f"ranks {dtype}, {name}: NaN", float(not finite), 0)


def model(group: Any, family: str, arguments: dict[str, Any], inputs: list[Any], dtype: str) -> dict[str, float]:
    """Largest error of a transformer's output, shared and alone, relative to the largest value in float64."""
    import tiny

    import attention_backends

    def cuda(x: Any, kind: torch.dtype) -> Any:
        if not isinstance(x, torch.Tensor):
            return x
        return x.to("cuda", kind if x.is_floating_point() else None)

    kind = getattr(torch, dtype)
    given = getattr(tiny, f"{family}_inputs")(*inputs)
    whole = getattr(tiny, family)()
    with torch.no_grad():
        expected = whole.double().cuda()(**{name: cuda(x, torch.float64) for name, x in given.items()})[0]
        shared = getattr(tiny, family)().to("cuda", kind)
        given = {name: cuda(x, kind) for name, x in given.items()}
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
            check(f"{family} {dtype}, ring x ulysses {how}: out", shared, max(1e-5, 2 * alone))


def travels(group: Any, numbers: int) -> dict[str, float]:
    """Seconds to send so many bytes to the other rank by host memory and get as many."""
    import time

    import torch.distributed as dist

    from attention_backends import exchange

    rank, other = dist.get_rank(group), 1 - dist.get_rank(group)
    taken = []
    for turn in range(6):
        out = torch.full((numbers,), rank * 10 + turn, dtype=torch.uint8, device="cuda")
        into = torch.empty_like(out)
        torch.cuda.synchronize()
        begin = time.perf_counter()
        exchange.wait(exchange.post([(other, out)], [(other, into)], group))
        torch.cuda.synchronize()
        taken.append(time.perf_counter() - begin)
        assert bool((into == other * 10 + turn).all())
    return {"seconds": min(taken[1:])}


def test_transport(ranks, check):
    small, large = (max(one["seconds"] for one in ranks.run(travels, 2, numbers=n)) for n in (64, 1 << 24))
    check("host transport: a small message", small * 1e6, unit="us")
    check("host transport: 16 MiB each way", (1 << 24) / large / 1e9, unit="GB/s")


def shares_a_card(group: Any) -> list[str]:
    """What `enable` says of two ranks on one card in a group that has NCCL too."""
    import torch.distributed as dist

    from attention_backends.transport import device
    from attention_backends.wire import wire_of

    ranks = dist.get_process_group_ranks(group)
    both = dist.new_group(ranks, backend="cpu:gloo,cuda:nccl", use_local_synchronization=True)
    told = []
    for asked in ("auto", "host", "nccl"):
        try:
            wire = wire_of(both)
            told.append(wire.way(asked, wire.agree(device())))
            wire.by_host = told[-1] == "host"
            mine = torch.full((3,), float(dist.get_rank(group)), device="cuda")
            into = torch.empty_like(mine)
            from attention_backends import exchange

            other = 1 - dist.get_rank(group)
            exchange.wait(exchange.post([(other, mine)], [(other, into)], wire))
            assert into.tolist() == [float(other)] * 3
        except ValueError as error:
            told.append(str(error))
    return told


def test_a_shared_card_is_seen(ranks):
    for told in ranks.run(shares_a_card, 2):
        assert told[:2] == ["host", "host"]
        assert "transport='host'" in told[2]


def compiled(group: Any, arguments: dict[str, Any]) -> list[float]:
    """Errors of the compiled transformer against the same one uncompiled, for two sizes."""
    import tiny

    import attention_backends

    with torch.no_grad():
        transformer = tiny.flux(dtype=torch.float32).cuda()
        sizes, found = [(17, 6), (23, 9)], []

        def given(size: tuple[int, int]) -> dict[str, Any]:
            inputs = tiny.flux_inputs(*size, dtype=torch.float32)
            return {name: x.cuda() if isinstance(x, torch.Tensor) else x for name, x in inputs.items()}

        expected = [transformer(**given(size))[0] for size in sizes]
        attention_backends.enable(transformer, process_group=group, **arguments)
        fast = torch.compile(transformer, fullgraph=True, dynamic=True, mode="reduce-overhead")
        for size, whole in zip(sizes, expected, strict=True):
            for _ in range(3):  # CUDA graphs are recorded at the second call and replayed at the third
                found.append((fast(**given(size))[0] - whole).abs().max().item())
        attention_backends.disable(transformer)
    torch.compiler.reset()
    return found


def test_compiled_with_cuda_graphs(ranks, check):
    """Graphs are cut around the exchanges, which no CUDA graph can hold."""
    pytest.importorskip("diffusers")
    pytest.importorskip("triton")
    errors = ranks.run(compiled, 2, arguments={"mode": "ring_anything", "ring_degree": 2})
    check("compiled float32, CUDA graphs: out", max(max(each) for each in errors), 1e-5)

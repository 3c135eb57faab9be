"""FLUX.1-dev and Wan 1.3B at their real size with random weights: one rank's share of 1, 2 and 4."""

import gc
import importlib.util

import pytest

torch = pytest.importorskip("torch")

CARD: dict[str, float] = {}


def test_card(check):
    """The card's own limits, as it is found: a large product and a large copy."""
    from statistics import median

    def ms(call):
        call()
        taken = []
        for _ in range(10):
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            begin.record()
            call()
            end.record()
            torch.cuda.synchronize()
            taken.append(begin.elapsed_time(end))
        return median(taken)

    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    CARD["tflops"] = 2 * 8192**3 / ms(lambda: a @ b) / 1e9
    page = torch.randn(1 << 30, device="cuda", dtype=torch.bfloat16)
    other = torch.empty_like(page)
    CARD["gbps"] = 2 * page.nbytes / ms(lambda: other.copy_(page)) / 1e6
    check("card, a product of 8192 x 8192 matrices in bf16", CARD["tflops"], unit="TFLOP/s")
    check("card, a copy, bytes read and written", CARD["gbps"], unit="GB/s")


def flops(tokens: int, keys: int, layers: int, dim: int, linear: int) -> float:
    """Of one rank's step: linear maps of its tokens, and its queries against all keys."""
    return layers * (tokens * linear * dim**2 + 4 * tokens * keys * dim)


def top(kernels: dict[str, float], base: dict[str, float]) -> str:
    """What takes longer than in the limit, by kernel."""
    more = {name: ms - base.get(name, 0.0) for name, ms in kernels.items()}
    worst = sorted(more.items(), key=lambda item: -abs(item[1]))[:8]
    return "; ".join(f"{name[:70]} {ms:+.3f}" for name, ms in worst)


def planned(words: list[str], world: int, schedule: str) -> float | None:
    """Bytes that the launcher's plan reckons with for the transformer alone; None without Hydra."""
    if importlib.util.find_spec("hydra") is None:
        return None
    from launcher import memory
    from launcher.choose import resolve
    from launcher.compose import Composer, to_config
    from launcher.machine import Machine

    more = [f"cp.ring_degree={world}", f"cp.schedule={schedule}", "cp=unified_anything"] if world > 1 else ["cp=none"]
    request = resolve(to_config(Composer().compose([*words, "machine=h100x8", *more])), Machine(cores=1))
    found = memory.estimate(request)
    return 2 * memory.parameters(request)["transformer"] + found.buffers + found.activations


def run(name, words, model, inputs, streams, layers, dim, linear, check):
    from share import limit, shared, step
    from attention_backends.layout import split_lengths

    total = sum(streams)
    for world in (1, 2, 4):
        tokens = sum(split_lengths(each, world)[0] for each in streams)
        work = flops(tokens, total, layers, dim, linear) / 1e9
        if world == 1:
            found = step(model, inputs)
            rows = {"": found}
        else:
            base = limit(model, inputs, world, streams)
            rows = {f" {s}": shared(model, inputs, world, streams, s) for s in ("gather", "staged")}
        for schedule, found in rows.items():
            what = f"{name}, 1 of {world}{schedule}"
            check(f"{what}: a step", found.wall, unit="ms")
            check(f"{what}: its kernels", found.kernel, unit="ms")
            check(f"{what}: its kernels of attention", found.attention, unit="ms")
            check(f"{what}: of the card's product", work / found.kernel / CARD.get("tflops", float("nan")), unit="")
            check(f"{what}: of the data sheet, by the clock", work / found.wall / 989.4, unit="")
            check(f"{what}: peak memory", found.peak / 2**30, unit="GiB")
            if (expected := planned(words, world, schedule.strip())) is not None:
                check(f"{what}: the plan's memory, off by", abs(expected - found.peak) / found.peak, 0.1)
            if world > 1:
                check(f"{what}: above the limit, kernels", (found.kernel - base.kernel) / base.kernel, 0.03)
                print(f"{what}: limit {base.wall:.2f} wall {base.kernel:.2f} kernels; {top(found.kernels, base.kernels)}")
            else:
                print(f"{what}: {top(found.kernels, {})}")


@pytest.fixture
def freed():
    yield
    gc.collect()
    torch.cuda.empty_cache()


def test_flux(check, freed):
    pytest.importorskip("diffusers")
    from share import flux, flux_inputs

    model = flux()
    for name, side in (("FLUX 1024 x 1024", 64), ("FLUX 1000 x 1000", 63)):
        run(name, ["model=flux", f"height={16 * side}", f"width={16 * side}"], model, flux_inputs(side, side), [512, side * side], 57, 3072, 24, check)


def test_wan(check, freed):
    pytest.importorskip("diffusers")
    from share import wan, wan_inputs

    run("Wan 1.3B 480 x 832, 81 frames", ["model=wan_t2v_1_3b"], wan(), wan_inputs(21, 30, 52), [21 * 30 * 52], 30, 1536, 28, check)


@pytest.mark.parametrize(("name", "queries", "keys", "heads"), [("FLUX 1 of 1", 4608, 4608, 24), ("FLUX 1 of 4", 1152, 4608, 24), ("FLUX 1000 1 of 4", 1121, 4481, 24), ("Wan 1 of 4", 8190, 32760, 12)])
def test_operators(name, queries, keys, heads, check):
    """Attention of real size by each of torch's operators, and what this package adds to it."""
    import triton

    from attention_backends import kernels, merge
    from attention_backends.ring_anything import pack

    q = torch.randn(1, queries, heads, 128, device="cuda", dtype=torch.bfloat16)
    k, v = (torch.randn(1, keys, heads, 128, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    work = 4 * queries * keys * heads * 128 / 1e9
    for operator in ("cuda_flash", "cuda_cudnn", "cuda_efficient"):
        ms = triton.testing.do_bench(lambda operator=operator: kernels.attend(operator, q, k, v), 10, 50, return_mode="median")
        check(f"{name}: {operator}", ms, unit="ms")
        check(f"{name}: {operator}, rate", work / ms, unit="TFLOP/s")
    packed = pack(k, v).transpose(0, 1)
    for operator in ("cuda_flash", "cuda_cudnn"):
        ms = triton.testing.do_bench(lambda operator=operator: kernels.attend(operator, q, packed[..., :128], packed[..., 128:]), 10, 50, return_mode="median")
        check(f"{name}: {operator} of packed keys", ms, unit="ms")
    ms = triton.testing.do_bench(lambda: torch.nn.functional.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)), 10, 50, return_mode="median")
    check(f"{name}: torch's own choice", ms, unit="ms")
    for blocks in (4, 13):
        outs = [torch.randn_like(q) for _ in range(blocks)]
        lses = [torch.randn(1, heads, queries, device="cuda") for _ in range(blocks)]
        ms = triton.testing.do_bench(lambda outs=outs, lses=lses: merge.merge(outs, lses), 10, 50, return_mode="median")
        check(f"{name}: merge of {blocks}", ms, unit="ms")
        check(f"{name}: merge of {blocks}, rate", (blocks + 1) * q.nbytes / ms / 1e6, unit="GB/s")

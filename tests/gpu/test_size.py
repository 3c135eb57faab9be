"""FLUX.1-dev and Wan 1.3B at their real size with random weights: one rank's share of 1, 2 and 4."""

import gc
import importlib.util
from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

CARD: dict[str, float] = {}  # TFLOP/s of a large product, as measured by the first test
DATA_SHEET = {"NVIDIA H100 80GB HBM3": 989.4, "NVIDIA H200": 989.4}  # TFLOP/s in bf16, dense
# schedule or mode, arguments of enable but for the degree
WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "gather": ("ring_degree", {"schedule": "gather", "overlap": False}),
    "gather, put off": ("ring_degree", {"schedule": "gather"}),  # by workload.SPEEDS, where a wire is slow
    "staged": ("ring_degree", {"schedule": "staged", "overlap": False}),
    "Ulysses": ("ulysses_degree", {"schedule": "gather", "overlap": False}),
    "Ulysses, put off": ("ulysses_degree", {"schedule": "gather"}),
}
PUTS_OFF = ("FLUX",)  # whose layers say what may run meanwhile


def milliseconds(call: Callable[[], Any], times: int = 20) -> float:
    """The median of some runs by the device's own clock."""
    taken = []
    for _ in range(times + 3):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda._sleep(1_000_000)  # clocks, half a millisecond: the host is ahead, so its time is not measured
        begin.record()
        for _ in range(4):
            call()
        end.record()
        torch.cuda.synchronize()
        taken.append(begin.elapsed_time(end) / 4)
    return sorted(taken[3:])[times // 2]


def test_card(check):
    """The card's own limits, as it is found: a large product and a large copy."""
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    CARD["tflops"] = 2 * 8192**3 / milliseconds(lambda: a @ b) / 1e9
    page = torch.randn(1 << 30, device="cuda", dtype=torch.bfloat16)
    other = torch.empty_like(page)
    copied = 2 * page.nbytes / milliseconds(lambda: other.copy_(page)) / 1e6
    check("card: a product of 8192 x 8192 matrices in bf16", CARD["tflops"], unit="TFLOP/s")
    check("card: a copy, bytes read and written", copied, unit="GB/s")


def planned(words: list[str], degrees: list[str]) -> float | None:
    """Bytes that the launcher's plan reckons with for the transformer alone; None without Hydra."""
    if importlib.util.find_spec("hydra") is None:
        return None
    from launcher.config.compose import Composer, to_config
    from launcher.estimates import memory, weights
    from launcher.estimates.ways import resolve
    from launcher.machines import Machine

    request = resolve(to_config(Composer().compose([*words, *degrees, "machine=h100x8"])), Machine(cores=1))
    found = memory.estimate(request)
    assert found is not None
    return 2 * weights.parameters(request)["transformer"] + found.buffers + found.activations


def told(name: str, found: Any, work: float, check: Any) -> None:

    check(f"{name}: a step", found.wall, unit="ms")
    check(f"{name}: launched", found.host, unit="ms")
    check(f"{name}: kernels", found.kernel, unit="ms")
    check(f"{name}: attention", found.attention, unit="ms")
    if "tflops" in CARD:
        check(f"{name}: of the product's rate", work / found.kernel / CARD["tflops"] / 1e9)
    if sheet := DATA_SHEET.get(torch.cuda.get_device_name()):
        check(f"{name}: efficiency", work / found.wall / sheet / 1e9)
    check(f"{name}: peak memory", found.peak / 2**30, unit="GiB")


def flops(model: Any, world: int, streams: list[int], linear: int) -> float:
    """Of the first rank; linear: of a layer's linear maps for a token, over channels squared."""
    from attention_backends.layout import split_lengths

    layers = getattr(model.config, "num_single_layers", 0) + model.config.num_layers
    dim = model.config.num_attention_heads * model.config.attention_head_dim
    tokens = sum(split_lengths(each, world)[0] for each in streams)
    return layers * (tokens * linear * dim**2 + 4 * tokens * sum(streams) * dim)


def shares(name: str, model: Any, inputs: Any, streams: list[int], words: list[str], linear: int, check: Any) -> None:
    """All ways of one model; linear: as flops() has it."""
    from share import limit, shared, step

    def work(world: int) -> float:
        return flops(model, world, streams, linear)

    found = step(model, inputs)
    told(f"{name}, 1 of 1", found, work(1), check)
    remembers(f"{name}, 1 of 1", found, planned(words, ["cp=none"]), check)
    for world in (2, 4):
        base = limit(model, inputs, world, streams)
        check(f"{name}, 1 of {world}, keys at hand: a step", base.wall, unit="ms")
        check(f"{name}, 1 of {world}, keys at hand: launched", base.host, unit="ms")
        check(f"{name}, 1 of {world}, keys at hand: kernels", base.kernel, unit="ms")
        for how, (degree, arguments) in WAYS.items():
            if "overlap" not in arguments and not name.startswith(PUTS_OFF):
                continue
            found = shared(model, inputs, world, streams, **{degree: world}, **arguments)
            what = f"{name}, 1 of {world}, {how}"
            told(what, found, work(world), check)
            degrees = ["cp=unified_anything", *(f"cp.{each}={world if each == degree else 1}" for each in DEGREES)]
            remembers(what, found, planned(words, [*degrees, f"cp.schedule={arguments['schedule']}"]), check)
            more = (found.kernel - base.kernel) / base.kernel
            check(f"{what}: kernels above keys at hand", more, 0.03 if how == "gather" else None)
            worst = sorted(
                ((ms - base.kernels.get(kernel, 0.0), kernel) for kernel, ms in found.kernels.items()), reverse=True
            )
            print(what, *[f"{ms:+.3f} ms {kernel[:90]}" for ms, kernel in worst[:5]], sep="\n    ")


DEGREES = ("ring_degree", "ulysses_degree")


def remembers(name: str, found: Any, expected: float | None, check: Any) -> None:
    if expected is not None:
        check(f"{name}: plan off by", abs(expected - found.peak) / found.peak, 0.1)


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
        words = ["model=flux", f"height={16 * side}", f"width={16 * side}"]
        shares(name, model, flux_inputs(side, side), [512, side * side], words, 24, check)


def test_flux_compiled(check, freed):
    """What its blocks take where they are compiled: a rank of four waits for its host where they are not."""
    pytest.importorskip("diffusers")
    pytest.importorskip("triton")
    pytest.importorskip("psutil")
    from share import flux, flux_inputs, shared

    model, streams = flux(), [512, 64 * 64]
    found = shared(model, flux_inputs(64, 64), 4, streams, compiled=True, ring_degree=4, schedule="gather")
    told("FLUX 1024 x 1024, 1 of 4, gather, compiled blocks", found, flops(model, 4, streams, 24), check)


def test_wan(check, freed):
    pytest.importorskip("diffusers")
    from share import wan, wan_inputs

    inputs, tokens = wan_inputs(21, 30, 52), [21 * 30 * 52]
    shares("Wan 1.3B 480 x 832, 81 frames", wan(), inputs, tokens, ["model=wan_t2v_1_3b"], 28, check)


SIZES = {"FLUX": (4608, 4608, 24), "FLUX, 1 of 4": (1152, 4608, 24), "Wan, 1 of 4": (8190, 32760, 12)}


@pytest.mark.parametrize("name", SIZES)
def test_operators(name, check):
    """Attention of real size by each of torch's operators, and what this package adds to it."""
    from attention_backends import exchange, kernels, merge
    from attention_backends.ring import pack

    queries, keys, heads = SIZES[name]
    q = torch.randn(1, queries, heads, 128, device="cuda", dtype=torch.bfloat16)
    k, v = (torch.randn(1, keys, heads, 128, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    packed = pack(k, v).transpose(0, 1).contiguous()
    for operator in ("cuda_flash", "cuda_cudnn", "cuda_efficient"):
        ms = milliseconds(lambda operator=operator: kernels.attend(operator, q, k, v))
        check(f"{name}, {operator}: time", ms, unit="ms")
        check(f"{name}, {operator}: rate", 4 * queries * keys * heads * 128 / ms / 1e9, unit="TFLOP/s")
        apart = milliseconds(
            lambda operator=operator: kernels.attend(operator, q, packed[..., :128], packed[..., 128:])
        )
        check(f"{name}, {operator}, packed keys: time", apart, unit="ms")
    theirs = [x.transpose(1, 2) for x in (q, k, v)]
    ms = milliseconds(lambda: torch.nn.functional.scaled_dot_product_attention(*theirs))
    check(f"{name}, torch's scaled_dot_product_attention: time", ms, unit="ms")
    buffer = torch.empty(queries, 1, heads, 256, device="cuda", dtype=torch.bfloat16)
    place, own = buffer[..., :128], k[:, :queries].transpose(0, 1)
    into, rows = exchange.words(place, own)
    check(f"{name}, own keys into the buffer, in words: time", milliseconds(lambda: into.copy_(rows)), unit="ms")
    check(f"{name}, own keys into the buffer, one by one: time", milliseconds(lambda: place.copy_(own)), unit="ms")
    for blocks in (2, 4, 13):
        outs = [torch.randn_like(q) for _ in range(blocks)]
        lses = [torch.randn(1, heads, queries, device="cuda") for _ in range(blocks)]
        ms = milliseconds(lambda outs=outs, lses=lses: merge.merge(outs, lses))
        check(f"{name}, merge of {blocks}: time", ms, unit="ms")
        check(f"{name}, merge of {blocks}: memory rate", (blocks + 1) * q.nbytes / ms / 1e6, unit="GB/s")

"""Every kernel of the catalog on real tensors, out and LSE against float64, and the hazards that were reported."""

import math

import pytest

torch = pytest.importorskip("torch")

from attention_backends import kernels  # noqa: E402
from attention_backends.catalog import KERNELS  # noqa: E402

# Of an output that is about 1: half precision rounds what is summed in float32; of an LSE, which is in float32.
OUT = {"float64": 1e-12, "float32": 3e-6, "float16": 2e-3, "bfloat16": 1.6e-2}
LSE = {"float64": 1e-12, "float32": 1e-5, "float16": 2e-3, "bfloat16": 1e-2}
EXACT = [name for name in KERNELS if name != "sage"]  # which is 8-bit


def tensors(dtype, batch=2, queries=77, keys=133, heads=4, key_heads=4, width=64, seed=0):
    generator = torch.Generator("cuda").manual_seed(seed)
    shapes = [(batch, queries, heads, width), (batch, keys, key_heads, width), (batch, keys, key_heads, width)]
    return [torch.randn(shape, generator=generator, device="cuda").to(getattr(torch, dtype)) for shape in shapes]


def exact(q, k, v, bias=None, is_causal=False):
    """The definition in float64: out (B, Sq, H, D), 0 in a row that sees no key, and LSE (B, H, Sq)."""
    q, k, v = (x.double().transpose(1, 2) for x in (q, k, v))
    k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for x in (k, v))
    scores = q @ k.mT * q.shape[-1] ** -0.5
    scores = scores if bias is None else scores + bias.double()
    if is_causal:
        later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
        scores = scores.masked_fill(later, -math.inf)
    return (scores.softmax(-1).nan_to_num(0.0) @ v).transpose(1, 2), scores.logsumexp(-1)


def errors(operator, q, k, v, bias=None, is_causal=False):
    """Largest error of out and LSE, and how many values are NaN or rows seen that should not be."""
    out, lse = kernels.attend(operator, q, k, v, bias, is_causal=is_causal)
    torch.cuda.synchronize()
    bias = None if bias is None else bias.to(q.dtype)  # what the kernel was given
    whole, whole_lse = exact(q, k, v, bias, is_causal)
    assert out.shape == whole.shape
    assert lse.shape == whole_lse.shape
    assert lse.dtype == kernels.lse_dtype(q.dtype)
    seen = whole_lse.isfinite()
    wrong = (lse.isfinite() != seen).sum() + out.isnan().sum() + lse.isnan().sum() + (lse == math.inf).sum()
    apart = (lse.double() - whole_lse)[seen].abs().max().item() if seen.any() else 0.0
    return (out.double() - whole).abs().max().item(), apart, wrong.item()


def cases(name):
    """dtypes of a kernel and whether it takes a mask; skips where its package or the card is missing."""
    rules = KERNELS[name]
    if why := rules.missing():
        pytest.skip(f"{name} {why}")
    if torch.cuda.get_device_capability() < rules.capability:
        pytest.skip(f"needs compute capability {rules.capability}")
    if rules.package:
        pytest.importorskip("diffusers")
        import attention_backends.diffusers_seam  # noqa: F401 - diffusers' wrappers are registered there
    return rules.dtypes


def operator_for(name, q, v, mask):
    return kernels.choose(name, q, v, mask=mask, lse=True)


SHAPES = [
    {},
    {"key_heads": 2},
    {"queries": 1, "keys": 7},
    {"queries": 128, "keys": 256, "width": 128},
    {"width": 24},
    {"width": 12},
    {"queries": 300, "keys": 65},
]


@pytest.mark.parametrize("name", EXACT)
def test_kernel(name, check):
    for dtype in cases(name):
        worst, worst_lse, wrong = 0.0, 0.0, 0
        for shape in SHAPES:
            q, k, v = tensors(dtype, **shape)
            if q.shape[-1] % (KERNELS[name].head_dim_multiple or 1):
                with pytest.raises(ValueError, match="takes head sizes that are multiples of"):
                    operator_for(name, q, v, False)
                continue
            found = errors(operator_for(name, q, v, False), q, k, v)
            worst, worst_lse, wrong = max(worst, found[0]), max(worst_lse, found[1]), wrong + found[2]
        q, k, v = tensors(dtype, queries=96, keys=96)
        found = errors(operator_for(name, q, v, False), q, k, v, is_causal=True)
        check(f"{name} {dtype}: out", worst, OUT[dtype])
        check(f"{name} {dtype}: LSE", worst_lse, LSE[dtype])
        check(f"{name} {dtype}: NaN or -inf", wrong, 0)
        check(f"{name} {dtype}, causal: out", found[0], OUT[dtype])
        check(f"{name} {dtype}, causal: LSE", found[1], LSE[dtype])


def test_sage(check):
    """It is 8-bit, so not exact: errors are of its rounding. Its keys are as they were."""
    for dtype in cases("sage"):
        q, k, v = tensors(dtype, width=128)
        kept = k.clone()
        out, lse, wrong = errors(operator_for("sage", q, v, False), q, k, v)
        check(f"sage {dtype}: out", out, 0.1)
        check(f"sage {dtype}: LSE", lse, 0.1)
        check(f"sage {dtype}: NaN or -inf", wrong, 0)
        assert torch.equal(k, kept)


MASKS = {
    "unaligned": lambda q, k: torch.zeros(q, k).masked_fill(torch.rand(q, k) < 0.4, -math.inf)[None, None],
    "full": lambda q, k: torch.zeros(2, 4, q, k).masked_fill(torch.rand(2, 4, q, k) < 0.4, -math.inf),
    "empty rows": lambda q, k: torch.zeros(q, k).index_fill(0, torch.tensor([0, q // 2, q - 1]), -math.inf)[None, None],
    "all hidden": lambda q, k: torch.full((1, 1, 1, k), -math.inf),
    "one row": lambda q, k: torch.zeros(k).masked_fill(torch.rand(k) < 0.4, -math.inf)[None, None, None],
    "a row a batch entry": lambda q, k: torch.zeros(2, 1, 1, k).masked_fill(torch.rand(2, 1, 1, k) < 0.4, -math.inf),
    "additive": lambda q, k: torch.randn(2, 1, q, k),
}  # fmt: skip


@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("name", [name for name, rules in KERNELS.items() if rules.mask])
def test_mask(name, kind, check):
    torch.manual_seed(0)
    for dtype in cases(name):
        worst, worst_lse, wrong = 0.0, 0.0, 0
        for queries, keys in ((77, 133), (64, 33), (33, 97), (16, 1), (128, 161), (5, 64)):  # kv % 32 == 1 among them
            q, k, v = tensors(dtype, queries=queries, keys=keys)
            bias = MASKS[kind](queries, keys).cuda()
            found = errors(operator_for(name, q, v, True), q, k, v, bias)
            worst, worst_lse, wrong = max(worst, found[0]), max(worst_lse, found[1]), wrong + found[2]
        check(f"{name} {dtype}, mask {kind}: out", worst, OUT[dtype])
        check(f"{name} {dtype}, mask {kind}: LSE", worst_lse, LSE[dtype])
        check(f"{name} {dtype}, mask {kind}: NaN or -inf", wrong, 0)


@pytest.mark.parametrize("name", EXACT)
def test_strides(name, check):
    """Views of one packed buffer, token-major, as a ring hands them on; and heads first."""
    for dtype in cases(name):
        q, k, v = tensors(dtype, queries=96, keys=160, width=64)
        packed = torch.cat([k, v], dim=-1).transpose(0, 1).contiguous().transpose(0, 1)
        joint = torch.cat([x[:, :96] for x in (q, k, v)], dim=-1)
        ways = {
            "packed": (q, packed[..., :64], packed[..., 64:]),
            "heads first": [x.transpose(1, 2).contiguous().transpose(1, 2) for x in (q, k, v)],
            "odd start": (q[:, 1:], packed[:, 3:, :, :64], packed[:, 3:, :, 64:]),
            "one of a batch": [x[1:] for x in (q, k, v)],
            "some heads": [x[:, :, 1:3] for x in (q, k, v)],
            "projected together": joint.split(64, dim=-1),
            "every other token": [x[:, ::2] for x in (q, k, v)],
        }
        for what, views in ways.items():
            found = errors(operator_for(name, q, v, False), *views)
            check(f"{name} {dtype}, {what}: out", found[0], OUT[dtype])
            check(f"{name} {dtype}, {what}: LSE", found[1], LSE[dtype])


def test_empty(check):
    for operator in ("cuda_flash", "cuda_efficient", "cuda_cudnn", "math"):
        q, k, v = tensors("bfloat16")
        out, lse = kernels.attend(operator, q, k[:, :0], v[:, :0])
        check(f"{operator}, no keys: out", float(out.abs().max().item() + (lse != -math.inf).sum().item()), 0)
        out, lse = kernels.attend(operator, q[:, :0], k, v)
        check(f"{operator}, no queries: out", out.numel() + lse.numel(), 0)


def test_raw_hazards(check):
    """What the operators themselves do, as facts for whoever meets a new torch; not judged."""
    for dtype in ("float32", "bfloat16"):
        q, k, v = (x.transpose(1, 2) for x in tensors(dtype, queries=33, keys=65))
        out, lse, *_ = torch.ops.aten._scaled_dot_product_efficient_attention(q, k, v, None, True, 0.0, False)
        check(f"torch's efficient {dtype}: LSE rows of 33", lse.shape[2])
        bias = torch.full((2, 4, 33, 80), -math.inf, device="cuda", dtype=q.dtype)[..., :65]
        out, lse, *_ = torch.ops.aten._scaled_dot_product_efficient_attention(q, k, v, bias, True, 0.0, False)
        check(f"torch's efficient {dtype}: hidden rows, out NaN", out.isnan().float().mean().item())
        check(f"torch's efficient {dtype}: hidden rows, LSE 0", (lse[:, :, :33] == 0).float().mean().item())
        check(f"torch's efficient {dtype}: hidden rows, LSE -inf", (lse[:, :, :33] == -math.inf).float().mean().item())
        if dtype == "bfloat16":
            dense = [x.contiguous() for x in (q, k, v)]
            out, lse, *_ = torch.ops.aten._scaled_dot_product_cudnn_attention(*dense, bias, True, 0.0, False, False)
            check("torch's cudnn: hidden rows, out NaN", out.isnan().float().mean().item())
            check("torch's cudnn: hidden rows, LSE -inf", (lse == -math.inf).float().mean().item())
            check("torch's cudnn: LSE dimensions", lse.ndim)
            whole = exact(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))[0].transpose(1, 2)
            out, lse, *_ = torch.ops.aten._scaled_dot_product_cudnn_attention(q, k, v, None, True, 0.0, False, False)
            check("torch's cudnn: strided error", (out.double() - whole).abs().max().item())


@pytest.mark.parametrize("dtype", OUT)
def test_merge(dtype, check):
    """The fused kernel on the card, rows of all kinds, against one attention in float64 and against torch's way."""
    pytest.importorskip("triton")
    from attention_backends import merge_triton

    q, k, v = tensors(dtype, queries=301, keys=700, heads=3, key_heads=3, width=24)
    bias = torch.zeros(1, 1, 301, 700, device="cuda", dtype=kernels.lse_dtype(q.dtype))
    bias[:, :, 3] = -math.inf
    bias[:, :, 5, :600] = -math.inf
    outs, lses = [], []
    for begin, end in ((0, 256), (256, 256), (256, 600), (600, 700)):
        out, lse = kernels.attend("math", q, k[:, begin:end], v[:, begin:end], bias[..., begin:end])
        outs.append(out)
        lses.append(lse)
    out, lse = merge_triton.merge(outs, lses)
    whole, whole_lse = exact(q, k, v, bias)
    seen = whole_lse.isfinite()
    check(f"merge {dtype}: out", (out.double() - whole).abs().max().item(), OUT[dtype])
    check(f"merge {dtype}: LSE", (lse.double() - whole_lse)[seen].abs().max().item(), LSE[dtype])
    check(f"merge {dtype}: NaN or -inf", float((lse.isfinite() != seen).sum() + out[:, 3].abs().sum()), 0)


def test_gradients(check):
    for dtype in ("float32", "bfloat16"):
        q, k, v = tensors(dtype)
        operator = kernels.choose("auto", q, v, mask=False, lse=True)
        out, lse = kernels.attend(operator, q, k, v)
        grad = torch.randn_like(out)
        found = kernels.attend_backward(operator, grad, q, k, v, out, lse, None)
        leaves = [x.double().requires_grad_() for x in (q, k, v)]
        heads = [x.transpose(1, 2) for x in leaves]
        whole = (torch.softmax(heads[0] @ heads[1].mT * q.shape[-1] ** -0.5, -1) @ heads[2]).transpose(1, 2)
        whole.backward(grad.double())
        for name, x, y in zip("qkv", found, leaves, strict=True):
            apart = (x.double() - y.grad).abs().max() / y.grad.abs().max()
            check(f"gradients {dtype}, of {name}: out", apart.item(), 1e-5 if dtype == "float32" else 1.6e-2)

"""What exists, in plain tables that need no torch: modes (how ranks cooperate), kernels (what a rank computes with)."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mode:
    """One way for ranks to cooperate.

    ring, ulysses: "one" (the degree must be 1), "many" (2 or more) or "any" (1 or more).
    even: every sharded length must be a multiple of the number of ranks.
    heads_divide: the number of heads must be a multiple of ulysses_degree.
    masks: an attention mask is accepted.
    lse: the kernel must give a log-sum-exp if keys are attended block by block (schedule "staged"); with schedule
        "gather" no mode needs one.
    """

    name: str
    ring: str
    ulysses: str
    even: bool
    heads_divide: bool
    masks: bool
    lse: bool


MODES: dict[str, Mode] = {
    mode.name: mode
    for mode in (
        Mode("ring", "many", "one", even=True, heads_divide=False, masks=True, lse=True),
        Mode("ulysses", "one", "many", even=True, heads_divide=True, masks=True, lse=False),
        Mode("unified", "many", "many", even=True, heads_divide=True, masks=True, lse=True),
        Mode("ring_anything", "many", "one", even=False, heads_divide=False, masks=False, lse=True),
        Mode("ulysses_anything", "one", "many", even=False, heads_divide=False, masks=True, lse=False),
        Mode("unified_anything", "any", "any", even=False, heads_divide=False, masks=True, lse=True),
    )
}

SCHEDULES: tuple[str, ...] = ("auto", "gather", "staged")
TRANSPORTS: tuple[str, ...] = ("auto", "nccl", "host")  # of CUDA tensors: from device to device, or by host memory


@dataclass(frozen=True)
class Kernel:
    """One attention operator, under diffusers' own name for it (AttentionBackendName's value).

    devices: device types it runs on. dtypes: torch dtype names. head_dim_max and head_dim_multiple: limits of the head
    size (0: none). lse: gives a log-sum-exp. mask: takes an attention mask. package: what must be installed
    beyond torch ("" : nothing). capability: the least CUDA compute capability, (0, 0) for any.
    """

    name: str
    devices: tuple[str, ...]
    dtypes: tuple[str, ...]
    head_dim_max: int = 0
    head_dim_multiple: int = 0
    lse: bool = True
    mask: bool = False
    package: str = ""
    capability: tuple[int, int] = (0, 0)


_HALF = ("float16", "bfloat16")
_ALL = ("float64", "float32", *_HALF)

KERNELS: dict[str, Kernel] = {
    kernel.name: kernel
    for kernel in (
        Kernel("auto", ("cpu", "cuda"), _ALL, mask=True),
        Kernel("native", ("cpu", "cuda"), _ALL, mask=True),
        Kernel("_native_math", ("cpu", "cuda"), _ALL, mask=True),
        Kernel("_native_flash", ("cuda",), _HALF, head_dim_max=256, head_dim_multiple=8, capability=(8, 0)),
        Kernel("_native_efficient", ("cuda",), ("float32", *_HALF), head_dim_multiple=4, mask=True),
        Kernel("_native_cudnn", ("cuda",), _HALF, head_dim_max=128, head_dim_multiple=8, mask=True, capability=(8, 0)),
        Kernel(
            "flash", ("cuda",), _HALF, head_dim_max=256, head_dim_multiple=8, package="flash-attn", capability=(8, 0)
        ),
        Kernel("_flash_3", ("cuda",), _HALF, head_dim_max=256, package="flash-attn-3", capability=(9, 0)),
        Kernel("sage", ("cuda",), _HALF, head_dim_max=128, package="sageattention", capability=(8, 0)),
    )
}


def mode_name(
    ring_degree: int,
    ulysses_degree: int,
    *,
    ring_anything: bool = False,
    ulysses_anything: bool = False,
    unified_anything: bool = False,
) -> str:
    """The mode that these arguments of `enable` ask for.

    Raises ValueError with the value, the rule and the nearest legal values.
    """
    for name, degree in (("ring_degree", ring_degree), ("ulysses_degree", ulysses_degree)):
        if not isinstance(degree, int) or isinstance(degree, bool) or degree < 1:
            raise ValueError(f"{name}={degree!r}: a degree is a whole number of ranks, at least 1. Try {name}=1 or 2.")
    if ring_degree * ulysses_degree < 2:
        raise ValueError(
            "ring_degree=1 and ulysses_degree=1: context parallelism needs at least two ranks. "
            "Try ring_degree=2 or ulysses_degree=2, or do not call enable()."
        )
    flags = {
        "ring_anything": ring_anything,
        "ulysses_anything": ulysses_anything,
        "unified_anything": unified_anything,
    }
    asked = [name for name, on in flags.items() if on]
    if len(asked) > 1:
        raise ValueError(
            f"{' and '.join(asked)}: at most one of them. unified_anything=True does the work of all three."
        )
    if asked:
        name = asked[0]
    elif ring_degree > 1 and ulysses_degree > 1:
        name = "unified"
    else:
        name = "ring" if ring_degree > 1 else "ulysses"
    mode = MODES[name]
    for which, degree, rule in (("ring", ring_degree, mode.ring), ("ulysses", ulysses_degree, mode.ulysses)):
        if (rule == "one" and degree != 1) or (rule == "many" and degree < 2):
            need = "1" if rule == "one" else "at least 2"
            legal = "1" if rule == "one" else "2"
            raise ValueError(
                f"{which}_degree={degree}: {name} needs {which}_degree {need}. Try {which}_degree={legal}, or "
                f"unified_anything=True, which takes any ring_degree x ulysses_degree >= 2."
            )
    return name

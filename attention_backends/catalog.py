"""What exists, in plain tables that need no torch: modes (how ranks cooperate), kernels (what a rank computes with)."""

import importlib.util
import itertools
from dataclasses import dataclass
from importlib import metadata


@dataclass(frozen=True)
class Mode:
    """One way for ranks to cooperate; the only place that tells a mode's nature.

    Args:
        ring, ulysses: "one" (the degree must be 1), "many" (2 or more) or "any" (1 or more). Of a grid, ranks in a
            column and in a row.
        even: every sharded length must be a multiple of the number of ranks.
        heads_divide: the number of heads must be a multiple of ulysses_degree.
        masks: an attention mask is accepted.
        theirs: diffusers has a mode of this name too.
        anything: of an even mode, the one with the same degrees that takes any length.
        flag: the argument of diffusers' ContextParallelConfig or of `enable` that asks for it, "" if the degrees do.
        algorithm: the module of this package whose `context_parallel_attention` runs it; "": attention stays local.
    """

    name: str
    ring: str
    ulysses: str
    even: bool = False
    heads_divide: bool = False
    masks: bool = True
    theirs: bool = False
    anything: str = ""
    flag: str = ""
    algorithm: str = "unified"

    @property
    def has_ring(self) -> bool:
        """Whether a ring may be part of it."""
        return self.ring != "one"

    @property
    def has_ulysses(self) -> bool:
        """Whether Ulysses may be part of it."""
        return self.ulysses != "one"

    @property
    def parallel(self) -> bool:
        """Whether ranks share a sequence at all."""
        return self.has_ring or self.has_ulysses

    @property
    def scheduled(self) -> bool:
        """Whether schedules differ: keys that go around a ring are attended to together or piece by piece."""
        return self.has_ring and self.algorithm == "unified"

    @property
    def overlaps(self) -> bool:
        """Whether what needs nothing that travels can run while it does."""
        return self.algorithm == "unified"

    @property
    def grid(self) -> bool:
        """Whether partial outputs are merged in any case, for which a kernel must give a log-sum-exp."""
        return self.algorithm == "attention2d"

    @property
    def flags(self) -> dict[str, bool]:
        """The arguments of `enable` that ask for this mode, beside its degrees."""
        return {self.flag: True} if self.flag else {}

    def any_length(self, *, masked: bool = False) -> str:
        """The mode to name where this one needs even lengths: it takes any, and a mask if there is one."""
        name = self.anything or self.name
        return name if MODES[name].masks or not masked else "unified_anything"


MODES: dict[str, Mode] = {
    mode.name: mode
    for mode in (
        Mode("none", "one", "one", algorithm=""),
        Mode("ring", "many", "one", even=True, theirs=True, anything="ring_anything"),
        Mode("ulysses", "one", "many", even=True, heads_divide=True, theirs=True, anything="ulysses_anything"),
        Mode("unified", "many", "many", even=True, heads_divide=True, theirs=True, anything="unified_anything"),
        Mode("ulysses_anything", "one", "many", theirs=True, flag="ulysses_anything"),
        Mode("ring_anything", "many", "one", masks=False, theirs=True, flag="ring_anything"),
        Mode("unified_anything", "any", "any", flag="unified_anything"),
        Mode("attention2d", "many", "many", flag="attention2d", algorithm="attention2d"),
    )
}

SCHEDULES: tuple[str, ...] = ("auto", "gather", "staged")
TRANSPORTS: tuple[str, ...] = ("auto", "nccl", "host")  # of CUDA tensors: from device to device, or by host memory


@dataclass(frozen=True)
class Package:
    """A distribution, the module that it brings, and the oldest version that diffusers' wrapper of it works with."""

    name: str
    module: str
    least: str = "0"

    def missing(self) -> str:
        """What Kernel.missing gives."""
        if importlib.util.find_spec(self.module) is None:
            return f"needs the package {self.name}, which is not installed"
        try:
            version = metadata.version(self.name)
        except metadata.PackageNotFoundError:  # somebody's own build
            return ""
        if _numbers(version) >= _numbers(self.least):
            return ""
        return f"needs the package {self.name} from version {self.least} on, and {version} is installed"


def _numbers(version: str) -> tuple[int, ...]:
    """Of a release: "2.8.0.post2" is (2, 8, 0)."""
    return tuple(map(int, itertools.takewhile(str.isdecimal, version.partition("+")[0].split("."))))


@dataclass(frozen=True)
class Kernel:
    """One attention operator, under diffusers' own name for it (AttentionBackendName's value).

    Args:
        operator: its key in kernels.OPERATORS; "" where device, dtype and mask decide (kernels.choose).
        devices: device types it runs on. dtypes: torch dtype names.
        head_dim_max, head_dim_multiple: limits of the head size (0: none).
        lse: gives a log-sum-exp. mask: takes an attention mask.
        package: what must be installed beyond torch.
        capability: the least CUDA compute capability, (0, 0) for any.
    """

    name: str
    operator: str
    devices: tuple[str, ...]
    dtypes: tuple[str, ...]
    head_dim_max: int = 0
    head_dim_multiple: int = 0
    lse: bool = True
    mask: bool = False
    package: Package | None = None
    capability: tuple[int, int] = (0, 0)

    def missing(self) -> str:
        """What keeps its package from being used here, as the end of a sentence about the kernel; "": nothing."""
        return self.package.missing() if self.package else ""


_HALF = ("float16", "bfloat16")
_ALL = ("float64", "float32", *_HALF)
_CUDA = ("cuda",)
_ANY = ("cpu", "cuda")
_AMPERE, _HOPPER = (8, 0), (9, 0)
_FLASH, _FLASH_3 = Package("flash-attn", "flash_attn", "2.6.3"), Package("flash-attn-3", "flash_attn_interface")
_SAGE_2 = Package("sageattention", "sageattention", "2.1.1")  # PyPI's 1.0.6 gives no LSE and changes its keys

KERNELS: dict[str, Kernel] = {
    kernel.name: kernel
    for kernel in (
        Kernel("auto", "", _ANY, _ALL, mask=True),
        Kernel("native", "", _ANY, _ALL, mask=True),
        Kernel("_native_math", "math", _ANY, _ALL, mask=True),
        Kernel("_native_flash", "cuda_flash", _CUDA, _HALF, 256, 8, capability=_AMPERE),
        Kernel("_native_efficient", "cuda_efficient", _CUDA, ("float32", *_HALF), mask=True),
        Kernel("_native_cudnn", "cuda_cudnn", _CUDA, _HALF, 128, 8, mask=True, capability=_AMPERE),
        Kernel("flash", "flash", _CUDA, _HALF, 256, 8, package=_FLASH, capability=_AMPERE),
        Kernel("_flash_3", "_flash_3", _CUDA, _HALF, 256, package=_FLASH_3, capability=_HOPPER),
        Kernel("sage", "sage", _CUDA, _HALF, 128, package=_SAGE_2, capability=_AMPERE),
    )
}


_HUB = "is fetched from the hub as code when it is first used; install the package and use kernel="
_VARLEN = "packs sequences of several lengths into one; what a rank attends to is one length: use kernel="
_SAGE = "is one of sage's own choices: use kernel='sage'"
# diffusers' other backends (AttentionBackendName, 0.42), and why `enable` refuses them.
NOT_SUPPORTED: dict[str, str] = {
    **dict.fromkeys(("flash_hub", "flash_varlen_hub", "flash_4_hub", "aiter_fa2_hub"), f"{_HUB}'flash'"),
    **dict.fromkeys(("_flash_3_hub", "_flash_3_varlen_hub"), f"{_HUB}'_flash_3'"),
    **dict.fromkeys(("sage_hub", "sage_blackwell_hub"), f"{_HUB}'sage'"),
    "flash_varlen": f"{_VARLEN}'flash'",
    "_flash_varlen_3": f"{_VARLEN}'_flash_3'",
    "sage_varlen": f"{_VARLEN}'sage'",
    "_sage_qk_int8_pv_fp8_cuda": _SAGE,
    "_sage_qk_int8_pv_fp8_cuda_sm90": _SAGE,
    "_sage_qk_int8_pv_fp16_cuda": _SAGE,
    "_sage_qk_int8_pv_fp16_triton": _SAGE,
    "flex": "compiles a kernel for each length and mask, which differ between ranks: use kernel='auto'",
    "xformers": "gives no log-sum-exp through diffusers, and is torch's own kernel='_native_efficient'",
    "_native_npu": "needs an Ascend NPU, and runs go by CPUs and CUDA GPUs",
    "_native_xla": "needs an XLA device, and runs go by CPUs and CUDA GPUs",
}


def mode_name(ring_degree: int, ulysses_degree: int, **flags: bool) -> str:
    """The mode that these arguments of `enable` ask for.

    Args:
        flags: of the rows of MODES, such as ring_anything=True.

    Raises:
        ValueError: with the value, the rule and the nearest legal values.
    """
    for name, degree in (("ring_degree", ring_degree), ("ulysses_degree", ulysses_degree)):
        if not isinstance(degree, int) or isinstance(degree, bool) or degree < 1:
            raise ValueError(f"{name}={degree!r}: a degree is a whole number of ranks, at least 1. Try {name}=1 or 2.")
    if ring_degree * ulysses_degree < 2:
        raise ValueError(
            "ring_degree=1 and ulysses_degree=1: context parallelism needs at least two ranks. "
            "Try ring_degree=2 or ulysses_degree=2, or don't call enable()."
        )
    flagged = {mode.flag: mode for mode in MODES.values() if mode.flag}
    asked = [name for name, on in flags.items() if on]
    if unknown := [name for name in asked if name not in flagged]:
        raise ValueError(f"{unknown[0]}=True: unknown mode; choose from {', '.join(flagged)}.")
    if len(asked) > 1:
        raise ValueError(f"{' and '.join(asked)}: set at most one. unified_anything=True does the work of all three.")
    if asked:
        mode = flagged[asked[0]]
    elif ring_degree > 1 and ulysses_degree > 1:
        mode = MODES["unified"]
    else:
        mode = MODES["ring" if ring_degree > 1 else "ulysses"]
    for which, degree, rule in (("ring", ring_degree, mode.ring), ("ulysses", ulysses_degree, mode.ulysses)):
        if (rule == "one" and degree != 1) or (rule == "many" and degree < 2):
            need = "1" if rule == "one" else "at least 2"
            legal = "1" if rule == "one" else "2"
            raise ValueError(
                f"{which}_degree={degree}: {mode.name} needs {which}_degree {need}. Try {which}_degree={legal}, or "
                f"unified_anything=True, which takes any ring_degree x ulysses_degree >= 2."
            )
    return mode.name

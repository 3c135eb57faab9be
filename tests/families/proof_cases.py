"""The cases of the proof: a tiny transformer, a mode, a number of ranks and a size each."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from inputs import HEADS, Size
from miniatures import OTHERS

from attention_backends.catalog import MODES
from launcher.config.compose import Composer, to_config
from launcher.families.class_plans import facts as of_class

LIMIT = 1e-4  # of the output's largest number; float32 itself makes some 5e-7 here
WORLDS = (2, 3, 4)
PARALLEL = [mode for mode in MODES.values() if mode.parallel]
# The family in conf/model whose plan a tiny transformer is run with, or its class, if that has a plan of its own.
MODEL = {
    "flux": "flux", "flux_schnell": "flux_schnell", "chroma": "chroma", "flux2": "flux2",
    "flux2_klein": "flux2_klein_4b", "flux3": "flux3", "qwenimage": "qwenimage", "zimage": "zimage_turbo",
    "wan": "wan_t2v_1_3b", "wan_i2v": "wan_i2v_14b", "wan_ti2v": "wan22_ti2v_5b", "wan_vace": "wan_vace_1_3b",
    "chronoedit": "chronoedit", "skyreels_v2": "skyreels_v2_t2v_14b", "skyreels_v2_df": "skyreels_v2_df_1_3b",
    "skyreels_v2_causal": "skyreels_v2_df_1_3b", "ltx": "ltx_video", "ltx2": "ltx2", "hunyuan_video": "hunyuan_video",
    "hunyuan_video_i2v": "hunyuan_video_i2v", "hunyuan_video_plain": "hunyuan_video",
    "hunyuan_video15": "hunyuan_video_15", "hunyuanimage": "hunyuan_image_21",
    "hunyuanimage_distilled": "hunyuan_image_21", "sd3": "sd35_medium", "cogvideox": "cogvideox_5b",
    "cogvideox_2b": "cogvideox_2b", "lumina2": "lumina2", "helios": "helios", "helios_amplified": "helios",
    "kandinsky5": "kandinsky5_t2v_lite", "cosmos": "cosmos2_t2i_2b", "cosmos_v2w": "cosmos_t2w_7b", "krea2": "krea2",
    "ideogram4": "ideogram4",
} | {name: tiny.kind for name, tiny in OTHERS.items()}  # fmt: skip
# Text tokens, or a height and width, that let 2 and 4 ranks share all streams of a class equally.
EVEN: dict[str, dict[str, int]] = {
    "hunyuan_video15": {"text": 9},
    "hunyuanimage": {"text": 9},
    "hunyuanimage_distilled": {"text": 9},
    "omnigen": {"text": 7},
    "minimax_h3": {"text": 7},
    "framepack": {"text": 9},
    "framepack_plain": {"text": 9},
    "helios": {"height": 8, "width": 8},
    "helios_amplified": {"height": 8, "width": 8},
}


# What diffusers' own is shown with: ranks around the ring and in Ulysses; 4 heads on 3 ranks are too few for it.
THEIR_DEGREES = {
    "ring": (2, 1),
    "ulysses": (1, 2),
    "unified": (2, 2),
    "ulysses_anything": (1, 2),
    "ring_anything": (3, 1),
}
Results = dict["Case", float | str]
Row = dict[str, Any]  # of proof.json


@dataclass(frozen=True)
class Case:
    """One run: a tiny transformer by name, the mode, ranks around the ring and in Ulysses, and a size."""

    name: str
    mode: str
    ring: int
    ulysses: int
    size: Size

    @property
    def world(self) -> int:
        return self.ring * self.ulysses

    @property
    def arguments(self) -> dict[str, Any]:
        staged = {"schedule": "staged"} if self.ring > 1 and self.size.batch > 1 else {}
        return {"mode": self.mode, "ring_degree": self.ring, "ulysses_degree": self.ulysses, **staged}


def cases(name: str) -> Iterator[Case]:
    """Every case of a tiny transformer."""
    even = replace(Size(2, 4, 4, 8), **EVEN.get(name, {}))
    masks = [even, replace(even, batch=3, mask="partial"), replace(even, mask="true")]
    thirds = [Size(2, 3, 4, 6), Size(2, 3, 4, 9, 3, "partial")]
    uneven = [Size(2, 3, 5, 7), Size(2, 3, 3, 11, 3, "partial"), Size(2, 1, 5, 5, 2, "true")]
    for mode, world in itertools.product(PARALLEL, WORLDS):
        sizes = (thirds if world == 3 else masks) if mode.even else [*uneven, masks[1]]
        for ring in (degree for degree in range(1, world + 1) if world % degree == 0):
            ulysses = world // ring
            allowed = all(
                {"one": degree == 1, "many": degree > 1, "any": True}[rule]
                for rule, degree in ((mode.ring, ring), (mode.ulysses, ulysses))
            )
            if allowed and not (mode.heads_divide and HEADS % ulysses):
                yield from (Case(name, mode.name, ring, ulysses, size) for size in sizes)


@functools.cache
def plans() -> dict[str, dict[str, Any]]:
    """The plan of each tiny transformer, from conf/model or launcher/families/plans."""
    composer, found = Composer(), {name: of_class(tiny.kind)["cp_plan"] for name, tiny in OTHERS.items()}
    for name, model in MODEL.items():
        if name not in found:
            plan = to_config(composer.compose([f"model={model}"])).model.cp_plan
            assert plan is not None, model
            found[name] = plan
    return found

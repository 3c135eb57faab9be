"""Tiny pipelines of random weights for the launcher's own path, of diffusers' classes: no download, a megabyte each.

Their transformers are those of miniatures.py, with 6 heads as the launcher's other twins have.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pipelines_films as films
import pipelines_pictures as pictures
import torch
from twins import _make_random

FACTS = ["model.heads=6", "model.head_dim=12", "model.layers=2"]


def build(name: str, folder: Path) -> Path:
    """Save a family's tiny pipeline in `folder` and return it."""
    torch.manual_seed(0)
    pipe = pictures.pixart() if name == OWN else (PIPELINES | STARTING)[name][0]()
    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module):
            _make_random(part)
    pipe.save_pretrained(folder, safe_serialization=True)
    return folder


def own_files(folder: Path) -> Path:
    """A folder for --config-dir, with the model file of a family that conf/ does not have."""
    (folder / "model").mkdir(parents=True)
    (folder / "model" / f"{OWN}.yaml").write_text(OWN_FILE, encoding="utf-8")
    return folder


def words(name: str, folder: Path) -> list[str]:
    """What a request for it needs: its model file, its folder, and the facts in which it differs."""
    if name in UNNAMED:
        return [f"model.path={folder}", *PIPELINES[name][1]]
    return [f"model={name}", f"model.path={folder}", *FACTS, *(PIPELINES | STARTING)[name][1]]


SMALL = "model.text_tokens=24"
UNNAMED = ("auraflow",)  # no family's
OWN = "pixart_of_mine"  # of a model file that is not in conf/, as a user writes one: all its facts and its plan
OWN_FILE = f"""
name: {OWN}
pipeline: PixArtSigmaPipeline
heads: 6
head_dim: 12
layers: 2
latent_channels: 4
text: whole
cross_attention: true
text_tokens: 24
guidance_cfg: true
guidance_branches: batch
guidance: 4.5
prompt: a red cat
height: 64
width: 64
steps: 2
arguments: {{guidance: guidance_scale, negative_prompt: negative_prompt, text_tokens: max_sequence_length}}
cp_plan:
  split:
    transformer_blocks.0:
      hidden_states: {{dim: 1}}
  gather:
    proj_out: {{dim: 1}}
  local: [transformer_blocks.*.attn2]
"""
SINGLE = ["model.layers=4", "model.single_layers=2"]  # two of two streams, two of one
# How it is made, and the facts in which it differs.
PIPELINES: dict[str, tuple[Callable[[], Any], list[str]]] = {
    "sd35_medium": (pictures.sd35, [SMALL, "model.max_positions=96"]),
    "chroma": (pictures.chroma, [SMALL, *SINGLE]),
    "flux2_klein_4b": (pictures.klein, [SMALL, *SINGLE]),
    "zimage_turbo": (pictures.zimage, [SMALL, "guidance=2"]),
    "lumina2": (pictures.lumina2, [SMALL]),
    "cogvideox_5b": (films.cogvideox, ["model.head_dim=16"]),
    "hunyuan_video": (films.hunyuan, [SMALL, *SINGLE]),
    "wan22_t2v_a14b": (films.wan22, [SMALL, "steps=4"]),
    "wan22_ti2v_5b": (films.wan22_ti2v, [SMALL, "model.vae_scale=8"]),
    "skyreels_v2_t2v_14b": (films.skyreels, [SMALL]),
    "helios": (films.helios, [SMALL]),
    "krea2": (pictures.krea2, [SMALL]),
    "hunyuan_video_15": (films.hunyuan15, []),
    "hunyuan_image_21": (pictures.hunyuan_image, [*SINGLE]),
    "kandinsky5_t2v_lite": (films.kandinsky, [SMALL]),
    "ltx2": (films.ltx2, [SMALL]),
    "kandinsky5_t2i_lite": (pictures.kandinsky_picture, [SMALL, "model.sizes=null"]),
    "ideogram4": (pictures.ideogram4, [SMALL, "guidance=3"]),
    "cosmos2_t2i_2b": (pictures.cosmos2_picture, [SMALL, "model.packages=[]", "model.max_positions=32"]),
    "cosmos_t2w_7b": (films.cosmos_video, [SMALL, "model.packages=[]", "model.max_positions=32"]),
    "wan_vace_1_3b": (films.vace, [SMALL]),
    "skyreels_v2_df_1_3b": (films.skyreels_forcing, [SMALL]),
    "flux2": (pictures.flux2, [SMALL, *SINGLE, "model.packages=[]"]),
    "ltx_video_095": (films.ltx_condition, []),
    "auraflow": (pictures.auraflow, [SMALL]),
}
# Those that start from a picture.
STARTING: dict[str, tuple[Callable[[], Any], list[str]]] = {
    "flux_kontext": (pictures.kontext, [SMALL, *SINGLE]),
    "flux_fill": (pictures.fill, [SMALL, *SINGLE]),
    "wan_i2v_14b": (films.wan_i2v, [SMALL]),
    "wan_flf2v_14b": (films.wan_flf2v, [SMALL]),
    "wan22_i2v_a14b": (films.wan22_i2v, [SMALL]),
    "wan22_ti2v_5b": PIPELINES["wan22_ti2v_5b"],
    "chronoedit": (films.chronoedit, [SMALL]),
    "ltx2": PIPELINES["ltx2"],
    "ltx_video_095": PIPELINES["ltx_video_095"],
    "hunyuan_video_i2v": (films.hunyuan_i2v, [*SINGLE]),
    "qwenimage_edit": (pictures.qwen_edit, []),
    "qwenimage_edit_plus": (pictures.qwen_edit_plus, []),
}

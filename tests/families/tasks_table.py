"""Which model does what, and where that was shown.

python tests/families/tasks_table.py     # writes the table into conf/README.md
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
# ruff: noqa: E402  (the helpers are found by path)
sys.path[:0] = [str(ROOT), str(HERE), str(HERE.parent)]

from launcher.config.model_schema import ModelConfig, TaskConfig
from launcher.families.tasks import NAMES, tasks

TABLE = ROOT / "conf" / "README.md"
BEGIN, END = "<!-- tasks: begin -->", "<!-- tasks: end -->"
# What tests/families/test_tasks.py draws on one rank and on three, with a tiny twin of the pipeline.
CELLS = {
    "flux_tiny": ["image", "inpaint"],
    "qwenimage": ["image", "inpaint"],
    "sd35_medium": ["image", "inpaint"],
    "chroma": ["image", "inpaint"],
    "flux2": ["edit"],
    "flux2_klein_4b": ["edit", "inpaint"],
    "zimage_turbo": ["image", "inpaint"],
    "flux_kontext": ["edit"],
    "flux_fill": ["inpaint"],
    "wan_i2v_14b": ["first_frame"],
    "wan_flf2v_14b": ["first_last"],
    "wan22_i2v_a14b": ["first_frame", "first_last"],
    "wan22_ti2v_5b": ["first_frame"],
    "wan_t2v_1_3b": ["video"],
    "wan_vace_1_3b": ["video", "video_inpaint"],
    "cogvideox_5b": ["video"],
    "ltx_video": ["first_frame"],
    "ltx2": ["first_frame", "first_last", "video"],
    "ltx_video_095": ["first_frame", "first_last", "video"],
    "chronoedit": ["edit"],
    "hunyuan_video_i2v": ["first_frame"],
    "qwenimage_edit": ["edit"],
    "qwenimage_edit_plus": ["edit"],
}
# Those that tests/distributed and tests/families/test_pipelines.py draw from text, likewise.
TEXT = (
    "flux_tiny", "qwenimage", "wan_t2v_1_3b", "ltx_video", "sd35_medium", "chroma", "flux2_klein_4b", "zimage_turbo",
    "lumina2", "cogvideox_5b", "hunyuan_video", "wan22_t2v_a14b", "wan22_ti2v_5b", "skyreels_v2_t2v_14b", "ltx2",
    "helios", "krea2", "hunyuan_video_15", "hunyuan_image_21", "kandinsky5_t2v_lite", "kandinsky5_t2i_lite",
    "ideogram4", "cosmos2_t2i_2b", "cosmos_t2w_7b", "wan_vace_1_3b", "skyreels_v2_df_1_3b", "flux2",
    "ltx_video_095",
)  # fmt: skip


def models() -> dict[str, ModelConfig]:
    """What the table needs of each model: composing all of them takes half a minute."""
    return {path.stem: _model(path.stem) for path in sorted((ROOT / "conf" / "model").glob("*.yaml"))}


def _model(name: str) -> ModelConfig:
    facts = _facts(name)
    done = {task: None if how is None else TaskConfig(**how) for task, how in facts.get("tasks", {}).items()}
    kept = {key: facts[key] for key in ("pipeline", "task", "sound") if key in facts}
    return ModelConfig(name=name, tasks=done, **kept)


@functools.cache
def _facts(name: str) -> dict[str, Any]:
    """A model's file over that which it starts from."""
    own = yaml.safe_load((ROOT / "conf" / "model" / f"{name}.yaml").read_text(encoding="utf-8"))
    found: dict[str, Any] = {}
    for base in own.pop("defaults", []):
        found |= _facts(base) if base != "_self_" else {}
    return found | own | {"tasks": found.get("tasks", {}) | own.get("tasks", {})}


def pipeline_of(model: ModelConfig, task: str) -> str:
    """The class that does a task."""
    return tasks(model)[task].pipeline or model.pipeline


def table() -> str:
    """Markdown: a row a model, a column a task, and in each cell where it was shown."""
    found = models()
    shown: dict[tuple[str, str], str] = {}
    own = {(name, task) for name, done in CELLS.items() for task in done}
    own |= {(name, "text") for name in TEXT}
    for name, done in [*((name, ["text"]) for name in TEXT), *CELLS.items()]:
        for task in done:
            shown.setdefault((pipeline_of(found[name], task), task), name)
    lines = [f"| model | {' | '.join(NAMES.values())} | sound |", f"| --- |{' --- |' * (len(NAMES) + 1)}"]
    for name, model in found.items():
        cells = []
        for task in NAMES:
            if task not in tasks(model):
                cells.append("")
                continue
            if model.pipeline.endswith("ModularPipeline"):
                cells.append("no pipeline in diffusers")
                continue
            where = shown.get((pipeline_of(model, task), task))
            cells.append("shown" if (name, task) in own else "not run" if where is None else f"as `{where}`")
        cells.append("yes" if model.sound else "")
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    before, _, rest = TABLE.read_text(encoding="utf-8").partition(BEGIN)
    TABLE.write_text(f"{before}{BEGIN}\n{table()}\n{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    main()

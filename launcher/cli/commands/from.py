"""`python -m launcher from FILE` reads how another program made a picture, and tells the line that asks for it here."""

# ruff: noqa: N999  (the word that is typed is no name in Python)
from __future__ import annotations

import re
import shlex

from launcher.cli.parser import Parser
from launcher.cli.screen import rows
from launcher.cli.terminal import show
from launcher.config.compose import Composer, to_config
from launcher.config.model_schema import ModelConfig
from launcher.config.names import SCHEDULERS
from launcher.config.paths import user_path
from launcher.config.text import quoted
from launcher.families import sources
from launcher.families.fits import FITS, NOISE
from launcher.problems import Problem, Refused
from launcher.schedulers import FLOW, SOLVERS, TAKE_SIGMAS
from launcher.wording import shorten

ABOUT = "read an A1111 or ComfyUI picture's settings, and tell the line that asks for the same here"
USAGE = """\
python -m launcher from FILE        of a PNG, JPEG or WebP that A1111, Forge or ComfyUI made

Nothing is drawn: the line is printed, and what has no counterpart here.

Options
{options}"""
# Which model here a checkpoint's name means, the more particular one first.
MODELS = (
    (r"kontext", "flux_kontext"),
    (r"flux.*fill", "flux_fill"),
    (r"flux.*krea", "flux_krea"),
    (r"flux.*schnell|schnell", "flux_schnell"),
    (r"flux.?2.*klein.*9b", "flux2_klein_9b"),
    (r"flux.?2.*klein", "flux2_klein_4b"),
    (r"flux.?2", "flux2"),
    (r"flux", "flux"),
    (r"qwen.*edit.*(2509|plus)", "qwenimage_edit_plus"),
    (r"qwen.*edit", "qwenimage_edit"),
    (r"qwen", "qwenimage"),
    (r"z.?image", "zimage_turbo"),
    (r"chroma", "chroma"),
    (r"sd.?3.?5.*medium", "sd35_medium"),
    (r"sd.?3.?5", "sd35_large"),
    (r"lumina", "lumina2"),
)


def main(words: list[str]) -> int:
    """Tell the line."""
    parser = Parser()
    args = parser.read(words)
    if args.help:
        show(USAGE.format(options=parser.options()))
        return 0
    if len(args.overrides) != 1:
        raise Refused([Problem("from", "takes one picture", "type python -m launcher from FILE")])
    from launcher.records import foreign  # Pillow, which a refusal does not wait for
    from launcher.records.picture import read_recipe

    word = args.overrides[0]
    try:
        path = user_path(word)
    except ValueError as error:
        raise Refused([Problem(word, str(error), "give a picture's file")]) from error
    try:
        read_recipe(path)
    except ValueError:
        pass
    else:
        instead = f"type python -m launcher reproduce {shlex.quote(word)}"
        raise Refused([Problem(word, "was made by this program", instead)])
    try:
        found = foreign.read(path)
    except ValueError as error:
        raise Refused([Problem(word, str(error), "give a picture as the program saved it")]) from error
    line, left = asked(found)
    show(shlex.join(["python", "-m", "launcher", *line]))
    if left:
        show("\n" + rows({"no counterpart": f"of {found.program}'s settings"} | {f"  {k}": v for k, v in left.items()}))
    return 0


def asked(found: object) -> tuple[list[str], dict[str, str]]:
    """The settings that ask for the same here, and what has no counterpart, with the reason."""
    from launcher.records.foreign import Foreign

    assert isinstance(found, Foreign)
    name = next((here for pattern, here in MODELS if re.search(pattern, found.model, re.IGNORECASE)), None)
    left = {key: shorten(value) for key, value in found.rest.items()}
    if name is None:
        left["model"] = (
            f"{shorten(found.model) or 'not named'}; choose one with model=, python -m launcher models lists them"
        )
    model = to_config(Composer().compose([f"model={name}"] if name is not None else [])).model
    values: dict[str, object] = {"model": name, "prompt": _plain(found.prompt) or None, "seed": found.seed}
    values |= {"steps": found.steps, **_guidance(found.cfg, found.distilled, model, left)}
    values |= _scheduler(left, model)
    if found.size is not None:
        values |= {"height": found.size[0], "width": found.size[1]}
    if found.negative:
        if (values.get("guidance" if model.guidance_cfg else "model.true_cfg") or 0) > 1:  # type: ignore[operator]
            values["negative_prompt"] = _plain(found.negative)
        else:
            left["negative prompt"] = f"{shorten(found.negative)}; it had no effect without classifier-free guidance"
    if found.strength is not None:
        left["strength"] = (
            f"{found.strength:g}; it is of a picture to start from: type image=FILE strength={found.strength:g}"
        )
    for number, (lora, scale) in enumerate(found.loras):
        how = f"type lora.path=FILE lora.scale={scale:g}"
        if len(found.loras) > 1:
            scales = ",".join(f"{each:g}" for _, each in found.loras)
            files = ",".join(["FILE"] * len(found.loras))
            how = f"number {number + 1} in lora.path=[{files}] lora.scale=[{scales}]"
        left[f"LoRA {shorten(lora)}"] = how
    return [f"{key}={_word(value)}" for key, value in values.items() if value is not None], left


def _scheduler(left: dict[str, str], model: ModelConfig) -> dict[str, object]:
    """The settings of the scheduler, taken from what has no counterpart so far, where the model can follow them."""
    if model.pipeline not in FITS or model.pipeline in NOISE:
        return {}
    values: dict[str, object] = {}
    node = sources.pipeline(model.pipeline)
    for key in ("Sampler", "sampler_name"):
        name = SCHEDULERS.get(left.get(key, "").lower(), f"scheduler={left.get(key, '').lower()}").partition("=")[2]
        kind = SOLVERS.get(name, {}).get(FLOW)
        if kind in TAKE_SIGMAS or (kind and node is not None and not sources.gives_sigmas(node)):
            values["scheduler"] = name
            del left[key]
    if "shift" in left:
        values["scheduler.shift"] = float(left.pop("shift"))
    return values


def _guidance(cfg: float | None, distilled: float | None, model: ModelConfig, left: dict[str, str]) -> dict[str, float]:
    """The guidance scales under the names that the model has for them."""
    found: dict[str, float] = {}
    if model.guidance_cfg and cfg is not None:
        return {"guidance": cfg}
    if distilled is not None and model.guidance_embeds:
        found["guidance"] = distilled
    elif distilled is not None:
        left["distilled guidance"] = f"{distilled:g}; {model.name} takes none"
    return found | ({"model.true_cfg": cfg} if cfg is not None and cfg > 1 else {})


def _plain(text: str) -> str:
    """A text without what a terminal would obey."""
    return "".join(char if char.isprintable() else " " for char in text).strip()


def _word(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return quoted(value) if isinstance(value, str) and not re.fullmatch(r"\w+", value, re.ASCII) else str(value)

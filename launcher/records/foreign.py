"""How other programs say that they made a picture: A1111's text (Forge's and SD.Next's too), and ComfyUI's graph.

Only text that stands in the file is read. A graph is looked through, never run.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from launcher.reading import UnreadableError, opened

MAX_TEXT = 1 << 20  # characters
MAX_NODES = 10_000
EXIF_IFD, USER_COMMENT = 0x8769, 0x9286
CODES = {b"UNICODE\0": "utf-16-be", b"ASCII\0\0\0": "ascii"}
LAST_LINE = re.compile(r"^Steps: \d+, ", re.MULTILINE)
# Names are bounded: else a megabyte without a colon, or of "<lora:", takes hours.
PAIR = re.compile(r'([\w][\w \-/]{0,80}?):\s*("(?:\\.|[^"\\])*"|[^,]*)(?:,|$)')
LORA = re.compile(r"<lora:([^:>]{1,300}):?([^>]{0,300})>")


@dataclass
class Foreign:
    """What a file says, in this program's terms where it has one; `rest` is everything else, as it stands there."""

    program: str
    prompt: str = ""
    negative: str = ""
    steps: int | None = None
    seed: int | None = None
    size: tuple[int, int] | None = None  # height, width
    cfg: float | None = None
    distilled: float | None = None
    strength: float | None = None
    model: str = ""
    loras: list[tuple[str, float]] = field(default_factory=list)
    rest: dict[str, str] = field(default_factory=dict)


def read(path: Path) -> Foreign:
    """Read what another program wrote into a picture.

    Raises:
        ValueError: the file can't be read, or holds nothing of the kind; the words follow its name.
    """
    try:
        with opened(path):  # a pipe would block
            pass
        with Image.open(path, formats=("PNG", "JPEG", "WEBP")) as image:
            texts = {key: text for key, text in image.info.items() if isinstance(text, str) and len(text) <= MAX_TEXT}
            comment = image.getexif().get_ifd(EXIF_IFD).get(USER_COMMENT, b"")
    except UnreadableError as error:
        raise ValueError(str(error)) from error
    except Exception as error:  # Pillow's readers raise many kinds
        raise ValueError("is not a picture that can be read (PNG, JPEG or WebP)") from error
    if isinstance(comment, bytes) and len(comment) <= 2 * MAX_TEXT and (encoding := CODES.get(comment[:8])):
        texts.setdefault("parameters", comment[8:].decode(encoding, "replace"))
    if "parameters" in texts and LAST_LINE.search(texts["parameters"]):
        return a1111(texts["parameters"])
    if "prompt" in texts:
        with contextlib.suppress(ValueError, RecursionError):
            graph = json.loads(texts["prompt"])
            if isinstance(graph, dict) and 0 < len(graph) <= MAX_NODES:
                return comfyui(graph)
    raise ValueError("holds no settings of A1111 or ComfyUI: a web page or messenger may have removed them")


def a1111(text: str) -> Foreign:
    """Read `parameters`: the prompt, `Negative prompt: `, and a last line of `Name: value` pairs."""
    start = list(LAST_LINE.finditer(text))[-1].start()
    found = Foreign("A1111")
    prompt, _, negative = text[:start].partition("Negative prompt:")
    found.prompt, found.negative = prompt.strip(), negative.strip()
    for name, value in LORA.findall(found.prompt):
        found.loras.append((name, _number(value) if _number(value) is not None else 1.0))  # type: ignore[arg-type]
    found.prompt = LORA.sub("", found.prompt).strip(" ,\n")
    for name, raw in PAIR.findall(text[start:].replace("\n", ", ")):
        value = raw.strip().strip('"')
        size = re.fullmatch(r"(\d{1,6})x(\d{1,6})", value)
        if name == "Steps" and value.isdigit():
            found.steps = int(value)
        elif name == "Seed" and value.isdigit():
            found.seed = int(value)
        elif name == "Size" and size:
            found.size = int(size[2]), int(size[1])
        elif name == "CFG scale" and _number(value) is not None:
            found.cfg = _number(value)
        elif name == "Distilled CFG Scale" and _number(value) is not None:
            found.distilled = _number(value)
        elif name == "Denoising strength" and _number(value) is not None:
            found.strength = _number(value)
        elif name == "Model":
            found.model = value
        elif name not in ("Model hash", "Version", "Lora hashes"):
            found.rest[name] = value
    return found


def comfyui(graph: dict[str, Any]) -> Foreign:
    """Read a graph in ComfyUI's API form: nodes by number, each with a class and inputs that are values or links.

    Raises:
        ValueError: it has no node that samples.
    """
    nodes = {
        key: node for key, node in graph.items() if isinstance(node, dict) and isinstance(node.get("inputs"), dict)
    }
    samplers = [key for key, node in nodes.items() if "Sampler" in str(node.get("class_type")) and _samples(node)]
    if not samplers:
        raise ValueError("holds a graph of ComfyUI without a sampler")
    found, sampler = Foreign("ComfyUI"), nodes[samplers[0]]["inputs"]
    if len(samplers) > 1:
        found.rest["samplers"] = f"{len(samplers)}, of which the first is read"
    for key in _upstream(nodes, samplers[0]):
        kind, inputs = str(nodes[key].get("class_type")), nodes[key]["inputs"]
        for name, value in inputs.items():
            _take(found, kind, name, value)
        if "Lora" in kind and isinstance(inputs.get("lora_name"), str):
            strength = _number(inputs.get("strength_model", 1.0))
            found.loras.append((inputs["lora_name"], 1.0 if strength is None else strength))
        if isinstance(height := inputs.get("height"), int) and isinstance(width := inputs.get("width"), int):
            found.size = found.size or (height, width)
    found.prompt = _text(nodes, sampler.get("positive", sampler.get("guider")))
    found.negative = _text(nodes, sampler.get("negative"))
    return found


def _samples(node: dict[str, Any]) -> bool:
    return any(name in node["inputs"] for name in ("latent_image", "latent", "positive", "guider"))


def _take(found: Foreign, kind: str, name: str, value: object) -> None:
    """Keep a node's value, the first of its kind."""
    number = _number(value)
    if name in ("seed", "noise_seed") and isinstance(value, int):
        found.seed = value if found.seed is None else found.seed
    elif name == "steps" and isinstance(value, int):
        found.steps = value if found.steps is None else found.steps
    elif name == "cfg" and number is not None:
        found.cfg = number if found.cfg is None else found.cfg
    elif name == "guidance" and number is not None:
        found.distilled = number
    elif name == "denoise" and number is not None and number < 1:
        found.strength = number
    elif name in ("ckpt_name", "unet_name") and isinstance(value, str):
        found.model = found.model or value
    elif name in ("sampler_name", "scheduler") and isinstance(value, str):
        found.rest[name] = value
    elif name == "shift" and kind.startswith("ModelSampling") and number is not None and 0 < number <= 100:
        found.rest["shift"] = f"{number:g}"
    elif kind.startswith(("ControlNet", "IPAdapter")) and name in ("control_net_name", "preset"):
        found.rest[kind] = str(value)[:100]


def _upstream(nodes: dict[str, Any], start: str) -> Iterator[str]:
    """A node and all that it gets something from."""
    seen, wanted = set(), [start]
    while wanted:
        key = wanted.pop(0)
        if key in seen or key not in nodes:
            continue
        seen.add(key)
        yield key
        wanted += [str(link[0]) for link in nodes[key]["inputs"].values() if isinstance(link, list) and len(link) == 2]


def _text(nodes: dict[str, Any], link: object) -> str:
    """The text that a conditioning comes from."""
    if not isinstance(link, list) or len(link) != 2:
        return ""
    for key in _upstream(nodes, str(link[0])):
        for name in ("text", "t5xxl", "string", "value"):
            if isinstance(text := nodes[key]["inputs"].get(name), str):
                return text
    return ""


def _number(value: object) -> float | None:
    try:
        number = float(value) if isinstance(value, (int, float, str)) else float("nan")
    except (ValueError, OverflowError):
        return None
    return number if abs(number) < 1e9 else None  # NaN is not

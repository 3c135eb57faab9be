"""What other programs read in a picture: the text of A1111's web UI, and XMP.

The text is the one that PNG Info, galleries and parsers know: the prompt, a line `Negative prompt: ...`, and a last
line of settings, `Steps: 28, Sampler: Euler, ...`. A value with a comma, colon or line end is quoted as JSON, as A1111
does it (modules/infotext_utils.py there).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from html import escape, unescape
from pathlib import Path
from typing import Any

from launcher.records.record import Recipe, cp_option

TOOL = "ring-anything-launcher"
# A1111's names of schedulers. Any other goes by its class, without the last word.
SAMPLERS = {
    "FlowMatchEulerDiscreteScheduler": "Euler",
    "EulerDiscreteScheduler": "Euler",
    "EulerAncestralDiscreteScheduler": "Euler a",
    "FlowMatchHeunDiscreteScheduler": "Heun",
    "UniPCMultistepScheduler": "UniPC",
    "DPMSolverMultistepScheduler": "DPM++ 2M",
    "DEISMultistepScheduler": "DEIS",
    "DDIMScheduler": "DDIM",
    "CogVideoXDDIMScheduler": "DDIM",
    "CogVideoXDPMScheduler": "DPM++ 2M",
}
NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # the characters of XML 1.0
NAMESPACE = "https://github.com/ring-anything-launcher/recipe/1"  # a name: nothing is there to fetch
# https://cv.iptc.org/newscodes/digitalsourcetype: what search engines and galleries look at for generated pictures.
GENERATED = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
RECIPE = re.compile(rb"<launcher:Recipe>([^<]*)</launcher:Recipe>")


def parameters(recipe: Recipe) -> str:
    """A recipe as A1111's text. What is not known of it is left out."""
    config = recipe.config
    model, cp, lora, scheduler = (_part(config, name) for name in ("model", "cp", "lora", "scheduler"))
    guidance, true_cfg = config.get("guidance"), model.get("true_cfg", 1.0)
    distilled = guidance if not model.get("guidance_cfg") else None
    scale = true_cfg if distilled is not None else guidance
    path = str(model.get("path") or "")
    settings: dict[str, object] = {
        "Steps": config.get("steps"),
        "Sampler": _sampler(recipe.scheduler),
        "Schedule type": str(scheduler["sigmas"]).capitalize() if scheduler.get("sigmas") else None,
        "Shift": scheduler.get("shift"),
        "CFG scale": true_cfg if scale is None else scale,
        "Distilled CFG Scale": distilled,  # Forge's name of it
        "Seed": config.get("seed"),
        "Size": f"{config['width']}x{config['height']}" if {"width", "height"} <= config.keys() else None,
        "Model hash": model_hash(recipe),
        "Model": model.get("name") if path in ("bundled", "") else Path(path).name,
        "Frames": config.get("frames"),
        "FPS": config.get("fps"),
    }
    settings |= _loras(lora, recipe.inputs)
    settings["Context parallel"] = cp_option(cp)
    if cp.get("mode") not in (None, "none"):
        settings |= {"Ring degree": cp.get("ring_degree"), "Ulysses degree": cp.get("ulysses_degree")}
    settings["Version"] = f"{TOOL} {recipe.versions.get('launcher', '')}".strip()
    negative = str(config.get("negative_prompt") or "").strip()
    lines = [str(config.get("prompt") or ""), *([f"Negative prompt: {negative}"] if negative else [])]
    return "\n".join(
        [*lines, ", ".join(f"{key}: {_value(item)}" for key, item in settings.items() if item is not None)]
    )


def _loras(lora: Mapping[str, Any], inputs: Mapping[str, str]) -> dict[str, object]:
    """LoRAs as A1111 tells them: their files, strengths and the first ten digits of each one's hash."""
    path, scale = lora.get("path"), lora.get("scale")
    if path is None:
        return {}
    if not isinstance(scale, list):
        digest = inputs.get("lora.path")
        return {"LoRA": Path(str(path)).name, "LoRA scale": scale, "LoRA hash": digest and digest[:10]}
    names = [Path(item).name for item in str(path).strip("[]").split(",")]
    digests = [inputs.get(f"lora.path[{number}]", "")[:10] for number in range(len(names))]
    told = {"LoRA": names, "LoRA scale": [f"{item:g}" if isinstance(item, float) else str(item) for item in scale]}
    return {key: ", ".join(items) for key, items in (told | {"LoRA hash": digests}).items()}


def model_hash(recipe: Recipe) -> str | None:
    """The first ten digits of what the transformer's weights hash to: of its file, or of its files' hashes."""
    files = {} if recipe.weights is None else recipe.weights.files
    transformers = _part(recipe.config, "model").get("transformers")
    names = transformers if isinstance(transformers, list) else ["transformer"]
    found = [digest for file, digest in sorted(files.items()) if file.split("/")[0] in names]
    if len(found) < 2:
        return found[0][:10] if found else None
    return hashlib.sha256("\n".join(found).encode()).hexdigest()[:10]


def _sampler(scheduler: str | None) -> str | None:
    return None if scheduler is None else SAMPLERS.get(scheduler, scheduler.removesuffix("Scheduler"))


def _part(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    part = config.get(name)
    return part if isinstance(part, dict) else {}


def _value(item: object) -> str:
    text = f"{item:g}" if isinstance(item, float) else str(item)
    return json.dumps(text, ensure_ascii=False) if re.search(r"[,:\n]", text) else text


def xmp(recipe: str, prompt: str | None, tool: str) -> bytes:
    """An XMP packet (ISO 16684-1) with the recipe's JSON, or "" for none; a prompt of None leaves all else out."""
    told = f"<launcher:Recipe>{escape(recipe, quote=False)}</launcher:Recipe>" if recipe else ""
    if prompt is not None:
        description = escape(NOT_XML.sub("\ufffd", prompt), quote=False)
        told += (
            f'<dc:description><rdf:Alt><rdf:li xml:lang="x-default">{description}</rdf:li></rdf:Alt></dc:description>'
            f"<xmp:CreatorTool>{escape(tool)}</xmp:CreatorTool>"
            f"<Iptc4xmpExt:DigitalSourceType>{GENERATED}</Iptc4xmpExt:DigitalSourceType>"
        )
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" '
        'xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
        f'xmlns:launcher="{NAMESPACE}">{told}</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
    ).encode()


def recipe_in(packet: bytes) -> str | None:
    """The recipe's JSON in an XMP packet that `xmp` made; the XML around it is not read."""
    found = RECIPE.search(packet)
    return None if found is None else unescape(found.group(1).decode("utf-8", "replace"))

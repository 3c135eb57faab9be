"""A first draft of a model file for a pipeline that no family fits, read from its files and its class's source.

Nothing of it is imported: torch and diffusers take seconds, and what is drafted must be checked by its reader anyway.
"""

from __future__ import annotations

import ast
import dataclasses
import json
import re
from pathlib import Path
from typing import Any

from launcher.config.model_schema import ModelConfig
from launcher.families import class_plans, sources, unnamed
from launcher.families.sources import Classes, attributes, method, transformer
from launcher.problems import Problem, Refused
from launcher.reading import UnreadableError, read_json

TOKENS = ("hidden_states", "encoder_hidden_states", "x", "visual_embed", "audio_hidden_states")
POSITIONS = ("image_rotary_emb", "rotary_emb", "freqs_cis", "rope")
MASKS = ("attention_mask", "attn_mask", "encoder_hidden_states_mask")
OUTPUTS = ("proj_out", "final_layer", "out_layer")
CROSS = ("attn2", "cross_attn", "cross_attention")


def draft(folder: Path) -> str:
    """The YAML of a model file, with what its reader must check in comments.

    Raises:
        Refused: the folder is no diffusers pipeline, or its transformer's class is not diffusers' own.
    """
    value = f"--draft {folder}"
    try:
        index, config = read_json(folder / "model_index.json"), read_json(folder / "transformer" / "config.json")
        pipeline, kind = index["_class_name"], config["_class_name"]
        if not all(isinstance(name, str) and name.isidentifier() for name in (pipeline, kind)):
            raise UnreadableError("_class_name is not the name of a class")
    except (UnreadableError, KeyError, TypeError) as error:
        told = f"not the folder of a diffusers pipeline with a transformer ({error})"
        raise Refused([Problem(value, told, "give a folder with a model_index.json")]) from error
    source = transformer(kind)
    if source is None:
        told = f"{kind} is not a transformer of the installed diffusers"
        raise Refused([Problem(value, told, "write the plan by hand: attention_backends/plan.py has the form")])
    named = {
        "name": folder.name.replace("-", "_").replace(".", "_").lower(),
        "pipeline": pipeline,
        "path": str(folder.resolve()),
    }
    rest: dict[str, Any] = _rest(folder) if sources.pipeline(pipeline) is not None else _shape(config)
    known = {*named, *class_plans.facts(kind)}
    facts = named | {key: value for key, value in rest.items() if key not in known}
    lines = ["# A draft: check every line, above all vae_scale, the text and the plan, and compare it with cp=none."]
    lines += [f"{name}: {_written(value)}" for name, value in facts.items()]
    counted = "counted: false  # until the tokens of all that is split are sure"
    return "\n".join([*lines, counted, *(class_plans.text(kind).splitlines() or _plan(source, kind))])


def _rest(folder: Path) -> dict[str, Any]:
    """What else is read of a pipeline, as far as it is not what a model file has without a word."""
    try:
        found = unnamed.facts(str(folder), folder)
    except (Refused, UnreadableError):
        return {}
    standard = dataclasses.asdict(ModelConfig())
    arguments = {name: value for name, value in found["arguments"].items() if value != standard["arguments"][name]}
    found |= {"arguments": arguments or standard["arguments"], "counted": True}
    return {name: value for name, value in found.items() if value != standard[name]}


def _shape(config: dict[str, Any]) -> dict[str, int]:
    """What a transformer's configuration tells of a pipeline that is not diffusers' own."""
    heads = _count(config, "num_attention_heads") or _count(config, "n_heads")
    return {
        "heads": heads,
        "head_dim": _count(config, "attention_head_dim") or (_count(config, "dim") // heads if heads else 0),
        "layers": _count(config, "num_layers") or _count(config, "n_layers"),
        "patch": _count(config, "patch_size") or 2,
    }


def _written(value: Any) -> str:
    """A value in YAML's own way, on one line."""
    return value if isinstance(value, str) and re.fullmatch(r"[\w/][\w./ -]*", value) else json.dumps(value)


def _count(config: dict[str, Any], key: str) -> int:
    """A count, or the last of a list of them; 0 where there is none."""
    value = config.get(key)
    number = value[-1] if isinstance(value, list) and value else value
    return number if type(number) is int else 0


def _crosses(value: ast.expr) -> bool:
    """Whether this makes an attention to something else: not one that is told that there is nothing."""
    if not isinstance(value, ast.Call):
        return False
    told = [each.value for each in value.keywords if each.arg == "cross_attention_dim"]
    return not (told and isinstance(told[0], ast.Constant) and told[0].value is None)


def _plan(classes: Classes, kind: str) -> list[str]:
    """The lines of cp_plan: the longest lists of blocks are split, the last module's output is gathered."""
    parts = dict(attributes(classes[kind]))
    blocks: dict[str, ast.ClassDef] = {}
    for name, value in parts.items():
        if isinstance(value, ast.Call) and getattr(value.func, "attr", "") == "ModuleList":
            called = [each.func for each in ast.walk(value) if isinstance(each, ast.Call)]
            made = [classes[name.id] for name in called if isinstance(name, ast.Name) and name.id in classes]
            if made:
                blocks[name] = made[0]
    whole = [name for name in blocks if "refiner" in name or "text" in name]
    split = {name: node for name, node in blocks.items() if name not in whole}
    lines, local = ["cp_plan:", "  split:"], list(whole)
    streams: list[str] = []
    for name, node in split.items():
        forward = method(node, "forward")
        given = [argument.arg for argument in forward.args.args[1:]] if forward else []
        cross = list(dict.fromkeys(each for each, value in attributes(node) if each in CROSS and _crosses(value)))
        local += [f"{name}.*.{each}" for each in cross]
        tokens = [each for each in given if each in TOKENS and not (cross and each == "encoder_hidden_states")]
        if not streams and tokens:
            streams = tokens
            lines += [f"    {name}.0:", *(f"      {each}: {{dim: 1}}" for each in tokens)]
        like = f"[{', '.join(streams)}]" if len(streams) > 1 else "".join(streams)
        follow = [f"      {each}: {{dim: 0, like: {streams[0]}}}" for each in given if each in POSITIONS and streams]
        follow += [f"      {each}: {{dim: -1, like: {like}}}  # which streams, in which order?" for each in given
                   if each in MASKS and streams and not cross]  # fmt: skip
        if follow:
            lines += [f"    {name}.*:", *follow]
    last = next((name for name in OUTPUTS if name in parts), f"{next(reversed(split), 'blocks')}.-1")
    lines += ["  gather:", f"    {last}: {{dim: 1}}"]
    return [*lines, f"  local: [{', '.join(local)}]"] if local else lines

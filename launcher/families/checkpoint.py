"""A model's checkpoint as it is on this disk: looked at once, into plain data, without torch.

Every part of the pipeline is looked for: weights by their headers, and tokenizers, schedulers and configurations as
well, for the libraries make up what is missing and draw another picture.
"""

from __future__ import annotations

import contextlib
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launcher.config.model_schema import ModelConfig
from launcher.config.paths import is_utf8
from launcher.families import fits
from launcher.families.draft import draft
from launcher.families.facts import fact_problems
from launcher.families.hub import access_problems
from launcher.families.layers import Layers, layers_of
from launcher.families.parts import TELLS, Part, lacks, packages, read_index, stray, unknown
from launcher.families.shapes import misfits
from launcher.families.sources import has_own_plan, part_of
from launcher.families.weights import (
    BASES,
    FOLDER,
    HERE,
    VARIANT,
    as_typed,
    folder,
    home,
    is_hub,
    location,
    not_a_folder,
    pickles,
    variants,
    weight_files,
)
from launcher.problems import Problem, Refused
from launcher.reading import UnreadableError, read_json_object

NOT_UTF8 = "a name that is not UTF-8 text, which the libraries that read models don't take"
RENAME = "rename it, or make a link with another name: ln -s"
# Ends of the names of what quantised weights are multiplied with: ComfyUI's, bitsandbytes', compressed-tensors'.
PACKED = (".scale_weight", ".weight_scale", ".scale_input", ".comfy_quant", ".absmax", ".weight_scale_inv", ".SCB")


@dataclass(frozen=True)
class Checkpoint:
    """What is known of a checkpoint.

    Args:
        source: what `from_pretrained` is given: a folder, or a repository of the hub that has to be fetched from.
        revision: of that repository; None with a folder.
        whole: nothing is missing here, so no network is needed.
        lacking: what is missing first, of a repository that is in the cache in part.
        variant: of the weight files, "fp16" of `model.fp16.safetensors`; None for the plain ones.
        parameters: numbers of each part with weights, as far as its files are here. layers: how they are divided.
        dtypes: of the files of each part, where it is one.
        planless: the class of what is shared, where neither the model's file nor that class has a plan; else "".
        drafted: a first draft of a model file with a plan then, if one can be made.
        problems: why it can't be loaded. notes: what a user should know.
        files: the weight files that are used, as far as they are here, by their paths in the folder.
        scheduler: its configuration, as far as it is here.
    """

    source: str
    revision: str | None
    whole: bool = False
    lacking: str = ""
    variant: str | None = None
    parameters: dict[str, int] = field(default_factory=dict)
    layers: dict[str, Layers] = field(default_factory=dict)
    dtypes: dict[str, str] = field(default_factory=dict)
    planless: str = ""
    drafted: str = ""
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    scheduler: Mapping[str, Any] = field(default_factory=dict)


def inspect(model: ModelConfig) -> Checkpoint:
    """Look at a model's files."""
    here, fetched, source = folder(model), is_hub(model), location(model)
    value = as_typed(model)
    if here is None:
        planless = _planless(model, [])
        return Checkpoint(source, model.revision, planless=planless, problems=tuple(access_problems(model)))
    if not here.is_dir():
        return Checkpoint(source, None, problems=(Problem(value, *not_a_folder(home(model))),))
    if not is_utf8(here):
        return Checkpoint(source, None, problems=(Problem(value, NOT_UTF8, RENAME),))
    try:
        pipeline, parts = read_index(here)
    except UnreadableError as error:
        rule = f"not a diffusers pipeline: model_index.json {error}"
        return Checkpoint(source, None, problems=(Problem(value, rule, _pipeline_near(here)),))
    look = _Look(model, here, parts)
    broken = [Problem(value, what, "fetch this file again") for what in look.broken]
    missing = [Problem(value, what, "fetch the folder again") for what in look.missing]
    whole = not missing
    lacking = missing[0].rule if missing and fetched else ""
    if lacking:  # the rest is fetched, if it can be
        missing = list(access_problems(model, lacking))
    if whole and fetched:
        source = str(here)
    contradicted = [*look.contradicted, *fits.misfits(pipeline, parts, here)]
    other = [*_misfits(model, pipeline, parts)]
    if not contradicted:  # else a fact's advice would follow a file that is wrong itself
        other += fact_problems(model, here)
    again = "fetch the folder again, all of it from one checkpoint"
    other += [Problem(value, what, again) for what in contradicted]
    problems = [*other, *look.refusals, *missing, *broken, *_absent(model, parts, here)]
    revision = model.revision if fetched and not whole else None
    planless = _planless(model, parts)
    return Checkpoint(
        source=source,
        revision=revision,
        whole=whole,
        lacking=lacking,
        variant=look.variant,
        parameters=look.parameters,
        layers=look.layers,
        dtypes=look.dtypes,
        planless=planless,
        drafted=_drafted(here) if planless else "",
        problems=tuple(problems),
        notes=tuple(look.notes),
        files=tuple(look.files),
        scheduler=_scheduler(here),
    )


def _scheduler(here: Path) -> Mapping[str, Any]:
    with contextlib.suppress(UnreadableError):  # told by whoever looks at the parts
        return read_json_object(here / "scheduler" / "scheduler_config.json")
    return {}


def _planless(model: ModelConfig, parts: list[Part]) -> str:
    """The class that has no plan, by the files if they are here, else by the pipeline's class."""
    if model.cp_plan is not None:
        return ""
    name = next(iter(model.transformers), "")
    kind = next((part.kind for part in parts if part.name == name), "") or part_of(model.pipeline, name)
    return "" if has_own_plan(kind) else kind


def _drafted(here: Path) -> str:
    try:
        return draft(here)
    except Refused:  # a UNet, say
        return ""


def _pipeline_near(here: Path) -> str:
    """What to type in place of a folder that holds no pipeline: the one around it, or the repository that it caches."""
    if (here.parent / "model_index.json").is_file():
        return f"type {shlex.quote(f'model.path={here.parent}')}"
    if (cached := re.fullmatch(r"models--([\w.-]+?)--([\w.-]+)", here.name)) and (here / "snapshots").is_dir():
        return f"type model.path={cached[1]}/{cached[2]}"
    return FOLDER


def _misfits(model: ModelConfig, pipeline: str, parts: list[Part]) -> Iterable[Problem]:
    """The pipeline is the model's, and one that ranks can share."""
    value, names = as_typed(model), [part.name for part in parts]
    if pipeline != model.pipeline:
        rule = f"holds a {pipeline}, and model={model.name} is a {model.pipeline}"
        yield Problem(value, rule, "choose the model= that fits")
    elif model.tokenizer not in names:
        rule = f"model.path has no such part; it has {', '.join(names)}"
        yield Problem(f"model.tokenizer={model.tokenizer}", rule, "leave it out: it is the model's")
    second = {"transformer_2", "unconditional_transformer"} & set(names) - set(model.transformers)
    if second:
        both = ",".join([*model.transformers, *sorted(second)])
        rule = f"holds a second transformer, and model={model.name} shares the work of {model.transformers[0]} alone"
        yield Problem(value, rule, f"type 'model.transformers=[{both}]', {HERE}")
    for name in sorted(set(model.transformers) - set(names)):
        rule = f"has no '{name}', whose work the ranks of model={model.name} share"
        yield Problem(value, rule, "choose the model= that fits")
    needed = {"scheduler", "vae"}
    for name in names:  # an encoder reads what its tokenizer cuts, and the other way round
        if match := re.fullmatch(r"(?:tokenizer|text_encoder)(_\d)?", name):
            number = match[1] or ""
            needed |= {f"text_encoder{number}"} | ({f"tokenizer{number}"} if "processor" not in names else set())
    for name in sorted(needed - set(names)):
        yield Problem(value, f"its model_index.json has no '{name}', which drawing needs", "fetch the folder again")
    for part in parts:
        if what := unknown(part):
            yield Problem(value, f"its part '{part.name}' {what}", "type pip install --upgrade diffusers")
        elif stray(part):
            what = f"model_index.json names {part.library[:60]!r} as the library of its part '{part.name}'"
            yield Problem(value, f"{what}, which is not installed", "fetch the folder again")


def _absent(model: ModelConfig, parts: list[Part], here: Path) -> Iterable[Problem]:
    """Packages that reading the parts needs."""
    for package in dict.fromkeys(name for part in parts for name in packages(part, here)):
        what = f"its tokenizer needs the package {package}, which is not installed"
        yield Problem(as_typed(model), what, f"type pip install {package}")


class _Look:
    """What a walk over the parts finds."""

    def __init__(self, model: ModelConfig, here: Path, parts: list[Part]) -> None:
        self.model, self.here = model, here
        self.missing: list[str] = []
        self.broken: list[str] = []
        self.contradicted: list[str] = []  # by other files of the same checkpoint
        self.refusals: list[Problem] = []
        self.notes: list[str] = []
        self.parameters: dict[str, int] = {}
        self.layers: dict[str, Layers] = {}
        self.dtypes: dict[str, str] = {}
        self.files: list[str] = []
        there = [part for part in parts if (here / part.name).is_dir()]
        self.missing += [f"its part '{part.name}' is missing" for part in parts if part not in there]
        for part in there:
            for lack in lacks(part, here):
                (self.missing if lack.missing else self.broken).append(lack.what)
        weighty = [part for part in there if part.role == "model" and part.library in BASES]
        self._found = {part: variants(here / part.name, BASES[part.library]) for part in weighty}
        self.variant = self._choose()
        for part in self._found:
            self._weigh(part)

    def _choose(self) -> str | None:
        """The variant that was typed, else the only one there is where a part has no plain weights."""
        named = self.model.variant
        known = sorted({variant for found in self._found.values() for variant in found if variant})
        value = f"model.variant={named}"
        if named is not None:
            if not VARIANT.fullmatch(named):
                self.refusals.append(Problem(value, "not the name of a variant", "type model.variant=fp16, say"))
            elif named not in known:
                have = f"it has {', '.join(known)}" if known else "it has plain weights only"
                self.refusals.append(Problem(value, f"no part of model.path has it; {have}", "leave it out"))
            return named
        needed = [part.name for part, found in self._found.items() if found and "" not in found]
        if not needed:
            return None
        fitting = [name for name in known if all(name in found or "" in found for found in self._found.values())]
        if len(fitting) == 1:
            self.notes.append(
                f"{', '.join(needed)}: there are {fitting[0]} weights only, which are used (model.variant={fitting[0]})"
            )
            return fitting[0]
        value = as_typed(self.model)
        if fitting:
            what = f"'{needed[0]}' has no plain weights, but the variants {', '.join(fitting)}"
            self.refusals.append(Problem(value, what, f"type model.variant={fitting[0]}"))
        else:
            have = ", ".join(
                f"'{part.name}' has {', '.join(sorted(found - {''}))}"
                for part, found in self._found.items()
                if found - {""}
            )
            self.refusals.append(
                Problem(value, f"its parts have no variant in common: {have}", "fetch the folder again")
            )
        self._found = {part: found for part, found in self._found.items() if not found or "" in found}
        return None

    def _weigh(self, part: Part) -> None:
        """The weight files of one part: there, whole, and safe to read."""
        found, name = self._found[part], part.name
        variant = self.variant if self.variant in found else ""
        if not found:
            have = pickles(self.here / name)
            told = f" (it has {', '.join(have)}, a pickle, which can run code and is not read)" if have else ""
            self.missing.append(f"'{name}' has no .safetensors file{told}")
            return
        files = weight_files(self.here / name, BASES[part.library], variant or "")
        named = ", which its index names" if len(files.files) + len(files.missing) > 1 else ""
        self.missing += [f"{name}/{file} is missing{named}" for file in files.missing]
        self.broken += [f"{name}/{flaw}" for flaw in files.flaws]
        self.files += [f"{name}/{file.name}" for file in files.files]
        if files.parameters:
            self.parameters[name], self.layers[name] = files.parameters, layers_of(files.shapes)
            self.dtypes[name] = files.dtype
        if packed := self._packed(part, files.shapes):
            rule = f"'{name}' is quantised ({packed}), and weights are used as they are"
            instead = f"give a folder with whole weights, in bfloat16, say, {HERE}"
            self.refusals.append(Problem(as_typed(self.model), rule, instead))
        elif not files.missing and not files.flaws:
            with contextlib.suppress(UnreadableError):  # told above
                config = read_json_object(self.here / name / "config.json")
                if TELLS[part.library] in config:
                    wrong = misfits(part.kind, config, files.shapes)
                    self.contradicted += [f"{name}/config.json {each}" for each in wrong]

    def _packed(self, part: Part, names: Iterable[str]) -> str | None:
        """What tells that a part's weights are quantised: libraries need packages for it, or drop the scales."""
        with contextlib.suppress(UnreadableError):  # told above
            config = read_json_object(self.here / part.name / "config.json")
            if isinstance(packing := config.get("quantization_config"), dict):
                method = packing.get("quant_method")
                return f"quantization_config: {method}" if isinstance(method, str) else "quantization_config"
        return next((name for name in names if name.endswith(PACKED)), None)

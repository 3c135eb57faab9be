"""Which model a request means: the one that model= names, or the pipeline in a folder or repository that names none."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from launcher.config.compose import Composer, to_config, translated
from launcher.config.model_schema import ModelConfig
from launcher.config.paths import conf_dir
from launcher.families import unnamed
from launcher.families.facts import contradictions
from launcher.families.hub import fetch_configs
from launcher.families.parts import read_index
from launcher.families.weights import folder, is_hub
from launcher.reading import UnreadableError

DEFAULT = "flux_tiny"  # conf/config.yaml's


def with_model(composed: DictConfig, composer: Composer) -> DictConfig:
    """The configuration with the facts of the pipeline that `model.path` names, where nothing names a model.

    A family of conf/model whose pipeline it is gives its plan, and those facts that its files do not contradict; for
    any other pipeline all are read from its files and its class. What was typed of `model.` stays.

    Raises:
        Refused: it is no pipeline that draws, or can't be fetched.
    """
    task = OmegaConf.to_container(composed.hydra.overrides.task, resolve=False)  # ${...} as typed
    assert isinstance(task, list)
    words = [str(word).lstrip("+~") for word in task]
    named = any(word.partition("=")[0].partition("@")[0] == "model" for word in words)
    if named or composed.hydra.runtime.choices.get("model") != DEFAULT:
        return composed
    with translated(words):
        path = composed.model.base or composed.model.path
    if path in (None, "", "bundled"):
        return composed
    model = to_config(composed).model
    typed = {key: composed.model[key] for key in (*_typed(words), "path", "base") if key in composed.model}
    if is_hub(model) and folder(model) is None:
        fetch_configs(model)
    here = folder(model)
    found = None if here is None else _facts(model, here, composer)
    if found is not None:
        with open_dict(composed):
            composed.model = OmegaConf.merge(OmegaConf.structured(ModelConfig), found, typed)
    return composed


def _typed(words: list[str]) -> Iterator[str]:
    """The fields of the model that were given, by their first name: `arguments` of model.arguments.fps."""
    for word in words:
        if word.startswith("model."):
            yield word.partition("=")[0].split(".")[1]


def _facts(model: ModelConfig, here: Path, composer: Composer) -> dict[str, Any] | None:
    """Facts for the pipeline in a folder; None for the default model's own, and for what is no pipeline."""
    with contextlib.suppress(UnreadableError):  # told by whoever looks at the checkpoint
        pipeline, _ = read_index(here)
        if pipeline == model.pipeline and not list(contradictions(model, here)):
            return None
        known = [to_config(composer.compose([f"model={name}"])).model for name in _families(pipeline)]
        if known:  # the most like it, the one that others start from if several are
            closest = min(known, key=lambda each: len(list(contradictions(each, here))))
            facts = {name: value for _, name, value in contradictions(closest, here)}
            if "guidance_embeds" in facts:
                facts["guidance"] = 3.5 if facts["guidance_embeds"] else None
            return dataclasses.asdict(closest) | facts
        return dataclasses.asdict(ModelConfig()) | unnamed.facts(model.path, here)
    return None


def _families(pipeline: str) -> list[str]:
    """The families of conf/model with this pipeline class, those first that others start from."""
    texts = {path.stem: path.read_text(encoding="utf-8") for path in sorted((conf_dir() / "model").glob("*.yaml"))}
    bases = [name for name, text in texts.items() if f"\npipeline: {pipeline}\n" in text]
    return [*bases, *(name for name, text in texts.items() if any(f"\n  - {base}\n" in text for base in bases))]
